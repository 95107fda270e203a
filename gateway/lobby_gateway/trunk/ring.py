"""The last messages of a stream and their positions: for replay, for resuming, and instead of a queue per consumer.

The ring numbers messages over the life of the process, through all epochs: a *cursor* is the number of messages before a
place. A consumer keeps a cursor, so one that is slow costs no memory beyond the ring itself. Batches are kept as they came;
nothing here is done once per message, and the digests of a position only when it is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from lobby_gateway.trunk.position import NO_EPOCH, LiveReason, Position, digests_of
from lobby_gateway.websocket.frames import Batch

MAX_MESSAGES = 16384
MAX_BYTES = 8 << 20
MAX_EPOCHS = 64
"""Past so many origin sessions, those that brought no message are forgotten: an origin may flap for weeks."""

_COMPACT_AT = 1024  # evicted entries at the head of the lists before they are cut off


class Chunk(NamedTuple):
    """Messages that follow each other in one epoch.

    Attributes:
        epoch: their epoch.
        first_offset: offset of the first of them: messages of the epoch before it.
        batch: the messages.
        cursor_after: the cursor behind the last of them.
    """

    epoch: int
    first_offset: int
    batch: Batch
    cursor_after: int


@dataclass(frozen=True, slots=True)
class Exact:
    """The stream goes on at `cursor`, right behind the position: no gap, no duplicate."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Live:
    """The stream goes on with the next message, at `cursor`; what was missed is not known."""

    cursor: int
    reason: LiveReason


@dataclass(frozen=True, slots=True)
class Wait:
    """The position is ahead of this ring in the epoch that goes on: ask again when there are more messages."""


class _Span(NamedTuple):
    """Messages without a gap in one epoch: `offset` of the message at cursor `start`. It ends where the next one starts."""

    start: int
    epoch: int
    offset: int


