from __future__ import annotations

from collections import Counter
from typing import Any

from lobby_gateway.lobby.forwarding import Forwarding
from lobby_gateway.settings import ForwardSettings

TEXT = 1


class Origin:
    """An origin's connection."""

    def __init__(self) -> None:
        self.streaming = True
        self.takes = True
        self.sent: list[bytes] = []

    def send_to_origin(self, opcode: int, payload: bytes) -> bool:
        assert self.streaming
        assert opcode == TEXT
        if self.takes:
            self.sent.append(payload)
        return self.takes


class Lobby:
    def __init__(self, **settings: Any) -> None:
        self.origin = Origin()
        self.fates: Counter[str] = Counter()
        self.forwarding = Forwarding(self.origin, self.fates, settings=ForwardSettings(**settings))

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
