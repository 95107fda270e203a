from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource.from_json import build, camel_case


class Color(StrEnum):
    RED = "Red"
    BLUE = "Blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    wait_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    is_open: bool
    color: Color
    inner: Inner
    many: tuple[Inner, ...]
    free: Mapping[str, Any]
    maybe: Inner | None


GOOD: dict[str, Any] = {
    "name": "a",
    "isOpen": True,
    "color": "Red",
    "inner": {"waitSeconds": 1},
    "many": [{"waitSeconds": 2}, {"waitSeconds": 3}],
    "free": {"x": [None]},
    "later": "a field that this version does not know",
}


def test_names_are_turned_into_camel_case() -> None:
    assert [camel_case(name) for name in ("a", "max_message_bytes", "on_connect")] == [
        "a",
        "maxMessageBytes",
        "onConnect",
    ]


def test_a_dataclass_is_made_at_every_depth() -> None:
    assert build(Outer, GOOD, "spec") == Outer(
        name="a",
        is_open=True,
        color=Color.RED,
        inner=Inner(wait_seconds=1),
        many=(Inner(wait_seconds=2), Inner(wait_seconds=3)),
        free={"x": [None]},
        maybe=None,
    )


def test_what_may_be_absent_may_be_there() -> None:
    made = build(Outer, {**GOOD, "maybe": {"waitSeconds": 9}}, "spec")
    assert made.maybe == Inner(wait_seconds=9)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"name": 1}, "spec.name: int; accepted: str"),
        ({"isOpen": 1}, "spec.isOpen: int; accepted: bool"),
        ({"color": "Green"}, "spec.color: 'Green'; accepted: Red, Blue"),
        ({"inner": []}, "spec.inner: list; accepted: dict"),
        ({"inner": {}}, "spec.inner.waitSeconds: missing; the resource was not defaulted"),
        ({"inner": {"waitSeconds": True}}, "spec.inner.waitSeconds: bool; accepted: int"),
        ({"many": [{"waitSeconds": 2}, {"waitSeconds": "3"}]}, "spec.many[1].waitSeconds: str; accepted: int"),
        ({"many": {}}, "spec.many: dict; accepted: list"),
        ({"free": []}, "spec.free: list; accepted: dict"),
        ({"maybe": {"waitSeconds": None}}, "spec.maybe.waitSeconds: NoneType; accepted: int"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidLobbyError) as caught:
        build(Outer, {**GOOD, **changed}, "spec")
    assert caught.value.problems == (f"Lobby: {line}",)
