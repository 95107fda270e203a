"""Frames: a message is encoded once, and messages that arrived together stay together in one `bytes`.

A server's frames are not masked (RFC 6455 §5.1), so a frame from an origin is, byte for byte, the frame that every client
gets. `Batch` holds those bytes: the whole, unfragmented, uncompressed data frames of one read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate, pairwise
from struct import Struct
from typing import Self

try:  # the compiled version is optional in websockets
    from websockets.speedups import apply_mask as _apply_mask
except ImportError:
    from websockets.utils import apply_mask as _apply_mask

apply_mask = _apply_mask
_U16 = Struct("!BBH")
_U64 = Struct("!BBQ")


class Opcode(IntEnum):
    """Frame opcodes (RFC 6455 §5.2)."""

    CONT = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


FIN = 0x80
RSV1 = 0x40
MASKED = 0x80


def frame(opcode: int, payload: bytes | memoryview, *, rsv1: bool = False) -> bytes:
    """One whole frame as a server sends it: FIN set, no mask. `rsv1` marks a deflated payload (RFC 7692 §6)."""
    return b"".join((header(opcode, len(payload), rsv1=rsv1), payload))


def header(opcode: int, length: int, *, rsv1: bool = False) -> bytes:
    """The header of an unmasked, unfragmented frame with a payload of `length` bytes."""
    first = FIN | (RSV1 if rsv1 else 0) | opcode
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return _U16.pack(first, 126, length)
    return _U64.pack(first, 127, length)


def masked_frame(opcode: int, payload: bytes | memoryview) -> bytes:
    """One whole frame as a client sends it: FIN set, with a fresh random mask (RFC 6455 §5.3)."""
    plain = header(opcode, len(payload))
    mask = os.urandom(4)
    return b"".join((plain[:1], bytes((plain[1] | MASKED,)), plain[2:], mask, apply_mask(bytes(payload), mask)))


def close_payload(code: int, reason: str = "") -> bytes:
    """Payload of a close frame; the reason is cut to the 123 bytes that fit a control frame (RFC 6455 §5.5)."""
    text = reason.encode()[:123].decode(errors="ignore")  # a character that is cut in two is dropped
    return code.to_bytes(2, "big") + text.encode()


def header_size(data: bytes, start: int) -> int:
    """Size of the header of the unmasked frame at `start` of `data`."""
    length = data[start + 1]
    return 2 if length < 126 else 4 if length == 126 else 10


class Batch:
    """Messages that arrived together: whole server frames, one after the other, in one `bytes`.

    Attributes:
        data: the frames.
        ends: offset in `data` of the end of each frame; there are `len(ends)` messages.
    """

    __slots__ = ("_frames", "data", "ends")

    def __init__(self, data: bytes, ends: Sequence[int]) -> None:
        self.data = data
        self.ends = ends
        self._frames: tuple[bytes, ...] | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def __repr__(self) -> str:
        return f"<Batch messages={len(self)} bytes={len(self.data)}>"

    @classmethod
    def of(cls, frames: Sequence[bytes | memoryview]) -> Self:
        """A batch of whole frames."""
        ends: list[int] = []
        end = 0
        for each in frames:
            end += len(each)
            ends.append(end)
        return cls(b"".join(frames), ends)

    @classmethod
    def scan(cls, data: bytes) -> Batch:
        """A batch of frames whose ends are not known yet; the frames were encoded by one of our own processes.

        Raises:
            ValueError: `data` does not end where a frame ends.
        """
        ends: list[int] = []
        at = 0
        size = len(data)
        try:
            while at < size:
                length = data[at + 1]
                if length < 126:
                    at += 2 + length
                elif length == 126:
                    at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
                else:
                    at += 10 + int.from_bytes(data[at + 2 : at + 10], "big")
                ends.append(at)
        except IndexError:
            at = -1
        if at != size:
            raise ValueError(f"{size} bytes of frames do not end where a frame ends")
        return cls(data, ends)

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """One batch with the messages of several, at least one; a single batch is returned as it is."""
        if len(batches) == 1:
            return batches[0]
        starts = accumulate((len(batch.data) for batch in batches), initial=0)
        ends = [start + end for start, batch in zip(starts, batches, strict=False) for end in batch.ends]
        return cls(b"".join(batch.data for batch in batches), ends)

    @property
    def frames(self) -> tuple[bytes, ...]:
        """The frame of each message; split once, then shared by all clients that lag."""
        if self._frames is None:
            if len(self.ends) == 1:
                self._frames = (self.data,)
            else:
                data = self.data
                self._frames = tuple(data[a:b] for a, b in pairwise((0, *self.ends)))
        return self._frames

    def payload(self, index: int) -> memoryview:
        """Payload of one message, without a copy. Negative indices count from the end."""
        ends = self.ends
        index = range(len(ends))[index]
        start = ends[index - 1] if index else 0
        return memoryview(self.data)[start + header_size(self.data, start) : ends[index]]

    def opcode(self, index: int) -> int:
        """Opcode of one message: `Opcode.TEXT` or `Opcode.BINARY`."""
        ends = self.ends
        index = range(len(ends))[index]
        return self.data[ends[index - 1] if index else 0] & 0x0F

    def after(self, count: int) -> Self:
        """The same batch without its first `count` messages."""
        if count == 0:
            return self
        start = self.ends[count - 1]
        return type(self)(self.data[start:], [end - start for end in self.ends[count:]])

    def before(self, count: int) -> Self:
        """Only the first `count` messages."""
        if count >= len(self.ends):
            return self
        return type(self)(self.data[: self.ends[count - 1]] if count else b"", self.ends[:count])


class AsideBatch(Batch):
    """Messages for clients that have no place in the stream, so that a client's position does not count them."""

    __slots__ = ()
