"""What a connection learns from an origin's messages."""

from __future__ import annotations

import json

import pytest

from lobby_gateway.origin.captured import Captured, Known
from lobby_gateway.origin.expressions import ALWAYS, OF_MESSAGE, Expression, ExpressionError, message_variables
from lobby_gateway.origin.templates import Template
from lobby_gateway.settings import OriginSettings
from lobby_gateway.websocket.frames import Batch, Opcode, frame


def save(captured: Captured, message: object, **expressions: str) -> None:
    batch = Batch.of([frame(Opcode.TEXT, json.dumps(message).encode())])
    variables = message_variables(batch, 0, {"saved": captured.values})
    captured.save({name: Expression(each, OF_MESSAGE) for name, each in expressions.items()}, variables, "onMessage[0]")


def test_values_are_saved_by_name_and_replaced() -> None:
    captured = Captured()
    save(captured, {"id": "a1", "beat": 41250}, session="msg.id", beat="msg.beat")
    save(captured, {"id": "a2"}, session="msg.id")
    assert captured.values == {"session": "a2", "beat": 41250}


def test_all_are_saved_or_none() -> None:
    captured = Captured()
    with pytest.raises(ExpressionError, match=r"^onMessage\[0\].save.b: "):
        save(captured, {"a": 1}, a="msg.a", b="msg.b")
    assert captured.values == {}


def test_saved_values_are_bounded_and_json() -> None:
    captured = Captured(settings=OriginSettings(saved_bytes=1000))
    with pytest.raises(ExpressionError, match="accepted: 1000"):
        save(captured, {"a": "x" * 1000}, a="msg.a")
    with pytest.raises(ExpressionError, match=r"save.a: the value is not JSON"):
        save(captured, {}, a="data")
    assert captured.values == {}


def test_the_size_of_what_is_saved_is_that_of_all_values_as_they_are_now() -> None:
    captured = Captured(settings=OriginSettings(saved_bytes=1000))
    for length in (600, 900, 300):
        save(captured, {"a": "x" * length}, a="msg.a")
    save(captured, {"b": "x" * 600}, b="msg.b")
    size = len(json.dumps({**captured.values, "c": "x" * 150}))
    with pytest.raises(ExpressionError, match=f"all saved values have {size} bytes; accepted: 1000"):
        save(captured, {"c": "x" * 150}, c="msg.c")


def test_a_value_that_is_saved_in_itself_again_and_again_is_refused_before_it_is_too_deep() -> None:
    captured = Captured()
    save(captured, {}, a="[]")
    for _ in range(99):
        save(captured, {}, a="[saved.a]")
    with pytest.raises(ExpressionError, match=r"^onMessage\[0\].save.a: nests deeper than 100 levels$"):
        save(captured, {}, a="[saved.a]")


def test_a_signature_in_a_text_is_to_be_hidden() -> None:
    known = Known({"KEY": "k", "now": 1, "nowMillis": 1000, "saved": {}})
    template = Template('{"sign":"$(hex(hmac("SHA256", KEY, string(now))))","at":$(now)}', {"KEY"}, ALWAYS)
    sign = json.loads(template.message(known))["sign"]
    assert known.captured.hidden.hide(f"bad {sign}") == "bad ***"


def test_no_repr_shows_a_value() -> None:
    assert "hunter2" not in repr(Known({"KEY": "hunter2"}))
