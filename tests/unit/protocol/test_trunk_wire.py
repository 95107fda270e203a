from __future__ import annotations

import pytest

from lobby_gateway.model.position import Position
from lobby_gateway.protocol.frames import Opcode, frame
from lobby_gateway.protocol.trunk_wire import (
    decode_frames,
    decode_position,
    decode_text,
    encode_position,
    encode_text,
)


@pytest.mark.parametrize("digests", [(), (0,), tuple(range(2**64 - 16, 2**64))])
def test_a_position_is_read_as_it_was_written(digests: tuple[int, ...]) -> None:
    position = Position(2**64 - 1, 2**64 - 1, digests)
    assert decode_position(memoryview(b"lead" + encode_position(position) + b"rest"), 4) == position


@pytest.mark.parametrize("text", ["", "prices-3", "é" * 127])
def test_a_text_is_read_as_it_was_written(text: str) -> None:
    data = encode_text(text)
    assert decode_text(memoryview(b"lead" + data + b"rest"), 4) == (text, 4 + len(data))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x05abcd"])
def test_a_text_that_is_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        decode_text(memoryview(data), 0)


def test_a_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text(memoryview(b"\x01\xff"), 0)


def test_frames_are_counted() -> None:
    data = frame(Opcode.TEXT, b"one") + frame(Opcode.BINARY, bytes(70000))
    batch = decode_frames(memoryview(data), 7, 2)
    assert (batch.data, len(batch)) == (data, 2)
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match=f"{count} messages are said to follow, 2 do"):
            decode_frames(memoryview(data), 7, count)


def test_offsets_stay_below_64_bits() -> None:
    data = memoryview(frame(Opcode.TEXT, b""))
    assert len(decode_frames(data, 2**64 - 2, 1)) == 1
    with pytest.raises(ValueError, match="too large"):
        decode_frames(data, 2**64 - 1, 1)
