"""The keys of tokens, and how one takes over from another while greeters and lobbies serve.

A Secret that many pods have mounted changes in each of them at another moment, up to `SETTLE_SECONDS` apart. So a key that
was never seen before is good at once, but signs only when everybody must have it; and one that is taken away stays good for
as long as somebody may sign with it still.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lobby_gateway.errors import UserError
from lobby_gateway.model.token import key_from_hex

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
