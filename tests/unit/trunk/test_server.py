from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.support.streams import SeatsOnly, numbered, numbers

from lobby_gateway.settings import IdentitySettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.position import LiveReason, Position
from lobby_gateway.trunk.records import (
    Claim,
    Forward,
    Granted,
    GrantReason,
    Heartbeat,
    Hello,
    Kept,
    Messages,
    Missed,
    Move,
    MoveReason,
    Origin,
    Record,
    RelayRefusedError,
    Release,
    Replay,
    Resume,
    Resumed,
    Status,
    TrunkError,
    Welcome,
    decode,
)
from lobby_gateway.trunk.ring import Exact, Live, MessageRing, Wait
from lobby_gateway.trunk.server import TrunkServer, TrunkServerState
from lobby_gateway.websocket.frames import Opcode, frame


class Lobby(SeatsOnly):
    """A lobby with a ring of 8 messages in epoch 1 and one trunk."""

    def __init__(self, messages: int = 0, seats: int = 4) -> None:
        super().__init__(seats)
        self.now = 1000.0
        self.ring = MessageRing(max_messages=8)
        self.ring.begin_epoch(1)
        self.publish(messages)
        self.server = TrunkServer(self, self.ring, now=self.now)

    def publish(self, count: int) -> None:
        """Messages one by one, numbered through."""
        for number in range(self.ring.cursor, self.ring.cursor + count):
            self.ring.append(numbered([number]))

    def receive(self, *records: Record) -> None:
        for record in records:
            assert self.server.receive(record.encode(), self.now) is None

    def take(self, max_bytes: int = 1 << 20) -> Record | None:
        """The next record that goes out."""
        parts = self.server.take(self.now, max_bytes)
        return None if parts is None else decode(b"".join(parts))

    def rest(self) -> list[Record]:
        """All that goes out now."""
        records = []
        while (record := self.take()) is not None:
            records.append(record)
        return records

    def join(self, hello: Hello | None = None) -> Welcome:
        self.receive(hello or Hello("g"))
        welcome = self.take()
        assert isinstance(welcome, Welcome)
        return welcome


class LobbyToIndex(Lobby):
    """Has six messages, of which one is indexed in a turn."""

    def __init__(self) -> None:
        super().__init__()
        settings = IdentitySettings(index_bytes=1, index_seconds=3)
        self.ring = MessageRing(8, index_later=lambda _: None, settings=settings)
        self.ring.begin_epoch(1)
        self.publish(6)
        self.server = TrunkServer(self, self.ring, now=self.now)


def digests(count: int) -> tuple[int, ...]:
    """Of the first messages."""
    return tuple(digest(b"%d" % number) for number in range(count))


def shown(records: Sequence[Record]) -> list[object]:
    """Messages as their numbers, groups' messages as pairs of group and numbers, all else as it is."""
    return [
        numbers(r.batch) if isinstance(r, Messages) else (r.id, numbers(r.batch)) if isinstance(r, Replay) else r
        for r in records
    ]


# Beginning


def test_sends_nothing_before_hello() -> None:
    lobby = Lobby(3)
    lobby.server.send_status()
    lobby.server.move(MoveReason.DRAINING, 1)
    assert lobby.take() is None
    assert lobby.server.state is TrunkServerState.AWAITING_HELLO


@pytest.mark.parametrize(
    "record", [Claim(1, 1), Release(0), Forward(7, 1, b""), Resume(1, Position(1, 1)), Heartbeat()]
)
def test_refuses_any_other_record_before_hello(record: Record) -> None:
    with pytest.raises(TrunkError, match=f"{record.TYPE.name} came before HELLO"):
        Lobby().server.receive(record.encode(), 0.0)


def test_refuses_a_second_hello() -> None:
    lobby = Lobby()
    lobby.join()
    with pytest.raises(TrunkError, match="HELLO came twice"):
        lobby.receive(Hello("g"))


def test_refuses_a_record_of_its_own_side() -> None:
    lobby = Lobby()
    lobby.join()
    with pytest.raises(TrunkError, match="MOVE is not a consumer record"):
        lobby.receive(Move(1, 0))


def test_ignores_a_record_of_a_newer_version() -> None:
    lobby = Lobby()
    lobby.join()
    assert lobby.server.receive(b"\x33\0whatever", 0.0) is None
    assert lobby.rest() == []


def test_welcome_describes_the_lobby_and_where_the_stream_starts() -> None:
    lobby = Lobby(5)
    lobby.claim(1)
    assert lobby.join() == Welcome(False, LiveReason.NO_POSITION, True, 4, 3, 1, 5, "prices-1", digests(5))
    assert lobby.server.consumer == "g"
    assert lobby.server.state is TrunkServerState.STREAMING
    lobby.publish(1)
    assert shown(lobby.rest()) == [[5]]