class MessageRing:
    """Keeps the latest messages, at most `max_messages` and `max_bytes` of frames, but always the newest batch.

    Batches are evicted whole, so up to one batch less than the limits may be kept.

    Attributes:
        max_messages: limit in messages.
        max_bytes: limit in bytes of frames.
        epoch: the epoch that goes on; `NO_EPOCH` before the first.
        offset: of the next message in it.
        cursor: the place behind the newest message: messages so far, over all epochs.
        oldest: the cursor of the oldest message that is kept; equal to `cursor` when there is none.
        bytes: bytes of the frames that are kept.
    """

    __slots__ = (
        "_batches", "_head", "_spans", "_starts", "bytes", "cursor", "epoch", "max_bytes", "max_messages", "offset", "oldest",
    )  # fmt: skip

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.epoch = NO_EPOCH
        self.offset = 0
        self.cursor = 0
        self.oldest = 0
        self.bytes = 0
        # Two lists instead of a deque, since `since` has to bisect; what lies before `_head` is evicted.
        self._starts: list[int] = []  # the cursor of the first message of each batch
        self._batches: list[Batch] = []
        self._head = 0
        self._spans = [_Span(0, NO_EPOCH, 0)]

    def __len__(self) -> int:
        """Messages that are kept."""
        return self.cursor - self.oldest

    def begin_epoch(self, epoch: int, offset: int = 0) -> None:
        """A new origin session begins; or, with the epoch that goes on, messages up to `offset` will never come.

        Raises:
            ValueError: the epoch is not a 64-bit number above 0, or the offset lies behind what is here already.
        """
        if not NO_EPOCH < epoch < 1 << 64:
            raise ValueError(f"epoch: {epoch} is no epoch; accepted: 1 to 2^64 - 1")
        if epoch == self.epoch:
            if offset < self.offset:
                raise ValueError(
                    f"offset: {offset} of epoch {epoch:016x} is here already; accepted: from {self.offset} on"
                )
            if offset == self.offset:
                return
        self.epoch = epoch
        self.offset = offset
        self._spans.append(_Span(self.cursor, epoch, offset))
        if len(self._spans) > MAX_EPOCHS:
            self._forget_empty()

    def append(self, batch: Batch) -> None:
        """Adds messages of the epoch that goes on.

        Raises:
            ValueError: no epoch has begun.
        """
        count = len(batch)
        if not count:
            return
        if self.epoch == NO_EPOCH:
            raise ValueError("a message came before the first epoch")
        self._starts.append(self.cursor)
        self._batches.append(batch)
        self.cursor += count
        self.offset += count
        self.bytes += len(batch.data)
        if self.bytes > self.max_bytes or self.cursor - self.oldest > self.max_messages:
            self._evict()

    def since(self, cursor: int, max_bytes: int, until: int | None = None) -> list[Chunk]:
        """The messages behind `cursor` (and before `until`), oldest first: about `max_bytes`, but at least one batch.

        Raises:
            ValueError: messages behind the cursor were evicted (`cursor < oldest`).
        """
        if cursor < self.oldest:
            raise ValueError(f"cursor: {cursor} is evicted; accepted: from {self.oldest} on")
        end = self.cursor if until is None or until > self.cursor else until
        chunks: list[Chunk] = []
        if cursor >= end:
            return chunks
        starts = self._starts
        at = len(starts) - 1
        if starts[at] > cursor:  # not only the newest batch, which is the usual case
            at = bisect_right(starts, cursor, self._head) - 1
        size = 0
        while cursor < end:
            batch = self._batches[at]
            after = starts[at] + len(batch)
            if cursor > starts[at]:
                batch = batch.after(cursor - starts[at])
            if after > end:
                batch = batch.before(end - cursor)
                after = end
            size += len(batch.data)
            if chunks and size > max_bytes:
                break
            span = self._span_at(cursor)
            chunks.append(Chunk(span.epoch, span.offset + cursor - span.start, batch, after))
            cursor = after
            at += 1
        return chunks

    def latest(self, count: int) -> int:
        """The cursor `count` messages back, or as far back as messages are kept."""
        return max(self.oldest, self.cursor - count)

    def resume(self, position: Position) -> Exact | Live | Wait:
        """Where a consumer goes on that has seen everything up to `position`: never by guess.

        An epoch that has ended counts while its end is kept: who had all of it goes on with the next epoch.
        """
        reason = LiveReason.UNKNOWN_EPOCH
        end = self.cursor
        for span in reversed(self._spans):
            if span.epoch == position.epoch != NO_EPOCH:
                known_later = reason != LiveReason.UNKNOWN_EPOCH
                cursor = span.start + position.offset - span.offset
                if cursor > end and span is self._spans[-1]:
                    return Wait()
                if self.oldest <= cursor <= end and cursor >= span.start and not (known_later and cursor == end):
                    return Exact(cursor)
                # `known_later`: the epoch goes on behind a gap, so the place at the end of this span is not a place there.
                reason = LiveReason.AHEAD if cursor > end and not known_later else LiveReason.GONE
            end = span.start
        # A position of another origin session could be found here by its digests, where they stand in one place only.
        return Live(self.cursor, reason)

    def locate(self, cursor: int) -> tuple[int, int]:
        """Epoch and offset of the message at a cursor, or of the next one that comes.

        Raises:
            ValueError: the cursor is not of this ring, or evicted.
        """
        if not self.oldest <= cursor <= self.cursor:
            raise ValueError(f"cursor: {cursor} is not kept; accepted: {self.oldest} to {self.cursor}")
        span = self._span_at(cursor)
        return span.epoch, span.offset + cursor - span.start

    def position(self, cursor: int | None = None) -> Position:
        """The position at a cursor (default: behind the newest message), with the digests of what is kept before it.

        Raises:
            ValueError: the cursor is not of this ring, or evicted.
        """
        if cursor is None:
            cursor = self.cursor
        epoch, offset = self.locate(cursor)
        return Position(epoch, offset, digests_of(newest_first(self._before(cursor))))

    def _before(self, cursor: int) -> Iterator[Batch]:
        """The batches before a cursor, newest first."""
        for at in range(bisect_right(self._starts, cursor - 1, self._head) - 1, self._head - 1, -1):
            yield self._batches[at].before(cursor - self._starts[at])

    def _span_at(self, cursor: int) -> _Span:
        """The span of the message at a cursor: the last one that starts there or before, since earlier ones are empty."""
        spans = self._spans
        if spans[-1].start <= cursor:
            return spans[-1]
        return spans[bisect_right(spans, cursor, key=_start) - 1]

    def _forget_empty(self) -> None:
        for at, (span, following) in enumerate(pairwise(self._spans)):
            if span.start == following.start:
                del self._spans[at]
                return

    def _evict(self) -> None:
        newest = len(self._batches) - 1
        batches, head = self._batches, self._head
        while head < newest and (self.bytes > self.max_bytes or self.cursor - self.oldest > self.max_messages):
            self.bytes -= len(batches[head].data)
            batches[head] = _EVICTED
            head += 1
            self.oldest = self._starts[head]
        if head >= _COMPACT_AT and head * 2 >= len(batches):
            del batches[:head], self._starts[:head]
            head = 0
        self._head = head
        while len(self._spans) > 1 and self._spans[1].start < self.oldest:
            del self._spans[0]  # even the place at its end is evicted


_EVICTED = Batch(b"", ())
_start = attrgetter("start")


def newest_first(batches: Iterable[Batch]) -> Iterator[memoryview]:
    """Payloads of batches that are given newest first, newest first."""
    for batch in batches:
        for index in range(len(batch) - 1, -1, -1):
            yield batch.payload(index)
