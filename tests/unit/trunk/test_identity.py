"""The identity of a message: its payload, a value in it, or none."""

from __future__ import annotations

import pytest

from lobby_gateway.trunk.identity import digest, identity_of


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


@pytest.mark.parametrize("expression", ["", "content", "data/id", "/~", "$.id"])
def test_refuses_other_expressions(expression: str) -> None:
    with pytest.raises(ValueError, match="is not an identity; accepted: Content, None, a JSON pointer like /data/id"):
        identity_of(expression)


def test_the_same_expression_gives_the_same_function() -> None:
    assert identity_of("/id") is identity_of("/id")
