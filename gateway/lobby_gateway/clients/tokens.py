"""Seat and trunk tokens, and the keys that sign them.

A token proves to a lobby that a greeter sent a client, or that a greeter is calling. It is `v1.<claims>.<signature>`,
both parts base64url without padding (RFC 4648 §5), so that it fits into a URL and into a subprotocol name. The claims
are JSON; the signature is HMAC-SHA256 (RFC 2104) over all that precedes it. A token opens one seat or trunk, once,
before it expires.

Each namespace has its own key, derived from a master key that only greeters and the operator know: whoever reads the key of
a namespace, as a lobby does, can open lobbies of that namespace and of no other.

Keys rotate without a pause: a process signs with one key and accepts several, because processes see a changed Secret at
different times. Keys and tokens never appear in an error or log line.
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
from lobby_gateway.settings import TokenSettings

TOKEN_SETTINGS: Final = TokenSettings()

MIN_KEY_BYTES: Final = 32
"""As long as the hash (RFC 2104 §3: a shorter key weakens it)."""

MAX_TOKEN_CHARACTERS: Final = 2048
"""Longer tokens are refused unread. The CRD bounds names and paths, so ours are never longer."""

DRAIN_PATH: Final = "/drain"
"""Where a lobby's admin port accepts tokens for `Purpose.DRAIN`."""

DELETED_QUERY: Final = "lobby=deleted"
"""Query of `DRAIN_PATH`: clients need not look for another lobby, since the Lobby was deleted."""

PRECONNECT_PATH: Final = "/preconnect"
"""Where it accepts tokens for `Purpose.PRECONNECT`."""

PEERS_PATH: Final = "/peers"
"""Where a lobby's admin port accepts tokens for `Purpose.PEERS`."""

_MAX_KEYS: Final = 8
_TOKEN: Final = re.compile(r"(?P<signed>v1\.(?P<claims>[A-Za-z0-9_-]+))\.(?P<signature>[A-Za-z0-9_-]+)")


# Keys


def key_from_hex(text: str, source: str = "LOBBY_TOKEN_KEY") -> bytes:
    """Parses a key.

    Args:
        text: hex digits; surrounding whitespace is ignored.
        source: where it came from, for the error.

    Raises:
        UserError: not a key. The error does not show the text.
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


def keys_from_text(text: str, source: str) -> tuple[bytes, ...]:
    """Parses the keys of a file, one per line. The first one signs, all verify.

    Args:
        text: the lines, each as for `key_from_hex`; empty lines are ignored.
        source: where they came from, for the error.

    Raises:
        UserError: a line is not a key, or there are no keys. The error does not show the text.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) > _MAX_KEYS:
        raise UserError(f"{source}: {len(lines)} lines; accepted: at most {_MAX_KEYS} keys")
    if len(lines) < 2:
        return (key_from_hex(text, source),)
    return tuple(dict.fromkeys(key_from_hex(line, f"{source}: line {number}") for number, line in lines))


def namespace_key(master: bytes, namespace: str) -> bytes:
    """The key of the lobbies of one namespace: HMAC-SHA256 of its name (RFC 2104), which does not reveal the master key.

    Args:
        master: a master key.
        namespace: name of the namespace; empty, as in local mode: there is only one user, and the key is the master key.
    """
    return hmac.digest(master, namespace.encode(), "sha256") if namespace else master