def test_welcome_before_the_first_origin_session() -> None:
    lobby = SeatsOnly()
    lobby.origin_connected = False
    ring = MessageRing()
    server = TrunkServer(lobby, ring, now=0.0)
    server.receive(Hello("g").encode(), 0.0)
    assert decode(b"".join(server.take(0.0) or ())) == Welcome(False, 1, False, 512, 512, 0, 0, "prices-1")
    ring.begin_epoch(9)
    ring.append(numbered([0]))
    messages = decode(b"".join(server.take(0.0) or ()))
    assert isinstance(messages, Messages)
    assert (messages.epoch, messages.offset) == (9, 0)


def test_replay_starts_the_stream_that_many_messages_back() -> None:
    lobby = Lobby(5)
    assert lobby.join(Hello("g", replay=2)).offset == 3
    assert shown(lobby.rest()) == [[3, 4]]


def test_the_stream_continues_at_a_known_position() -> None:
    lobby = Lobby(5)
    welcome = lobby.join(Hello("g", 1, Position(1, 2)))
    assert (welcome.exact, welcome.reason, welcome.epoch, welcome.offset) == (True, 0, 1, 2)
    assert shown(lobby.rest()) == [[2, 3, 4]]


def test_the_stream_continues_in_the_next_epoch_after_the_end_of_an_epoch() -> None:
    lobby = Lobby(2)
    lobby.ring.begin_epoch(7)
    lobby.publish(1)
    welcome = lobby.join(Hello("g", 0, Position(1, 2)))
    assert (welcome.exact, welcome.epoch, welcome.offset) == (True, 1, 2)
    (messages,) = lobby.rest()
    assert isinstance(messages, Messages)
    assert (messages.epoch, messages.offset, numbers(messages.batch)) == (7, 0, [2])


def test_an_unknown_position_is_live_with_replay() -> None:
    lobby = Lobby(5)
    welcome = lobby.join(Hello("g", 1, Position(9, 2)))
    assert (welcome.exact, welcome.reason, welcome.offset) == (False, LiveReason.UNKNOWN, 4)
    assert shown(lobby.rest()) == [[4]]


def test_a_position_ahead_delays_welcome_until_it_is_reached() -> None:
    lobby = Lobby(5)
    lobby.receive(Hello("g", 0, Position(1, 7)), Claim(1, 1))
    assert lobby.take() is None
    assert lobby.server.state is TrunkServerState.AWAITING_PLACE
    lobby.publish(3)
    assert shown(lobby.rest()) == [
        Welcome(True, 0, True, 4, 3, 1, 7, "prices-1", digests(7), behind=1),
        Granted(1, 1, 3, 0),
        [7],
    ]


def test_a_position_ahead_is_live_after_a_second() -> None:
    lobby = Lobby(5)
    lobby.receive(Hello("g", 0, Position(1, 7)))
    lobby.publish(1)
    for lobby.now in (1000.5, 1000.99):
        assert lobby.take() is None
    assert lobby.server.wake_at == 1000.5
    lobby.now = 1001.0
    assert lobby.take() == Welcome(False, LiveReason.AHEAD, True, 4, 4, 1, 6, "prices-1", digests(6))


# Seats


def test_grants_what_is_free_and_says_why_it_is_less() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.receive(Claim(1, 3), Claim(2, 3), Claim(3, 1))
    assert lobby.rest() == [
        Granted(1, 3, 1, GrantReason.NONE),
        Granted(2, 1, 0, GrantReason.FULL),
        Granted(3, 0, 0, GrantReason.FULL),
    ]
    assert lobby.server.held == lobby.seat_count.taken == 4


def test_grants_nothing_while_draining() -> None:
    lobby = Lobby()
    lobby.seat_count.draining = True
    lobby.join()
    lobby.receive(Claim(1, 2))
    assert lobby.rest() == [Granted(1, 0, 0, GrantReason.DRAINING)]


def test_released_seats_are_free_again() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.receive(Claim(1, 4), Release(3))
    assert (lobby.server.held, lobby.seat_count.taken) == (1, 1)


def test_refuses_the_release_of_seats_that_another_consumer_holds() -> None:
    lobby = Lobby()
    lobby.claim(2)
    lobby.join()
    lobby.receive(Claim(1, 1))
    with pytest.raises(TrunkError, match="RELEASE: released 2, held 1"):
        lobby.receive(Release(2))
    assert lobby.seat_count.taken == 3


def test_the_end_of_the_trunk_returns_its_seats_once() -> None:
    lobby = Lobby()
    lobby.claim(1)
    lobby.join()
    lobby.receive(Claim(1, 3))
    lobby.server.close()
    lobby.server.close()
    assert (lobby.server.held, lobby.seat_count.taken) == (0, 1)
    assert lobby.server.state is TrunkServerState.CLOSED
    assert lobby.take() is None


