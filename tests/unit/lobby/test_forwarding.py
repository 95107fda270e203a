from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import pytest

from lobby_gateway.lobby.forwarding import Forwarding
from lobby_gateway.settings import ForwardSettings

TEXT = 1


class Origin:
    """An origin's connection."""

    def __init__(self) -> None:
        self.streaming = True
        self.takes = True
        self.sent: list[bytes] = []

    def send_to_origin(self, opcode: int, payload: bytes, sender: Hashable) -> bool:
        assert sender is not None
        assert self.streaming
        assert opcode == TEXT
        if self.takes:
            self.sent.append(payload)
        return self.takes


class Lobby:
    def __init__(self, *, per_second: int = 0, **settings: Any) -> None:
        self.origin = Origin()
        self.fates: Counter[str] = Counter()
        self.forwarding = Forwarding(
            self.origin, self.fates, per_second=per_second, settings=ForwardSettings(**settings)
        )

    def submit(self, sender: str, payload: bytes, now: float = 0.0) -> None:
        self.forwarding.submit(sender, TEXT, payload, now)


def test_messages_go_to_the_origin_at_once() -> None:
    lobby = Lobby()
    lobby.submit("a", b"1")
    lobby.submit("b", b"2")
    assert lobby.origin.sent == [b"1", b"2"]
    assert lobby.fates == {"forwarded": 2, "undeliverable": 0}


def test_messages_wait_for_the_origin_and_keep_their_order() -> None:
    lobby = Lobby()
    lobby.origin.streaming = False
    for payload in (b"1", b"2", b"3"):
        lobby.submit("a", payload)
    assert lobby.fates["undeliverable"] == 0
    lobby.origin.streaming = True
    lobby.submit("b", b"4", now=10)
    assert lobby.origin.sent == [b"1", b"2", b"3", b"4"]
    assert lobby.fates["forwarded"] == 4


def test_messages_that_do_not_fit_or_wait_too_long_are_undeliverable() -> None:
    lobby = Lobby(held_bytes=200, hold_seconds=30)
    lobby.origin.streaming = False
    for payload in (b"1", b"2", b"3", b"4"):
        lobby.submit("a", payload)
    assert lobby.fates["undeliverable"] == 1
    lobby.forwarding.pump(30)
    assert lobby.fates["undeliverable"] == 4
    lobby.origin.streaming = True
    lobby.forwarding.pump(31)
    assert lobby.origin.sent == []


def test_messages_that_a_slow_origin_does_not_take_are_undeliverable() -> None:
    lobby = Lobby()
    lobby.origin.takes = False
    lobby.submit("a", b"1")
    assert lobby.fates == {"undeliverable": 1}


def test_messages_go_out_evenly_spaced_at_the_rate_of_the_lobby() -> None:
    lobby = Lobby(per_second=10)
    for number in range(30):
        lobby.submit("a", b"%d" % number, now=100)
    sent_at: list[float] = [100.0] * len(lobby.origin.sent)
    while (at := lobby.forwarding.wake_at) is not None:
        lobby.forwarding.pump(at)
        sent_at += [at] * (len(lobby.origin.sent) - len(sent_at))
    assert lobby.origin.sent == [b"%d" % number for number in range(30)]
    assert len(sent_at) == 30
    assert sent_at[10] - sent_at[0] == pytest.approx(0.9)
    assert sent_at[-1] == pytest.approx(102.8)
    lobby.submit("a", b"later", now=110)
    assert lobby.origin.sent[-1] == b"later"


def test_messages_that_wait_for_the_rate_are_bounded_too() -> None:
    lobby = Lobby(per_second=1, held_bytes=200)
    for number in range(10):
        lobby.submit("a", b"%d" % number)
    assert lobby.fates["undeliverable"] == 10 - len(lobby.origin.sent) - 3


def test_nothing_is_due_while_the_origin_is_away_or_nothing_waits() -> None:
    lobby = Lobby(per_second=1)
    assert lobby.forwarding.wake_at is None
    lobby.origin.streaming = False
    lobby.submit("a", b"1")
    assert lobby.forwarding.wake_at is None


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009])
def test_the_client_whose_message_the_origin_objects_to_is_found(code: int) -> None:
    lobby = Lobby()
    lobby.submit("a", b"good", now=99)
    lobby.submit("b", b"bad", now=99.5)
    assert lobby.forwarding.origin_closed(code, 99.6, 0.05) == "b"


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1011, 1012, 1013, 4000])
def test_other_closes_are_no_ones_fault(code: int) -> None:
    lobby = Lobby()
    lobby.submit("a", b"x", now=99)
    assert lobby.forwarding.origin_closed(code, 99.1, 0) is None


def test_a_close_long_after_the_last_message_is_no_ones_fault() -> None:
    lobby = Lobby(blame_seconds=1)
    assert lobby.forwarding.origin_closed(1008, 100, 0) is None
    lobby.submit("a", b"x", now=100)
    assert lobby.forwarding.origin_closed(1008, 101.1, 0) is None


def test_what_was_sent_within_the_round_trip_before_the_close_is_not_the_reason() -> None:
    lobby = Lobby()
    lobby.submit("a", b"bad", now=100)
    lobby.submit("b", b"good", now=100.05)
    assert lobby.forwarding.origin_closed(1008, 100.1, 0.08) == "a"
    lobby.submit("c", b"bad", now=101)
    assert lobby.forwarding.origin_closed(1008, 101.01, 0.08) == "c"  # there is no other


def test_the_same_message_is_not_blamed_twice() -> None:
    lobby = Lobby()
    lobby.submit("a", b"bad", now=100)
    assert lobby.forwarding.origin_closed(1008, 100.1, 0) == "a"
    assert lobby.forwarding.origin_closed(1008, 100.2, 0) is None


def test_what_else_the_blamed_client_sent_is_dropped() -> None:
    lobby = Lobby()
    lobby.submit("a", b"bad", now=100)
    lobby.origin.streaming = False
    lobby.submit("a", b"worse", now=100.05)
    lobby.submit("b", b"good", now=100.05)
    assert lobby.forwarding.origin_closed(1008, 100.1, 0) == "a"
    lobby.origin.streaming = True
    lobby.forwarding.pump(101)
    assert lobby.origin.sent == [b"bad", b"good"]
    assert lobby.fates["undeliverable"] == 1


def test_after_several_objections_in_a_row_nothing_is_forwarded_for_a_while() -> None:
    lobby = Lobby(objections=3, objection_seconds=20)
    now = 100.0
    for number in range(3):
        lobby.submit(f"bad {number}", b"bad", now=now)
        lobby.forwarding.origin_closed(1008, now + 0.1, 0)
        now += 1
    lobby.submit("bad 3", b"bad", now=now)
    assert len(lobby.origin.sent) == 4
    lobby.forwarding.origin_closed(1008, now + 0.1, 0)
    lobby.submit("good", b"good", now=now + 1)
    assert len(lobby.origin.sent) == 4
    at = lobby.forwarding.wake_at
    assert at is not None
    assert now + 10 < at < now + 20
    lobby.forwarding.pump(at)
    assert lobby.origin.sent[-1] == b"good"
