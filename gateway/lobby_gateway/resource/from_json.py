"""Builds frozen dataclasses from the JSON of a resource, by their annotations: `maxReplicas` becomes `max_replicas`.

Supports only what the dataclasses of the resource use: dataclasses, tuples of one type, mappings, enums, strings, numbers,
booleans, and each of those or None.
"""

# JSON values are what `Any` is for.
# ruff: noqa: ANN401

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from lobby_gateway.errors import InvalidLobbyError

T = TypeVar("T")


def build(kind: type[T], value: object, path: str) -> T:
    """Builds a dataclass from a JSON object that has been validated and defaulted; unknown fields are ignored.

    Args:
        kind: the dataclass.
        value: the JSON object.
        path: path of the object, for errors: `spec`.

    Raises:
        InvalidLobbyError: a field is missing or has the wrong type.
    """
    made = _build(kind, value, path)
    assert isinstance(made, kind)  # noqa: S101  for the type checker
    return made


def camel_case(name: str) -> str:
    """The name of a field in the resource: `maxMessageBytes` for `max_message_bytes`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@cache
def _field_types(kind: type) -> tuple[tuple[str, str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((each.name, camel_case(each.name), hints[each.name]) for each in fields(kind))


def _build(kind: Any, value: Any, path: str) -> Any:
    if isinstance(kind, UnionType):
        if value is None:
            return None
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return tuple(_build(item, each, f"{path}[{i}]") for i, each in enumerate(_checked(list, value, path)))
    if get_origin(kind) is Mapping:
        return dict(_checked(dict, value, path))
    if is_dataclass(kind):
        assert isinstance(kind, type)  # noqa: S101  for the type checker
        given = _checked(dict, value, path)
        made = {}
        for name, key, inner in _field_types(kind):
            if key not in given and not (isinstance(inner, UnionType) and NoneType in get_args(inner)):
                raise InvalidLobbyError((f"Lobby: {path}.{key}: missing; the resource was not defaulted",))
            made[name] = _build(inner, given.get(key), f"{path}.{key}")
        return kind(**made)
    if issubclass(kind, StrEnum):
        accepted = [str(member) for member in kind]
        if value not in accepted:
            raise InvalidLobbyError((f"Lobby: {path}: {str(value)[:60]!r}; accepted: {', '.join(accepted)}",))
        return kind(value)
    return _checked(kind, value, path)


def _checked(kind: type, value: Any, path: str) -> Any:
    # `True` is an int to Python, but not to JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidLobbyError((f"Lobby: {path}: {type(value).__name__}; accepted: {kind.__name__}",))
    return value
