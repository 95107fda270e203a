from __future__ import annotations

import pytest
from tests.support.streams import numbered

from lobby_gateway.trunk.consumer import SeatLedger, TrunkConsumer
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.records import (
    Claim,
    Forward,
    Granted,
    Heartbeat,
    Hello,
    Kept,
    Messages,
    Missed,
    Move,
    Record,
    Release,
    Replay,
    Resume,
    Resumed,
    Status,
    TrunkError,
    Welcome,
    decode,
)
from lobby_gateway.websocket.frames import Opcode, frame

NOW = 1000.0


def digests(*numbers: int) -> tuple[int, ...]:
    return tuple(digest(b"%d" % number) for number in numbers)


def sent(consumer: TrunkConsumer) -> list[Record | None]:
    return [decode(data) for data in consumer.data_to_send()]


def receive(consumer: TrunkConsumer, *records: Record) -> None:
    for record in records:
        assert consumer.receive(record.encode(), NOW) is not None


def welcomed(epoch: int = 1, offset: int = 0) -> TrunkConsumer:
    consumer = TrunkConsumer("g", now=NOW)
    receive(consumer, Welcome(False, 1, True, 512, 500, epoch, offset, "p-1"))
    consumer.data_to_send()
    return consumer


def refused(consumer: TrunkConsumer, record: Record, problem: str) -> None:
    with pytest.raises(TrunkError, match=problem):
        consumer.receive(record.encode(), NOW)


# Beginning


def test_says_hello_first() -> None:
    position = Position(1, 2, (3,))
    consumer = TrunkConsumer("g", now=NOW, replay=16, position=position)
    consumer.claim(1)
    assert sent(consumer) == [Hello("g", 16, position), Claim(1, 1)]
    assert sent(consumer) == []


def test_welcome_describes_the_lobby() -> None:
    consumer = TrunkConsumer("g", now=NOW)
    assert (consumer.welcomed, consumer.position()) == (False, Position(0, 0))
    welcome = Welcome(False, 1, True, 512, 500, 1, 20, "p-1")
    assert consumer.receive(welcome.encode(), NOW) == welcome
    assert (consumer.welcomed, consumer.lobby, consumer.seats, consumer.free) == (True, "p-1", 512, 500)
    assert consumer.origin_connected
    assert (consumer.epoch, consumer.offset) == (1, 20)
    assert consumer.position() == Position(1, 20)


@pytest.mark.parametrize(
    "record",
    [
        Messages(1, 0, numbered([1])),
        Granted(1, 1, 1, 0),
        Resumed(1, True, 0, 1, 0),
        Replay(1, 1, 0, numbered([1])),
        Missed(0, 1, 1, 0, 1, 1),
        Status(True, 1, 1, 1, 0),
        Move(1, 0),
    ],
)
def test_refuses_any_other_record_before_welcome(record: Record) -> None:
    refused(TrunkConsumer("g", now=NOW), record, f"{record.TYPE.name} came before WELCOME")


def test_refuses_a_second_welcome() -> None:
    refused(welcomed(), Welcome(False, 1, True, 1, 1, 1, 0, "p-1"), "WELCOME came twice")


def test_refuses_a_record_of_its_own_side() -> None:
    refused(welcomed(), Heartbeat(), "HEARTBEAT is not a server record")


def test_ignores_a_record_of_a_newer_version() -> None:
    assert welcomed().receive(b"\xee\0whatever", NOW) is None


def test_continues_at_the_requested_position() -> None:
    consumer = TrunkConsumer("g", now=NOW, position=Position(1, 20, digests(*range(4, 20))))
    receive(consumer, Welcome(True, 0, True, 512, 500, 1, 20, "p-1"), Messages(1, 20, numbered([20, 21])))
    assert consumer.position() == Position(1, 22, digests(*range(6, 22)))


def test_continues_at_a_place_that_the_lobby_found_by_the_digests() -> None:
    consumer = TrunkConsumer("g", now=NOW, position=Position(7, 500, digests(18, 19)))
    receive(consumer, Welcome(True, 0, True, 512, 500, 1, 20, "p-1", digests(19)), Messages(1, 20, numbered([20])))
    assert consumer.position() == Position(1, 21, digests(18, 19, 20))


