"""Valid and invalid frames as bytes, encoded independently of the code under test."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

from lobby_gateway.websocket.frames import Batch
from lobby_gateway.websocket.parser import Event, FrameParser, Message

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
MASK = bytes((0x12, 0xF3, 0x00, 0xA9))


def raw_frame(
    first: int, payload: bytes = b"", *, mask: bytes | None = None, length: int | None = None, size: int | None = None
) -> bytes:
    """A frame with any first byte.

    Args:
        first: FIN, reserved bits and opcode.
        payload: unmasked.
        mask: 4 bytes, or None for an unmasked frame.
        length: the length in the header, if not the real one.
        size: bytes of the extended length (0, 2, 8), if not the minimum.
    """
    length = len(payload) if length is None else length
    if size is None:
        size = 0 if length < 126 else 2 if length < 65536 else 8
    second = {0: length, 2: 126, 8: 127}[size] | (0x80 if mask is not None else 0)
    extended = {0: b"", 2: struct.pack("!H", length & 0xFFFF), 8: struct.pack("!Q", length)}[size]
    if mask is not None:
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((first, second)) + extended + (mask or b"") + payload


def messages(batch: Batch) -> list[Message]:
    """The messages of a batch, as a client would send them."""
    return [Message(batch.opcode(index), bytes(batch.payload(index))) for index in range(len(batch))]


def flat(events: Iterable[Event]) -> list[Event]:
    """Events with batches expanded into messages, because batching depends on how reads are split."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Batch):
            result += messages(event)
        else:
            result.append(event)
    return result


def feed(parser: FrameParser, pieces: Iterable[bytes]) -> list[Event]:
    """All events of a stream that arrives in pieces, flattened."""
    return flat(event for piece in pieces for event in parser.receive(piece))


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` in pieces, split at these offsets (modulo its length)."""
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(at)] or [b""]
