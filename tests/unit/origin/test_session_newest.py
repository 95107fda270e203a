"""The newest message of the stream, for expressions that look at it (`last`)."""

from __future__ import annotations

import pytest
from tests.unit.origin.sessions import Shell, json_batch

from lobby_gateway.origin.expressions import ExpressionError
from lobby_gateway.origin.states import Forget, Send


def test_an_attempt_knows_the_newest_message_of_the_stream() -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}])
    shell.wanted()
    assert shell.session.request().url == "ws://origin.example/"
    shell.opened()
    shell.receive(json_batch('{"at": 1}', '{"at": 2}'))
    shell.receive(json_batch('{"at": 3}'))
    shell.lost()
    shell.later(1)
    assert shell.session.request().url == "ws://origin.example/?cursor=3"
    after = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}])
    after.session.inherit(shell.session)
    after.wanted()
    assert after.session.request().url == "ws://origin.example/?cursor=3"


def test_a_message_that_a_rule_drops_is_not_the_newest_and_one_that_is_not_json_is_an_empty_map() -> None:
    rules = [
        {"contains": "drop", "forward": False},
        {"contains": "beat", "send": "$(has(last.at) ? last.at : 0)", "forward": False},
    ]
    shell = Shell(onMessage=rules).streaming()
    assert Send("0") in shell.receive(json_batch("beat"))
    shell.receive(json_batch('{"at": 1}', '{"at": 2, "drop": true}'))
    assert Send("1") in shell.receive(json_batch("beat"))
    shell.receive(json_batch("no json"))
    assert Send("0") in shell.receive(json_batch("beat"))


def test_without_an_expression_that_needs_it_no_message_is_kept() -> None:
    shell = Shell(onMessage=[{"contains": "x", "send": "$(msg.last)"}]).streaming()
    shell.receive(json_batch('{"at": 1}'))
    assert shell.session._last is None


@pytest.mark.parametrize("message", ["[1]", "2", '"x"', "true", '{"at": "\\ud800"}'])
def test_a_newest_message_that_is_no_object_or_no_text_delays_no_attempt(message: str) -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}]).streaming()
    shell.receive(json_batch(message))
    shell.lost()
    shell.later(1)
    assert shell.session.request().url in ("ws://origin.example/", "ws://origin.example/?cursor=%3F")


def test_a_newest_message_that_an_expression_cannot_use_costs_one_attempt() -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(int(last.at) + 1) : "")'}]).streaming()
    shell.receive(json_batch('{"at": "later"}'))
    shell.lost()
    shell.later(1)
    with pytest.raises(ExpressionError):
        shell.session.request()
    assert shell.session.request().url == "ws://origin.example/"


def test_a_cursor_from_before_nobody_listened_is_forgotten() -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}]).streaming()
    shell.receive(json_batch('{"at": 1}'))
    shell.wanted(False)
    assert Forget() in shell.lost()
    shell.wanted()
    assert shell.session.request().url == "ws://origin.example/"