def test_knows_the_digests_of_messages_before_the_start_of_the_stream() -> None:
    consumer = TrunkConsumer("g", now=NOW)
    receive(consumer, Welcome(False, 1, True, 512, 500, 1, 20, "p-1", digests(18, 19)), Messages(1, 20, numbered([20])))
    assert consumer.position() == Position(1, 21, digests(18, 19, 20))


@pytest.mark.parametrize("position", [None, Position(1, 19), Position(2, 20)])
def test_refuses_a_welcome_that_claims_another_position(position: Position | None) -> None:
    consumer = TrunkConsumer("g", now=NOW, position=position)
    refused(consumer, Welcome(True, 0, True, 1, 1, 1, 20, "p-1"), "does not continue at the requested position")


def test_forgets_the_digests_when_the_stream_does_not_continue() -> None:
    consumer = TrunkConsumer("g", now=NOW, position=Position(1, 20, digests(*range(4, 20))))
    receive(consumer, Welcome(False, 2, True, 512, 500, 9, 3, "p-1"), Messages(9, 3, numbered([3])))
    assert consumer.position() == Position(9, 4, digests(3))


# The stream


def test_messages_advance_the_position() -> None:
    consumer = welcomed()
    for start in range(0, 40, 5):
        receive(consumer, Messages(1, start, numbered(range(start, start + 5))))
    assert (consumer.epoch, consumer.offset) == (1, 40)
    assert consumer.position() == Position(1, 40, digests(*range(24, 40)))


def test_keeps_only_the_messages_that_a_position_needs() -> None:
    consumer = welcomed()
    for number in range(100):
        receive(consumer, Messages(1, number, numbered([number])))
    assert len(consumer._latest) == 16
    receive(consumer, Messages(1, 100, numbered(range(100, 116))))
    assert len(consumer._latest) == 1
    assert consumer.position().digests == digests(*range(100, 116))


def test_a_new_epoch_starts_at_offset_0_and_keeps_the_digests() -> None:
    consumer = welcomed()
    receive(consumer, Messages(1, 0, numbered([0, 1])), Messages(2, 0, numbered([2])))
    assert consumer.position() == Position(2, 1, digests(0, 1, 2))


@pytest.mark.parametrize(("epoch", "offset"), [(1, 6), (1, 4), (1, 0), (2, 1), (2, 5)])
def test_refuses_messages_after_a_gap_or_repetition(epoch: int, offset: int) -> None:
    consumer = welcomed(1, 5)
    refused(
        consumer, Messages(epoch, offset, numbered([1])), "MESSAGES: messages before its place are missing or repeated"
    )
    refused(consumer, Status(True, 1, 1, epoch, offset), "STATUS: messages before its place are missing or repeated")


def test_any_place_may_follow_before_the_first_origin_session() -> None:
    consumer = welcomed(0, 0)
    receive(consumer, Messages(7, 3, numbered([3])))
    assert consumer.position() == Position(7, 4, digests(3))


def test_an_announced_gap_is_counted() -> None:
    consumer = welcomed(1, 0)
    receive(consumer, Messages(1, 0, numbered([0])), Missed(0, 9, 1, 1, 1, 10), Messages(1, 10, numbered([10])))
    assert consumer.missed == 9
    assert consumer.position() == Position(1, 11, digests(10))


@pytest.mark.parametrize("missed", [Missed(0, 1, 1, 4, 1, 6), Missed(0, 1, 2, 5, 2, 6), Missed(0, 0, 1, 5, 1, 5)])
def test_refuses_a_gap_elsewhere_or_of_nothing(missed: Missed) -> None:
    refused(welcomed(1, 5), missed, "MISSED: ")


def test_status_describes_the_lobby_and_a_new_epoch() -> None:
    consumer = welcomed(1, 5)
    receive(consumer, Status(False, 600, 7, 2, 0))
    assert (consumer.seats, consumer.free, consumer.origin_connected) == (600, 7, False)
    assert consumer.position() == Position(2, 0)


def test_move_is_remembered() -> None:
    consumer = welcomed()
    receive(consumer, Move(1, 1000))
    assert consumer.moving


# Seats


