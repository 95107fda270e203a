"""Expressions of an origin, and texts with expressions in them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.captured import Captured, Known
from lobby_gateway.origin.expressions import ALWAYS, OF_MESSAGE, Expression, ExpressionError, message_variables, times
from lobby_gateway.origin.templates import BytesTemplate, Template
from lobby_gateway.resource.cel_library import cel
from lobby_gateway.websocket.frames import Batch, Opcode, frame

NOW = times(1767225600.25)


def variables(message: str | bytes, **secrets: str) -> dict[str, object]:
    opcode, payload = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
    return message_variables(Batch.of([frame(opcode, payload)]), 0, {**secrets, **NOW})


def expression(source: str, *secrets: str) -> Expression:
    return Expression(source, {*OF_MESSAGE, *secrets})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('msg.type == "ping"', '{"type":"ping"}'),
        ("has(msg.error)", '{"error":null}'),
        ('msg[0].T == "error"', '[{"T":"error"}]'),
        ('text == "pong"', "pong"),
        ('text.startsWith("44")', '44{"message":"no"}'),
        ('hex(data) == "d000"', b"\xd0\x00"),
        ("msg == null", "not JSON"),
        ("msg == null", "null"),
        ("msg == null && text == ''", b"\x00"),
        ('type(msg) == list && size(msg) == 2 && msg[1] == "hb"', '[5,"hb"]'),
        ("now == 1767225600 && nowMillis == 1767225600250", "x"),
        ('msg.items.exists(x, x.id == "a")', '{"items":[{"id":"b"},{"id":"a"}]}'),
        ("parseJson(msg.inner).ok", '{"inner":"{\\"ok\\":true}"}'),
        ('string(unbase64(base64(b"ab")))  == "ab"', "x"),
        ('json(msg) == "{\\"a\\":[1,true]}"', '{"a": [1, true]}'),
        ('text.contains("é")', "caf\u00e9"),
        # RFC 4231, test case 2; FIPS 180-4's "abc".
        (
            'hex(hmac("SHA256", "Jefe", text)) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"',
            "what do ya want for nothing?",
        ),
        ('base64(digest("SHA256", text)) == "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="', "abc"),
        ('size(hmac("SHA384", b"\\x00k", unbase64("AAA="))) == 48 && size(digest("SHA512", "")) == 64', "x"),
        ("size(uuid()) == 36 && uuid() != uuid()", "x"),
        ("msg.id == 9223372036854775807", '{"id":9223372036854775807}'),
    ],
)
def test_an_expression_holds(source: str, message: str | bytes) -> None:
    assert expression(source).holds(variables(message))


@pytest.mark.parametrize(
    "message",
    [
        "no JSON",
        "null",
        "[]",
        "7",
        '"ping"',
        "{}",
        '{"type":7}',
        '{"type":{"a":1}}',
        b"\xff",
        "[" * 100_000,
        '{"type":"\\ud800"}',
    ],
)
def test_what_is_missing_or_of_another_type_does_not_hold_and_raises_nothing(message: str | bytes) -> None:
    assert not expression('msg.type == "ping"').holds(variables(message))
    assert not expression("msg.type.deeper > 3 && msg[0].x").holds(variables(message))


def test_only_true_holds() -> None:
    assert not expression("msg.n").holds(variables('{"n":1}'))
    assert not expression("text").holds(variables("true"))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("msg.type ==", "character 12: ends too early; accepted: a CEL expression"),
        ("msg.type = 1", "character 10: "),
        ("", "character 1: ends too early"),
        ("a &&\n&& b", "line 2, character 1: "),
        ("message.type", "message is unknown; accepted: KEY, data, last, msg, now, nowMillis, saved, text"),
        ("lower(text)", "lower() is unknown; accepted: has, base64, "),
        ("(" * 3000 + "1" + ")" * 3000, ""),
        ("msg.a.all(x, msg.b.all(y, x == y))", "uses more than one of all, exists, exists_one, map and filter"),
        ("msg.map(x, x).filter(y, y > 1)", "uses more than one of all"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_place_and_in_one_line(source: str, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        expression(source, "KEY")
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


def test_a_name_bound_by_a_macro_is_known_and_one_in_a_string_is_no_macro() -> None:
    assert expression('msg.all(each, each > 1) && text != ".map(x, .map(y,"').holds(variables("[2,3]"))


def test_an_error_quotes_no_message() -> None:
    with pytest.raises(ExpressionError) as caught:
        expression("msg.n + 1").value(variables('{"n":"hunter2"}'))
    assert "hunter2" not in str(caught.value)


def test_the_time_of_an_expression_is_proportional_to_the_message() -> None:
    found = expression("msg.exists(x, x > 100000)")
    rates = []
    for count in (2_000, 20_000):
        values = variables(json.dumps(list(range(count))))
        start = time.process_time()
        found.holds(values)
        rates.append((time.process_time() - start) / count)
    assert rates[1] < rates[0] * 5


def test_the_library_is_loaded_without_its_command_line_and_only_when_an_expression_needs_it() -> None:
    code = """
