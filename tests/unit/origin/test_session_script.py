"""The steps of `onConnect` on an open connection, and where the stream begins."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.origin.sessions import FLOOD, HELLO, LOGIN, PING_RULE, Shell, json_batch, published

from lobby_gateway.origin.states import (
    BeginClose,
    BeginEpoch,
    Connect,
    Failure,
    PauseReading,
    Publish,
    ResumeReading,
    Send,
    State,
)
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.settings import ORIGIN
from lobby_gateway.websocket.parser import Close


def test_nothing_is_published_before_the_script_is_done() -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    assert shell.opened() == [Send("login")]
    assert shell.report.state is OriginState.CONNECTING
    assert shell.receive(HELLO) == []
    answer = json_batch('{"ok": false}', '{"ok": true}', "first")
    began, publish = shell.receive(answer)
    assert began == BeginEpoch()
    assert isinstance(publish, Publish)
    assert publish.batch.frames == json_batch("first").frames
    assert shell.receive(HELLO) == [Publish(HELLO)]


def test_script_that_gets_no_answer_closes_and_tries_again() -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    shell.opened()
    assert shell.later(5) == [BeginClose(1000, "a message that onConnect expects did not arrive")]
    assert shell.receive(json_batch('{"ok": true}')) == []  # too late
    shell.lost()
    assert shell.report.reason == "onConnect[1]: no message matching /ok within 5 s"
    assert shell.session.failures == {Failure.SCRIPT: 1}
    assert shell.later(0.5) == [Connect()]
    assert shell.opened() == [Send("login")]


def test_origin_that_closes_during_the_script_is_told_by_its_step() -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    shell.opened()
    assert shell.receive(Close(4001, "bad login")) == []
    shell.lost()
    assert shell.report.reason == "onConnect[1]: the origin closed the connection: 4001 (bad login)"
    assert shell.report.state is OriginState.WAITING


@pytest.mark.parametrize("code", [3000, 3003])
def test_origin_that_forbids_by_close_code_is_tried_again_rarely(code: int) -> None:
    shell = Shell(onConnect=LOGIN, fraction=0.0)
    shell.wanted()
    shell.opened()
    shell.receive(Close(code, ""))
    shell.lost()
    assert shell.report.state is OriginState.REFUSED
    assert shell.report.retry_in_seconds == ORIGIN.min_refused_seconds


def test_no_secret_is_reported_even_if_the_origin_says_it() -> None:
    shell = Shell(secrets=("hunter22", "a b&c=d"))
    shell.wanted()
    shell.session.refused(400, "HTTP 400 no key hunter22", None, shell.now)
    assert shell.report.reason == "HTTP 400 no key ***"
    shell.later(1)
    shell.opened()
    shell.receive(Close(4000, "key=a%20b%26c%3Dd\nis\x00 wrong"))
    assert shell.report.reason == "the origin closed the connection: 4000 (key=*** is wrong)"


def test_the_stream_begins_when_a_pause_at_the_end_is_over() -> None:
    shell = Shell(onConnect=[{"send": "a"}, {"wait": {"seconds": 2}}, {"send": "b"}, {"wait": {"seconds": 3}}])
    shell.wanted()
    assert shell.opened() == [Send("a")]
    assert shell.later(1.9) == []
    assert shell.later(0.2) == [Send("b")]
    assert shell.receive(HELLO) == []
    assert shell.report.state is OriginState.CONNECTING
    assert shell.later(3) == [BeginEpoch()]
    assert shell.receive(HELLO) == [Publish(HELLO)]


def test_a_pause_ends_after_what_came_before_its_end_was_judged() -> None:
    """A read of many messages takes several turns; those of a pause must not pass for the stream."""
    shell = Shell(onConnect=[{"wait": {"seconds": 1}}])
    shell.wanted()
    shell.opened()
    many = json_batch(*["early"] * (2 * ORIGIN.judged_per_turn + 1))
    assert shell.receive(many) == [PauseReading()]
    shell.now += 1
    shell.session.wake(shell.now)
    assert shell.took() == []
    shell.session.wake(shell.now)
    assert shell.took() == [ResumeReading(), BeginEpoch()]


def test_early_messages_are_published_when_the_stream_begins() -> None:
    steps = [{"expect": {"json": {"/ok": True}, "timeoutSeconds": 5, "early": "Forward"}}]
    shell = Shell(onConnect=steps, onMessage=[PING_RULE])
    shell.wanted()
    shell.opened()
    assert published(shell.receive(json_batch("snapshot", '{"ping":1}'))) == []
    commands = shell.receive(json_batch('{"ok":true}', "tick", '{"ping":2}'))
    assert BeginEpoch() in commands
    assert published(commands) == ["snapshot", "tick"]
    assert Send('{"pong":2}') in commands


def test_a_connection_that_is_lost_during_the_script_says_in_which_step() -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    assert shell.session.step == "connecting"
    shell.opened()
    assert shell.session.step == "onConnect[1]"
    shell.lost("connection reset")
    assert shell.report.reason == "onConnect[1]: connection reset"
    assert shell.session.step == ""


@pytest.mark.parametrize("step", [{"wait": {"seconds": 60}}, {"expect": {"json": {"/ok": True}, "timeoutSeconds": 60}}])
@pytest.mark.parametrize("messages", [["first"], FLOOD])
def test_an_origin_that_closes_during_a_step_is_heard_at_once_behind_its_messages(
    step: dict[str, Any], messages: list[str]
) -> None:
    shell = Shell(onConnect=[step, {"send": "next"}], closeCodes={"refused": [4005]})
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*messages))
    shell.receive(Close(4005, "no such session"))
    shell.later(0)
    shell.lost()
    assert shell.state is State.REFUSED
    assert shell.report.reason == "onConnect[0]: the origin closed the connection: 4005 (no such session)"


def test_a_close_that_has_arrived_is_the_reason_even_if_a_step_is_overdue_before_its_turn() -> None:
    shell = Shell(onConnect=LOGIN, closeCodes={"refused": [4005]})
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD), Close(4005, "no such session"))
    shell.now += 6
    shell.session.wake(shell.now)
    assert shell.took() == []
    shell.later(0)
    shell.lost()
    assert shell.state is State.REFUSED
    assert shell.report.reason == "onConnect[1]: the origin closed the connection: 4005 (no such session)"