def test_refuses_a_consumer_that_claims_and_never_reads() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.receive(*(Claim(n, 0) for n in range(4096)))
    with pytest.raises(TrunkError, match="CLAIM: too many"):
        lobby.receive(Claim(1, 0))
    lobby.receive(*(Resume(n + 1, Position(1, 1)) for n in range(4096)))
    with pytest.raises(TrunkError, match="RESUME: too many"):
        lobby.receive(Resume(1, Position(1, 1)))


def test_a_clients_message_is_forwarded() -> None:
    lobby = Lobby()
    lobby.join()
    forward = Forward(7, Opcode.BINARY, b"\0\1")
    assert lobby.server.receive(forward.encode(), lobby.now) == forward


# The stream


def test_one_read_of_the_origin_is_one_record_whose_frames_are_not_copied() -> None:
    lobby = Lobby()
    lobby.join()
    batch = numbered(range(8))
    lobby.ring.append(batch)
    parts = lobby.server.take(lobby.now)
    assert parts is not None
    assert parts[1] is batch.data
    assert lobby.take() is None


def test_a_slow_consumer_gets_batches_merged_up_to_the_given_size() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.publish(7)  # of 3 bytes each
    assert lobby.server.behind == 7
    assert shown([lobby.take(9), lobby.take(1), lobby.take(99)]) == [[0, 1, 2], [3], [4, 5, 6]]  # type: ignore[list-item]
    assert lobby.server.behind == 0
    assert lobby.server.missed == 0


def test_messages_of_two_epochs_are_two_records() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.publish(2)
    lobby.ring.begin_epoch(7)
    lobby.publish(2)
    records = lobby.rest()
    assert [(r.epoch, r.offset, numbers(r.batch)) for r in records if isinstance(r, Messages)] == [
        (1, 0, [0, 1]),
        (7, 0, [2, 3]),
    ]


def test_evicted_messages_are_announced_with_their_number_and_places() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.publish(1)
    lobby.rest()
    lobby.publish(12)
    assert shown(lobby.rest()) == [Missed(0, 4, 1, 1, 1, 5), [5, 6, 7, 8, 9, 10, 11, 12]]
    assert lobby.server.missed == 4


def test_evicted_messages_are_counted_across_epochs() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.publish(3)
    lobby.ring.begin_epoch(7)
    lobby.publish(10)
    assert shown(lobby.rest())[0] == Missed(0, 5, 1, 0, 7, 2)


def test_a_gap_in_the_ring_itself_is_announced_too() -> None:
    lobby = Lobby(2)
    lobby.join(Hello("g", replay=2))
    lobby.ring.begin_epoch(1, offset=5)
    lobby.publish(1)
    first, second, third = lobby.rest()
    assert numbers(first.batch) == [0, 1]  # type: ignore[union-attr]
    assert second == Missed(0, 3, 1, 2, 1, 5)
    assert (third.offset, numbers(third.batch)) == (5, [2])  # type: ignore[union-attr]
    assert lobby.server.missed == 3


def test_an_epoch_that_is_entered_midway_is_a_gap() -> None:
    lobby = Lobby(2)
    lobby.join()
    lobby.ring.begin_epoch(7, offset=5)
    lobby.server.send_status()
    assert lobby.rest() == [Missed(0, 5, 1, 2, 7, 5), Status(True, 4, 4, 7, 5)]


# Groups that resume


def test_a_group_gets_what_it_lacks_and_then_joins_the_stream() -> None:
    lobby = Lobby(5)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 2)))
    lobby.publish(1)
    assert shown(lobby.rest()) == [(3, [2, 3, 4]), Resumed(3, True, 0, 1, 5), [5]]


def test_a_group_at_the_place_of_the_stream_joins_at_once() -> None:
    lobby = Lobby(5)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 5)))
    assert lobby.rest() == [Resumed(3, True, 0, 1, 5)]


def test_a_group_ahead_of_a_slow_stream_is_answered_when_the_stream_has_passed_it() -> None:
    lobby = Lobby(2)
    lobby.join()
    lobby.publish(6)
    lobby.receive(Resume(3, Position(1, 8)), Resume(4, Position(1, 4)))
    records = [lobby.take(9), *lobby.rest()]
    assert shown(records) == [  # type: ignore[arg-type]
        [2, 3, 4],
        (4, [4]),
        Resumed(4, True, 0, 1, 5),
        [5, 6, 7],
        Resumed(3, True, 0, 1, 8),
    ]


def test_a_group_may_be_in_the_middle_of_a_batch() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.ring.append(numbered(range(6)))
    lobby.receive(Resume(3, Position(1, 4)))
    assert shown(lobby.rest()) == [[0, 1, 2, 3, 4, 5], (3, [4, 5]), Resumed(3, True, 0, 1, 6)]


