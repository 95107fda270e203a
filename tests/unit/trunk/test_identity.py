"""The identity of a message: its payload, a value in it, what an expression gives, or none."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256

import pytest

from lobby_gateway.trunk.identity import ExpressionIdentity, cost_of, digest, identity_of


def test_a_digest_is_the_first_eight_bytes_of_sha256() -> None:
    # printf abc | sha256sum
    assert digest(b"") == 0xE3B0C44298FC1C14
    assert digest(memoryview(b"abc")) == 0xBA7816BF8F01CFEA


def test_content_is_the_payload_itself() -> None:
    assert identity_of("Content")(b"abc") == digest(b"abc")


def test_none_gives_no_message_an_identity() -> None:
    assert identity_of("None")(b"abc") is None


def test_a_pointer_gives_the_value_whatever_is_around_it() -> None:
    identity = identity_of("/data/id")
    one, other = b'{"data": {"id": 7, "x": 1}}', memoryview(b'{"connection":"b","data":{"id":7}}')
    assert identity(one) == identity(other) == digest(b"7")
    assert identity(b'{"data": {"id": "7"}}') == digest(b'"7"')


def test_a_structure_is_the_same_however_it_is_written() -> None:
    identity = identity_of("/key")
    assert identity(b'{"key": {"b": [1, 2], "a": "\\u00e9"}}') == identity('{"key":{"a":"é","b":[1,2]}}'.encode())


@pytest.mark.parametrize(
    "payload",
    [b"", b"text", b"\xff\xfe", b"{}", b'{"id": null}', b"[1]", b"7", b'{"id": 1', b"[" * 100_000, b"1" * 5000],
)
def test_a_message_without_the_value_has_no_identity(payload: bytes) -> None:
    assert identity_of("/id")(payload) is None


def test_false_zero_and_empty_are_identities() -> None:
    values = [identity_of("/id")(b'{"id": %b}' % value) for value in (b"false", b"0", b'""', b"[]", b"{}")]
    assert None not in values
    assert len(set(values)) == 5


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("/~", "'/~' is not a JSON pointer; accepted: /data/id"),
        ("", "'' is neither Content, None, a JSON pointer like /data/id, nor a CEL expression"),
        ("content", "'content' is neither .*: content is unknown; accepted: data, msg, text"),
        ("$.id", "nor a CEL expression: character 1: .*; accepted: a CEL expression"),
        ("msg.a +", "nor a CEL expression: character 8: ends too early; accepted: a CEL expression"),
        ("string(now)", "now is unknown; accepted: data, msg, text"),
        ("saved.a", "saved is unknown"),
        ("msg.a + uuid()", r"uuid\(\) is unknown; accepted: has, base64, "),
        ("json(msg.a)", r"json\(\) is unknown"),
        ("msg.a.all(x, x.all(y, y == 1))", "uses more than one of all, exists"),
    ],
)
def test_refuses_what_is_not_an_identity_and_says_where(source: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        identity_of(source)


def test_the_same_expression_gives_the_same_function() -> None:
    assert identity_of("/id") is identity_of("/id")
    assert identity_of("msg.id") is identity_of("msg.id")


# Expressions


@pytest.mark.parametrize(
    ("source", "message", "value"),
    [
        ("msg.id", b'{"id": 7, "connection": "a"}', b"7"),
        ("msg.id", b'{"id":{"b":1,"a":"\\u00e9"}}', rb'{"a":"\u00e9","b":1}'),
        ("[msg.data.s, msg.data.u]", b'{"data":{"u":5,"s":"BTC","x":1}}', b'["BTC",5]'),
        ('msg["no-dot"] + "/" + string(msg.n)', b'{"no-dot":"a","n":1}', b'"a/1"'),
        ("msg[1].id", b'[{"id":1},{"id":2}]', b"2"),
        ('text.startsWith("hb") ? null : text', b"a|b", b'"a|b"'),
        ("text", "é".encode(), rb'"\u00e9"'),
        ("text", b"\xff", b'""'),
        ("has(msg.id) ? msg.id : msg.other", b'{"other":false}', b"false"),
        ("parseJson(msg.inner).id", b'{"inner":"{\\"id\\":3}"}', b"3"),
        ("data", b"\x00\xff", b"\x00\xff"),
        ('digest("SHA256", data)', b"abc", sha256(b"abc").digest()),
    ],
)
def test_an_expression_gives_a_value_as_json_or_bytes(source: str, message: bytes, value: bytes) -> None:
    assert identity_of(source)(message) == identity_of(source)(memoryview(message)) == digest(value)


def test_an_expression_for_a_value_is_the_same_as_a_pointer_to_it() -> None:
    for message in (b'{"id":7}', b'{"id":"a"}', b'{"id":[1,{"b":2}]}', b'{"id":null}', b"{}", b"text", b"\xff", b"[1]"):
        assert identity_of("msg.id")(message) == identity_of("/id")(message)


@pytest.mark.parametrize(
    "payload",
    [b"", b"text", b"\xff\xfe", b"{}", b'{"a": null}', b"[1]", b"7", b'{"a": 1', b"[" * 100_000, b"1" * 5000],
)
@pytest.mark.parametrize("source", ["msg.a", "msg.a + 1", 'msg.a == null ? null : "x" + msg.a', "msg.a.b[0]"])
def test_a_message_for_which_an_expression_has_no_value_has_no_identity(source: str, payload: bytes) -> None:
    assert identity_of(source)(payload) is None


def test_an_error_that_may_be_a_mistake_is_logged_once_without_the_message(caplog: pytest.LogCaptureFixture) -> None:
    identity = ExpressionIdentity("msg.a + msg.b")
    for usual in (b"{}", b"ping", b"7", b"\xff", b'{"a":1}'):  # messages that are not of the stream
        assert identity(usual) is None
    assert caplog.records == []
    for _ in range(3):
        assert identity(b'{"a":1,"b":"hunter2"}') is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.__dict__["identity"] == "msg.a + msg.b"
    assert record.__dict__["problem"].startswith("No such overload")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("int(msg.a)", "a value is not usable"),
        ('"x" == string(unbase64(msg.a))', "a value is not usable"),
        ("timestamp(msg.at)", "the value is datetime; accepted: JSON or bytes"),
    ],
)
def test_a_logged_error_never_quotes_the_message(source: str, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    assert ExpressionIdentity(source)(b'{"a":"(hunter2","at":"2026-01-01T00:00:00Z"}') is None
    (record,) = caplog.records
    assert record.__dict__["problem"] == problem
    assert "hunter2" not in repr(record.__dict__)


def test_an_expression_costs_more_than_a_pointer_and_most_if_it_looks_at_all_of_a_message() -> None:
    sources = ("Content", "/id", "msg.id", "text", "msg")
    assert [cost_of(identity_of(source)) for source in sources] == [1, 1, 2, 2, 8]


def test_the_library_for_expressions_is_loaded_only_for_one() -> None:
    code = """
import sys
import lobby_gateway.greeter.process, lobby_gateway.lobby.process
from lobby_gateway.trunk.identity import identity_of
for source in ("Content", "None", "/id"):
    identity_of(source)(b'{"id":1}')
assert "cel.cel" not in sys.modules
identity_of("msg.id")
assert "cel.cel" in sys.modules and "cel.cli" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
