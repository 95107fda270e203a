"""Values that are saved or computed: who knows them, and that they are hidden."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.specs import http_step
from tests.unit.origin.sessions import NO_PINGS, Shell, json_batch, sent

from lobby_gateway.origin.dialogue import Dialogue
from lobby_gateway.origin.http_calls import HttpAnswer
from lobby_gateway.origin.states import Failure, Send
from lobby_gateway.settings import ORIGIN
from lobby_gateway.websocket.parser import Close

HELLO_RULES: dict[str, Any] = {
    "onConnect": [
        {"expect": {"json": {"/op": 10}, "timeoutSeconds": 5, "save": {"beat": "msg.beat", "id": "msg.id"}}},
        {"send": "identify $(saved.id)"},
    ],
    "every": [{"secondsFrom": "double(saved.beat) / 1000.0", "send": "beat"}],
    "keepalive": NO_PINGS,
}


def test_saved_values_are_used_by_later_steps_and_timers() -> None:
    shell = Shell(**HELLO_RULES)
    shell.wanted()
    shell.opened()
    assert sent(shell.receive(json_batch('{"op":10,"beat":4000,"id":"abc"}'))) == ["identify abc"]
    assert shell.later(3.9) == []
    assert sent(shell.later(4.2)) == ["beat", "beat"]


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ('{"op":10,"beat":10,"id":"abc"}', "every[0].secondsFrom: 0.01; accepted: 1 to 86400"),
        ('{"op":10,"beat":true,"id":"abc"}', "every[0].secondsFrom: "),
        ('{"op":10,"id":"abc"}', "onConnect[0].expect.save.beat: "),
    ],
)
def test_a_value_that_is_missing_or_useless_ends_the_connection_and_says_where(hello: str, reason: str) -> None:
    shell = Shell(**HELLO_RULES)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(hello))
    shell.lost()
    assert reason in shell.report.reason
    assert shell.session.failures == {Failure.ENDED: 1}


def test_saved_values_outlive_a_reconnect_and_are_hidden_in_reasons() -> None:
    rules = [{"contains": "token", "save": {"token": "msg.token"}, "forward": False}, {"contains": "error", "end": {}}]
    shell = Shell(onMessage=rules, onConnect=[{"send": '$(has(saved.token) ? saved.token : "none")'}])
    shell.wanted()
    assert sent(shell.opened()) == ["none"]
    shell.receive(json_batch('{"token":"cap7ured"}'))
    assert shell.session.hidden.hide("a cap7ured b") == "a *** b"
    shell.receive(json_batch("error: cap7ured is no good"))
    shell.lost()
    assert shell.report.reason == "error: *** is no good"
    shell.later(60)
    assert sent(shell.opened()) == ["cap7ured"]
    shell.session.set_dialogue(Dialogue(), ())
    assert shell.session.hidden.hide("a cap7ured b") == "a *** b"
    shell.receive(Close(4000, "cap7ured"))
    shell.lost()
    assert "cap7ured" not in shell.report.reason


def test_the_successor_of_a_session_knows_and_hides_what_that_one_saved() -> None:
    fields: dict[str, Any] = {
        "onMessage": [{"contains": "token", "save": {"token": "msg.token"}, "forward": False}],
        "onConnect": [{"send": '$(has(saved.token) ? saved.token : "none")'}],
    }
    before, after = Shell(**fields), Shell(**fields)
    before.wanted()
    before.opened()
    before.receive(json_batch('{"token":"cap7ured"}'))
    after.session.inherit(before.session)
    assert after.session.hidden.hide("a cap7ured b") == "a *** b"
    after.wanted()
    assert sent(after.opened()) == ["cap7ured"]
    after.receive(Close(4000, "cap7ured"))
    after.lost()
    assert "cap7ured" not in after.report.reason


def test_a_signature_is_hidden_in_reasons() -> None:
    shell = Shell(onConnect=[{"send": '$(hex(hmac("SHA256", "k", string(now))))'}])
    shell.wanted()
    (sign,) = sent(shell.opened())
    assert isinstance(sign, str)
    shell.receive(Close(4000, f"bad {sign}"))
    shell.lost()
    assert shell.report.reason == "the origin closed the connection: 4000 (bad ***)"


def test_the_request_is_made_anew_for_each_attempt_with_what_was_saved() -> None:
    shell = Shell(
        onConnect=[{"expect": {"json": {}, "save": {"token": "msg.token"}, "timeoutSeconds": 5}}],
        query=[{"name": "resume", "value": '$(has(saved.token) ? saved.token : "")'}],
    )
    shell.wanted()
    assert shell.session.request().url == "ws://origin.example/"
    shell.opened()
    shell.receive(json_batch('{"token": "cap7ured"}'))
    shell.lost()
    shell.later(1)
    assert shell.session.request().url == "ws://origin.example/?resume=cap7ured"
    shell.failed("no answer to cap7ured")
    assert shell.report.reason == "no answer to ***"


def test_signatures_of_many_attempts_are_not_all_kept_while_what_is_saved_stays_hidden() -> None:
    shell = Shell(
        onConnect=[{"expect": {"json": {}, "save": {"token": "msg.token"}, "timeoutSeconds": 5}}],
        keepalive={"pingSeconds": 0, "timeoutSeconds": 1},
        every=[{"seconds": 1, "send": "$(uuid())-$(hex(hmac('SHA256', 'key', string(nowMillis) + uuid())))"}],
    )
    shell.wanted()
    shell.opened()
    shell.receive(json_batch('{"token": "cap7ured"}'))
    for _ in range(200):
        (send,) = (each for each in shell.later(1) if isinstance(each, Send))
    assert isinstance(send.message, str)
    signature = send.message.rpartition("-")[2]
    assert shell.session.redacted(f"a cap7ured b {signature} c") == "a *** b *** c"
    for _ in range(400):
        shell.later(1)
    assert repr(shell.session.hidden) == f"<Hidden: <Redactor: {ORIGIN.hidden_texts + 1} secrets>>"


SIGN = '$(hex(hmac("SHA256", "key", string(nowMillis) + uuid())))'
CURSOR = {"contains": "cur", "save": {"cur": "msg.cur"}, "forward": False}


def captures(shell: Shell, count: int) -> None:
    """The origin sends messages, and a value of each is saved."""
    for number in range(count):
        shell.receive(json_batch(f'{{"cur":"cursor-{number:08}-{"x" * 100}"}}'))


def test_a_signature_of_on_connect_stays_hidden_however_many_values_are_captured_later() -> None:
    shell = Shell(onConnect=[{"send": SIGN}], onMessage=[CURSOR])
    shell.wanted()
    (sign,) = sent(shell.opened())
    captures(shell, 1000)
    shell.receive(Close(4000, f"bad sig {sign!s}"))
    shell.lost()
    assert shell.report.reason == "the origin closed the connection: 4000 (bad sig ***)"


def test_signatures_of_the_handshake_stay_hidden_whatever_rules_and_timers_sign_later() -> None:
    shell = Shell(
        headers=[{"name": "Authorization", "value": SIGN}],
        query=[{"name": "sign", "value": SIGN}],
        onMessage=[{"contains": "ping", "send": SIGN, "forward": False}],
        every=[{"seconds": 1, "send": SIGN}],
        keepalive=NO_PINGS,
    )
    shell.wanted()
    request = shell.session.request()
    shell.opened()
    (timed,) = sent(shell.later(1))
    for _ in range(1000):
        shell.receive(json_batch("ping"))
    assert shell.session.redacted(f"timer {timed!s}") == "timer ***"
    shell.later(500)
    for signature in (request.headers[0][1], request.url.rpartition("=")[2]):
        assert len(signature) == 64
        assert shell.session.redacted(f"bad {signature}") == "bad ***"


def test_what_an_http_step_signs_and_gets_stays_hidden_while_it_is_in_use() -> None:
    call = http_step(url="https://api.example/token", body=SIGN, save={"token": "http.json.token"})
    shell = Shell(beforeConnect=[call], onMessage=[CURSOR])
    shell.wanted()
    request = shell.session.next_call()
    assert request is not None
    shell.session.answered(HttpAnswer(status=200, body=b'{"token": "cap7ured"}'), shell.now)
    shell.opened()
    captures(shell, 1000)
    assert shell.session.redacted(f"bad sig {request.body} for cap7ured") == "bad sig *** for ***"


def test_a_signature_is_hidden_for_some_time_after_the_next_attempt_began() -> None:
    shell = Shell(onConnect=[{"send": SIGN}], onMessage=[CURSOR])
    shell.wanted()
    signatures = []
    for _ in range(10):
        signatures += sent(shell.opened())
        captures(shell, 300)
        shell.lost()
        shell.later(60)
    for each in signatures:
        assert shell.session.redacted(f"bad {each!s}") == "bad ***"


def test_sessions_of_a_lobby_hide_what_the_others_saved_and_signed() -> None:
    """An origin may quote on one connection what it was told on another, and all write to the same log."""
    fields: dict[str, Any] = {"onConnect": [{"send": SIGN}], "onMessage": [CURSOR]}
    before, after = Shell(**fields), Shell(secrets=("hunter22",), **fields)
    before.wanted()
    (first,) = sent(before.opened())
    after.session.inherit(before.session)
    after.wanted()
    (second,) = sent(after.opened())
    before.receive(json_batch('{"cur":"cap7ured"}'))
    for shell in (before, after):
        assert shell.session.redacted(f"{first!s} {second!s} cap7ured hunter22") == "*** *** *** ***"