def test_granted_seats_are_held() -> None:
    consumer = welcomed()
    first, second = consumer.claim(3), consumer.claim(2)
    assert sent(consumer) == [Claim(first, 3), Claim(second, 2)]
    receive(consumer, Granted(second, 2, 9, 0), Granted(first, 1, 8, 1))
    assert (consumer.held, consumer.free) == (3, 8)
    consumer.release(2)
    consumer.release(0)
    assert sent(consumer) == [Release(2)]
    assert consumer.held == 1


def test_refuses_seats_that_were_not_claimed() -> None:
    consumer = welcomed()
    claim = consumer.claim(3)
    refused(consumer, Granted(claim + 1, 1, 0, 0), "GRANTED: granted 1 for claim 2, claimed 0")
    refused(consumer, Granted(claim, 4, 0, 0), "GRANTED: granted 4 for claim 1, claimed 3")


def test_refuses_a_second_answer() -> None:
    consumer = welcomed()
    claim = consumer.claim(3)
    receive(consumer, Granted(claim, 3, 0, 0))
    refused(consumer, Granted(claim, 3, 0, 0), "GRANTED")


def test_refuses_impossible_calls_of_its_owner() -> None:
    consumer = welcomed()
    with pytest.raises(ValueError, match="count: 0 is too small"):
        consumer.claim(0)
    for count in (-1, 1):
        with pytest.raises(ValueError, match=f"count: {count} is out of range; accepted: 0 to 0"):
            consumer.release(count)


def test_forwards_a_clients_message() -> None:
    consumer = welcomed()
    consumer.forward(7, Opcode.TEXT, b"hi")
    assert sent(consumer) == [Forward(7, Opcode.TEXT, b"hi")]


# Groups that resume


def test_a_group_joins_after_what_it_lacked() -> None:
    consumer = welcomed(1, 9)
    position = Position(1, 5, (1, 2))
    group = consumer.resume(position)
    assert sent(consumer) == [Resume(group, position)]
    receive(
        consumer,
        Replay(group, 1, 5, numbered([5, 6])),
        Missed(group, 1, 1, 7, 1, 8),
        Replay(group, 1, 8, numbered([8])),
        Resumed(group, True, 0, 1, 9),
    )
    assert consumer.missed == 0  # the stream itself lacks nothing
    assert consumer.position() == Position(1, 9)


def test_a_group_may_join_live() -> None:
    consumer = welcomed(1, 9)
    receive(consumer, Resumed(consumer.resume(Position(7, 5)), False, 2, 1, 9))


def test_a_group_at_the_end_of_an_epoch_joins_at_the_start_of_the_next() -> None:
    consumer = welcomed(2, 0)
    receive(consumer, Resumed(consumer.resume(Position(1, 5)), True, 0, 2, 0))


def test_a_joining_group_may_advance_the_stream_to_a_new_epoch() -> None:
    consumer = welcomed(1, 9)
    receive(consumer, Resumed(consumer.resume(Position(2, 0)), True, 0, 2, 0))
    assert consumer.position() == Position(2, 0)


def test_refuses_a_gap_in_a_replay() -> None:
    consumer = welcomed(1, 9)
    group = consumer.resume(Position(1, 5))
    refused(consumer, Replay(group, 1, 6, numbered([6])), "REPLAY: messages before its place are missing")
    refused(consumer, Missed(group, 1, 1, 6, 1, 7), "MISSED: ")
    receive(consumer, Replay(group, 1, 5, numbered([5])))
    refused(consumer, Resumed(group, True, 0, 1, 9), "RESUMED: messages are missing before the place")


def test_refuses_a_group_that_joins_elsewhere() -> None:
    consumer = welcomed(1, 9)
    group = consumer.resume(Position(1, 5))
    refused(consumer, Resumed(group, False, 2, 1, 8), "RESUMED: messages before its place are missing or repeated")


def test_a_group_may_be_found_anywhere_in_another_epoch() -> None:
    consumer = welcomed(epoch=1, offset=9)
    group = consumer.resume(Position(7, 500, digests(5, 6)))
    receive(
        consumer, Missed(group, 1, 1, 6, 1, 7), Replay(group, 1, 7, numbered([7, 8])), Resumed(group, True, 0, 1, 9)
    )
    at_once = consumer.resume(Position(7, 502, digests(7, 8)))
    receive(consumer, Resumed(at_once, True, 0, 1, 9))


