"""The laws of the message ring, checked against a list of all messages ever appended."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.streams import numbered, numbers

from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import LiveReason, Position
from lobby_gateway.trunk.ring import Exact, Live, MessageRing, Wait

MAX_MESSAGES, MAX_BYTES = 12, 48


class RingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ring = MessageRing(MAX_MESSAGES, MAX_BYTES)
        self.history: list[tuple[int, int]] = []  # epoch and offset of message n
        self.sizes: list[int] = []  # messages of each batch
        self.epoch = 0
        self.offset = 0

    @rule(offset=st.sampled_from([0, 0, 0, 100]))
    def new_epoch(self, offset: int) -> None:
        self.epoch, self.offset = self.epoch + 1, offset
        self.ring.begin_epoch(self.epoch, offset)

    @precondition(lambda self: self.epoch)
    @rule(missing=st.integers(0, 3))
    def gap(self, missing: int) -> None:
        self.offset += missing
        self.ring.begin_epoch(self.epoch, self.offset)

    @precondition(lambda self: self.epoch)
    @rule(count=st.integers(1, 15))
    def append(self, count: int) -> None:
        first = len(self.history)
        self.history += [(self.epoch, self.offset + n) for n in range(count)]
        self.offset += count
        self.sizes.append(count)
        self.ring.append(numbered(range(first, first + count)))

    @rule(data=st.data(), max_bytes=st.integers(0, 60))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        """Every kept message is read once, in order, at its offset; each chunk is within the limit or a single batch."""
        ring = self.ring
        cursor = data.draw(st.integers(ring.oldest, ring.cursor))
        until = data.draw(st.none() | st.integers(cursor, ring.cursor + 2))
        end = ring.cursor if until is None else min(until, ring.cursor)
        while cursor < end:
            chunks = ring.since(cursor, max_bytes, until)
            assert chunks
            assert len(chunks) == 1 or sum(len(chunk.batch.data) for chunk in chunks) <= max_bytes
            for chunk in chunks:
                after = cursor + len(chunk.batch)
                assert numbers(chunk.batch) == list(range(cursor, after))
                assert [(chunk.epoch, chunk.first_offset + n) for n in range(len(chunk.batch))] == self.history[
                    cursor:after
                ]
                assert chunk.cursor_after == after
                cursor = after
        assert ring.since(cursor, max_bytes, until) == []
        assert cursor == end

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """Exact if and only if every message after the position is kept; the ring never guesses."""
        ring = self.ring
        near: Callable[[int], int] = lambda offset: max(0, offset + data.draw(st.integers(-2, 2)))  # noqa: E731
        epoch = data.draw(st.integers(0, self.epoch + 1))
        offsets = [offset for each, offset in self.history if each == epoch] or [0]
        offset = near(data.draw(st.sampled_from([offsets[0], offsets[-1], offsets[len(offsets) // 2], self.offset])))
        outcome = ring.resume(Position(epoch, offset))
        if isinstance(outcome, Exact):
            assert ring.oldest <= outcome.cursor <= ring.cursor
            at = outcome.cursor
            before, behind = self.history[:at], self.history[at:]
            assert all(place < (epoch, offset) for place in before)
            assert all(place >= (epoch, offset) for place in behind)
            assert not behind or behind[0] == (epoch, offset) or behind[0][0] > epoch
        elif isinstance(outcome, Wait):
            assert epoch == self.epoch
            assert offset > self.offset
        else:
            assert outcome.cursor == ring.cursor
            assert (epoch, offset) not in self.history[ring.oldest :]
            assert (epoch, offset) != (self.epoch, self.offset) or epoch == 0
            assert outcome.reason in {LiveReason.UNKNOWN, LiveReason.GONE, LiveReason.AHEAD}

    @rule(data=st.data())
    def position(self, data: st.DataObject) -> None:
        ring = self.ring
        cursor = data.draw(st.integers(ring.oldest, ring.cursor))
        position = ring.position(cursor)
        kept = range(max(ring.oldest, cursor - 16), cursor)
        assert position.digests == tuple(digest(b"%d" % number) for number in kept)
        at = (position.epoch, position.offset)
        assert at == (self.history[cursor] if cursor < len(self.history) else (self.epoch, self.offset))
        found = ring.resume(position)
        assert found == Exact(cursor) if self.epoch else isinstance(found, Live)

    @invariant()
    def keeps_what_it_may(self) -> None:
        ring = self.ring
        assert ring.cursor == len(self.history)
        assert (ring.epoch, ring.offset) == (self.epoch, self.offset)
        kept = b"".join(b"%d" % number for number in range(ring.oldest, ring.cursor))
        assert ring.bytes == len(kept) + 2 * len(ring)
        newest = self.sizes[-1] if self.sizes else 0
        assert (len(ring) <= MAX_MESSAGES and ring.bytes <= MAX_BYTES) or len(ring) == newest
        assert len(ring) >= newest


TestRing = RingMachine.TestCase
