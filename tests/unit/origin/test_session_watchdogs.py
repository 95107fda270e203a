"""Pings, and streams that have gone silent."""

from __future__ import annotations

import pytest
from tests.unit.origin.sessions import HELLO, NO_PINGS, Shell

from lobby_gateway.origin.states import BeginClose, Connect, Failure, SendPing, State
from lobby_gateway.websocket.parser import Ping, Pong


def test_pings_are_sent_and_pongs_keep_the_connection() -> None:
    shell = Shell().streaming()
    for _ in range(5):
        assert shell.later(20) == [SendPing()]
        shell.now += 0.1
        assert shell.receive(Pong(b"")) == []
    assert shell.receive(Ping(b"")) == []
    assert shell.state is State.STREAMING


def test_origin_that_answers_no_ping_is_given_up() -> None:
    shell = Shell(keepalive={"pingSeconds": 20, "timeoutSeconds": 5}).streaming()
    assert shell.later(24.9) == [SendPing()]
    assert shell.later(0.1) == [BeginClose(1011, "no answer to a ping", unresponsive=True)]
    shell.lost()
    assert shell.report.reason == "no answer to a ping within 5 s"
    assert shell.session.failures == {Failure.PING_TIMEOUT: 1}


def test_pings_go_out_during_the_script_too() -> None:
    patient = [{"expect": {"json": {"/ok": True}, "timeoutSeconds": 300}}]
    shell = Shell(onConnect=patient, keepalive={"pingSeconds": 20, "timeoutSeconds": 5})
    shell.wanted()
    shell.opened()
    assert shell.later(20) == [SendPing()]
    assert shell.later(5) == [BeginClose(1011, "no answer to a ping", unresponsive=True)]


def test_stream_without_a_message_for_too_long_is_given_up() -> None:
    shell = Shell(staleSeconds=30, keepalive=NO_PINGS).streaming()
    shell.later(29)
    shell.receive(HELLO)
    assert shell.later(29.9) == []
    assert shell.later(0.1) == [BeginClose(1000, "no message for 30 s")]
    shell.lost()
    assert shell.report.reason == "no message for 30 s"
    assert shell.session.failures == {Failure.STALE: 1}


def test_origin_that_accepts_and_goes_silent_again_and_again_is_not_hammered() -> None:
    shell = Shell(staleSeconds=30, keepalive=NO_PINGS)
    shell.wanted()
    for wait in (0.5, 1, 2, 4):
        shell.opened()
        shell.later(30)
        shell.lost()
        assert shell.report.retry_in_seconds == pytest.approx(wait)
        assert shell.later(wait + 1e-6) == [Connect()]
