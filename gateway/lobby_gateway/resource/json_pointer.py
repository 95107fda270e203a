"""JSON pointers (RFC 6901): which value of a document a Lobby means; and how deep a document may be nested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

ABSENT: Final = object()
"""What a pointer finds where there is nothing; unequal to any JSON value."""

_POINTER: Final = re.compile("(/([^~/]|~[01])*)*")


def is_pointer(text: str) -> bool:
    """Whether a text is a JSON pointer (RFC 6901 §3). The empty one is: it means the whole document."""
    return _POINTER.fullmatch(text) is not None


def resolve(document: Any, pointer: str) -> Any:  # noqa: ANN401  any JSON
    """The value at a pointer (RFC 6901 §4), or `ABSENT`."""
    if pointer == "":
        return document
    if not pointer.startswith("/"):
        return ABSENT
    at = document
    for token in pointer[1:].split("/"):
        key = token.replace("~1", "/").replace("~0", "~")  # in this order: "~01" is "~1" (RFC 6901 §4)
        if isinstance(at, Mapping) and key in at:
            at = at[key]
        elif isinstance(at, list) and _is_index(key) and int(key) < len(at):
            at = at[int(key)]
        else:
            return ABSENT
    return at


def is_deeper(document: object, levels: int) -> bool:
    """Whether lists and objects are nested more than so many levels deep. Not recursive, so it is for any document."""
    level: list[Any] = [document] if isinstance(document, (dict, list)) else []
    for _ in range(levels):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            break
    return bool(level)


def _is_index(key: str) -> bool:
    """Digits without leading zeros (RFC 6901 §4); few enough to be turned into a number."""
    return key.isascii() and key.isdigit() and len(key) < 16 and (key == "0" or key[0] != "0")
