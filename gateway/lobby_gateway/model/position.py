"""Where a consumer is in a stream, so that it can go on elsewhere at the next message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

DIGESTS_KEPT = 16
"""How many of the latest messages a consumer keeps the digests of."""


def digest(payload: bytes | memoryview) -> int:
    """64-bit digest of a message's payload (BLAKE2b, RFC 7693, with an 8-byte output)."""
    return int.from_bytes(blake2b(payload, digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two messages of a stream.

    Attributes:
        epoch: one origin session: a random 64-bit number, new with every origin connection.
        offset: how many messages of that epoch lie before this place.
        digests: digests of the latest messages before it, oldest first, at most `DIGESTS_KEPT`.
    """

    epoch: int
    offset: int
    digests: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.epoch:016x}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads what `str()` gives: 16 hex digits, `-`, a decimal number (both below 2^64).

        Raises:
            ValueError: the text is not of that form.
        """
        epoch, dash, offset = text.partition("-")
        if not dash or len(epoch) != 16 or not (offset.isascii() and offset.isdigit() and len(offset) <= 20):
            raise ValueError(f"{text[:60]!r} is not a position; accepted: 16 hex digits, '-', a number")
        number = int(offset)
        if number >= 1 << 64 or not all(c in "0123456789abcdef" for c in epoch):
            raise ValueError(f"{text[:60]!r} is not a position; accepted: 16 hex digits, '-', a number")
        return cls(int(epoch, 16), number)


def digests_of(payloads: Iterable[bytes | memoryview]) -> tuple[int, ...]:
    """Digests of payloads in the order given."""
    return tuple(digest(payload) for payload in payloads)
