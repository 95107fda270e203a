"""The latest batches of a stream, numbered: what a reader keeps is a cursor, not a queue.

A *cursor* is the number of messages before a place. Batches are kept as they came: nothing is done per message.
"""

from __future__ import annotations

from bisect import bisect_right

from lobby_gateway.websocket.frames import Batch

_COMPACT_AT = 1024  # evicted entries at the head of the lists before they are deleted


class BatchLog:
    """Batches in order, evicted from the oldest one. Subclasses decide when.

    Attributes:
        cursor: the place after the newest message: messages so far.
        oldest: cursor of the oldest message kept; equal to `cursor` if there is none.
        bytes: bytes of the frames kept.
    """

    __slots__ = ("_batches", "_head", "_starts", "bytes", "cursor", "oldest")

    def __init__(self) -> None:
        self.cursor = 0
        self.oldest = 0
        self.bytes = 0
        # Two lists instead of a deque, since readers bisect; what lies before `_head` is evicted.
        self._starts: list[int] = []  # cursor of the first message of each batch
        self._batches: list[Batch] = []
        self._head = 0

    def __len__(self) -> int:
        """Messages kept."""
        return self.cursor - self.oldest

    def _append(self, batch: Batch) -> None:
        self._starts.append(self.cursor)
        self._batches.append(batch)
        self.cursor += len(batch.ends)
        self.bytes += len(batch.data)

    def _index(self, cursor: int) -> int:
        """Index of the batch of the message at a cursor, which must be kept."""
        starts = self._starts
        newest = len(starts) - 1
        return newest if starts[newest] <= cursor else bisect_right(starts, cursor, self._head) - 1

    def _evict_oldest(self) -> None:
        """Drops the oldest batch; there must be one."""
        head = self._head
        self.bytes -= len(self._batches[head].data)
        self._batches[head] = _EVICTED
        self._head = head = head + 1
        self.oldest = self._starts[head] if head < len(self._starts) else self.cursor
        if head >= _COMPACT_AT and head * 2 >= len(self._batches):
            self._delete_evicted()

    def _delete_evicted(self) -> None:
        del self._batches[: self._head], self._starts[: self._head]
        self._head = 0


_EVICTED = Batch(b"", ())
