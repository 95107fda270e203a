"""Seat tokens: short-lived signed texts by which a lobby knows that a greeter sent the client, or that a greeter calls.

A token is `v1.<claims>.<signature>`, both parts base64url without padding (RFC 4648 §5), so that it fits into a URL and into a
subprotocol name. The claims are those below as JSON; the signature is HMAC-SHA256 (RFC 2104) over all that stands before
it. Keys and tokens never appear in a text made here.
"""

from __future__ import annotations

import heapq
import hmac
import json
import math
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lobby_gateway.errors import LobbyGatewayError, UserError

MIN_KEY_BYTES: Final = 32
"""As long as the hash (RFC 2104 §3: a shorter key weakens it)."""

MAX_TOKEN_CHARACTERS: Final = 2048
"""What is longer is refused unread: names and paths are bounded by the CRD, so no token of ours is."""

_FORM: Final = re.compile(r"(?P<signed>v1\.(?P<claims>[A-Za-z0-9_-]+))\.(?P<signature>[A-Za-z0-9_-]+)")


class Purpose(StrEnum):
    """What a token opens. One of the one kind is no good for the other."""

    SEAT = "seat"
    TRUNK = "trunk"


class TokenProblem(StrEnum):
    """Why a token is refused; the value is the metrics' label."""

    MALFORMED = "malformed"
    FORGED = "forged"
    WRONG_PURPOSE = "wrong_purpose"
    EXPIRED = "expired"
    WRONG_LOBBY = "wrong_lobby"
    WRONG_PATH = "wrong_path"
    USED = "used"
    NO_ROOM = "no_room"


class TokenError(LobbyGatewayError):
    """A token that opens nothing. Its text is the reason, never the token.

    Attributes:
        problem: why.
    """

    def __init__(self, problem: TokenProblem) -> None:
        super().__init__(f"the token is refused: {problem.replace('_', ' ')}")
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says.

    Attributes:
        purpose: what it opens.
        lobby: name of the one lobby that it opens.
        path: of the URL it was made for.
        expires: unix time in seconds up to which it is good.
        nonce: random; no two tokens have the same.
    """

    purpose: Purpose
    lobby: str
    path: str
    expires: float
    nonce: str


def key_from_hex(text: str, source: str = "LOBBY_TOKEN_KEY") -> bytes:
    """Reads a key.

    Args:
        text: hex digits; spaces around them are passed over.
        source: where it came from, for the error.

    Raises:
        UserError: it is no key. The text is not shown.
    """
    accepted = f"accepted: at least {2 * MIN_KEY_BYTES} hex digits, as `openssl rand -hex {MIN_KEY_BYTES}` prints them"
    text = text.strip()
    if not text:
        raise UserError(f"{source}: missing; {accepted}")
    if len(text) % 2 or not re.fullmatch("[0-9A-Fa-f]+", text):
        raise UserError(f"{source}: not an even number of hex digits ({len(text)} characters); {accepted}")
    if len(text) < 2 * MIN_KEY_BYTES:
        raise UserError(f"{source}: only {len(text)} hex digits; {accepted}")
    return bytes.fromhex(text)


def sign(key: bytes, *, purpose: Purpose, lobby: str, path: str, expires: float, nonce: str | None = None) -> str:
    """Makes a token.

    Args:
        key: of `key_from_hex`.
        purpose: what it is to open.
        lobby: name of the one lobby that it is to open.
        path: of the URL it is for.
        expires: unix time in seconds up to which it is good.
        nonce: for tests; otherwise random, 96 bits.
    """
    nonce = secrets.token_urlsafe(12) if nonce is None else nonce
    claims = json.dumps([purpose, lobby, path, expires, nonce], separators=(",", ":"), allow_nan=False)
    signed = f"v1.{_encode(claims.encode())}"
    return f"{signed}.{_signature(key, signed)}"


def verify(token: str, keys: Sequence[bytes], *, purpose: Purpose, lobby: str, path: str, now: float) -> Claims:
    """Reads a token and checks that it opens this.

    Args:
        token: as it came.
        keys: that it may be signed with.
        purpose: what is to be opened.
        lobby: name of this lobby.
        path: of the request.
        now: unix time in seconds.

    Raises:
        TokenError: it does not, with the reason. Nothing it says is looked at before its signature is checked.
    """
    found = _FORM.fullmatch(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
    if found is None:
        raise TokenError(TokenProblem.MALFORMED)
    # Texts are compared, not what they decode to: so that no second text is good for the same signature.
    if not any(hmac.compare_digest(_signature(key, found["signed"]), found["signature"]) for key in keys):
        raise TokenError(TokenProblem.FORGED)
    claims = _read(found["claims"])
    if claims.purpose is not purpose:
        raise TokenError(TokenProblem.WRONG_PURPOSE)
    if now >= claims.expires:
        raise TokenError(TokenProblem.EXPIRED)
    if claims.lobby != lobby:
        raise TokenError(TokenProblem.WRONG_LOBBY)
    if claims.path != path:
        raise TokenError(TokenProblem.WRONG_PATH)
    return claims


class UsedTokens:
    """Remembers which tokens opened something, until they expire, so that each does so once.

    It is bounded: when it is full of tokens that are still good, the next one is refused. That is the safe side, and it is
    only reached by more than `capacity` clients within a token's lifetime, of which a lobby has but a few hundred.

    A token is kept as the hash of its nonce, and forgotten together with all others of the second in which it expires: 80
    bytes instead of 200. Two of 64 thousand have the same hash once in a billion times; the later one is refused.
    """

    __slots__ = ("_capacity", "_hashes", "_of_second", "_seconds")

    def __init__(self, capacity: int = 65_536) -> None:
        self._capacity = capacity
        self._hashes: set[int] = set()
        self._of_second: dict[int, list[int]] = {}
        self._seconds: list[int] = []  # a heap

    def __len__(self) -> int:
        return len(self._hashes)

    def use(self, claims: Claims, now: float) -> None:
        """Marks a verified token as used.

        Args:
            claims: of `verify`.
            now: unix time in seconds.

        Raises:
            TokenError: it was used before, or there is no room to remember it.
        """
        while self._seconds and now >= self._seconds[0]:  # `verify` refuses those anyway
            self._hashes.difference_update(self._of_second.pop(heapq.heappop(self._seconds)))
        used = hash(claims.nonce)
        if used in self._hashes:
            raise TokenError(TokenProblem.USED)
        if len(self._hashes) >= self._capacity:
            raise TokenError(TokenProblem.NO_ROOM)
        second = math.ceil(claims.expires)
        if second not in self._of_second:
            self._of_second[second] = []
            heapq.heappush(self._seconds, second)
        self._of_second[second].append(used)
        self._hashes.add(used)


def _signature(key: bytes, signed: str) -> str:
    return _encode(hmac.digest(key, signed.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _read(claims: str) -> Claims:
    """What stands in a token whose signature is good; another version of ours may still have made it in another way."""
    try:
        purpose, lobby, path, expires, nonce = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        if not all(isinstance(each, str) for each in (lobby, path, nonce)) or not math.isfinite(expires):
            raise TokenError(TokenProblem.MALFORMED)
        return Claims(purpose=Purpose(purpose), lobby=lobby, path=path, expires=float(expires), nonce=nonce)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise TokenError(TokenProblem.MALFORMED) from error


SETTLE_SECONDS: Final = 180.0
"""A kubelet looks once a minute whether a mounted Secret changed, and may answer itself from a cache as old (Kubernetes'
documentation of Secrets, "Mounted Secrets are updated automatically"); the rest is reserve."""

KEEP_SECONDS: Final = 2 * SETTLE_SECONDS + 60.0
"""Whoever sees the change last signs for `SETTLE_SECONDS` more with the old key, tokens that are good for half a minute."""

_MAX_LINES: Final = 8


def keys_from_text(text: str, source: str) -> tuple[bytes, ...]:
    """Reads the keys of a file: a line each; the first one signs, all are good.

    Args:
        text: the lines, each as `key_from_hex` reads it; empty ones are passed over.
        source: where they came from, for the error.

    Raises:
        UserError: a line is no key, or there is none. No text is shown.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) > _MAX_LINES:
        raise UserError(f"{source}: {len(lines)} lines; accepted: at most {_MAX_LINES} keys")
    if len(lines) < 2:
        return (key_from_hex(text, source),)
    return tuple(dict.fromkeys(key_from_hex(line, f"{source}: line {number}") for number, line in lines))