import sys
from lobby_gateway.origin.captured import Captured, Known
from lobby_gateway.origin.templates import BytesTemplate, Template
assert Template('{"key":"$(KEY)"}', {"KEY"}, ()).message(Known({"KEY": "k"})) == '{"key":"k"}'
assert not any(name.split(".")[0] == "cel" for name in sys.modules), "loaded for a secret"
assert "lobby_gateway.origin.expression_text" not in sys.modules, "loaded for a secret"
from lobby_gateway.origin.expressions import Expression
assert Expression("1 + 1", ()).value({}) == 2
assert "cel.cli" not in sys.modules and "typer" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "source",
    [
        "msg.a",
        "msg . a . b",
        'msg["a"].b',
        "msg['a']['b-c']",
        "msg.a.b == msg.a || has(msg.a.b)",
        "msg.a[0].b",
        "msg[0].a",
        "msg",
        "size(msg)",
        "msg.size() + msg.a.size()",
        '"a" in msg && "b" in msg.a',
        "msg.a.exists(x, x.b == 1)",
        "msg.a.map(msg, msg.b)",
        "msg.a.startsWith('msg.b') || msg.b",
        "msg.a // don't look\n + msg.b + 'x'",
        """msg.a + '''it's''' + msg.b""",
        'r"\\" + msg.b',
        "msg[text].a",
        "text + string(msg.b)",
        "last.a.b",
        "last == msg",
    ],
)
def test_an_expression_is_given_no_more_than_it_looks_at_and_has_the_same_value(source: str) -> None:
    documents: list[Any] = [
        *(
            {"a": a, "b": b, "c": 3}
            for a in ("a", 1, {"b": 1, "b-c": 2, "c": 3}, [{"b": 1}])
            for b in ("x", 2, None, {"a": 1})
        ),
        *({}, {"a": {}}, {"b": "x"}, [{"a": 1, "b": 2}], "text", 7, None),
    ]
    found = Expression(source, OF_MESSAGE)
    for document in documents:
        given: dict[str, Any] = {"msg": document, "text": "a", "data": b"a", "last": document, **NOW}
        try:
            expected = cel().compile(source).execute(given)
        except Exception:  # noqa: BLE001  any that the library raises
            with pytest.raises(ExpressionError):
                found.value(given)
        else:
            assert found.value(given) == expected


def test_the_fields_that_an_expression_does_not_name_cost_nothing() -> None:
    message = {"type": "data", "book": {f"level {number}": [number] * 20 for number in range(500)}}
    for source in ('msg.type == "ping"', 'msg["type"] == "ping"', "has(msg.book.bid)"):
        found = Expression(source, OF_MESSAGE)
        assert found.whole == set()
        rates = []
        for each in ({"type": "data", "book": {}}, message):
            begun = time.process_time()
            for _ in range(200):
                found.holds({"msg": each})
            rates.append(time.process_time() - begun)
        assert rates[1] < rates[0] * 5
    assert Expression("size(msg) == 2", OF_MESSAGE).whole == {"msg"}


# Texts


def text(source: str, message: str = "", **secrets: str) -> str:
    template = Template(source, secrets.keys(), OF_MESSAGE)
    return template.message(Known(variables(message, **secrets)))


