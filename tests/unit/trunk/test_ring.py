from __future__ import annotations

import pytest
from tests.support.streams import numbered, numbers

from lobby_gateway.settings import IdentitySettings
from lobby_gateway.trunk.identity import digest, identity_of
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.position import LiveReason, Position
from lobby_gateway.trunk.ring import MAX_EPOCHS, Exact, Live, MessageRing, Wait, newest_first
from lobby_gateway.websocket.frames import Batch, Opcode, frame

EVERYTHING = 1 << 30


def ring_of(*sizes: int, max_messages: int = 100, max_bytes: int = EVERYTHING) -> MessageRing:
    """One epoch (1), one batch per size, messages numbered from 0."""
    ring = MessageRing(max_messages, max_bytes)
    ring.begin_epoch(1)
    for size in sizes:
        ring.append(numbered(range(ring.cursor, ring.cursor + size)))
    return ring


def read(ring: MessageRing, cursor: int, until: int | None = None) -> list[int]:
    return [number for chunk in ring.since(cursor, EVERYTHING, until) for number in numbers(chunk.batch)]


def test_an_empty_ring_has_no_epoch() -> None:
    ring = MessageRing()
    assert (ring.epoch, ring.offset, ring.cursor, ring.oldest, len(ring)) == (0, 0, 0, 0, 0)
    assert ring.since(0, EVERYTHING) == []
    assert ring.locate(0) == (0, 0)
    assert ring.position() == Position(0, 0)


def test_refuses_a_message_before_the_first_epoch() -> None:
    with pytest.raises(ValueError, match="before the first epoch"):
        MessageRing().append(numbered([1]))


def test_an_empty_batch_is_ignored() -> None:
    ring = ring_of(2)
    ring.append(Batch(b"", ()))
    assert (ring.cursor, read(ring, 0)) == (2, [0, 1])


def test_returns_the_messages_since_a_cursor() -> None:
    ring = ring_of(1, 3, 2)
    assert read(ring, 0) == [0, 1, 2, 3, 4, 5]
    assert read(ring, 2) == [2, 3, 4, 5]
    assert read(ring, 5) == [5]
    assert read(ring, 6) == []


def test_the_messages_of_a_position_and_those_between_them() -> None:
    def even(payload: bytes | memoryview) -> int | None:
        number = int(bytes(payload))
        return None if number % 2 else number

    def identifying(cursor: int, looked_at: int = 256) -> list[int]:
        ring = MessageRing(identity=even, settings=IdentitySettings(looked_at=looked_at))
        ring.begin_epoch(1)
        ring.append(numbered(range(30)))
        ring.begin_epoch(2)
        ring.append(numbered(range(30, 50)))
        return [number for batch in ring.identifying(cursor) for number in numbers(batch)]

    assert identifying(50) == list(range(18, 50))
    assert identifying(33) == list(range(2, 33))
    assert identifying(10) == list(range(10))
    assert identifying(50, looked_at=3) == [47, 48, 49]
    with pytest.raises(ValueError, match="51 is not kept"):
        identifying(51)


def test_returns_nothing_after_the_requested_end() -> None:
    ring = ring_of(1, 3, 2)
    assert read(ring, 1, until=3) == [1, 2]
    assert read(ring, 1, until=4) == [1, 2, 3]
    assert read(ring, 4, until=4) == []
    assert read(ring, 4, until=99) == [4, 5]


def test_returns_a_whole_batch_as_it_came() -> None:
    ring = ring_of()
    batch = numbered([1, 2, 3])
    ring.append(batch)
    (chunk,) = ring.since(0, EVERYTHING)
    assert chunk.batch is batch


def test_stops_before_the_batch_that_exceeds_the_limit_but_returns_at_least_one() -> None:
    ring = ring_of(1, 1, 1)  # of 3 bytes each
    assert [len(ring.since(0, limit)) for limit in (0, 3, 5, 6, 9)] == [1, 1, 1, 2, 3]


def test_chunks_say_where_they_are() -> None:
    ring = ring_of(2)
    ring.begin_epoch(7)
    ring.append(numbered([2, 3, 4]))
    chunks = ring.since(1, EVERYTHING)
    assert [(c.epoch, c.first_offset, c.cursor_after, numbers(c.batch)) for c in chunks] == [
        (1, 1, 2, [1]),
        (7, 0, 5, [2, 3, 4]),
    ]