class TokenKeys:
    """The keys of one process, which may be replaced while it runs. A greeter has master keys, a lobby those of its namespace.

    A new first key signs once all processes have it, and keys that were removed verify until the last process has stopped
    signing with them (`TokenSettings`). Times are seconds of any monotonic clock.
    """

    __slots__ = ("_activates_at", "_keys", "_previous", "_retired", "_settings")

    def __init__(self, keys: Sequence[bytes], *, settings: TokenSettings = TOKEN_SETTINGS) -> None:
        if not keys:
            raise ValueError("keys: none; accepted: one or more")
        self._settings = settings
        self._keys = tuple(keys)
        self._previous = self._keys[0]  # signs until the first key is active
        self._activates_at = 0.0
        self._retired: dict[bytes, float] = {}  # removed keys, and until when they verify

    def __repr__(self) -> str:
        return f"<TokenKeys: {len(self._keys)} current, {len(self._retired)} retired>"

    def signing_key(self, now: float) -> bytes:
        """The key to sign with."""
        return self._keys[0] if now >= self._activates_at else self._previous

    def verification_keys(self, now: float) -> tuple[bytes, ...]:
        """The keys that a token may be signed with."""
        if self._retired:
            self._retired = {key: until for key, until in self._retired.items() if now < until}
        return (*self._keys, *self._retired)

    def signing_keys_to_try(self, now: float) -> tuple[bytes, ...]:
        """The keys to sign with, in order, for a peer that may not know the first one.

        A process started after a rotation knows only the new key, while others still sign with the old one.
        """
        first = self.signing_key(now)
        return (first, *(key for key in self.verification_keys(now) if key != first))

    def replace(self, keys: Sequence[bytes], now: float) -> bool:
        """Replaces the keys; returns whether they changed.

        A first key that verified before signs at once: it was distributed as a further line before it became the first.
        """
        keys = tuple(keys)
        if not keys or keys == self._keys:
            return False
        known = self.verification_keys(now)
        self._previous = self.signing_key(now)
        self._activates_at = now if keys[0] in known else now + self._settings.activation_seconds
        for key in self._keys:
            self._retired[key] = now + self._settings.retired_key_seconds
        self._retired = {key: until for key, until in self._retired.items() if key not in keys}
        self._keys = keys
        return True


class NamespaceKeys:
    """The keys with which a greeter signs tokens for the lobbies of one namespace.

    Args:
        master: the master keys.
        namespace: see `namespace_key`.
    """

    __slots__ = ("_master", "_namespace")

    def __init__(self, master: TokenKeys, namespace: str) -> None:
        self._master = master
        self._namespace = namespace

    def signing_key(self, now: float) -> bytes:
        """See `TokenKeys`."""
        return namespace_key(self._master.signing_key(now), self._namespace)

    def signing_keys_to_try(self, now: float) -> tuple[bytes, ...]:
        """See `TokenKeys`."""
        return tuple(namespace_key(key, self._namespace) for key in self._master.signing_keys_to_try(now))


# Tokens


class Purpose(StrEnum):
    """What a token is for. A token for one purpose is refused for the others."""

    SEAT = "seat"
    TRUNK = "trunk"
    DRAIN = "drain"
    PRECONNECT = "preconnect"
    PEERS = "peers"


class TokenProblem(StrEnum):
    """Why a token is refused; the value is for log lines."""

    MALFORMED = "malformed"
    FORGED = "forged"
    WRONG_PURPOSE = "wrong_purpose"
    EXPIRED = "expired"
    WRONG_LOBBY = "wrong_lobby"
    WRONG_PATH = "wrong_path"
    USED = "used"
    NO_ROOM = "no_room"


RESULTS: Final = ("accepted", "late", *(str(problem) for problem in TokenProblem))
"""What becomes of a token; late: accepted, although it has expired by our clock."""


