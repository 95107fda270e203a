"""Timed messages, and the pace of all that is sent (`limits.sendsPerSecond`)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.origin.sessions import FLOOD, HELLO, LOGIN, NO_PINGS, Shell, json_batch

from lobby_gateway.origin.states import BeginClose, BeginEpoch, PauseReading, Reschedule, Send
from lobby_gateway.settings import ORIGIN
from lobby_gateway.websocket.frames import Batch, Opcode, frame


def test_timed_messages_are_sent_while_streaming_and_only_then() -> None:
    every = [{"seconds": 10, "send": "ping $(now)"}, {"seconds": 25, "send": "other"}]
    shell = Shell(every=every, onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.later(4) == []
    shell.receive(json_batch('{"ok":true}'))
    assert shell.later(26) == [Send("ping 1767225600"), Send("ping 1767225600"), Send("other")]
    shell.lost()
    assert [each for each in shell.later(0.4) if isinstance(each, Send)] == []


def test_binary_messages_are_sent_by_steps_rules_and_timers() -> None:
    shell = Shell(
        onConnect=[{"sendBytes": r'b"\x10\x01"'}],
        onMessage=[{"when": 'hex(data) == "d000"', "forward": False, "sendBytes": 'b"got " + data'}],
        every=[{"seconds": 30, "sendBytes": r'b"\xc0\x00"'}],
        keepalive=NO_PINGS,
    )
    shell.wanted()
    assert Send(b"\x10\x01") in shell.opened()
    assert shell.receive(Batch.of([frame(Opcode.BINARY, b"\xd0\x00")])) == [Send(b"got \xd0\x00")]
    assert shell.later(31) == [Send(b"\xc0\x00")]


def test_messages_to_the_origin_go_out_at_its_pace_in_their_order() -> None:
    shell = Shell(
        onConnect=[{"send": each} for each in "abc"],
        onMessage=[{"contains": "ping", "send": "pong"}],
        every=[{"seconds": 1, "send": "tick"}],
        limits={"sendsPerSecond": 2},
        keepalive=NO_PINGS,
    )
    shell.wanted()
    assert shell.opened() == [Send("a"), Reschedule(), BeginEpoch()]
    shell.receive(json_batch("ping"))
    assert shell.session.forward("client's", shell.now)
    shell.took()
    sent = []
    for _ in range(5):
        sent += [each.message for each in shell.later(0.5) if isinstance(each, Send)]
    assert sent == ["b", "c", "pong", "client's", "tick"]


def test_a_connection_ends_if_too_many_messages_wait_to_be_sent() -> None:
    shell = Shell(onMessage=[{"contains": "ping", "send": "pong"}], limits={"sendsPerSecond": 1}, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    commands = shell.receive(json_batch(*["ping"] * (ORIGIN.waiting_sends + 2)))
    assert BeginClose(1000, "too many messages wait to be sent") in commands
    shell.lost()
    assert shell.report.reason == "limits.sendsPerSecond: more than 256 messages wait to be sent"


def test_a_reply_to_one_of_many_messages_is_sent_at_once() -> None:
    """Replies, while a read has more messages than are judged in one turn."""
    rules = [{"contains": "ping", "send": "pong", "forward": False}]
    shell = Shell(onConnect=LOGIN, onMessage=rules, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch("ping", *FLOOD)) == [Send("pong"), PauseReading()]


@pytest.mark.parametrize("field", ["send", "sendBytes"])
@pytest.mark.parametrize("place", ["onConnect", "onMessage", "every"])
def test_an_expression_without_a_value_is_reported_with_its_own_field(place: str, field: str) -> None:
    source = "saved.none" if field == "sendBytes" else "$(saved.none)"
    extra: dict[str, dict[str, Any]] = {"onConnect": {}, "onMessage": {"contains": "hello"}, "every": {"seconds": 5}}
    fields: dict[str, Any] = {place: [{**extra[place], field: source}], "keepalive": NO_PINGS}
    shell = Shell(**fields)
    shell.wanted()
    shell.opened()
    if place != "onConnect":
        shell.receive(HELLO)
        shell.later(6.0)
    shell.lost()
    assert f"{place}[0].{field}: there is no field" in shell.report.reason
