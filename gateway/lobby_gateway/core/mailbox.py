"""The latest messages of one client whose socket is full.

A client that keeps up has no mailbox at all: it is made when the first message has to wait, and let go when the last one
has left. It holds references to frames that all clients share, so its size is that of 16 pointers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Mailbox:
    """At most `capacity` frames; the oldest ones make room for the newest.

    Attributes:
        capacity: most messages that wait for this client.
    """

    __slots__ = ("_frames", "capacity")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: {capacity} is too small; accepted: at least 1")
        self.capacity = capacity
        self._frames: deque[bytes] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frames: Sequence[bytes]) -> int:
        """Adds frames, newest last, and returns how many of the oldest (waiting or new) were dropped for them."""
        dropped = max(0, len(self._frames) + len(frames) - self.capacity)
        self._frames.extend(frames)
        return dropped

    def take(self) -> bytes:
        """The oldest frame, removed.

        Raises:
            IndexError: the mailbox is empty.
        """
        return self._frames.popleft()