@pytest.mark.parametrize(
    ("source", "message", "made"),
    [
        ('{"pong":$(msg.ping)}', '{"ping":1492420473027}', '{"pong":1492420473027}'),
        (
            "$(msg.a)|$(msg.b)|$(msg.c)|$(msg.d)",
            '{"a":"x","b":1.5,"c":null,"d":[true,{"e":"é"}]}',
            'x|1.5|null|[true,{"e":"é"}]',
        ),
        ("$(has(msg.s) ? msg.s : null)", "{}", "null"),
        ('$("a)(" + text)$(KEY)', "b", "a)(bk"),
        ("$((now + 1) * 2)", "", str((1767225600 + 1) * 2)),
        ("$$(now) $(now)", "", "$(now) 1767225600"),
        ('["$(json:KEY)",$(json(KEY))]', "", '["k","k"]'),
    ],
)
def test_a_text_holds_the_values_of_its_expressions(source: str, message: str, made: str) -> None:
    assert text(source, message, KEY="k") == made


def test_a_value_that_no_text_can_hold_is_an_error_of_one_line() -> None:
    with pytest.raises(ExpressionError, match="the value is bytes; accepted: text, numbers"):
        text("$(data)", "x")
    with pytest.raises(ExpressionError):
        text("$(msg.missing)", "{}")


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_a_message_says_is_put_in_as_it_is_and_never_evaluated(before: str, said: Any) -> None:
    said = said.encode(errors="replace").decode()
    source = before.replace("$", "") + "$(msg)"
    assert text(source, json.dumps(said)) == before.replace("$", "") + said


def test_a_secret_is_not_evaluated() -> None:
    assert Template("$(KEY)", {"KEY"}, ALWAYS).message(Known({"KEY": "$(now)"})) == "$(now)"


def test_half_a_surrogate_pair_is_a_question_mark() -> None:
    assert expression("json(msg.b) == '1'").holds(variables('{"a":"\\ud800","b":1}'))
    assert expression('msg.a == "?"').holds(variables('{"a":"\\uD800"}'))
    assert expression('msg.a == "\U0001f600"').holds(variables('{"a":"\\ud83d\\ude00"}'))


def test_hex_takes_bytes_only() -> None:
    with pytest.raises(ExpressionError, match=r"^hex\(\): the value is not bytes$"):
        expression("hex(msg.id)").value(variables('{"id": 3000000000}'))


def test_an_expression_that_fails_for_each_message_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert not expression("parseJson(text).x == 1").holds(variables("no json"))
    assert caplog.records == []


@pytest.mark.parametrize("source", ['digest("SHA256", KEY)', 'hmac("SHA256", KEY, "x")'])
def test_signed_bytes_are_hidden(source: str) -> None:
    captured = Captured()
    known = Known(variables("x", KEY="s3cret"), captured)
    value = BytesTemplate(source, {*OF_MESSAGE, "KEY"}).message(known)
    for text in (value.hex(), base64.b64encode(value).decode()):
        assert captured.hidden.hide(text) == "***"
    text = Template(f"$(base64({source}))", ("KEY",), OF_MESSAGE).message(known)
    assert captured.hidden.hide(text) == "***"


@pytest.mark.parametrize("source", ["msg", "msg == msg", "json(msg)", "[msg]", "size(msg) > 0"])
def test_a_message_that_is_nested_too_deep_for_the_library_is_no_json(source: str) -> None:
    for depth in (100, 101, 900):
        values = variables("[" * depth + "]" * depth)
        assert (values["msg"] is None) is (depth > 100)
        expression(source).holds(values)


def test_a_text_with_many_brackets_is_not_nested_deep() -> None:
    assert expression("size(msg) == 500").holds(variables("[" + ",".join(["[[]]"] * 500) + "]"))
    assert expression("size(msg.a) == 200").holds(variables('{"a":"' + "[" * 200 + '"}'))


