"""The latest messages of a stream and their positions: for replay, for resuming, and instead of a queue per consumer.

The ring numbers messages over the life of the process, across epochs: a *cursor* is the number of messages before a place. A
consumer keeps a cursor, so a slow one costs no memory beyond the ring itself. Batches are kept as they came: nothing is done
per message, and identities are computed only when a position is needed or has to be found, bit by bit if there are many.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from lobby_gateway.settings import IDENTITIES, IdentitySettings, LobbySettings
from lobby_gateway.trunk.identity import Identity, cost_of, digest
from lobby_gateway.trunk.identity_index import IdentityIndex
from lobby_gateway.trunk.kept import KeptMessages
from lobby_gateway.trunk.position import DIGESTS_KEPT, NO_EPOCH, LiveReason, Position, digests_of
from lobby_gateway.websocket.batch_log import BatchLog
from lobby_gateway.websocket.frames import Batch

MAX_EPOCHS = 64
"""With more origin sessions than this, those without messages are forgotten: an origin may flap for weeks."""

_DEFAULT_SETTINGS = LobbySettings()


class Chunk(NamedTuple):
    """Consecutive messages of one epoch.

    Attributes:
        epoch: their epoch.
        first_offset: offset of the first one.
        batch: the messages.
        cursor_after: the cursor after the last one.
    """

    epoch: int
    first_offset: int
    batch: Batch
    cursor_after: int


@dataclass(frozen=True, slots=True)
class Exact:
    """The stream continues at `cursor`, right after the position: no gap, no duplicate."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Live:
    """The stream continues with the next message, or where the position is known to lie at a gap, with that after the gap.

    What was missed is unknown.
    """

    cursor: int
    reason: LiveReason


@dataclass(frozen=True, slots=True)
class Wait:
    """The ring may simply be behind the position: ask again when there are more messages.

    Attributes:
        reason: why the stream is live if that takes too long.
        grace: seconds to wait longer than usual, because the identities of messages are still being computed: ask again soon.
    """

    reason: LiveReason = LiveReason.AHEAD
    grace: float = 0.0


class Breaks(NamedTuple):
    """The cursors of the first and the last place, behind another one, where the stream broke."""

    first: int
    last: int


class _Span(NamedTuple):
    """Messages of one epoch without a gap, from cursor `start` and `offset` to the start of the next span."""

    start: int
    epoch: int
    offset: int