def test_a_group_at_the_start_of_a_new_epoch_takes_the_stream_there() -> None:
    lobby = Lobby(2)
    lobby.join()
    lobby.ring.begin_epoch(7)
    lobby.receive(Resume(3, Position(7, 0)), Resume(4, Position(1, 2)), Resume(5, Position(1, 1)))
    records = lobby.rest()
    assert shown(records) == [Resumed(3, True, 0, 7, 0), Resumed(4, True, 0, 7, 0), (5, [1]), Resumed(5, True, 0, 7, 0)]


def test_a_gap_in_the_ring_is_announced_before_a_group_joins_after_it() -> None:
    lobby = Lobby(2)
    lobby.join()
    lobby.ring.begin_epoch(1, offset=5)
    lobby.receive(Resume(3, Position(1, 5)), Resume(4, Position(1, 1)))
    assert shown(lobby.rest()) == [
        Missed(0, 3, 1, 2, 1, 5),
        Resumed(3, True, 0, 1, 5),
        (4, [1]),
        Missed(4, 3, 1, 2, 1, 5),
        Resumed(4, True, 0, 1, 5),
    ]


def test_a_group_with_an_unknown_position_joins_live() -> None:
    lobby = Lobby(5)
    lobby.join()
    lobby.receive(Resume(3, Position(9, 2)))
    lobby.publish(1)
    assert shown(lobby.rest()) == [Resumed(3, False, LiveReason.UNKNOWN, 1, 5), [5]]


def test_a_group_of_another_lobby_is_found_by_its_digests() -> None:
    lobby = Lobby(6)
    lobby.join()
    lobby.receive(Resume(3, Position(9, 700, digests(4))))
    assert shown(lobby.rest()) == [(3, [4, 5]), Resumed(3, True, 0, 1, 6)]


def test_a_trunk_continues_at_a_position_of_another_lobby() -> None:
    lobby = Lobby(6)
    welcome = lobby.join(Hello("g", 0, Position(9, 700, digests(4))))
    assert (welcome.exact, welcome.epoch, welcome.offset, welcome.digests) == (True, 1, 4, digests(4))
    assert shown(lobby.rest()) == [[4, 5]]


def test_a_group_is_answered_late_but_exact_if_identities_take_long() -> None:
    lobby = LobbyToIndex()
    lobby.join()
    lobby.receive(Resume(3, Position(9, 700, digests(4))))
    lobby.now += 1.1  # an answer that depends on the origin would be due
    assert lobby.rest() == []
    while lobby.ring.index_more():
        pass
    assert shown(lobby.rest()) == [(3, [4, 5]), Resumed(3, True, 0, 1, 6)]


def test_a_trunk_continues_late_but_exactly_if_identities_take_long() -> None:
    lobby = LobbyToIndex()
    lobby.receive(Hello("g", 0, Position(9, 700, digests(4))))
    lobby.now += 1.1
    assert lobby.rest() == []
    while lobby.ring.index_more():
        pass
    welcome, *_ = lobby.rest()
    assert isinstance(welcome, Welcome)
    assert (welcome.exact, welcome.epoch, welcome.offset) == (True, 1, 4)


def test_identities_that_take_too_long_are_not_waited_for() -> None:
    lobby = LobbyToIndex()
    lobby.join()
    lobby.receive(Resume(3, Position(9, 700, digests(4))))
    lobby.now += 3.9
    assert lobby.rest() == []
    lobby.now += 0.2
    assert lobby.rest() == [Resumed(3, False, LiveReason.UNKNOWN, 1, 6)]


def test_a_group_of_another_lobby_that_is_ahead_is_waited_for() -> None:
    lobby = Lobby(4)
    lobby.join()
    lobby.receive(Resume(3, Position(9, 700, digests(6))))
    lobby.publish(1)
    assert shown(lobby.rest()) == [[4]]
    lobby.publish(2)
    assert shown(lobby.rest()) == [[5, 6], (3, [6]), Resumed(3, True, 0, 1, 7)]


def test_a_group_that_is_waited_for_is_not_looked_for_after_each_message_of_a_fast_stream() -> None:
    looks = 0

    class Ring(MessageRing):
        def resume(self, *args: Any, **options: Any) -> Exact | Live | Wait:
            nonlocal looks
            looks += 1
            return super().resume(*args, **options)

    lobby = Lobby()
    lobby.ring = Ring(max_messages=1000)
    lobby.ring.begin_epoch(1)
    lobby.server = TrunkServer(lobby, lobby.ring, now=lobby.now)
    lobby.join()
    lobby.receive(Resume(3, Position(9, 700, digests(400)[-16:])))
    for _ in range(300):
        lobby.publish(1)
        lobby.rest()
        lobby.now += 0.001
    assert looks < 16 + 50 * 0.3 + 5
    lobby.publish(99)
    lobby.now += 0.1
    lobby.publish(1)
    assert lobby.rest()[-1] == Resumed(3, True, 0, 1, 400)


