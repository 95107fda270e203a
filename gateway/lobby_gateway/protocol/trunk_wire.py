"""What records of the trunk are made of: fixed fields, and the few that have no fixed size."""

from __future__ import annotations

from struct import Struct
from typing import Any, ClassVar, Self

from lobby_gateway.model.position import DIGESTS_KEPT, Position
from lobby_gateway.protocol.frames import Batch


class WireRecord:
    """A record whose fields are all fixed in size, in the order in which they are declared."""

    __slots__: tuple[str, ...] = ()
    TYPE: ClassVar[int]
    LAYOUT: ClassVar[Struct]  # type and flags included

    def encode(self) -> bytes:
        """The record's bytes."""
        return self._head(*(getattr(self, each) for each in self.__slots__))

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type; raises what `decode` turns into `TrunkError`."""
        return cls(*cls._fields(view))

    @classmethod
    def _head(cls, *fields: object) -> bytes:
        return cls.LAYOUT.pack(cls.TYPE, 0, *fields)

    @classmethod
    def _fields(cls, view: memoryview) -> tuple[Any, ...]:
        return cls.LAYOUT.unpack_from(view)[2:]


_POSITION = Struct("!QQB")


def encode_position(position: Position) -> bytes:
    """Epoch, offset, how many digests, the digests."""
    digests = position.digests
    head = _POSITION.pack(position.epoch, position.offset, len(digests))
    return head + b"".join(each.to_bytes(8, "big") for each in digests)


def decode_position(view: memoryview, at: int) -> Position:
    """Reads what `encode_position` wrote."""
    epoch, offset, count = _POSITION.unpack_from(view, at)
    if count > DIGESTS_KEPT:
        raise ValueError(f"{count} digests; accepted: at most {DIGESTS_KEPT}")
    return Position(epoch, offset, Struct(f"!{count}Q").unpack_from(view, at + _POSITION.size))


def encode_text(text: str) -> bytes:
    """One byte of length, then UTF-8."""
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"{text[:40]!r}... is too long; accepted: at most 255 bytes of UTF-8")
    return bytes((len(data),)) + data


def decode_text(view: memoryview, at: int) -> tuple[str, int]:
    """Reads what `encode_text` wrote; returns where it ends, too."""
    end = at + 1 + view[at] if at < len(view) else len(view) + 1
    if end > len(view):
        raise ValueError("the name is cut off")
    return str(view[at + 1 : end], "utf-8"), end


def decode_frames(view: memoryview, offset: int, count: int) -> Batch:
    """Reads the frames of `count` messages, of which the first has this offset."""
    batch = Batch.scan(bytes(view))
    if len(batch) != count or not count:
        raise ValueError(f"{count} messages are said to follow, {len(batch)} do")
    if offset + count >= 1 << 64:
        raise ValueError(f"offset {offset} is too large for {count} messages")
    return batch