class MessageRing(BatchLog):
    """Keeps the latest messages, at most `max_messages` and `max_bytes` of frames, but always the newest batch.

    Batches are evicted whole, so up to one batch less than the limits may be kept.

    Attributes:
        max_messages: limit in messages.
        max_bytes: limit in bytes of frames.
        epoch: the current epoch; `NO_EPOCH` before the first.
        offset: of the next message in it.
        stale_before: cursor before which messages are not replayed, only resumed.
        identity: gives the identity of a payload.
        index_later: called with this ring if more identities are needed than should be computed at once: it makes sure that
            `index_more` is called in later turns of the event loop. None: they are computed at once.
        newest: the newest batch, which nearly all consumers take next.
        newest_start: cursor of its first message; -1 before the first batch.
        newest_epoch: epoch of its messages.
        newest_offset: offset of its first message.
        kept: what clients that join get first.
    """

    __slots__ = (
        "_indexes", "_indexing", "_settings", "_spans", "epoch", "identity", "index_later", "kept", "max_bytes",
        "max_messages", "newest", "newest_epoch", "newest_offset", "newest_start", "offset", "stale_before",
    )  # fmt: skip

    def __init__(
        self,
        max_messages: int = _DEFAULT_SETTINGS.ring_messages,
        max_bytes: int = _DEFAULT_SETTINGS.ring_bytes,
        identity: Identity = digest,
        *,
        index_later: Callable[[MessageRing], None] | None = None,
        settings: IdentitySettings = IDENTITIES,
    ) -> None:
        super().__init__()
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.identity = identity
        self.index_later = index_later
        self._settings = settings
        self._indexes: dict[Identity, IdentityIndex] = {}  # made when needed
        self._indexing: list[IdentityIndex] = []  # those that `index_more` goes on with
        self.epoch = NO_EPOCH
        self.offset = 0
        self.stale_before = 0
        self.newest = Batch(b"", ())
        self.newest_start = -1
        self.newest_epoch = NO_EPOCH
        self.newest_offset = 0
        self.kept = KeptMessages()
        self._spans = [_Span(0, NO_EPOCH, 0)]

    def begin_epoch(self, epoch: int, offset: int = 0) -> None:
        """Begins an origin session; or, for the current epoch, skips messages up to `offset` that will never come.

        Raises:
            ValueError: the epoch is not a 64-bit number above 0, or the ring already has messages after the offset.
        """
        if not NO_EPOCH < epoch < 1 << 64:
            raise ValueError(f"epoch: {epoch} is out of range; accepted: 1 to 2^64 - 1")
        if epoch == self.epoch:
            if offset < self.offset:
                raise ValueError(
                    f"offset: {offset} of epoch {epoch:016x} is in the past; accepted: {self.offset} and later"
                )
            if offset == self.offset:
                return
        self.epoch = epoch
        self.offset = offset
        self.kept.settle(self.cursor)
        self.kept.settle(None)  # what was yet to come may be what is skipped
        self._spans.append(_Span(self.cursor, epoch, offset))
        if len(self._spans) > MAX_EPOCHS:
            self._forget_empty()

    def append(self, batch: Batch) -> None:
        """Adds messages of the current epoch.

        Raises:
            ValueError: no epoch has begun.
        """
        count = len(batch.ends)
        if not count:
            return
        if self.epoch == NO_EPOCH:
            raise ValueError("a message before the first epoch")
        self.newest = batch
        self.newest_start = self.cursor
        self.newest_epoch = self.epoch
        self.newest_offset = self.offset
        self._append(batch)
        self.offset += count
        if self.bytes > self.max_bytes or self.cursor - self.oldest > self.max_messages:
            self._evict()

    def since(self, cursor: int, max_bytes: int, until: int | None = None) -> list[Chunk]:
        """The messages after `cursor` (and before `until`), oldest first: about `max_bytes`, but at least one batch.

        Raises:
            ValueError: messages after the cursor were evicted (`cursor < oldest`).
        """
        if cursor < self.oldest:
            raise ValueError(f"cursor: {cursor} was evicted; accepted: {self.oldest} and later")
        end = self.cursor if until is None or until > self.cursor else until
        chunks: list[Chunk] = []
        if cursor >= end:
            return chunks
        starts = self._starts
        at = self._index(cursor)
        size = 0
        while cursor < end:
            batch = self._batches[at]
            after = starts[at] + len(batch.ends)
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
        """The cursor `count` messages back, or as far back as messages are kept and not stale."""
        return max(self.oldest, self.stale_before, self.cursor - count)

    def replay_from(self, count: int) -> int:
        """The same for a client that joins: it gets what is kept now, which does not go with what came before a break."""
        return max(self.latest(count), self.kept.broke_at)

    @property
    def stale(self) -> bool:
        """There have been messages, and all of them are stale."""
        return self.stale_before == self.cursor > 0

    def forget(self) -> None:
        """Makes all messages so far stale: a client that joins must not take them for fresh ones."""
        self.stale_before = self.cursor
        self.kept.clear(cursor=self.cursor)

    def resume(self, position: Position) -> Exact | Live | Wait:
        """Where a consumer that has seen everything up to `position` continues; never a guess.

        An epoch that this ring has is found by the offset; an ended one while its end is kept, since a consumer that had all
        of it continues with the next epoch. In any other epoch, the identities before the position must fit at one place.
        """
        known = self._by_offset(position)
        if known is not None:
            return known
        if not position.digests:
            return Live(self.cursor, LiveReason.UNKNOWN)
        if not position.of_payloads:
            return self._by_identities(position.digests, self.identity)
        found = self._by_identities(position.digests, digest)
        for streamed in self.kept.without(position.digests):
            if isinstance(found, Exact):
                break
            found = self._by_identities(streamed, digest)
        return found

    def _by_offset(self, position: Position) -> Exact | Live | Wait | None:
        """The same by epoch and offset; None if this ring does not have the epoch."""
        reason = None
        end = self.cursor
        for span in reversed(self._spans):
            if span.epoch == position.epoch != NO_EPOCH:
                known_later = reason is not None
                cursor = span.start + position.offset - span.offset
                if cursor > end and span is self._spans[-1]:
                    return Wait()
                if self.oldest <= cursor <= end and cursor >= span.start and not (known_later and cursor == end):
                    return Exact(cursor)
                # `known_later`: the epoch continues after a gap, so the end of this span is not a place in the stream.
                reason = LiveReason.AHEAD if cursor > end and not known_later else LiveReason.GONE
            end = span.start
        return None if reason is None else Live(self.cursor, reason)

    def _by_identities(self, digests: Sequence[int], identity: Identity) -> Exact | Live | Wait:
        """The same by the identities of the messages before the position, of which there is at least one.

        A place at an edge of the ring, where not all of them can be compared, is not enough by itself, but makes any other
        place doubtful. What no ring can see is that all of them occur, in this order, before its oldest message, too.
        """
        index = self._indexes.get(identity) or self._indexes.setdefault(identity, IdentityIndex(identity))
        if index in self._indexing or not self._complete(index):
            return Wait(LiveReason.UNKNOWN, grace=self._settings.index_seconds)
        fits = index.find(digests)
        if len(fits.cursors) > 1 or (fits.before and (fits.cursors or fits.ahead)):
            return Live(self.cursor, LiveReason.AMBIGUOUS)
        if fits.before:
            return Live(self.cursor, LiveReason.GONE)
        if fits.cursors:
            (cursor,) = fits.cursors
            if any(cursor <= span.start <= index.following(cursor) for span in self._spans):
                return Live(cursor, LiveReason.GONE)  # another epoch begins there, so messages may be missing
            return Wait(LiveReason.AMBIGUOUS) if fits.ahead else Exact(cursor)
        return Wait() if fits.ahead else Wait(LiveReason.UNKNOWN)

    def _complete(self, index: IdentityIndex) -> bool:
        """Computes identities up to the newest message; returns False if that goes on in later turns."""
        while not self._index_some(index):
            if self.index_later is not None:
                self._indexing.append(index)
                if len(self._indexing) == 1:
                    self.index_later(self)
                return False
        return True

    def _index_some(self, index: IdentityIndex) -> bool:
        """Computes as many identities as in one turn; returns whether all are there."""
        index.forget(self.oldest)
        max_bytes = self._settings.index_bytes // cost_of(index.identity)
        index.append((chunk.batch for chunk in self.since(index.end, max_bytes)), max_bytes)
        return index.end == self.cursor

    def index_more(self) -> bool:
        """Computes some of the identities that searches need; returns whether there are more to compute."""
        if self._indexing and self._index_some(self._indexing[0]):
            del self._indexing[0]
        return bool(self._indexing)

    def has(self, epoch: int) -> bool:
        """Whether places of an epoch are found by their offset."""
        return epoch != NO_EPOCH and any(span.epoch == epoch for span in self._spans)

    def broken_after(self, cursor: int, epoch: int) -> Breaks | None:
        """Where the stream broke behind a place that was found; None: it goes on without a break.

        Args:
            cursor: the place.
            epoch: of the position there, which may be that of another lobby.
        """
        if epoch == self.epoch:
            return None
        last = self.cursor
        for span in reversed(self._spans):
            if span.epoch != self.epoch:
                break
            last = span.start
        if last < cursor:
            return None
        here = epoch if self.has(epoch) else self._span_at(cursor).epoch
        first = next((span.start for span in self._spans if span.start >= cursor and span.epoch != here), last)
        return Breaks(first, last)

    def locate(self, cursor: int) -> tuple[int, int]:
        """Epoch and offset of the message at a cursor, or of the next message.

        Raises:
            ValueError: the cursor was evicted, or never existed.
        """
        if not self.oldest <= cursor <= self.cursor:
            raise ValueError(f"cursor: {cursor} is not kept; accepted: {self.oldest} to {self.cursor}")
        span = self._span_at(cursor)
        return span.epoch, span.offset + cursor - span.start

    def position(self, cursor: int | None = None) -> Position:
        """The position at a cursor (default: after the newest message), with digests of the messages kept before it.

        Raises:
            ValueError: the cursor was evicted, or never existed.
        """
        if cursor is None:
            cursor = self.cursor
        epoch, offset = self.locate(cursor)
        return Position(
            epoch, offset, digests_of(newest_first(self._before(cursor)), self.identity, self._settings.looked_at)
        )

    def identifying(self, cursor: int) -> list[Batch]:
        """The messages that `position(cursor)` has the digests of, and those between them, oldest first.

        Raises:
            ValueError: the cursor was evicted, or never existed.
        """
        self.locate(cursor)
        batches: list[Batch] = []
        lacking, looked_at = DIGESTS_KEPT, self._settings.looked_at
        for batch in self._before(cursor):
            at = len(batch)
            while at and lacking and looked_at:
                at -= 1
                looked_at -= 1
                lacking -= self.identity(batch.payload(at)) is not None
            if at < len(batch):
                batches.append(batch.after(at))
            if not lacking or not looked_at:
                break
        return batches[::-1]

    def _before(self, cursor: int) -> Iterator[Batch]:
        """The batches before a cursor, newest first."""
        for at in range(bisect_right(self._starts, cursor - 1, self._head) - 1, self._head - 1, -1):
            yield self._batches[at].before(cursor - self._starts[at])

    def _span_at(self, cursor: int) -> _Span:
        """The span of the message at a cursor: the last one that starts there or earlier, since others before it are empty."""
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
        newest = self._starts[-1]
        while self.oldest < newest and (self.bytes > self.max_bytes or self.cursor - self.oldest > self.max_messages):
            self._evict_oldest()
        while len(self._spans) > 1 and self._spans[1].start < self.oldest:
            del self._spans[0]  # even the place at its end was evicted


_start = attrgetter("start")


def newest_first(batches: Iterable[Batch]) -> Iterator[memoryview]:
    """The payloads of batches, newest first; the batches come newest first, too."""
    for batch in batches:
        for index in range(len(batch) - 1, -1, -1):
            yield batch.payload(index)
