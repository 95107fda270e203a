from __future__ import annotations

import pytest
from tests.support.wire import FIN, RSV1, raw_frame

from lobby_gateway.websocket.frames import (
    Batch,
    Opcode,
    apply_mask,
    close_payload,
    frame,
    header,
    header_size,
    masked_frame,
)

LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 65537]


def batch_of(*payloads: bytes, opcode: int = Opcode.TEXT) -> Batch:
    return Batch.of([raw_frame(FIN | opcode, payload) for payload in payloads])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_frame_has_the_shortest_length_and_no_mask(opcode: Opcode, length: int) -> None:
    payload = b"x" * length
    assert frame(opcode, payload) == raw_frame(FIN | opcode, payload)
    assert header(opcode, length) + payload == frame(opcode, payload)


def test_rsv1_marks_a_deflated_frame() -> None:
    assert frame(Opcode.TEXT, b"x", rsv1=True) == raw_frame(FIN | RSV1 | Opcode.TEXT, b"x")


def test_frame_accepts_a_memoryview() -> None:
    assert frame(Opcode.BINARY, memoryview(b"abc")[1:]) == raw_frame(FIN | Opcode.BINARY, b"bc")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_masked_frame_is_unmasked_by_its_key(length: int, kind: type[bytes | memoryview]) -> None:
    payload = bytes(range(256)) * (length // 256 + 1)
    data = masked_frame(Opcode.BINARY, kind(payload[:length]))
    start = header_size(bytes((data[0], data[1] & 0x7F)) + data[2:], 0) + 4
    key = data[start - 4 : start]
    assert data == raw_frame(FIN | Opcode.BINARY, payload[:length], mask=key)
    assert apply_mask(data[start:], key) == payload[:length]


def test_each_frame_has_a_new_mask() -> None:
    assert len({masked_frame(Opcode.TEXT, b"")[2:] for _ in range(64)}) > 60


def test_close_payload_is_code_and_reason() -> None:
    assert close_payload(1001, "näher") == b"\x03\xe9n\xc3\xa4her"
    assert close_payload(4008) == b"\x0f\xa8"


@pytest.mark.parametrize(
    ("reason", "kept"), [("a" * 200, 123), ("é" * 100, 122), ("a" + "é" * 100, 123), ("\N{PARTY POPPER}" * 40, 120)]
)
def test_long_close_reason_is_cut_between_characters(reason: str, kept: int) -> None:
    payload = close_payload(1000, reason)
    assert len(payload) == 2 + kept
    assert reason.startswith(payload[2:].decode())


@pytest.mark.parametrize("length", LENGTHS)
def test_header_size_is_the_offset_of_the_payload(length: int) -> None:
    data = b"??" + raw_frame(FIN | Opcode.TEXT, b"x" * length)
    assert len(data) - header_size(data, 2) == 2 + length


def test_batch_returns_each_message() -> None:
    batch = Batch.of([raw_frame(FIN | Opcode.TEXT, b"one"), raw_frame(FIN | Opcode.BINARY, b"2" * 300)])
    assert len(batch) == 2
    assert [bytes(batch.payload(index)) for index in (0, 1, -1, -2)] == [b"one", b"2" * 300, b"2" * 300, b"one"]
    assert [batch.opcode(index) for index in (0, 1, -1)] == [Opcode.TEXT, Opcode.BINARY, Opcode.BINARY]
    assert "messages=2" in repr(batch)
    assert "bytes=309" in repr(batch)


@pytest.mark.parametrize("index", [2, -3])
def test_batch_has_no_message_beyond_its_ends(index: int) -> None:
    batch = batch_of(b"a", b"b")
    with pytest.raises(IndexError):
        batch.payload(index)
    with pytest.raises(IndexError):
        batch.opcode(index)


@pytest.mark.parametrize("payloads", [[b"a"], [b"", b"", b""], [b"a", b"b" * 126, b"c" * 65536]])
def test_frames_are_split_once(payloads: list[bytes]) -> None:
    batch = batch_of(*payloads)
    assert list(batch.frames) == [raw_frame(FIN | Opcode.TEXT, payload) for payload in payloads]
    assert batch.frames is batch.frames
    assert b"".join(batch.frames) == batch.data


def test_empty_batch_has_no_frames() -> None:
    batch = Batch.of([])
    assert (len(batch), batch.data, batch.frames) == (0, b"", ())


@pytest.mark.parametrize("lengths", [[], [0], [125, 126, 0, 65535, 65536, 1]])
def test_scan_finds_the_ends_again(lengths: list[int]) -> None:
    batch = batch_of(*(b"x" * length for length in lengths))
    again = Batch.scan(batch.data)
    assert (again.data, list(again.ends)) == (batch.data, list(batch.ends))


def test_joined_batches_have_all_messages_in_order() -> None:
    batches = [Batch.of([b"a", b"bb"]), Batch.of([b"ccc"]), Batch.of([b"d"])]
    joined = Batch.join(batches)
    assert joined.frames == (b"a", b"bb", b"ccc", b"d")
    assert joined.data == b"abbcccd"
    assert Batch.join(batches[:1]) is batches[0]


@pytest.mark.parametrize("length", [1, 126, 65536])
def test_scan_refuses_data_that_ends_inside_a_frame(length: int) -> None:
    data = raw_frame(FIN | Opcode.TEXT, b"ok") + raw_frame(FIN | Opcode.TEXT, b"x" * length)
    for size in {size for size in (*range(5, 14), len(data) - 1) if size < len(data)}:
        with pytest.raises(ValueError, match="do not end where a frame ends"):
            Batch.scan(data[:size])


@pytest.mark.parametrize("count", range(4))
def test_batch_is_split_between_messages(count: int) -> None:
    batch = batch_of(b"a", b"bb", b"c" * 200)
    first, second = batch.before(count), batch.after(count)
    assert first.data + second.data == batch.data
    assert [bytes(first.payload(index)) for index in range(len(first))] == [b"a", b"bb", b"c" * 200][:count]
    assert [bytes(second.payload(index)) for index in range(len(second))] == [b"a", b"bb", b"c" * 200][count:]


def test_splitting_off_nothing_makes_no_copy() -> None:
    batch = batch_of(b"a", b"b")
    assert batch.after(0) is batch
    assert batch.before(2) is batch
    assert batch.before(3) is batch