def test_messages_of_a_found_group_that_are_evicted_meanwhile_are_announced() -> None:
    lobby = Lobby(8)
    lobby.join()
    lobby.receive(Resume(3, Position(9, 700, digests(2))))
    assert shown([record for record in [lobby.take(max_bytes=1)] if record]) == [(3, [2])]
    lobby.publish(6)
    assert shown(lobby.rest())[:2] == [Missed(3, 3, 1, 3, 1, 6), (3, [6, 7])]


def test_a_group_ahead_of_the_ring_is_waited_for() -> None:
    lobby = Lobby(5)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 7)))
    lobby.publish(1)
    assert shown(lobby.rest()) == [[5]]
    lobby.publish(2)
    assert shown(lobby.rest()) == [[6, 7], (3, [7]), Resumed(3, True, 0, 1, 8)]


def test_a_group_ahead_of_the_ring_joins_live_after_a_second() -> None:
    lobby = Lobby(5)
    lobby.join()
    lobby.now = 1000.2
    lobby.receive(Resume(3, Position(1, 7)))
    assert lobby.server.wake_at == 1000.5
    lobby.now = 1000.9
    assert lobby.server.wake(lobby.now)
    assert [type(record) for record in lobby.rest()] == [Status]
    assert lobby.server.wake_at == 1001.2
    lobby.now = 1001.2
    assert lobby.server.wake(lobby.now)
    assert lobby.server.wake_at == pytest.approx(1001.4)  # the answer waits for `take`, not for more time
    assert lobby.rest() == [Resumed(3, False, LiveReason.AHEAD, 1, 5)]


def test_a_group_waits_only_while_its_epoch_is_current() -> None:
    lobby = Lobby(5)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 7)))
    assert lobby.rest() == []
    lobby.ring.begin_epoch(2)
    assert lobby.rest() == [Resumed(3, False, LiveReason.AHEAD, 2, 0)]


def test_the_stream_waits_for_a_group_that_catches_up() -> None:
    lobby = Lobby(8)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 1)))
    assert shown([lobby.take(9)]) == [(3, [1, 2, 3])]  # type: ignore[list-item]
    lobby.server.send_status()
    assert shown([lobby.take(9)]) == [(3, [4, 5, 6])]  # type: ignore[list-item]
    assert shown(lobby.rest()) == [(3, [7]), Resumed(3, True, 0, 1, 8), Status(True, 4, 4, 1, 8)]


def test_answers_to_claims_do_not_wait_for_a_group_that_catches_up() -> None:
    lobby = Lobby(8)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 1)))
    lobby.take(3)
    lobby.receive(Claim(1, 1))
    assert lobby.take() == Granted(1, 1, 3, 0)


def test_a_group_learns_what_was_evicted_while_it_caught_up() -> None:
    lobby = Lobby(8)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 1)))
    lobby.take(3)
    lobby.publish(3)
    assert shown(lobby.rest()) == [
        Missed(3, 1, 1, 2, 1, 3),
        (3, [3, 4, 5, 6, 7]),
        Resumed(3, True, 0, 1, 8),
        [8, 9, 10],
    ]
    assert lobby.server.missed == 1


def test_a_group_and_the_stream_learn_that_everything_was_evicted() -> None:
    lobby = Lobby(8)
    lobby.join()
    lobby.receive(Resume(3, Position(1, 1)))
    lobby.take(3)
    lobby.publish(10)
    assert shown(lobby.rest()) == [
        Missed(3, 6, 1, 2, 1, 8),
        Resumed(3, True, 0, 1, 8),
        Missed(0, 2, 1, 8, 1, 10),
        [10, 11, 12, 13, 14, 15, 16, 17],
    ]
    assert lobby.server.missed == 8


def test_a_group_that_waits_for_an_evicted_place_joins_live() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.publish(6)
    lobby.receive(Resume(3, Position(1, 2)))
    lobby.publish(6)
    assert shown(lobby.rest()) == [
        Missed(0, 4, 1, 0, 1, 4),
        Resumed(3, False, LiveReason.GONE, 1, 4),
        [4, 5, 6, 7, 8, 9, 10, 11],
    ]


# Status and time


def test_sends_its_status_every_half_second() -> None:
    lobby = Lobby(1)
    lobby.join()
    assert lobby.server.wake_at == 1000.5
    assert lobby.rest() == []
    lobby.now = 1000.5
    assert lobby.server.wake(lobby.now)
    assert lobby.rest() == [Status(True, 4, 4, 1, 1)]
    assert lobby.server.wake_at == 1001.0


def test_status_says_that_messages_are_stale_and_a_new_consumer_gets_none_of_them() -> None:
    lobby = Lobby(3)
    lobby.ring.forget()
    lobby.receive(Hello("g", replay=2))
    assert lobby.take() == Welcome(False, LiveReason.NO_POSITION, True, 4, 4, 1, 3, "prices-1", digests(3))
    lobby.server.send_status()
    assert lobby.rest() == [Status(True, 4, 4, 1, 3, stale=True)]
    lobby.publish(1)
    lobby.server.send_status()
    assert Status(True, 4, 4, 1, 3, stale=False) in lobby.rest()