class TokenError(LobbyGatewayError):
    """A token is refused. The text gives the reason, never the token.

    Attributes:
        problem: the reason.
    """

    def __init__(self, problem: TokenProblem) -> None:
        super().__init__(f"the token is refused: {problem.replace('_', ' ')}")
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The contents of a token.

    Attributes:
        purpose: what it opens.
        lobby: name of the one lobby that accepts it.
        path: of the URL it was made for.
        expires: Unix time in seconds when it expires.
        nonce: random; unique to each token.
        host: of the greeter, if a page may have asked for the token; else empty.
    """

    purpose: Purpose
    lobby: str
    path: str
    expires: float
    nonce: str
    host: str = ""


def sign(
    key: bytes, *, purpose: Purpose, lobby: str, path: str, expires: float, nonce: str | None = None, host: str = ""
) -> str:
    """Makes a token.

    Args:
        key: see `NamespaceKeys.signing_key`.
        purpose: what it opens.
        lobby: name of the one lobby that accepts it.
        path: of the URL it is for.
        expires: Unix time in seconds when it expires.
        nonce: for tests; 96 random bits by default.
        host: see `Claims`.
    """
    nonce = secrets.token_urlsafe(12) if nonce is None else nonce
    # Without a host, a token is as before, so that lobbies that are older than their greeter accept it.
    values = [purpose, lobby, path, expires, nonce, *([host] if host else [])]
    claims = json.dumps(values, separators=(",", ":"), allow_nan=False)
    signed = f"v1.{_encode(claims.encode())}"
    return f"{signed}.{_signature(key, signed)}"


def verify(
    token: str,
    keys: Sequence[bytes],
    *,
    purpose: Purpose,
    lobby: str,
    path: str,
    now: float,
    settings: TokenSettings = TOKEN_SETTINGS,
) -> Claims:
    """Verifies a token. Its claims are not read before its signature is verified.

    Args:
        token: as received.
        keys: see `TokenKeys.verification_keys`.
        purpose: what it is to open.
        lobby: name of this lobby.
        path: of the request.
        now: Unix time in seconds.
        settings: how far clocks may differ.

    Raises:
        TokenError: the token is invalid, with the reason.
    """
    found = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
    if found is None:
        raise TokenError(TokenProblem.MALFORMED)
    # Compares the texts, not the decoded bytes, so that no second text has the same signature.
    if not any(hmac.compare_digest(_signature(key, found["signed"]), found["signature"]) for key in keys):
        raise TokenError(TokenProblem.FORGED)
    claims = _decode(found["claims"])
    if claims.purpose is not purpose:
        raise TokenError(TokenProblem.WRONG_PURPOSE)
    if now >= claims.expires + settings.clock_tolerance_seconds:
        raise TokenError(TokenProblem.EXPIRED)
    if claims.lobby != lobby:
        raise TokenError(TokenProblem.WRONG_LOBBY)
    if claims.path != path:
        raise TokenError(TokenProblem.WRONG_PATH)
    return claims


class UsedTokens:
    """Remembers used tokens until `verify` refuses them, so that each is accepted once.

    Bounded: while it is full of tokens that have not expired, further tokens are refused. That is safe, and takes more than
    `capacity` clients within the lifetime of a token; a lobby has a few hundred.

    A token is stored as the hash of its nonce, and forgotten with all others that expire in the same second: 80 bytes
    instead of 200. Two of 64 thousand tokens collide once in a billion times; the later one is refused.
    """

    __slots__ = ("_capacity", "_hashes", "_of_second", "_seconds", "_tolerance")

    def __init__(self, *, settings: TokenSettings = TOKEN_SETTINGS) -> None:
        self._capacity = settings.used_tokens
        self._tolerance = settings.clock_tolerance_seconds
        self._hashes: set[int] = set()
        self._of_second: dict[int, list[int]] = {}
        self._seconds: list[int] = []  # a heap

    def __len__(self) -> int:
        return len(self._hashes)

    def use(self, claims: Claims, now: float) -> None:
        """Marks a verified token as used.

        Args:
            claims: from `verify`.
            now: Unix time in seconds.

        Raises:
            TokenError: it was used before, or there is no room to remember it.
        """
        while self._seconds and now >= self._seconds[0]:  # expired: `verify` refuses them
            self._hashes.difference_update(self._of_second.pop(heapq.heappop(self._seconds)))
        used = hash(claims.nonce)
        if used in self._hashes:
            raise TokenError(TokenProblem.USED)
        if len(self._hashes) >= self._capacity:
            raise TokenError(TokenProblem.NO_ROOM)
        second = math.ceil(claims.expires + self._tolerance)
        if second not in self._of_second:
            self._of_second[second] = []
            heapq.heappush(self._seconds, second)
        self._of_second[second].append(used)
        self._hashes.add(used)


def _signature(key: bytes, signed: str) -> str:
    return _encode(hmac.digest(key, signed.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _decode(claims: str) -> Claims:
    """Decodes the claims of a token with a valid signature; another version of ours may have written them differently."""
    try:
        purpose, lobby, path, expires, nonce, *more = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        (host,) = more or ("",)
        if not all(isinstance(each, str) for each in (lobby, path, nonce, host)) or not math.isfinite(expires):
            raise TokenError(TokenProblem.MALFORMED)
        return Claims(purpose=Purpose(purpose), lobby=lobby, path=path, expires=float(expires), nonce=nonce, host=host)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise TokenError(TokenProblem.MALFORMED) from error
