"""Where a consumer is in a stream, so that it can continue elsewhere with the next message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

from lobby_gateway.settings import IDENTITIES
from lobby_gateway.trunk.identity import Identity, digest

DIGESTS_KEPT = 16
"""How many of the latest messages a position has the identities of."""

NO_EPOCH = 0
"""The epoch of a stream whose origin was never connected; no origin session has it."""

_LIMIT = 1 << 64


class LiveReason(IntEnum):
    """Why a stream continues with its next message instead of at the requested position.

    Attributes:
        NONE: it does continue there (exact).
        NO_POSITION: none was given.
        UNKNOWN: this lobby knows neither the position's epoch nor the messages before it, or no longer does.
        GONE: messages after the position are no longer kept, or this lobby never had them.
        AHEAD: the position is ahead of what this lobby has, and stayed so.
        AMBIGUOUS: the messages before the position occur, or may occur, at more than one place.
    """

    NONE = 0
    NO_POSITION = 1
    UNKNOWN = 2
    GONE = 3
    AHEAD = 4
    AMBIGUOUS = 5

    @property
    def label(self) -> str:
        """Its name in metrics and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two messages of a stream.

    Attributes:
        epoch: one unbroken stream of one lobby: a random 64-bit number. `NO_EPOCH` before the first.
        offset: messages of that epoch before this place; 0 in an epoch without messages.
        digests: the identities of the latest messages before it, oldest first, at most `DIGESTS_KEPT`. They reach back across
            epochs: a consumer at offset 0 still has those of the messages that it saw before.
        of_payloads: the digests are of payloads, whatever `origin.identity` says: all that a client has.
    """

    epoch: int
    offset: int
    digests: tuple[int, ...] = ()
    of_payloads: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.epoch < _LIMIT or not 0 <= self.offset < _LIMIT:
            raise ValueError(f"epoch {self.epoch}, offset {self.offset}: out of range; accepted: 0 to 2^64 - 1")
        if len(self.digests) > DIGESTS_KEPT:
            raise ValueError(f"digests: {len(self.digests)} is too many; accepted: at most {DIGESTS_KEPT}")

    def __str__(self) -> str:
        return f"{self.epoch:016x}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parses what `str()` returns: 16 hex digits, `-`, a decimal number (both below 2^64).

        Raises:
            ValueError: the text is not of that form.
        """
        epoch, dash, offset = text.partition("-")
        if not dash or len(epoch) != 16 or not (offset.isascii() and offset.isdigit() and len(offset) <= 20):
            raise ValueError(f"{text[:60]!r} is not a position; accepted: 16 hex digits, '-', a number")
        number = int(offset)
        if number >= _LIMIT or not all(c in "0123456789abcdef" for c in epoch):
            raise ValueError(f"{text[:60]!r} is not a position; accepted: 16 hex digits, '-', a number")
        return cls(int(epoch, 16), number)


def digests_of(
    newest_first: Iterable[bytes | memoryview], identity: Identity = digest, looked_at: int = IDENTITIES.looked_at
) -> tuple[int, ...]:
    """Digests of the latest payloads that have an identity, in the order of `Position.digests`.

    Args:
        newest_first: the payloads.
        identity: gives the identity of one.
        looked_at: see `IdentitySettings`.
    """
    latest = islice(newest_first, looked_at)
    digests = (each for payload in latest if (each := identity(payload)) is not None)
    return tuple(islice(digests, DIGESTS_KEPT))[::-1]