def test_the_newest_batch_is_the_last_chunk_even_after_a_new_epoch_and_an_eviction() -> None:
    ring = ring_of(3, 2, max_messages=2)
    ring.begin_epoch(2)
    for _ in range(2):
        (chunk,) = ring.since(ring.newest_start, EVERYTHING)
        assert (ring.newest_epoch, ring.newest_offset, ring.newest) == (chunk.epoch, chunk.first_offset, chunk.batch)
        assert chunk.cursor_after == ring.cursor
        ring.append(numbered([5]))
    assert (ring.newest_start, ring.newest_epoch, ring.newest_offset) == (6, 2, 1)


def test_evicts_whole_batches_over_the_limit_of_messages() -> None:
    ring = ring_of(3, 3, 3, max_messages=6)
    assert (ring.oldest, len(ring)) == (3, 6)
    ring.append(numbered([9]))
    assert (ring.oldest, len(ring), read(ring, 6)) == (6, 4, [6, 7, 8, 9])


def test_evicts_over_the_limit_of_bytes() -> None:
    ring = ring_of(1, 1, 1, 1, max_bytes=9)  # of 3 bytes each
    assert (ring.oldest, ring.bytes) == (1, 9)


def test_keeps_the_newest_batch_however_large() -> None:
    ring = ring_of(1, 50, max_messages=10, max_bytes=10)
    assert (ring.oldest, len(ring)) == (1, 50)
    ring.append(numbered([51]))
    assert (ring.oldest, len(ring), ring.bytes) == (51, 1, 4)


def test_a_long_life_keeps_no_more_than_the_limits() -> None:
    ring = MessageRing(max_messages=10)
    ring.begin_epoch(1)
    for number in range(10_000):
        ring.append(numbered([number]))
    assert read(ring, ring.oldest) == list(range(9990, 10_000))
    assert len(ring._batches) < 2_100
    assert len(ring._starts) == len(ring._batches)


def test_refuses_an_evicted_cursor() -> None:
    ring = ring_of(3, 3, max_messages=3)
    with pytest.raises(ValueError, match="cursor: 2 was evicted; accepted: 3 and later"):
        ring.since(2, EVERYTHING)
    for cursor in (2, 7):
        with pytest.raises(ValueError, match=f"cursor: {cursor} is not kept; accepted: 3 to 6"):
            ring.locate(cursor)
        with pytest.raises(ValueError, match="is not kept"):
            ring.position(cursor)


def test_latest_goes_back_as_far_as_there_are_messages() -> None:
    ring = ring_of(3, 3, max_messages=3)
    assert [ring.latest(count) for count in (0, 1, 3, 4, 100)] == [6, 5, 3, 3, 3]


def test_a_new_epoch_starts_at_offset_0() -> None:
    ring = ring_of(3)
    assert ring.locate(3) == (1, 3)
    ring.begin_epoch(2)
    assert (ring.epoch, ring.offset, ring.cursor) == (2, 0, 3)
    assert ring.locate(3) == (2, 0)
    assert ring.locate(2) == (1, 2)


def test_an_epoch_may_continue_after_a_gap() -> None:
    ring = ring_of(3)
    ring.begin_epoch(1, offset=10)
    ring.append(numbered([10, 11]))
    assert [(c.first_offset, numbers(c.batch)) for c in ring.since(1, EVERYTHING)] == [(1, [1, 2]), (10, [10, 11])]
    assert ring.offset == 12


def test_the_current_epoch_may_begin_again_where_it_is() -> None:
    ring = ring_of(3)
    ring.begin_epoch(1, offset=3)
    ring.append(numbered([3]))
    assert ring.resume(Position(1, 3)) == Exact(3)
    with pytest.raises(ValueError, match="offset: 3 of epoch 0000000000000001 is in the past; accepted: 4 and later"):
        ring.begin_epoch(1, offset=3)


@pytest.mark.parametrize("epoch", [-1, 0, 2**64])
def test_refuses_epochs_out_of_range(epoch: int) -> None:
    with pytest.raises(ValueError, match="is out of range"):
        MessageRing().begin_epoch(epoch)


# Resuming


def test_resumes_after_any_message_that_is_kept() -> None:
    ring = ring_of(2, 2, 2, max_messages=4)
    assert [ring.resume(Position(1, offset)) for offset in (2, 3, 6)] == [Exact(2), Exact(3), Exact(6)]


def test_a_position_whose_next_message_is_evicted_is_live() -> None:
    ring = ring_of(2, 2, 2, max_messages=4)
    assert ring.resume(Position(1, 1)) == Live(6, LiveReason.GONE)