def test_tells_what_the_origin_chose_before_it_grants_and_again_for_each_connection() -> None:
    lobby = Lobby(1)
    lobby.subprotocol = "v2"
    lobby.receive(Hello("g"), Claim(1, 1))
    assert lobby.rest()[1:] == [Origin("v2"), Granted(1, 1, 3, GrantReason.NONE)]
    lobby.subprotocol = ""
    lobby.server.tell_origin()
    assert lobby.rest() == [Origin("")]


def test_tells_nothing_about_an_origin_that_was_not_connected_yet() -> None:
    lobby = Lobby(1)
    lobby.server.tell_origin()
    lobby.join()
    lobby.server.tell_origin()
    assert lobby.rest() == []


def test_sends_its_status_at_once_when_asked() -> None:
    lobby = Lobby(1)
    lobby.join()
    lobby.origin_connected = False
    lobby.claim(1)
    lobby.server.send_status()
    assert lobby.rest() == [Status(False, 4, 3, 1, 1)]


def test_status_contains_the_current_place() -> None:
    lobby = Lobby(1)
    lobby.join()
    lobby.publish(3)
    lobby.server.send_status()
    assert shown(lobby.rest()) == [Status(True, 4, 4, 1, 1), [1, 2, 3]]


def test_status_contains_a_new_epoch_before_its_first_message() -> None:
    lobby = Lobby(1)
    lobby.join()
    lobby.ring.begin_epoch(7)
    lobby.server.send_status()
    assert lobby.rest() == [Status(True, 4, 4, 7, 0)]


def test_move_contains_the_time_in_milliseconds() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.server.move(MoveReason.STOPPING, 2.5)
    lobby.server.move(MoveReason.DRAINING, 1e12)
    assert lobby.rest() == [Move(MoveReason.STOPPING, 2500), Move(MoveReason.DRAINING, 0xFFFFFFFF)]


def pass_time(lobby: Lobby, until: float) -> bool:
    """Wakes the server each time it wants to be; returns whether the consumer lives."""
    while lobby.server.wake_at <= until:
        lobby.now = lobby.server.wake_at
        if not lobby.server.wake(lobby.now):
            return False
    return True


def test_a_consumer_that_sends_nothing_for_five_seconds_is_dead() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.now = 1000.2
    lobby.receive(Heartbeat())
    assert pass_time(lobby, 1005.19)
    lobby.server.bytes_received(1005.19)
    assert pass_time(lobby, 1010.18)
    assert not pass_time(lobby, 1010.19)


def test_a_consumer_that_never_says_hello_is_dead_after_five_seconds() -> None:
    lobby = Lobby()
    assert pass_time(lobby, 1004.9)
    assert not pass_time(lobby, 1005.0)


def test_after_our_own_suspension_the_consumer_gets_its_time_again() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.now = 1060.0
    assert lobby.server.wake(lobby.now)
    assert pass_time(lobby, 1064.9)
    assert not pass_time(lobby, 1065.0)


# Lobbies that relay the stream


def test_a_lobby_is_told_which_lobbies_the_stream_comes_over_and_the_least_depth_is_remembered() -> None:
    lobby = Lobby(3)
    lobby.via = ("p-2",)
    assert lobby.join(Hello("p-3", relays=True)).via == ("p-2",)
    assert lobby.server.told_depth == 1
    lobby.via = ()
    lobby.server.send_status()
    assert lobby.take() == Status(True, 4, 4, 1, 3, False, ())
    lobby.via = ("p-2",)
    lobby.server.send_status()
    assert isinstance(lobby.take(), Status)
    assert lobby.server.told_depth == 0
    assert lobby.server.relays


def test_a_lobby_is_refused_while_there_is_no_stream() -> None:
    lobby = Lobby(3)
    lobby.via = None
    with pytest.raises(RelayRefusedError, match="no stream for p-3"):
        lobby.receive(Hello("p-3", relays=True))


def test_a_lobby_that_waits_for_its_place_is_refused_if_the_stream_ends_meanwhile() -> None:
    lobby = Lobby(3)
    lobby.receive(Hello("p-3", 0, Position(1, 5), relays=True))
    assert lobby.take() is None
    lobby.via = None
    lobby.publish(2)
    with pytest.raises(RelayRefusedError):
        lobby.take()


def test_a_greeter_is_welcome_without_a_stream() -> None:
    lobby = Lobby(3)
    lobby.via = None
    assert lobby.join().via is None


def test_who_is_at_a_gap_gets_all_that_came_after_it() -> None:
    lobby = Lobby(4)
    lobby.ring.begin_epoch(2)
    lobby.publish(3)
    lobby.join()
    lobby.receive(Resume(1, Position(9, 4, digests(4))))
    assert shown(lobby.rest()) == [(1, [4, 5, 6]), Resumed(1, False, LiveReason.GONE, 2, 3)]


