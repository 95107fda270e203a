"""What makes messages of two connections the same message: `origin.identity` of a Lobby.

An identity is a 64-bit digest, so that a position has a fixed size whatever a stream carries. It is computed only when
somebody needs a position or resumes, never when a message arrives.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

from lobby_gateway.origin.expressions import Expression, ExpressionError, kind_of, parsed_json
from lobby_gateway.resource.json_pointer import ABSENT, is_pointer, resolve

logger = logging.getLogger(__name__)

Identity = Callable[[bytes | memoryview], int | None]
"""Gives the digest of a message's identity by its payload, or None for a message without one."""

_CANONICAL: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True)

CONTENT: Final = "Content"
NONE: Final = "None"

_ACCEPTED: Final = "Content, None, a JSON pointer like /data/id, nor a CEL expression"
_VARIABLES: Final = frozenset({"msg", "text", "data"})
_FUNCTIONS: Final = frozenset({"base64", "digest", "hex", "parseJson", "unbase64"})
"""Beyond CEL's own, those that give the same for the same message everywhere: `uuid` doesn't, nor `json` for a map."""


def digest(data: bytes | memoryview) -> int:
    """The first 8 bytes of SHA-256 (FIPS 180-4) as a big-endian number. Browsers have that function, too."""
    return int.from_bytes(sha256(data).digest()[:8], "big")


@lru_cache(maxsize=256)
def identity_of(source: str) -> Identity:
    """The function that `origin.identity` asks for: `Content`, `None`, a JSON pointer or a CEL expression.

    Raises:
        ValueError: it is none of them: the place in the expression, and what is accepted.
    """
    if source == CONTENT:
        return digest
    if source == NONE:
        return _nothing
    if source.startswith("/"):
        if not is_pointer(source):
            raise ValueError(
                f"{source[:60]!r} is not a JSON pointer; accepted: /data/id, with ~1 for '/' and ~0 for '~'"
            )
        return partial(_value_at, source)
    try:
        return ExpressionIdentity(source)
    except ExpressionError as error:
        raise ValueError(f"{source[:60]!r} is neither {_ACCEPTED}: {error}") from None


class ExpressionIdentity:
    """The identity that a CEL expression gives; what makes no difference to it is whether a message is binary.

    Its value counts as JSON, as that of a pointer does, or as bytes. A message has no identity if it is null, or an error.

    Attributes:
        cost: how many times as long as a pointer it takes, about.
    """

    __slots__ = ("_expression", "_reported", "cost")

    def __init__(self, source: str) -> None:
        """Compiles it.

        Raises:
            ExpressionError: it does not compile, or uses what may differ from one process to the next.
        """
        self._expression = Expression(source, _VARIABLES, _FUNCTIONS)
        self._expression.check_constant(_digest_of)
        self._reported = False
        self.cost = 8 if self._expression.whole else 2

    def __repr__(self) -> str:
        return f"<ExpressionIdentity: {self._expression.source[:60]}>"

    def __call__(self, payload: bytes | memoryview) -> int | None:
        """See `Identity`."""
        data = bytes(payload)
        variables: dict[str, object] = {"data": data}
        names = self._expression.names
        if "msg" in names or "text" in names:
            text = _text(data)
            variables |= {"text": text, "msg": parsed_json(text) if "msg" in names else None}
        try:
            return _digest_of(self._expression.value(variables))
        except ExpressionError as error:
            if not error.absent and isinstance(variables.get("msg", {}), dict):
                self._report(error)
            return None

    def _report(self, error: ExpressionError) -> None:
        """Logs the first error that is not only a missing field, or a message that is no object: it may be a mistake.

        Once, since the others are probably the same. Nothing of the message is logged.
        """
        if self._reported:
            return
        self._reported = True
        logger.warning(
            "a message has no identity: the expression failed",
            extra={
                "identity": self._expression.source,
                "problem": "a value is not usable" if error.quotes else str(error),
            },
        )


def cost_of(identity: Identity) -> int:
    """How many times as long as a JSON pointer an identity takes at most, about."""
    return identity.cost if isinstance(identity, ExpressionIdentity) else 1


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def _digest_of(value: object) -> int | None:
    """The digest of an expression's value.

    Raises:
        ExpressionError: it is neither JSON nor bytes.
    """
    if value is None:
        return None
    if isinstance(value, bytes):
        return digest(value)
    try:
        return digest(_CANONICAL.encode(value).encode())
    except (TypeError, ValueError):
        raise ExpressionError(f"the value is {kind_of(value)}; accepted: JSON or bytes", quotes=False) from None


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
