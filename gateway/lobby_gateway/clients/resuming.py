"""`?resume=`: how a client that reconnects says which messages it saw last, and how it is answered.

Any lobby may be able to continue there, so a client needs to know nothing of lobbies: it sends hashes of the payloads of its
latest messages. The answer is the first message, since web pages see no header of a handshake; nobody else gets it.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Final

from lobby_gateway import close_codes
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import DIGESTS_KEPT, NO_EPOCH, Position
from lobby_gateway.websocket.frames import AsideBatch, Batch, Opcode, frame
from lobby_gateway.websocket.server_handshake import HandshakeError, Request

PARAMETER: Final = "resume"
"""Name of the query parameter."""

HASHES_KEPT: Final = DIGESTS_KEPT
"""How many of its latest messages a client needs to remember."""

_HASH_CHARACTERS: Final = 11
_ANSWER: Final = "lobby-gateway"


def position_of(request: Request) -> Position | None:
    """The position that a request asks for: one from a close reason, or 1 to 16 hashes of payloads, oldest first.

    Raises:
        HandshakeError: the parameter is neither.
    """
    text = request.query_value(PARAMETER)
    if text is None:
        return None
    try:
        return Position.parse(text)
    except ValueError:
        pass
    try:
        digests = tuple(map(_digest, text.split(".", HASHES_KEPT)))  # the rest of a longer list is no hash
        return Position(NO_EPOCH, 0, digests, of_payloads=True)
    except ValueError:
        raise HandshakeError(
            close_codes.BAD_REQUEST,
            f"{PARAMETER}: {text[:60]!a} is neither a position (16 hex digits, '-', a number) nor 1 to {HASHES_KEPT} hashes, "
            f"oldest first, separated by '.' ({_HASH_CHARACTERS} characters each: 8 bytes of SHA-256 in base64url).",
        ) from None


def hashes(payloads: Iterable[bytes | memoryview]) -> str:
    """The parameter for the payloads of a client's latest messages (at least one, at most `HASHES_KEPT`), oldest first."""
    return ".".join(_text(digest(payload)) for payload in payloads)


def answer(reason: str) -> Batch:
    """The first message to a client that sent the parameter: without a reason, the stream continues exactly where it was."""
    told = {"resume": "live", "reason": reason} if reason else {"resume": "exact"}
    text = json.dumps({_ANSWER: told}, separators=(",", ":"))
    return AsideBatch.of([frame(Opcode.TEXT, text.encode())])


def read_answer(message: str | bytes) -> str | None:
    """Why a stream does not continue where the client was, from the first message; empty if it does. None: no answer."""
    if not isinstance(message, str) or not message.startswith(f'{{"{_ANSWER}":'):
        return None
    try:
        told = json.loads(message)[_ANSWER]
        return "" if told["resume"] == "exact" else str(told["reason"])
    except (ValueError, LookupError, TypeError):
        return None


def _text(number: int) -> str:
    return urlsafe_b64encode(number.to_bytes(8, "big")).rstrip(b"=").decode()


def _digest(text: str) -> int:
    """The number of a hash.

    Raises:
        ValueError: it is malformed.
    """
    if len(text) != _HASH_CHARACTERS:
        raise ValueError(f"{len(text)} characters")
    number = int.from_bytes(urlsafe_b64decode(f"{text}="), "big")
    if _text(number) != text:  # other characters, which base64 skips, or bits after the last byte
        raise ValueError("not canonical")
    return number
