"""The rules of `onMessage`, and what they keep for clients that join."""

from __future__ import annotations

from typing import Any

from tests.unit.origin.sessions import HELLO, LOGIN, NO_PINGS, PING_RULE, Shell, json_batch, published

from lobby_gateway.origin.states import BeginClose, BeginEpoch, Connect, Failure, Keep, Publish, Renew, Send, State
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.settings import ORIGIN
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Opcode, frame


def test_without_a_hit_a_batch_is_published_as_it_came() -> None:
    shell = Shell(onMessage=[PING_RULE]).streaming()
    assert shell.receive(HELLO) == [Publish(HELLO)]


def test_a_control_message_is_answered_and_not_published() -> None:
    shell = Shell(onMessage=[PING_RULE]).streaming()
    commands = shell.receive(json_batch('{"n":1}', '{"ping":7}', '{"n":2}'))
    assert published(commands) == ['{"n":1}', '{"n":2}']
    assert [each for each in commands if isinstance(each, Send)] == [Send('{"pong":7}')]


def test_a_dropped_message_counts_as_a_sign_of_life() -> None:
    shell = Shell(onMessage=[PING_RULE], staleSeconds=5, keepalive=NO_PINGS).streaming()
    for _ in range(4):
        assert shell.later(3) == []
        shell.receive(json_batch('{"ping":1}'))
    assert shell.state is State.STREAMING


def test_a_message_that_ends_the_connection_is_the_reason_with_secrets_hidden() -> None:
    shell = Shell(
        secrets=("hunter2hunter2",), onMessage=[{"contains": "error", "end": {"reason": "msg.error"}}]
    ).streaming()
    commands = shell.receive(json_batch("a", '{"error":"bad key hunter2hunter2"}'), json_batch("b"))
    assert published(commands) == ["a", '{"error":"bad key hunter2hunter2"}']
    assert commands[-1] == BeginClose(1000, "ended by a message of the origin")
    shell.lost()
    assert (shell.state, shell.report.reason) == (State.WAITING, "bad key ***")
    assert shell.session.failures == {Failure.ENDED: 1}


def test_a_refusal_in_a_message_is_retried_rarely() -> None:
    shell = Shell(onMessage=[{"contains": "error", "end": {"reason": "msg.error", "refused": True}}])
    shell.wanted()
    for attempt in range(1, 4):
        shell.opened()
        shell.receive(json_batch('{"error":"connection limit exceeded"}'))
        shell.lost()
        assert (shell.state, shell.report.reason) == (State.REFUSED, "connection limit exceeded")
        assert shell.report.state is OriginState.REFUSED
        assert Connect() not in shell.later(30)
        assert Connect() in shell.later(ORIGIN.min_refused_seconds * 2**attempt)


def test_a_refusal_during_the_script_names_the_step() -> None:
    shell = Shell(onConnect=LOGIN, onMessage=[{"contains": "error", "end": {"reason": "msg.error", "refused": True}}])
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch('{"error":"auth failed"}')) == [
        BeginClose(1000, "ended by a message of the origin")
    ]
    shell.lost()
    assert (shell.state, shell.report.reason) == (State.REFUSED, "onConnect[1]: auth failed")


def test_a_message_may_ask_for_a_new_connection_and_this_one_goes_on() -> None:
    shell = Shell(onMessage=[{"contains": "shutdown", "renew": True, "forward": False}]).streaming()
    commands = shell.receive(json_batch("a", "shutdown", "b", "shutdown"))
    assert published(commands) == ["a", "b"]
    assert commands.count(Renew()) == 1
    assert shell.state is State.STREAMING


def test_what_ends_the_connection_renews_nothing() -> None:
    rules = [{"contains": "shutdown", "renew": True}, {"contains": "error", "end": {}}]
    assert Renew() not in Shell(onMessage=rules).streaming().receive(json_batch("shutdown", "error"))


def kept(text: str, ahead: int = 0) -> KeptFrame:
    return KeptFrame(frame(Opcode.TEXT, text.encode()), ahead)


KEEPING: dict[str, Any] = {
    "onConnect": [
        {"send": "subscribe"},
        {"expect": {"json": {"/ok": True}, "keep": "ok", "early": "Forward", "timeoutSeconds": 5}},
    ],
    "onMessage": [{"contains": "state", "keep": "state"}],
}


def test_kept_messages_are_told_before_the_stream_begins_and_those_of_it_before_they_are_published() -> None:
    shell = Shell(**KEEPING)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch("state 1")) == []  # an attempt that fails changes nothing
    keep_ok, begin, keep_state, early = shell.receive(json_batch('{"ok":true}'))
    assert (keep_ok, begin) == (Keep({"ok": kept('{"ok":true}')}), BeginEpoch())
    assert isinstance(early, Publish)
    assert keep_state == Keep({"state": kept("state 1", 1)})
    keep, publish = shell.receive(json_batch("a", "state 2", "b"))
    assert isinstance(publish, Publish)
    assert len(publish.batch) == 3
    assert keep == Keep({"state": kept("state 2", 2)})


def test_a_message_of_the_stream_that_is_too_large_to_be_kept_takes_the_place_of_the_earlier_one() -> None:
    shell = Shell(**KEEPING)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch('{"ok":true}'))
    large = "state" + "." * ORIGIN.kept_message_bytes
    assert shell.receive(json_batch(large))[0] == Keep({"state": KeptFrame(b"", 1)})


def test_without_kept_messages_nothing_is_told_about_them() -> None:
    shell = Shell(onMessage=KEEPING["onMessage"]).streaming()
    assert not any(isinstance(each, Keep) for each in shell.receive(json_batch("a", "b")))
