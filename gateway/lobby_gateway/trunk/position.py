"""Where a consumer is in a stream, so that it can continue elsewhere with the next message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from itertools import islice

DIGESTS_KEPT = 16
"""How many of the latest messages a position has digests of."""

NO_EPOCH = 0
"""The epoch of a stream whose origin was never connected; no origin session has it."""

_LIMIT = 1 << 64


class LiveReason(IntEnum):
    """Why a stream continues with its next message instead of at the requested position.

    Attributes:
        NONE: it does continue there (exact).
        NO_POSITION: none was given.
        UNKNOWN_EPOCH: this lobby does not know the position's origin session, or no longer does.
        GONE: messages after the position are no longer kept.
        AHEAD: the position is ahead of what this lobby has, and stayed so.
    """

    NONE = 0
    NO_POSITION = 1
    UNKNOWN_EPOCH = 2
    GONE = 3
    AHEAD = 4

    @property
    def label(self) -> str:
        """Its name in metrics and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two messages of a stream.

    Attributes:
        epoch: one origin session: a random 64-bit number, new with every origin connection. `NO_EPOCH` before the first.
        offset: messages of that epoch before this place; 0 in an epoch without messages.
        digests: of the latest messages before it, oldest first, at most `DIGESTS_KEPT`. They reach back across epochs: a
            consumer at offset 0 still has those of the messages that it saw before.
    """

    epoch: int
    offset: int
    digests: tuple[int, ...] = ()

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


def digest(payload: bytes | memoryview) -> int:
    """64-bit digest of a message's payload (BLAKE2b, RFC 7693, with an 8-byte output)."""
    return int.from_bytes(blake2b(payload, digest_size=8).digest(), "big")


def digests_of(newest_first: Iterable[bytes | memoryview]) -> tuple[int, ...]:
    """Digests of the latest payloads, which come newest first; in the order of `Position.digests`, oldest first."""
    return tuple(digest(payload) for payload in islice(newest_first, DIGESTS_KEPT))[::-1]