def test_a_position_ahead_in_the_current_epoch_waits() -> None:
    ring = ring_of(2)
    assert ring.resume(Position(1, 3)) == Wait()
    ring.append(numbered([2]))
    assert ring.resume(Position(1, 3)) == Exact(3)


def test_a_position_ahead_in_an_ended_epoch_is_live() -> None:
    ring = ring_of(2)
    ring.begin_epoch(2)
    assert ring.resume(Position(1, 3)) == Live(2, LiveReason.AHEAD)


def test_a_position_of_another_origin_session_is_live() -> None:
    ring = ring_of(2)
    assert ring.resume(Position(9, 1)) == Live(2, LiveReason.UNKNOWN)


def test_a_position_without_an_epoch_is_never_found() -> None:
    assert MessageRing().resume(Position(0, 0)) == Live(0, LiveReason.UNKNOWN)
    assert ring_of(2).resume(Position(0, 0)) == Live(2, LiveReason.UNKNOWN)


def test_resumes_in_an_ended_epoch_and_continues_with_the_next() -> None:
    ring = ring_of(3)
    ring.begin_epoch(2)
    ring.append(numbered([3, 4]))
    assert ring.resume(Position(1, 2)) == Exact(2)
    assert ring.resume(Position(1, 3)) == Exact(3)
    assert ring.resume(Position(2, 0)) == Exact(3)
    assert ring.resume(Position(2, 1)) == Exact(4)


def test_the_start_of_an_epoch_without_a_message_is_a_position() -> None:
    ring = ring_of(3)
    ring.begin_epoch(2)
    assert ring.position() == Position(2, 0, tuple(digest(b"%d" % number) for number in range(3)))
    ring.begin_epoch(3)
    ring.append(numbered([3]))
    assert ring.resume(Position(2, 0)) == Exact(3)
    assert ring.resume(Position(3, 0)) == Exact(3)


def test_the_end_of_an_epoch_is_found_as_long_as_what_follows_is_kept() -> None:
    ring = ring_of(3, max_messages=3)
    ring.begin_epoch(2)
    ring.append(numbered([3, 4, 5]))
    assert ring.resume(Position(1, 3)) == Exact(3)
    ring.append(numbered([6]))
    assert ring.resume(Position(1, 3)) == Live(7, LiveReason.UNKNOWN)


def test_an_epoch_that_was_entered_midway_is_known_from_there_on() -> None:
    ring = MessageRing()
    ring.begin_epoch(1, offset=100)
    ring.append(numbered([100, 101]))
    assert ring.resume(Position(1, 100)) == Exact(0)
    assert ring.resume(Position(1, 99)) == Live(2, LiveReason.GONE)


def test_messages_of_an_earlier_epoch_do_not_stand_in_for_those_before_the_entry() -> None:
    ring = ring_of(3)
    ring.begin_epoch(2, offset=100)
    ring.append(numbered([100]))
    assert ring.resume(Position(2, 99)) == Live(4, LiveReason.GONE)


def test_a_position_right_before_a_gap_is_live_and_one_further_back_is_exact() -> None:
    ring = ring_of(3)
    ring.begin_epoch(1, offset=10)
    ring.append(numbered([10]))
    assert ring.resume(Position(1, 2)) == Exact(2)
    assert ring.resume(Position(1, 3)) == Live(4, LiveReason.GONE)
    assert ring.resume(Position(1, 5)) == Live(4, LiveReason.GONE)
    assert ring.resume(Position(1, 10)) == Exact(3)


def test_an_origin_that_flaps_without_messages_costs_no_memory() -> None:
    ring = ring_of(2)
    for epoch in range(2, 10_000):
        ring.begin_epoch(epoch)
    assert len(ring._spans) == MAX_EPOCHS
    assert ring.resume(Position(1, 1)) == Exact(1)
    assert ring.resume(Position(9_999, 0)) == Exact(2)
    assert ring.locate(1) == (1, 1)


def test_each_of_many_short_epochs_is_known_while_its_messages_are_kept() -> None:
    ring = MessageRing()
    for epoch in range(1, 200):
        ring.begin_epoch(epoch)
        ring.append(numbered([epoch]))
    assert ring.resume(Position(1, 0)) == Exact(0)
    assert [ring.locate(epoch - 1) for epoch in (1, 50, 199)] == [(1, 0), (50, 0), (199, 0)]


# Identities in many turns