def test_parsing_a_text_that_is_nested_too_deep_is_an_error_of_one_line() -> None:
    for depth in (101, 100_000):
        with pytest.raises(ExpressionError) as caught:
            expression("parseJson(text)").value(variables("[" * depth + "]" * depth))
        assert str(caught.value) == "parseJson(): the text nests deeper than 100 levels"
    assert expression("size(parseJson(text)) == 1").holds(variables("[" * 100 + "]" * 100))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("hmac('MD5', KEY, text)", "hmac(): MD5 is not an algorithm; accepted: SHA256, SHA384, SHA512"),
        ('hex(digest("sha256", text))', "digest(): sha256 is not an algorithm; accepted: SHA256, SHA384, SHA512"),
        ("jwt('RS256', KEY, {'a': now})", "jwt(): RS256 is not an algorithm; accepted: HS256, ES256, EdDSA"),
        ("hmac('SHA256')", "hmac() is given 1 argument; accepted: hmac(algorithm, key, data)"),
        ("hmac()", "hmac() is given 0 arguments; accepted: hmac(algorithm, key, data)"),
        ("jwt('HS256', KEY)", "jwt() is given 2 arguments; accepted: jwt(algorithm, key, claims[, headers])"),
        ("text.base64(1, [2, 3])", "base64() is given 3 arguments; accepted: base64(data)"),
        (
            "text.matches(msg.pattern)",
            "matches(): the pattern is not a constant text; accepted: at most 512 characters",
        ),
        ("matches(text, 'a' + 'b')", "matches(): the pattern is not a constant text; accepted: at most 512 characters"),
        (f"text.matches('{'(x*)' * 128}')", "matches(): the pattern has 514 characters; accepted: at most 512"),
        ("uuid(msg)", "uuid() is given 1 argument; accepted: uuid()"),
    ],
)
def test_a_call_that_can_never_work_is_refused(source: str, line: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        expression(source, "KEY")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "source",
    [
        "size(jwt('HS256', KEY, {'a': [1, 2]}, {'b': 1})) > 0",
        "text.hmac(KEY, text) == b''",
        "hmac(text, KEY, text) == b''",
        "text.matches(r'^\\w+$') && text.matches('[(,)]') && matches(text, \"a\")",
        "hmac('SHA' + '256', KEY, text) == b''",
        "hmac( 'SHA256' , (KEY), hex(digest(r'SHA512', text))) == b''",
        "text == 'hmac(\"MD5\")' // hmac()",
    ],
)
def test_a_call_that_may_work_is_not_refused(source: str) -> None:
    expression(source, "KEY").holds(variables("SHA256", KEY="k"))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("bytes(5)", "bytes() does not take arguments of this number and type"),
        ("base64(msg)", "base64(): the value is not bytes"),
        ("unbase64('%')", "unbase64(): the text is not base64 (RFC 4648 §4)"),
        ("hmac(5, 'k', 'd')", "hmac(): 5 is not an algorithm; accepted: SHA256, SHA384, SHA512"),
        ("digest('SHA256', 5)", "digest(): a value is neither text nor bytes"),
        ("json(b'x')", "json(): the value is not JSON"),
        ("parseJson('{')", "parseJson(): the text is not JSON"),
        ("parseJson(5)", "parseJson(): a value is neither text nor bytes"),
        ("jwt('HS256', 'k', 5)", "jwt(): the claims are not a map"),
    ],
)
def test_what_a_function_says_is_one_line_without_python(source: str, line: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        expression(source).value(variables("5"))
    assert str(caught.value) == line


def test_only_a_value_that_is_always_the_same_is_checked_before_there_is_a_message() -> None:
    seen: list[object] = []
    for source in ("1 + 1", "text", "now", "[1].map(x, x)", "saved", "type(1) == int", "'a'.matches('(a')"):
        expression(source).check_constant(seen.append)
    assert seen == [2, True]


def test_a_second_macro_cannot_hide_in_a_comment_or_behind_a_raw_text() -> None:
    for source in (
        "msg.all(x, x == r'\\' || msg.all(y, y == 1) || x == '')",
        'msg.all(x, x > 1) // "\n || msg.all(y, y > 1) // "',
    ):
        with pytest.raises(ExpressionError, match="uses more than one of all"):
            expression(source)
