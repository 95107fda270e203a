from __future__ import annotations

import pytest

from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.records import (
    RECORDS,
    Blamed,
    Claim,
    Forward,
    Granted,
    Heartbeat,
    Hello,
    Kept,
    Messages,
    Missed,
    Move,
    Origin,
    Record,
    Release,
    Replay,
    Resume,
    Resumed,
    Status,
    StreamOffset,
    TrunkError,
    Type,
    Welcome,
    decode,
    decode_frames,
    decode_position,
    decode_text,
    encode_position,
    encode_text,
)
from lobby_gateway.websocket.frames import Batch, Opcode, frame

FRAMES = frame(Opcode.TEXT, b"hi") + frame(Opcode.BINARY, b"")
E, AT = "0102030405060708", "00000000000000ff"
EPOCH, OFFSET = 0x0102030405060708, 255

# The wire format of docs/trunk.md, byte by byte.
EXAMPLES: list[tuple[Record, str]] = [
    (Hello("g1", 16), "01 00 00000010 00 02 6731 00"),
    (Hello("", 0, Position(EPOCH, OFFSET, (1, 2)), True), f"01 00 00000000 01 00 {E}{AT} 02 {1:016x}{2:016x} 01"),
    (Claim(7, 3), "02 00 00000007 00000003"),
    (Release(2), "03 00 00000002"),
    (Forward(7, Opcode.TEXT, b"hi"), "04 00 00000007 01 6869"),
    (Resume(1, Position(EPOCH, OFFSET)), f"05 00 00000001 00 {E}{AT} 00"),
    (Resume(1, Position(0, 0, (1,), of_payloads=True)), f"05 00 00000001 01 {'00' * 16} 01 {'00' * 7}01"),
    (Heartbeat(), "06 00"),
    (
        Welcome(True, 0, False, 512, 500, EPOCH, OFFSET, "p-1", (7,), ("p-2",), 3),
        f"81 00 01 00 00 00000200 000001f4 {E}{AT} 03 702d31 01 {7:016x} 01 03 702d32 00000003",
    ),
    (Messages(EPOCH, OFFSET, Batch.scan(FRAMES)), f"82 00 {E}{AT} 00000002 81026869 8200"),
    (Granted(7, 2, 0, 1), "83 00 00000007 00000002 00000000 01"),
    (Resumed(1, False, 2, EPOCH, OFFSET), f"84 00 00000001 00 02 {E}{AT}"),
    (Replay(1, EPOCH, OFFSET, Batch.scan(FRAMES)), f"85 00 00000001 {E}{AT} 00000002 81026869 8200"),
    (Missed(0, 5, EPOCH, 250, EPOCH, OFFSET), f"86 00 00000000 0000000000000005 {E}00000000000000fa {E}{AT}"),
    (Status(True, 512, 1, EPOCH, OFFSET, True, ("p-2", "")), f"87 00 01 00000200 00000001 {E}{AT} 01 02 03 702d32 00"),
    (Move(1, 60000), "88 00 01 0000ea60"),
    (Blamed(7, 1008), "89 00 00000007 03f0"),
    (Origin("v2.json"), "8a 00 07 76322e6a736f6e"),
    (Kept("id", frame(Opcode.TEXT, b"hi"), True, 7), "8b 00 01 00000007 02 6964 81026869"),
    (Kept("id", b""), "8b 00 00 00000000 02 6964"),
]
OLDER: dict[type[Record], int] = {Hello: 1, Welcome: 9, Status: 6, Kept: 4}
"""Bytes at the end of the examples that may be missing: older peers don't send them, or there is no message."""
NAMES = [type(record).__name__ for record, _ in EXAMPLES]


def same(one: Record | None, other: Record | None) -> bool:
    """Batches are compared by their bytes."""
    if isinstance(one, Messages | Replay) and type(one) is type(other):
        return one.encode() == other.encode()
    return one == other


def test_there_is_an_example_of_every_type() -> None:
    assert {type(record) for record, _ in EXAMPLES} == set(RECORDS)
    assert {record.TYPE for record, _ in EXAMPLES} == set(Type)


@pytest.mark.parametrize(("record", "wire"), EXAMPLES, ids=NAMES)
def test_is_laid_out_as_documented(record: Record, wire: str) -> None:
    assert record.encode() == bytes.fromhex(wire)
    assert same(decode(bytes.fromhex(wire)), record)


@pytest.mark.parametrize("record", [record for record, _ in EXAMPLES], ids=NAMES)
def test_a_record_that_is_cut_off_anywhere_is_refused(record: Record) -> None:
    data = record.encode()
    least = 3 if isinstance(record, Forward) else len(data)  # a client's message may have any length
    older = len(data) - OLDER.get(type(record), 0)
    for size in range(least):
        if size != older:
            with pytest.raises(TrunkError):
                decode(data[:size])


