"""JSON pointers."""

from __future__ import annotations

import json

import pytest

from lobby_gateway.resource.json_pointer import ABSENT, is_deeper, is_pointer, resolve

# The examples of RFC 6901 §5.
DOCUMENT = json.loads(
    r"""{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8}"""
)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
        ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_json_pointers_of_the_rfc(pointer: str, value: object) -> None:
    assert resolve(DOCUMENT, pointer) == value


def test_tilde_escapes_are_undone_in_the_order_of_the_rfc() -> None:
    assert resolve({"~1": "here", "/": "not here"}, "/~01") == "here"


@pytest.mark.parametrize(
    "pointer", ["foo", "/foo/2", "/foo/-", "/foo/01", "/foo/+1", "/foo/bar", "/foo/0/x", "/nope", "/foo/" + "9" * 5000]
)
def test_a_pointer_to_nothing_finds_no_value(pointer: str) -> None:
    assert resolve(DOCUMENT, pointer) is ABSENT


@pytest.mark.parametrize("text", ["", "/", "/a", "/a/0", "/~0~1", "//"])
def test_recognizes_pointers(text: str) -> None:
    assert is_pointer(text)


@pytest.mark.parametrize("text", ["a", "a/b", "/~", "/~2", "/a~", " /a"])
def test_recognizes_what_is_no_pointer(text: str) -> None:
    assert not is_pointer(text)


@pytest.mark.parametrize(("document", "levels"), [(1, 0), ([], 1), ({"a": 1}, 1), ([1, {"a": [2]}, []], 3)])
def test_the_depth_of_a_document_is_counted_in_lists_and_objects(document: object, levels: int) -> None:
    assert not is_deeper(document, levels)
    assert levels == 0 or is_deeper(document, levels - 1)


def test_a_document_of_any_depth_is_looked_at() -> None:
    document: list[object] = []
    for _ in range(50_000):
        document = [document]
    assert is_deeper(document, 10_000)
