"""The search for literals, in Python and compiled."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.compiled import SEARCHES, needs_contains_any

from lobby_gateway.origin.literals import ContainsAny, contains_any_compiled

over_each = pytest.mark.parametrize("contains_any", SEARCHES)


@over_each
def test_any_literal_is_enough(contains_any: ContainsAny) -> None:
    data = b'{"type":"data","price":1}' * 20 + b'{"ping":7}'
    assert contains_any(data, (b'"error"', b'"ping"'))
    assert contains_any(data, (b'"ping"', b'"error"'))
    assert not contains_any(data, (b'"error"', b'"pong"'))
    assert not contains_any(data, ())


@over_each
def test_an_empty_literal_is_in_anything_and_a_longer_one_in_nothing(contains_any: ContainsAny) -> None:
    assert contains_any(b"", (b"",))
    assert contains_any(b"a", (b"b", b""))
    assert not contains_any(b"", (b"a",))
    assert not contains_any(b"ab", (b"abc", b"aab"))


@over_each
@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 63, 64, 65, 200])
def test_a_literal_is_found_wherever_it_is(contains_any: ContainsAny, length: int) -> None:
    literal = b"\xf0" * (length // 2) + b"q" + b"-" * (length - length // 2 - 1)
    for size in range(length, length + 150):
        for at in {0, 1, (size - length) // 2, size - length - 1, size - length}:
            if at >= 0:
                data = b"." * at + literal + b"." * (size - length - at)
                assert contains_any(data, (literal,)), (size, at)
                assert not contains_any(data[: at + length - 1] + b"." * 70, (literal,)), (size, at)


few = st.lists(st.sampled_from(b'ab"\x00\xff'), max_size=300).map(bytes)


@over_each
@given(
    data=few | st.binary(max_size=300),
    literals=st.lists(few.map(lambda each: each[:6]) | st.binary(max_size=6)).map(tuple),
)
@example(data=b"aa" * 100, literals=(b"aaab", b"baaa"))
def test_it_is_what_in_says(contains_any: ContainsAny, data: bytes, literals: tuple[bytes, ...]) -> None:
    assert contains_any(data, literals) is any(literal in data for literal in literals)


@over_each
@given(data=few, start=st.integers(0, 300), length=st.integers(0, 100), change=st.integers(0, 99))
def test_a_part_is_found_and_one_with_a_single_other_byte_only_if_it_is_there(
    contains_any: ContainsAny, data: bytes, start: int, length: int, change: int
) -> None:
    part = data[start : start + length]
    assert contains_any(data, (part,))
    if part:
        changed = bytearray(part)
        changed[change % len(part)] ^= 1
        assert contains_any(data, (bytes(changed),)) is (bytes(changed) in data)


@needs_contains_any
@pytest.mark.parametrize(
    "arguments", [(), (b"",), (b"", (), ()), ("", ()), (b"", [b""]), (b"", ("",)), (bytearray(), ())]
)
def test_other_arguments_are_refused(arguments: tuple[object, ...]) -> None:
    assert contains_any_compiled is not None
    with pytest.raises(TypeError):
        contains_any_compiled(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "name"),
    [("1", "contains_any_in_python"), ("", "contains_any" if contains_any_compiled else "contains_any_in_python")],
)
def test_the_environment_can_select_the_search_in_python(value: str, name: str) -> None:
    code = "from lobby_gateway.origin.literals import contains_any; print(contains_any.__name__)"
    environment = {**os.environ, "LOBBY_PURE_PYTHON": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == name
