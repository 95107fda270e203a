"""What waits for the clients of a bus that lag: kept once, however many they are.

A client that lags keeps a cursor into the backlog (see `Mailbox`), so a message that waits for 500 clients costs nothing per
client. How much waits is bounded three ways: see `QueueLimits`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from lobby_gateway.websocket.batch_log import BatchLog
from lobby_gateway.websocket.frames import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much may wait for a client (`clients.queue` of a Lobby).

    A message is dropped when it is older than `seconds` and more than `messages` newer ones wait, or when the bytes are used
    up. For a client that does not read, it is dropped as soon as `messages` newer ones wait.

    Attributes:
        messages: the newest messages that always wait, unless the bytes are used up.
        seconds: how long others may wait for a client that takes what its line can carry.
        bytes: most bytes of frames that wait, but always the newest batch.
    """

    messages: int = 16
    seconds: float = 3.0
    bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.messages < 1:
            raise ValueError(f"messages: {self.messages} is too small; accepted: at least 1")


class Backlog(BatchLog):
    """The latest messages, each with the time when it came.

    Attributes:
        limits: may be replaced.
        floor: cursor of the first message that may still be sent; `oldest` is before it if it is inside a batch.
        memory_floor: messages before it were dropped because the bytes were used up.
    """

    __slots__ = ("_byte_starts", "_chunk", "_chunk_key", "_times", "_total_bytes", "floor", "limits", "memory_floor")

    def __init__(self, limits: QueueLimits) -> None:
        super().__init__()
        self.limits = limits
        self.floor = 0
        self.memory_floor = 0
        self._times: list[float] = []
        self._byte_starts: list[int] = []  # bytes of all frames before each batch
        self._total_bytes = 0
        self._chunk: bytes | memoryview = b""  # the latest result of `next`: clients that lag together share it
        self._chunk_key = (-1, -1, -1)

    def append(self, batch: Batch, now: float) -> None:
        """Adds messages that came at `now`, in seconds of a clock that never goes back."""
        self._times.append(now)
        self._byte_starts.append(self._total_bytes)
        self._total_bytes += len(batch.data)
        self._append(batch)
        self.expire(now)

    def expire(self, now: float, newer: int = 0) -> None:
        """Drops what the limits no longer allow; `newer` messages wait behind those of this backlog."""
        limits = self.limits
        deadline = now - limits.seconds
        keep = self.cursor - max(0, limits.messages - newer)  # cursor of the first of those that always wait
        while self.oldest < keep and self._times[self._head] < deadline:
            following = self._starts[self._head + 1] if self._head + 1 < len(self._starts) else self.cursor
            if following > keep:
                self.floor = max(self.floor, keep)
                break
            self._drop_oldest()
        while self.bytes > limits.bytes and self._head + 1 < len(self._starts):
            self._drop_oldest()
            self.memory_floor = self.floor

    def forget(self, cursor: int) -> None:
        """No client needs the messages before a cursor."""
        while self._head < len(self._starts) and self._starts[self._head] + len(self._batches[self._head]) <= cursor:
            self._drop_oldest()

    def age(self, cursor: int, now: float) -> float:
        """Seconds since the message at a cursor came; 0 if there is none."""
        cursor = max(cursor, self.floor)
        return now - self._times[self._index(cursor)] if cursor < self.cursor else 0.0

    def next(self, cursor: int, max_bytes: int) -> bytes | memoryview:
        """The frames from a cursor (`floor` or later, before `cursor`): at most `max_bytes`, but at least one frame."""
        key = (cursor, self.cursor, max_bytes)
        if key != self._chunk_key:
            self._chunk, self._chunk_key = self._join(cursor, max_bytes), key
        return self._chunk

    def took(self, cursor: int, sent: int) -> tuple[int, int]:
        """A socket took `sent` bytes, at least one, of the frames from a cursor.

        Returns:
            The cursor after the last message of which it took something, and how many bytes of that message it did not take.
        """
        index = self._index(cursor)
        at = self._byte_starts[index] + self._offset(index, cursor) + sent
        index = bisect_right(self._byte_starts, at - 1, index) - 1
        ends = self._batches[index].ends
        at -= self._byte_starts[index]
        message = bisect_right(ends, at - 1)
        return self._starts[index] + message + 1, ends[message] - at

    def batches(self, cursor: int) -> list[tuple[float, Batch]]:
        """The messages from a cursor (`floor` or later), with the times when they came."""
        if cursor >= self.cursor:
            return []
        first = self._index(cursor)
        return [
            (self._times[index], self._batches[index].after(max(0, cursor - self._starts[index])))
            for index in range(first, len(self._starts))
        ]

    def _join(self, cursor: int, max_bytes: int) -> bytes | memoryview:
        index = self._index(cursor)
        batch = self._batches[index]
        start = self._offset(index, cursor)
        if len(batch.data) - start >= max_bytes or index + 1 == len(self._starts):
            first = cursor - self._starts[index]
            fitting = max(bisect_right(batch.ends, start + max_bytes), first + 1)
            return memoryview(batch.data)[start : batch.ends[fitting - 1]]
        parts = [memoryview(batch.data)[start:]]
        room = max_bytes - len(parts[0])
        for batch in self._batches[index + 1 :]:
            if len(batch.data) > room:
                fitting = bisect_right(batch.ends, room)
                if fitting:
                    parts.append(memoryview(batch.data)[: batch.ends[fitting - 1]])
                break
            parts.append(memoryview(batch.data))
            room -= len(batch.data)
        return b"".join(parts)

    def _offset(self, index: int, cursor: int) -> int:
        """Offset of the message at a cursor in the data of its batch."""
        message = cursor - self._starts[index]
        return self._batches[index].ends[message - 1] if message else 0

    def _drop_oldest(self) -> None:
        self._evict_oldest()
        self.floor = max(self.floor, self.oldest)

    def _delete_evicted(self) -> None:
        del self._times[: self._head], self._byte_starts[: self._head]
        super()._delete_evicted()