def test_a_group_with_digests_is_found_at_its_offset_in_its_own_epoch() -> None:
    consumer = welcomed(epoch=1, offset=9)
    group = consumer.resume(Position(1, 5, digests(4)))
    refused(consumer, Replay(group, 1, 6, numbered([6])), "REPLAY: messages before its place are missing or repeated")


@pytest.mark.parametrize(
    "record", [Replay(7, 1, 9, numbered([9])), Missed(7, 1, 1, 9, 1, 10), Resumed(7, True, 0, 1, 9)]
)
def test_refuses_a_group_that_did_not_ask(record: Record) -> None:
    refused(welcomed(1, 9), record, f"{record.TYPE.name}: no group 7 is waiting")


def test_a_group_is_answered_once() -> None:
    consumer = welcomed(1, 9)
    group = consumer.resume(Position(1, 9))
    receive(consumer, Resumed(group, True, 0, 1, 9))
    refused(consumer, Resumed(group, True, 0, 1, 9), "no group")


def test_ids_stay_within_32_bits() -> None:
    consumer = welcomed()
    consumer._next_id = consumer.ledger._next_id = 0xFFFFFFFF
    assert [consumer.claim(1), consumer.claim(1)] == [0xFFFFFFFF, 1]
    assert [consumer.resume(Position(1, 1)), consumer.resume(Position(1, 1))] == [0xFFFFFFFF, 1]


# The ledger


def test_claims_made_before_the_trunk_are_sent_after_hello() -> None:
    ledger = SeatLedger()
    claims = [ledger.claim(3), ledger.claim(4)]
    consumer = TrunkConsumer("g", now=0.0, ledger=ledger)
    assert sent(consumer) == [Hello("g"), Claim(claims[0], 3), Claim(claims[1], 4)]
    assert ledger.claims == {claims[0]: 3, claims[1]: 4}


def test_the_ledger_records_what_crosses_the_trunk() -> None:
    consumer = welcomed()
    ledger = consumer.ledger
    claim = consumer.claim(3)
    assert repr(ledger) == "<SeatLedger: 0 held, 3 claimed>"
    receive(consumer, Granted(claim, 2, 0, 1))
    assert (ledger.held, ledger.claims) == (2, {})
    consumer.data_to_send()
    consumer.release(1)
    consumer.release(1)
    assert ledger.held == 0
    assert sent(consumer) == [Release(2)], "released together"
    assert consumer.data_to_send() == []


# Time


def pass_time(consumer: TrunkConsumer, until: float) -> bool:
    """Wakes the consumer each time it wants to be; returns whether the lobby lives."""
    while consumer.wake_at <= until:
        if not consumer.wake(consumer.wake_at):
            return False
    return True


def test_a_heartbeat_is_sent_every_half_second() -> None:
    consumer = welcomed()
    assert consumer.wake_at == NOW + 0.5
    assert pass_time(consumer, NOW + 1.6)
    assert sent(consumer) == [Heartbeat()] * 3
    assert consumer.wake_at == NOW + 2.0


def test_a_lobby_that_sends_nothing_for_two_seconds_is_dead() -> None:
    consumer = welcomed()
    consumer.receive(Status(True, 1, 1, 1, 0).encode(), NOW + 0.7)
    assert pass_time(consumer, NOW + 2.69)
    consumer.bytes_received(NOW + 2.69)  # part of a record
    consumer.bytes_received(NOW + 1)  # no news
    assert pass_time(consumer, NOW + 4.68)
    assert not pass_time(consumer, NOW + 4.69)


def test_after_our_own_suspension_the_lobby_gets_its_time_again() -> None:
    consumer = welcomed()
    assert consumer.wake(NOW + 60)
    assert pass_time(consumer, NOW + 61.9)
    assert not pass_time(consumer, NOW + 62)


def test_what_is_kept_may_come_before_welcome() -> None:
    consumer = TrunkConsumer("g", now=NOW)
    receive(consumer, Kept("x", frame(Opcode.TEXT, b"a")))
    receive(consumer, Welcome(False, 1, True, 512, 500, 1, 0, "p-1"), Kept("x", b""))
    assert consumer.welcomed