class Counting:
    """An identity that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, payload: bytes | memoryview) -> int:
        self.calls += 1
        return digest(payload)


def ring_to_index(messages: int, *, index_bytes: int) -> tuple[MessageRing, Counting, list[MessageRing]]:
    """A ring whose identities are computed in turns, what counts them, and the rings that asked for turns."""
    identity, asked = Counting(), list[MessageRing]()
    settings = IdentitySettings(index_bytes=index_bytes)
    ring = MessageRing(messages, EVERYTHING, identity, index_later=asked.append, settings=settings)
    ring.begin_epoch(1)
    for start in range(0, messages, 100):
        ring.append(numbered(range(start, start + 100)))
    return ring, identity, asked


def elsewhere(*messages: int) -> Position:
    return Position(77, 0, tuple(digest(b"%d" % number) for number in messages))


def test_a_search_of_a_full_ring_computes_few_identities_in_one_turn() -> None:
    ring, identity, asked = ring_to_index(10_000, index_bytes=1 << 16)
    place = elsewhere(*range(4990, 5000))
    most, before = 0, 0
    assert ring.resume(place) == Wait(LiveReason.UNKNOWN, grace=3.0)
    more = True
    while more:
        assert ring.resume(place) == Wait(LiveReason.UNKNOWN, grace=3.0)
        most, before = max(most, identity.calls - before), identity.calls
        more = ring.index_more()
    assert ring.resume(place) == Exact(5000)
    assert asked == [ring]
    assert most <= 128
    assert identity.calls == 10_000


def test_a_turn_computes_fewer_identities_the_longer_one_takes() -> None:
    turns = []
    for identity in ("/id", "msg.id", "msg"):
        settings = IdentitySettings(index_bytes=1 << 16)
        ring = MessageRing(identity=identity_of(identity), index_later=lambda _: None, settings=settings)
        ring.begin_epoch(1)
        ring.append(Batch.of([frame(Opcode.TEXT, b'{"id":%d}' % number) for number in range(1000)]))
        ring.resume(elsewhere(1))
        turns.append(2)
        while ring.index_more():
            turns[-1] += 1
    assert turns == [8, 16, 63]


def test_large_messages_are_indexed_by_their_bytes_but_at_least_one_in_a_turn() -> None:
    identity, settings = Counting(), IdentitySettings(index_bytes=3000)
    ring = MessageRing(100, EVERYTHING, identity, index_later=lambda _: None, settings=settings)
    ring.begin_epoch(1)
    ring.append(Batch.of([frame(Opcode.TEXT, b"x" * size) for size in (900, 900, 900, 9000, 9000)]))
    ring.resume(elsewhere(1))
    turns = [identity.calls]
    while ring.index_more():
        turns.append(identity.calls)
    assert [*turns, identity.calls] == [3, 4, 5]


def test_a_place_that_is_evicted_before_it_was_indexed_is_not_found() -> None:
    ring, _, _ = ring_to_index(1000, index_bytes=1)
    place = elsewhere(*range(16))
    ring.resume(place)
    ring.append(numbered(range(1000, 1100)))
    while ring.index_more():
        pass
    assert ring.resume(place) == Wait(LiveReason.UNKNOWN)


def test_a_few_new_messages_are_indexed_at_once() -> None:
    ring, _, asked = ring_to_index(1000, index_bytes=1 << 16)
    ring.resume(elsewhere(0))
    while ring.index_more():
        pass
    ring.append(numbered(range(1000, 1100)))
    assert ring.resume(elsewhere(1098, 1099)) == Exact(1100)
    assert asked == [ring]


def test_payloads_and_identities_are_indexed_one_after_the_other() -> None:
    ring, identity, asked = ring_to_index(1000, index_bytes=1 << 16)
    numbers = tuple(digest(b"%d" % number) for number in range(490, 500))
    assert ring.resume(Position(77, 0, numbers, of_payloads=True)) == Wait(LiveReason.UNKNOWN, grace=3.0)
    assert ring.resume(Position(77, 0, numbers)) == Wait(LiveReason.UNKNOWN, grace=3.0)
    while ring.index_more():
        pass
    assert ring.resume(Position(77, 0, numbers, of_payloads=True)) == Exact(500)
    assert ring.resume(Position(77, 0, numbers)) == Exact(500)
    assert asked == [ring]
    assert identity.calls == 1000


# Positions


def test_a_position_has_the_digests_of_the_sixteen_messages_before_it() -> None:
    ring = ring_of(5, 10, 10)
    assert ring.position() == Position(1, 25, tuple(digest(b"%d" % number) for number in range(9, 25)))
    assert ring.position(20).digests == tuple(digest(b"%d" % number) for number in range(4, 20))
    assert ring.position(3).digests == tuple(digest(b"%d" % number) for number in range(3))
    assert ring.position(0) == Position(1, 0)


def test_a_position_has_digests_of_kept_messages_only() -> None:
    ring = ring_of(10, 3, max_messages=5)
    assert ring.position().digests == tuple(digest(b"%d" % number) for number in range(10, 13))
    assert ring.position(10).digests == ()


def test_payloads_come_newest_first_without_their_headers() -> None:
    batches = [
        Batch.of([frame(Opcode.BINARY, b"x" * 300)]),
        Batch.of([frame(Opcode.TEXT, b""), frame(Opcode.TEXT, b"z")]),
    ]
    assert [bytes(each) for each in newest_first(reversed(batches))] == [b"z", b"", b"x" * 300]


def test_stale_messages_are_not_replayed_but_resumed() -> None:
    ring = ring_of(3, 2)
    stale = [ring.stale]
    ring.forget()
    stale.append(ring.stale)
    assert ring.latest(100) == 5
    assert ring.resume(Position(1, 2)) == Exact(2)
    ring.begin_epoch(2)
    stale.append(ring.stale)
    ring.append(numbered([5, 6]))
    stale.append(ring.stale)
    assert stale == [False, True, True, False]
    assert [ring.latest(count) for count in (1, 2, 100)] == [6, 5, 5]
    assert ring.resume(Position(1, 4)) == Exact(4)


def test_a_ring_without_messages_is_not_stale() -> None:
    ring = MessageRing()
    ring.forget()
    assert not ring.stale


def test_a_client_is_found_although_it_takes_kept_messages_for_part_of_the_stream() -> None:
    ring = MessageRing()
    ring.begin_epoch(1)
    ring.append(numbered(range(10)))
    ring.kept.put({"id": KeptFrame(frame(Opcode.TEXT, b"old id"))})
    ring.kept.put({"id": KeptFrame(frame(Opcode.TEXT, b"id")), "seven": KeptFrame(frame(Opcode.TEXT, b"7"), ahead=8)})

    def resumed(*seen: bytes) -> Exact | Live | Wait:
        return ring.resume(Position(77, 0, tuple(map(digest, seen)), of_payloads=True))

    assert resumed(b"id", b"7", b"3", b"4") == Exact(5)
    assert resumed(b"6", b"7", b"8") == Exact(9)  # there it is part of the stream
    assert resumed(b"old id", b"3", b"id", b"4") == Exact(5)
    assert resumed(b"old id", b"6", b"7", b"id", b"8") == Exact(9)
    assert resumed(b"id") == resumed(b"other") == Wait(LiveReason.UNKNOWN)
    of_a_lobby = Position(77, 0, tuple(map(digest, (b"id", b"3", b"4"))))
    assert ring.resume(of_a_lobby) == Wait(LiveReason.UNKNOWN)


def test_kept_messages_are_stale_with_all_others() -> None:
    ring = MessageRing()
    ring.begin_epoch(1)
    ring.kept.put({"id": KeptFrame(frame(Opcode.TEXT, b"id"))})
    ring.forget()
    assert ring.kept.first() == []


def test_a_kept_message_that_was_yet_to_come_counts_as_past_if_messages_are_skipped() -> None:
    ring = MessageRing()
    ring.begin_epoch(1)
    ring.kept.put({"id": KeptFrame(frame(Opcode.TEXT, b"id"), ahead=2)}, cursor=ring.cursor)
    assert ring.kept.first(cursor=ring.cursor) == []
    ring.begin_epoch(1, 2)
    assert len(ring.kept.first(cursor=ring.cursor)) == 1


def test_what_is_kept_of_the_stream_has_its_place_after_the_next_epoch_has_begun() -> None:
    """Only what was yet to come has none: whoever joins before the place gets the message there, and not first, too."""
    ring = MessageRing()
    ring.begin_epoch(1)
    ring.kept.put({"came": KeptFrame(numbered([0]).data, ahead=1), "comes": KeptFrame(numbered([1]).data, ahead=2)})
    ring.append(numbered([0]))
    ring.begin_epoch(2)
    assert {change.name: change.ahead_of(0) for change in ring.kept} == {"came": 1, "comes": 0}