def test_what_older_peers_leave_out_is_none() -> None:
    hello = decode(Hello("g1").encode()[:-1])
    welcome = decode(Welcome(True, 0, False, 512, 500, EPOCH, OFFSET, "p-1").encode()[:-5])
    status = decode(Status(True, 512, 1, EPOCH, OFFSET).encode()[:-1])
    assert isinstance(hello, Hello)
    assert not hello.relays
    assert isinstance(welcome, Welcome)
    assert welcome.via is None
    assert isinstance(status, Status)
    assert status.via is None


def test_a_lobby_without_a_stream_says_so() -> None:
    for record in (Welcome(True, 0, False, 1, 1, EPOCH, 0, "p", via=None), Status(True, 1, 1, EPOCH, 0, via=None)):
        assert decode(record.encode()) == record


@pytest.mark.parametrize("record", [record for record, _ in EXAMPLES], ids=NAMES)
def test_flags_and_bytes_of_a_newer_version_are_ignored(record: Record) -> None:
    data = record.encode()
    data = data[:1] + b"\xff" + data[2:]
    assert same(decode(data), record)
    if not isinstance(record, Forward | Messages | Replay | Kept):  # they go on to the end of the WebSocket message
        assert same(decode(data + b"new"), record)


@pytest.mark.parametrize("number", [0x00, 0x07, 0x7F, 0x80, 0x8C, 0xFF])
def test_types_of_a_newer_version_are_ignored(number: int) -> None:
    assert decode(bytes((number, 0, 1, 2, 3))) is None


@pytest.mark.parametrize("data", [b"", b"\x01"])
def test_refuses_records_that_are_too_short(data: bytes) -> None:
    with pytest.raises(TrunkError, match=rf"no type and flags \({len(data)} of at least 2 bytes\)"):
        decode(data)


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        ("01 00 00000000 00 02 ff ff", "HELLO: 'utf-8' codec"),
        ("01 00 00000000 00 05 67", "HELLO: the name is cut off"),
        (f"05 00 00000000 00 {E}{AT} 00", "RESUME: group 0 is the stream itself"),
        (f"05 00 00000001 00 {E}{AT} 11" + "00" * 136, "RESUME: 17 digests; accepted: at most 16"),
        ("04 00 00000007 08 6869", "FORWARD: opcode 8 is not a message opcode"),
        (f"82 00 {E}{AT} 00000000", "MESSAGES: message count is 0, found 0"),
        (f"82 00 {E}{AT} 00000003 81026869 8200", "MESSAGES: message count is 3, found 2"),
        (f"82 00 {E}{AT} 00000001 810268", "MESSAGES: 3 bytes of frames do not end where a frame ends"),
        (f"82 00 {E}{'ff' * 8} 00000001 8200", "MESSAGES: offset 18446744073709551615 is too large"),
        (f"85 00 00000001 {E}{AT} 00000001", "REPLAY: message count is 1, found 0"),
        ("8b 00 00 00000000 02 6964 81026869 8200", "KEPT: 2 messages; accepted: at most 1"),
        ("8b 00 00 00000000 02 6964 810268", "KEPT: 3 bytes of frames do not end where a frame ends"),
    ],
)
def test_refuses_impossible_records(wire: str, problem: str) -> None:
    with pytest.raises(TrunkError, match=f"^{problem}"):
        decode(bytes.fromhex(wire))


def test_refuses_to_write_a_name_that_does_not_fit() -> None:
    Hello("é" * 127).encode()
    with pytest.raises(ValueError, match="is too long; accepted: at most 255 bytes"):
        Hello("é" * 128).encode()


def test_messages_keep_their_bytes() -> None:
    record = decode(Messages.head(1, 2, 2) + FRAMES)
    assert isinstance(record, Messages)
    assert record.batch.data == FRAMES
    assert type(record.batch.data) is bytes  # sockets' `send` and slices of it are as fast as can be
    assert list(record.batch.ends) == [4, 6]


@pytest.mark.parametrize(
    ("place", "following", "follows"),
    [
        (StreamOffset(1, 5), (1, 5), True),
        (StreamOffset(1, 5), (1, 6), False),
        (StreamOffset(1, 5), (1, 4), False),
        (StreamOffset(1, 5), (2, 0), True),
        (StreamOffset(1, 5), (2, 1), False),
        (StreamOffset(0, 0), (2, 1), True),
        (StreamOffset(0, 0), (0, 0), True),
    ],
)
def test_a_place_is_followed_by_itself_or_the_start_of_another_epoch(
    place: StreamOffset, following: tuple[int, int], follows: bool
) -> None:
    assert place.followed_by(*following) is follows


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


def test_a_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text(memoryview(b"\x01\xff"), 0)


def test_frames_are_counted() -> None:
    data = frame(Opcode.TEXT, b"one") + frame(Opcode.BINARY, bytes(70000))
    batch = decode_frames(memoryview(data), 7, 2)
    assert (batch.data, len(batch)) == (data, 2)
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match=f"message count is {count}, found 2"):
            decode_frames(memoryview(data), 7, count)


def test_offsets_stay_below_64_bits() -> None:
    data = memoryview(frame(Opcode.TEXT, b""))
    assert len(decode_frames(data, 2**64 - 2, 1)) == 1
    with pytest.raises(ValueError, match="too large"):
        decode_frames(data, 2**64 - 1, 1)
