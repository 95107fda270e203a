"""HTTP calls before an attempt and during `onConnect`."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.specs import http_step, origin_spec, resolved
from tests.unit.origin.sessions import FLOOD, Shell, json_batch

from lobby_gateway.origin.dialogue import Dialogue
from lobby_gateway.origin.http_calls import HttpAnswer
from lobby_gateway.origin.states import (
    BeginClose,
    BeginEpoch,
    Call,
    CancelCall,
    Connect,
    Failure,
    PauseReading,
    Publish,
    ResumeReading,
    SendPing,
    State,
)
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.settings import ORIGIN
from lobby_gateway.websocket.parser import Close, Ping, Violation

TOKEN_CALL = http_step(url="https://api.example/token?a=b", method="POST", save={"token": "http.json.token"})
SUBSCRIBE = http_step(url="https://api.example/subscribe", body="$(saved.session)", status=[202])
WELCOME = [{"expect": {"json": {"/type": "welcome"}, "save": {"session": "msg.session"}, "timeoutSeconds": 5}}]


def json_answer(text: str, status: int = 200, **fields: Any) -> HttpAnswer:
    return HttpAnswer(status=status, body=text.encode(), **fields)


def test_calls_before_an_attempt_are_made_in_order_and_their_values_used() -> None:
    second = http_step(url="https://api.example/$(saved.token)", save={"url": "http.json.url"})
    shell = Shell(url="$(saved.url)", beforeConnect=[TOKEN_CALL, second])
    shell.wanted()
    request = shell.session.next_call()
    assert request is not None
    assert (request.what, request.request.url) == ("POST https://api.example/token", "https://api.example/token?a=b")
    assert shell.session.answered(json_answer('{"token": "t0ken"}'), shell.now)
    request = shell.session.next_call()
    assert request is not None
    assert request.request.url == "https://api.example/t0ken"
    assert shell.session.answered(json_answer('{"url": "ws://there.example"}'), shell.now)
    assert shell.session.next_call() is None
    assert shell.session.request().url == "ws://there.example"
    shell.opened()
    assert shell.state is State.STREAMING
    shell.lost()
    shell.later(1)
    assert shell.session.next_call() is not None, "each attempt makes its own calls"


@pytest.mark.parametrize(
    ("status", "state", "failure"),
    [(401, OriginState.REFUSED, Failure.REFUSED), (500, OriginState.WAITING, Failure.HTTP_CALL)],
)
def test_a_call_that_fails_is_a_failed_attempt(status: int, state: OriginState, failure: Failure) -> None:
    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.next_call()
    assert not shell.session.answered(json_answer("s3cr3t", status), shell.now)
    assert shell.session.next_call() is None
    assert shell.report.state is state
    assert shell.report.reason.startswith(f"beforeConnect[0].http: POST https://api.example/token: HTTP {status} ")
    assert "s3cr3t" not in shell.report.reason
    assert shell.session.failures == {failure: 1}
    assert shell.report.retry_in_seconds == (60.5 if state is OriginState.REFUSED else 0.5)


def test_retry_after_of_a_call_is_honored() -> None:
    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.next_call()
    shell.session.answered(json_answer("", 429, retry_after_seconds=120.0), shell.now)
    assert shell.later(119.9) == []
    assert shell.later(0.7) == [Connect()]


def test_a_call_without_an_answer_is_a_failed_attempt_and_names_the_step() -> None:
    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.next_call()
    shell.session.call_failed("connection refused", shell.now)
    assert shell.report.reason == "beforeConnect[0].http: POST https://api.example/token: connection refused"
    assert shell.session.failures == {Failure.HTTP_CALL: 1}


def subscribing(**fields: Any) -> Shell:
    shell = Shell(onConnect=[*WELCOME, SUBSCRIBE, *fields.pop("more", ())], **fields)
    shell.wanted()
    shell.opened()
    (call,) = shell.receive(json_batch('{"type": "welcome", "session": "s3ss10n"}'))
    assert isinstance(call, Call)
    assert call.request.body == "s3ss10n"
    return shell


def test_a_call_of_on_connect_ends_the_script() -> None:
    shell = subscribing()
    assert shell.report.state is OriginState.CONNECTING
    shell.session.answered(json_answer("", 202), shell.now)
    assert [type(each) for each in shell.took()] == [BeginEpoch]
    assert shell.state is State.STREAMING


def test_messages_during_a_call_wait_for_the_steps_behind_it_or_are_the_stream() -> None:
    for more, stream in (
        ((), [b'{"a": 1}', b'{"b": 1}']),
        (({"expect": {"json": {"/a": 1}, "timeoutSeconds": 5}},), [b'{"b": 1}']),
    ):
        shell = subscribing(more=more)
        assert shell.receive(json_batch('{"a": 1}'), Ping(b"")) == []
        assert shell.receive(json_batch('{"b": 1}')) == []
        assert shell.later(10) == []
        shell.session.answered(json_answer("", 202), shell.now)
        assert shell.session.wake_at() == 0.0
        shell.session.wake(shell.now)
        commands = shell.took()
        published = [each.batch for each in commands if isinstance(each, Publish)]
        assert [bytes(batch.payload(index)) for batch in published for index in range(len(batch))] == stream
        assert shell.state is State.STREAMING


def test_messages_behind_the_one_that_starts_a_call_wait_too() -> None:
    shell = Shell(onConnect=[*WELCOME, SUBSCRIBE])
    shell.wanted()
    shell.opened()
    commands = shell.receive(json_batch('{"type": "welcome", "session": "s3ss10n"}', "first", "second"))
    assert [type(each) for each in commands] == [Call]
    shell.session.answered(json_answer("", 202), shell.now)
    shell.session.wake(shell.now)
    (publish,) = (each for each in shell.took() if isinstance(each, Publish))
    assert [bytes(publish.batch.payload(index)) for index in range(len(publish.batch))] == [b"first", b"second"]


def test_no_more_is_read_during_a_call_than_may_wait_for_it() -> None:
    shell = subscribing()
    message = json_batch("x" * (1 << 20))
    most = ORIGIN.early_bytes // len(message.data)
    for _ in range(most):
        assert shell.receive(message) == []
    assert shell.receive(message) == [PauseReading()]
    assert shell.later(500) == []  # a pong could not be read
    assert shell.session.wake_at() is None
    shell.session.answered(json_answer("", 202), shell.now)
    commands = shell.later(0)
    assert len([each for each in commands if isinstance(each, Publish)]) == most + 1
    assert ResumeReading() in commands
    assert shell.state is State.STREAMING


def test_an_origin_that_is_silent_during_a_call_although_messages_wait_is_noticed() -> None:
    shell = subscribing(keepalive={"pingSeconds": 10, "timeoutSeconds": 5})
    shell.receive(json_batch("first"))
    commands = shell.later(16)
    assert [type(each) for each in commands] == [SendPing, CancelCall, BeginClose]
    shell.lost()
    assert shell.report.reason == "onConnect[1]: no answer to a ping within 5 s"


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("messages", [["first"], ["first", '{"type": "welcome"}'], FLOOD])
def test_an_origin_that_closes_during_a_call_is_heard_at_once_behind_its_messages(
    messages: list[str], apart: bool
) -> None:
    shell = subscribing(closeCodes={"refused": [4005]})
    if apart:
        assert shell.receive(json_batch(*messages)) == []
        assert shell.receive(Close(4005, "no such session"))[0] == CancelCall()
    else:
        assert shell.receive(json_batch(*messages), Close(4005, "no such session"))[0] == CancelCall()
    shell.later(0)
    shell.lost()
    assert shell.state is State.REFUSED
    assert shell.report.reason == "onConnect[1]: the origin closed the connection: 4005 (no such session)"


def test_a_message_that_ends_the_connection_is_the_reason_even_if_a_close_follows_during_a_call() -> None:
    shell = subscribing(onMessage=[{"contains": "error", "end": {"reason": "msg.error", "refused": True}}])
    shell.receive(json_batch("first", '{"error": "no such session"}'))
    shell.receive(Close(1000, ""))
    shell.later(0)
    shell.lost()
    assert shell.state is State.REFUSED
    assert shell.report.reason == "onConnect[1]: no such session"


@pytest.mark.parametrize("close", [Close(4005, "unused"), Violation(1002, "bad frame")])
def test_a_call_that_begins_although_the_end_of_the_connection_has_arrived_is_cancelled(
    close: Close | Violation,
) -> None:
    shell = Shell(onConnect=[*WELCOME, SUBSCRIBE])
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD[:700], '{"type": "welcome", "session": "s3ss10n"}', "first"), close)
    commands = [each for each in shell.later(0) if isinstance(each, Call | CancelCall)]
    assert [type(each) for each in commands] == [Call, CancelCall]
    shell.lost()
    assert str(close.code) in shell.report.reason


def test_a_call_of_on_connect_that_fails_closes_the_connection() -> None:
    shell = subscribing()
    shell.session.answered(json_answer("", 403, retry_after_seconds=200.0), shell.now)
    assert shell.took()[-1] == BeginClose(1000, "an HTTP call of onConnect has failed")
    shell.lost()
    assert shell.report.reason == "onConnect[1].http: GET https://api.example/subscribe: HTTP 403 Forbidden"
    assert shell.report.state is OriginState.REFUSED
    assert shell.report.retry_in_seconds == 200.5


@pytest.mark.parametrize("how", ["lost", "closed", "stopped"])
def test_a_connection_that_ends_cancels_its_call(how: str) -> None:
    shell = subscribing()
    if how == "lost":
        commands = shell.lost()
    elif how == "closed":
        commands = shell.receive(Close(1001, ""))
    else:
        shell.session.stop()
        commands = shell.took()
    assert commands[0] == CancelCall()
    assert shell.took() == []


def test_a_connection_that_is_lost_during_a_call_ends_for_the_reason_behind_the_kept_messages() -> None:
    shell = subscribing(closeCodes={"refused": [4003]})
    assert shell.receive(json_batch("first"), Close(4003, "unused")) == [CancelCall(), PauseReading()]
    assert shell.lost() == []
    shell.later(0)
    assert shell.state is State.REFUSED
    assert shell.report.reason == "onConnect[1]: the origin closed the connection: 4003 (unused)"


def test_a_connection_that_is_lost_without_a_close_during_a_call_ends_at_once_although_messages_wait() -> None:
    shell = subscribing()
    shell.receive(json_batch("first"))
    assert shell.lost("connection reset") == [CancelCall()]
    shell.later(0)
    assert shell.report.reason == "onConnect[1]: connection reset"


def test_a_connection_that_was_lost_makes_no_call_for_the_messages_that_are_still_judged() -> None:
    shell = Shell(onConnect=[*WELCOME, SUBSCRIBE], closeCodes={"refused": [4003]})
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD[:700], '{"type": "welcome", "session": "s3ss10n"}', *FLOOD), Close(4003, "unused"))
    shell.lost()
    commands = [each for each in shell.later(0) if isinstance(each, Call | CancelCall)]
    assert [type(each) for each in commands] == [Call, CancelCall]
    assert shell.state is State.REFUSED


def test_calls_of_an_attempt_are_those_of_the_secrets_that_were_read_after_it_began() -> None:
    def calling(key: str) -> Dialogue:
        headers = [{"name": "Authorization", "value": f"Bearer {key}"}]
        return resolved(
            origin_spec(beforeConnect=[http_step(url="https://api.example/token", headers=headers)])
        ).dialogue

    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.set_dialogue(calling("newer"), ())
    request = shell.session.next_call()
    assert request is not None
    assert "Bearer newer" in repr(request.request.headers)
