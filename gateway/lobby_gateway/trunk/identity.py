"""What makes messages of two connections the same message: `origin.identity` of a Lobby.

An identity is a 64-bit digest, so that a position has a fixed size whatever a stream carries. It is computed only when
somebody needs a position or resumes, never when a message arrives.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

from lobby_gateway.resource.json_pointer import ABSENT, is_pointer, resolve

Identity = Callable[[bytes | memoryview], int | None]
"""Gives the digest of a message's identity by its payload, or None for a message without one."""

_CANONICAL: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True)

CONTENT: Final = "Content"
NONE: Final = "None"


def digest(data: bytes | memoryview) -> int:
    """The first 8 bytes of SHA-256 (FIPS 180-4) as a big-endian number. Browsers have that function, too."""
    return int.from_bytes(sha256(data).digest()[:8], "big")


@lru_cache(maxsize=256)
def identity_of(expression: str) -> Identity:
    """The function that `origin.identity` asks for: `Content`, `None` or a JSON pointer.

    Raises:
        ValueError: it is something else.
    """
    if expression == CONTENT:
        return digest
    if expression == NONE:
        return _nothing
    if not expression or not is_pointer(expression):
        raise ValueError(
            f"{expression[:60]!r} is not an identity; accepted: Content, None, a JSON pointer like /data/id"
        )
    return partial(_value_at, expression)


def _nothing(_payload: bytes | memoryview) -> None:
    """No message has an identity."""


def _value_at(pointer: str, payload: bytes | memoryview) -> int | None:
    """The digest of a value in the payload, written as JSON with sorted names and without spaces.

    A payload that is not JSON, or has no value there or `null`, has no identity.
    """
    try:
        value = resolve(json.loads(bytes(payload)), pointer)
        if value is ABSENT or value is None:
            return None
        return digest(_CANONICAL.encode(value).encode())
    except (ValueError, RecursionError):  # not JSON, or nested absurdly deep
        return None