def test_a_lobby_that_is_at_a_gap_begins_after_it() -> None:
    lobby = Lobby(4)
    lobby.ring.begin_epoch(2)
    lobby.publish(3)
    welcome = lobby.join(Hello("p-3", 0, Position(9, 4, digests(4)), relays=True))
    assert (welcome.exact, welcome.reason, welcome.epoch, welcome.offset) == (False, LiveReason.GONE, 2, 0)
    assert welcome.behind == 3
    assert shown(lobby.rest()) == [[4, 5, 6]]


def test_what_is_older_than_the_stream_is_only_for_those_who_resume_there() -> None:
    lobby = Lobby()
    lobby.ring = MessageRing()
    lobby.server = TrunkServer(lobby, lobby.ring, now=lobby.now)
    lobby.join()
    lobby.ring.begin_epoch(1)
    lobby.publish(4)
    lobby.server.skip_history()
    lobby.publish(1)
    assert shown(lobby.rest()) == [[4]]
    lobby.receive(Resume(1, Position(9, 2, digests(2))))
    assert shown(lobby.rest()) == [(1, [2, 3, 4]), Resumed(1, True, LiveReason.NONE, 1, 5)]


# What is kept for clients that join


A, B, C = (frame(Opcode.TEXT, each) for each in (b"a", b"b", b"c"))


def keep(lobby: Lobby, *, tell: bool = False, ahead: int = 0, **frames: bytes) -> None:
    messages = {name: KeptFrame(each, ahead) for name, each in frames.items()}
    lobby.ring.kept.put(messages, cursor=lobby.ring.cursor, tell=tell)
    lobby.server.send_kept()


def test_what_is_kept_where_the_stream_starts_comes_before_welcome() -> None:
    lobby = Lobby(3)
    lobby.subprotocol = "v1"
    keep(lobby, tell=True, x=A, y=B)
    keep(lobby, x=C)
    lobby.receive(Hello("g"), Claim(1, 2))
    first, second, welcome, origin, granted = lobby.rest()
    assert (first, second) == (Kept("x", C), Kept("y", B))  # nobody has the stream yet who is to be told
    assert isinstance(welcome, Welcome)
    assert (origin, type(granted)) == (Origin("v1"), Granted)


@pytest.mark.parametrize("relays", [False, True])
def test_the_stream_does_not_start_before_a_break_that_changed_what_is_kept(relays: bool) -> None:
    """Clients of a greeter would take what came before for what goes with that."""
    lobby = Lobby(3)
    keep(lobby, tell=True, x=A)
    lobby.ring.begin_epoch(7)
    keep(lobby, tell=True, x=B)
    lobby.publish(1)
    lobby.receive(Hello("g", replay=3, relays=relays))
    kept, welcome, *messages = lobby.rest()
    assert (kept, type(welcome)) == (Kept("x", B), Welcome)
    assert shown(messages) == ([[1, 2], [3]] if relays else [[3]])


def test_what_is_kept_later_than_where_the_stream_starts_holds_at_its_place_if_it_is_part_of_it() -> None:
    lobby = Lobby(2)
    keep(lobby, x=A)
    lobby.publish(2)
    keep(lobby, y=B)
    keep(lobby, z=C, ahead=1)
    lobby.publish(1)
    lobby.receive(Hello("g", replay=2))
    *kept, welcome, messages = lobby.rest()
    assert kept == [Kept("x", A), Kept("y", B), Kept("z", C, ahead=2)]
    assert isinstance(welcome, Welcome)
    assert shown([messages]) == [[3, 4]]


def test_a_message_of_the_stream_is_kept_before_the_stream_reaches_it() -> None:
    lobby = Lobby()
    lobby.join()
    keep(lobby, x=A, ahead=2)
    lobby.publish(3)
    keep(lobby, x=B, ahead=1)
    lobby.publish(1)
    assert shown(lobby.rest()) == [Kept("x", B, ahead=4), [0, 1, 2, 3]]  # it is behind: A is of no use any more


def test_a_change_comes_in_its_place_however_slow_the_consumer_is() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.publish(2)
    keep(lobby, tell=True, x=A)
    lobby.publish(1)
    keep(lobby, y=B)
    keep(lobby, y=b"")
    lobby.publish(2)
    lobby.server.send_status()
    records = [each for each in lobby.rest() if not isinstance(each, Status)]
    assert shown(records) == [[0, 1], Kept("x", A, tell=True), [2], Kept("y", b""), [3, 4]]


def test_only_the_newest_change_of_a_name_is_sent() -> None:
    lobby = Lobby()
    lobby.join()
    keep(lobby, x=A)
    lobby.publish(1)
    keep(lobby, x=C)
    assert shown(lobby.rest()) == [[0], Kept("x", C)]
    keep(lobby, x=C)
    assert lobby.rest() == []


