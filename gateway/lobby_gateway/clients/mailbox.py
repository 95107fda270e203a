"""What waits for one client whose socket is full: the rest of one batch, and the latest messages after it.

A client that keeps up has no mailbox: it is created when the first message has to wait, and released when the last one has
been sent. It holds references to bytes that all clients share, so its size is that of 16 pointers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from lobby_gateway.websocket.frames import Batch


class Mailbox:
    """At most `capacity` frames, the oldest of which make room for the newest; in front of them, the rest of one batch.

    That batch is the one that filled the socket of a client that was up to date. A burst of the origin may exceed a client's
    TCP window even if the client reads as fast as it can, so none of it is dropped. It is bounded by one read of the
    origin, and takes no more memory than its partially sent message, which refers to all of it anyway.

    Attributes:
        capacity: most messages that wait for this client, not counting that batch.
    """

    __slots__ = ("_batch", "_frames", "_index", "capacity")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: {capacity} is too small; accepted: at least 1")
        self.capacity = capacity
        self._frames: deque[bytes] = deque(maxlen=capacity)
        self._batch: Batch | None = None
        self._index = 0  # its messages that were sent, wholly or partially

    def __len__(self) -> int:
        return len(self._frames) + (0 if self._batch is None else len(self._batch) - self._index)

    def begin(self, batch: Batch, sent: int) -> tuple[int, memoryview | None]:
        """Takes over a batch of which the socket took `sent` bytes; the mailbox must be empty.

        Returns:
            How many of its messages were sent, wholly or partially, and the unsent rest of the partial one.
        """
        self._batch, self._index = batch, 0
        index, rest = self.took(sent)
        if len(batch) - index <= self.capacity:  # few enough to be dropped for later ones
            self._frames.extend(batch.frames[index:])
            self._batch = None
        return index, rest

    def put(self, frames: Sequence[bytes]) -> int:
        """Adds frames, newest last; returns how many of the oldest (waiting or new) were dropped for them."""
        dropped = max(0, len(self._frames) + len(frames) - self.capacity)
        self._frames.extend(frames[-self.capacity :])
        return dropped

    def next(self) -> bytes | memoryview:
        """The bytes to send next: all of the batch, otherwise the oldest frame.

        Raises:
            IndexError: the mailbox is empty.
        """
        if self._batch is not None:
            return memoryview(self._batch.data)[self._start :]
        return self._frames[0]

    def took(self, sent: int) -> tuple[int, memoryview | None]:
        """The socket took `sent` bytes of `next`, at least one: messages sent, wholly or partially, leave the mailbox.

        Returns:
            How many messages those are, and the unsent rest of the partial one.
        """
        batch = self._batch
        if batch is None:
            rest = memoryview(self._frames.popleft())[sent:]
            return 1, rest if len(rest) else None
        before, at = self._index, self._start + sent
        self._index = bisect_right(batch.ends, at)
        partial = None
        if at > self._start:
            partial = memoryview(batch.data)[at : batch.ends[self._index]]
            self._index += 1
        count = self._index - before
        if self._index == len(batch):
            self._batch = None
        return count, partial

    @property
    def _start(self) -> int:
        return self._batch.ends[self._index - 1] if self._batch is not None and self._index else 0