class TokenKeys:
    """The keys of one process. Times are in seconds of any clock that goes on."""

    __slots__ = ("_former", "_keys", "_predecessor", "_takes_over_at")

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("keys: none; accepted: one or more")
        self._keys = tuple(keys)
        self._predecessor = self._keys[0]  # signs until the first key takes over
        self._takes_over_at = 0.0
        self._former: dict[bytes, float] = {}  # keys that were taken away, and until when they are good

    def __repr__(self) -> str:
        return f"<TokenKeys: {len(self._keys)}, and {len(self._former)} former ones>"

    def signing(self, now: float) -> bytes:
        """The key to sign with."""
        return self._keys[0] if now >= self._takes_over_at else self._predecessor

    def good(self, now: float) -> tuple[bytes, ...]:
        """The keys that a token may be signed with."""
        if self._former:
            self._former = {key: until for key, until in self._former.items() if now < until}
        return (*self._keys, *self._former)

    def to_try(self, now: float) -> tuple[bytes, ...]:
        """The keys to sign with, one after the other, for one who may not know the first.

        A process that started after a change knows the new key alone, while others sign with the old one still.
        """
        first = self.signing(now)
        return (first, *(key for key in self.good(now) if key != first))

    def replace(self, keys: Sequence[bytes], now: float) -> bool:
        """The keys are others now; returns whether that is news.

        A first key that was good before signs at once: whoever gave it a line of its own first has waited already.
        """
        told = tuple(keys)
        if not told or told == self._keys:
            return False
        known = self.good(now)
        self._predecessor = self.signing(now)
        self._takes_over_at = now if told[0] in known else now + SETTLE_SECONDS
        for key in self._keys:
            self._former[key] = now + KEEP_SECONDS
        self._former = {key: until for key, until in self._former.items() if key not in told}
        self._keys = told
        return True