def test_a_change_among_evicted_messages_comes_after_missed() -> None:
    lobby = Lobby()
    lobby.join()
    lobby.publish(2)
    keep(lobby, x=A)
    lobby.publish(20)
    missed, kept, messages = lobby.rest()
    assert isinstance(missed, Missed)
    assert kept == Kept("x", A)
    assert shown([messages]) == [list(range(14, 22))]


def test_what_is_kept_comes_before_the_clients_that_join_there() -> None:
    lobby = Lobby(3)
    lobby.join()
    keep(lobby, x=A)
    lobby.receive(Resume(1, Position(1, 3)))
    kept, resumed = lobby.rest()
    assert kept == Kept("x", A)
    assert isinstance(resumed, Resumed)


def test_a_break_of_the_stream_is_told_before_its_first_message() -> None:
    lobby = Lobby(1)
    lobby.join()
    lobby.ring.begin_epoch(2)
    keep(lobby, tell=True, x=A)
    lobby.publish(1)
    kept, messages = lobby.rest()
    assert kept == Kept("x", A, tell=True)
    assert isinstance(messages, Messages)
    assert (messages.epoch, messages.offset) == (2, 0)


def relay_at(position: int) -> Hello:
    """Of a lobby that has got so many of the messages."""
    return Hello("p-2", 0, Position(9, position, digests(position)), relays=True)


def test_a_lobby_that_missed_a_break_is_told_what_is_kept_there() -> None:
    """Its clients get that like those of this lobby, who had the stream when it broke."""
    lobby = Lobby(2)
    keep(lobby, tell=True, x=A, y=A, z=A)
    lobby.publish(1)
    keep(lobby, y=B)
    lobby.publish(1)
    lobby.ring.begin_epoch(2)
    keep(lobby, tell=True, x=B)
    lobby.publish(1)
    keep(lobby, x=C)  # in place of what was told
    keep(lobby, z=C, ahead=1)
    lobby.publish(1)
    lobby.receive(relay_at(3))
    before, welcome, *rest = lobby.rest()
    assert before == Kept("y", B)
    assert isinstance(welcome, Welcome)
    assert welcome.exact
    assert shown(rest) == [[3], Kept("x", C, tell=True), Kept("z", C, tell=True, ahead=2), [4, 5]]
    keep(lobby, y=C)
    assert lobby.rest() == [Kept("y", C)]


def test_a_lobby_that_missed_a_break_is_told_of_the_next_one_where_that_is() -> None:
    lobby = Lobby(4)
    keep(lobby, x=A)
    lobby.ring.begin_epoch(2)
    keep(lobby, tell=True, x=B, y=B)
    lobby.publish(2)
    welcome = lobby.join(relay_at(3))
    assert welcome.exact
    lobby.ring.begin_epoch(3)
    keep(lobby, tell=True, x=C)
    lobby.publish(1)
    records = lobby.rest()
    assert shown(records) == [[3], Kept("y", B, tell=True), [4, 5], Kept("x", C, tell=True), [6]]


def test_a_lobby_that_missed_two_breaks_is_told_at_the_last_what_is_kept_since_the_first() -> None:
    lobby = Lobby(2)
    keep(lobby, x=A, z=A)
    lobby.publish(2)
    lobby.ring.begin_epoch(2)
    keep(lobby, tell=True, x=B)
    lobby.publish(2)
    lobby.ring.begin_epoch(3)
    keep(lobby, tell=True, x=B)  # the same once more, which is no change
    lobby.publish(1)
    lobby.receive(relay_at(3))
    before, welcome, *rest = lobby.rest()
    assert (before, type(welcome)) == (Kept("z", A), Welcome)
    assert shown(rest) == [[3], [4, 5], Kept("x", B, tell=True), [6]]


def test_a_lobby_at_the_end_of_a_stream_that_broke_before_is_told_nothing() -> None:
    lobby = Lobby(2)
    lobby.ring.begin_epoch(2)
    keep(lobby, tell=True, x=A)
    lobby.publish(2)
    lobby.receive(relay_at(3))
    kept, welcome, messages = lobby.rest()
    assert (kept, type(welcome)) == (Kept("x", A), Welcome)
    assert shown([messages]) == [[3]]


@pytest.mark.parametrize("kept", [False, True])
def test_a_miss_begins_where_the_consumer_was_told_to_be(kept: bool) -> None:
    lobby = Lobby(1)
    lobby.join()
    lobby.ring.begin_epoch(2)
    if kept:
        keep(lobby, x=A)
    else:
        lobby.receive(Resume(1, Position(77, 5, (digest(b"elsewhere"),))))  # it waits
    lobby.rest()
    lobby.publish(20)
    missed = lobby.take()
    assert isinstance(missed, Missed)
    assert (missed.from_epoch, missed.from_offset) == (1, 1)
