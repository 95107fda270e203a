from __future__ import annotations

import sys
import zlib

import pytest
from tests.support.wire import (
    BINARY,
    CLOSE,
    CONT,
    FIN,
    MASK,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    feed,
    flat,
    messages,
    raw_frame,
    split,
)

from lobby_gateway.websocket.deflate import Inflater
from lobby_gateway.websocket.frames import Batch, Opcode, frame
from lobby_gateway.websocket.parser import Close, Event, FrameParser, Message, Ping, Pong, Violation

LIMIT = 1 << 17
EMOJI = "\N{PARTY POPPER}".encode()


def server_side(limit: int = LIMIT, inflater: Inflater | None = None) -> FrameParser:
    return FrameParser(masked=True, max_message_bytes=limit, deflate=inflater)


def client_side(limit: int = LIMIT, inflater: Inflater | None = None) -> FrameParser:
    return FrameParser(masked=False, max_message_bytes=limit, deflate=inflater)


@pytest.fixture(params=[True, False], ids=["masked", "unmasked"])
def masked(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def parser_for(masked: bool, limit: int = LIMIT, inflater: Inflater | None = None) -> FrameParser:
    return FrameParser(masked=masked, max_message_bytes=limit, deflate=inflater)


def sent(masked: bool, first: int, payload: bytes = b"", length: int | None = None, size: int | None = None) -> bytes:
    return raw_frame(first, payload, mask=MASK if masked else None, length=length, size=size)


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def only_batch(events: list[Event]) -> Batch:
    assert len(events) == 1
    assert isinstance(events[0], Batch)
    return events[0]


def broken(events: list[Event], code: int, reason: str) -> list[Event]:
    """Checks that events end with a violation; returns those before it."""
    last = events[-1]
    assert isinstance(last, Violation), events
    assert (last.code, reason in last.reason) == (code, True), last
    assert not any(isinstance(event, Close | Violation) for event in events[:-1])
    return events[:-1]


# Frames of an origin


def test_read_of_whole_frames_is_the_batch_itself() -> None:
    data = b"".join(raw_frame(FIN | TEXT, b"x" * size) for size in (0, 1, 125, 126, 65535, 65536))
    batch = only_batch(client_side().receive(data))
    assert batch.data is data
    assert [len(message.payload) for message in messages(batch)] == [0, 1, 125, 126, 65535, 65536]


@pytest.mark.parametrize("payload", [b"x", b"\x7f", b"\x80", "é".encode()], ids=["x", "del", "not-utf8", "two-bytes"])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("repeat", [0, 1, 62, 63, 125, 126, 127, 300, 65535, 65536])
def test_one_message_means_the_same_in_one_read_and_in_two(opcode: int, repeat: int, payload: bytes) -> None:
    data = sent(False, FIN | opcode, payload * repeat)
    whole, cut = client_side(), client_side()
    one = whole.receive(data)
    two = [*cut.receive(data[:1]), *cut.receive(data[1:])]
    assert flat(one) == flat(two)
    assert whole.idle == cut.idle
    assert whole.frames == 1


@pytest.mark.parametrize(("length", "size"), [(125, 2), (0, 2), (65535, 8)])
def test_one_message_with_a_longer_length_than_needed_is_refused_in_one_read(length: int, size: int) -> None:
    data = sent(False, FIN | BINARY, bytes(length), length=length, size=size)
    assert client_side().receive(data) == [Violation(1002, "length is not encoded in its shortest form")]


def test_one_message_inside_a_fragmented_one_is_refused_in_one_read() -> None:
    parser = client_side()
    parser.receive(sent(False, TEXT, b"a"))
    assert parser.receive(sent(False, FIN | TEXT, b"b")) == [Violation(1002, "data frame inside a fragmented message")]


def test_frames_of_one_read_are_one_batch_byte_for_byte() -> None:
    data = raw_frame(FIN | TEXT, b"one") + raw_frame(FIN | BINARY, b"\xff\x81") + raw_frame(FIN | TEXT, EMOJI)
    batch = only_batch(client_side().receive(data))
    assert batch.data == data
    assert messages(batch) == [Message(TEXT, b"one"), Message(BINARY, b"\xff\x81"), Message(TEXT, EMOJI)]


def test_frame_split_by_a_read_comes_with_the_next_one() -> None:
    first, second, third = (raw_frame(FIN | TEXT, payload) for payload in (b"a" * 50, b"b" * 200, b"c" * 50))
    parser = client_side()
    assert only_batch(parser.receive(first + second[:60])).data == first
    assert only_batch(parser.receive(second[60:] + third)).data == second + third


@pytest.mark.parametrize("length", [5, 126, 300, 65536, LIMIT])
def test_frame_may_be_split_anywhere(masked: bool, length: int) -> None:
    data = sent(masked, FIN | TEXT, b"x" * length)
    for cut in [*range(1, 16), len(data) - 1]:
        if cut < len(data):
            parser = parser_for(masked)
            assert parser.receive(data[:cut]) == []
            assert flat(parser.receive(data[cut:])) == [Message(TEXT, b"x" * length)]


def test_large_message_comes_in_many_reads(masked: bool) -> None:
    payload = b"0123456789abcdef" * 65536
    data = sent(masked, FIN | BINARY, payload) + sent(masked, FIN | TEXT, b"after")
    pieces = [data[start : start + 65536] for start in range(0, len(data), 65536)]
    assert feed(parser_for(masked, 1 << 20), pieces) == [Message(BINARY, payload), Message(TEXT, b"after")]


def test_empty_read_gives_nothing(masked: bool) -> None:
    parser = parser_for(masked)
    assert parser.receive(b"") == []
    parser.receive(sent(masked, FIN | TEXT, b"abc")[:3])
    assert parser.receive(b"") == []
    assert flat(parser.receive(sent(masked, FIN | TEXT, b"abc")[3:])) == [Message(TEXT, b"abc")]


def test_control_frame_between_data_frames_splits_the_batch() -> None:
    one, two, three = (raw_frame(FIN | TEXT, payload) for payload in (b"one", b"two" * 50, b"\xc3\xa9"))
    events = client_side().receive(one + raw_frame(FIN | PING, b"?") + two + three + raw_frame(FIN | PONG))
    assert [event.data if isinstance(event, Batch) else event for event in events] == [
        one,
        Ping(b"?"),
        two + three,
        Pong(b""),
    ]
    assert flat(events) == [
        Message(TEXT, b"one"),
        Ping(b"?"),
        Message(TEXT, b"two" * 50),
        Message(TEXT, b"\xc3\xa9"),
        Pong(b""),
    ]


def test_fragmented_message_becomes_one_frame_of_the_same_batch() -> None:
    fragments = raw_frame(TEXT, b"ab") + raw_frame(CONT) + raw_frame(CONT, b"c" * 200) + raw_frame(FIN | CONT, b"d")
    one, two = raw_frame(FIN | BINARY, b"one"), raw_frame(FIN | TEXT, b"two")
    batch = only_batch(client_side().receive(one + fragments + two))
    assert batch.data == one + raw_frame(FIN | TEXT, b"ab" + b"c" * 200 + b"d") + two
    assert [bytes(part) for part in batch.frames] == [one, raw_frame(FIN | TEXT, b"ab" + b"c" * 200 + b"d"), two]


def test_control_frames_may_come_between_fragments(masked: bool) -> None:
    data = (
        sent(masked, BINARY, b"\xff")
        + sent(masked, FIN | PING, b"1")
        + sent(masked, CONT, b"\x00")
        + sent(masked, FIN | PONG, b"2")
        + sent(masked, FIN | CONT, b"\x81")
    )
    assert flat(parser_for(masked).receive(data)) == [Ping(b"1"), Pong(b"2"), Message(BINARY, b"\xff\x00\x81")]


def test_close_may_come_between_fragments(masked: bool) -> None:
    data = sent(masked, TEXT, b"never whole") + sent(masked, FIN | CLOSE, b"\x03\xe8")
    assert parser_for(masked).receive(data) == [Close(1000, "")]


def test_fragments_may_split_a_character(masked: bool) -> None:
    data = sent(masked, TEXT, EMOJI[:1]) + sent(masked, CONT, EMOJI[1:3]) + sent(masked, FIN | CONT, EMOJI[3:])
    assert flat(parser_for(masked).receive(data)) == [Message(TEXT, EMOJI)]


# UTF-8


@pytest.mark.parametrize(
    "text",
    [
        b"\x80",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",  # a surrogate
        b"\xc0\xaf",  # overlong
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        EMOJI[:3],
        b"a" * 200 + b"\xe2\x82",
    ],
)
@pytest.mark.parametrize("before", [b"", b"fine"], ids=["alone", "behind another"])
def test_text_that_is_not_utf8_is_a_violation(masked: bool, before: bytes, text: bytes) -> None:
    head = sent(masked, FIN | TEXT, before) if before else b""
    data = head + sent(masked, FIN | TEXT, text) + sent(masked, FIN | TEXT, b"never seen")
    events = broken(flat(parser_for(masked).receive(data)), 1007, "not UTF-8")
    assert events == ([Message(TEXT, before)] if before else [])


def test_character_must_not_continue_in_the_next_message(masked: bool) -> None:
    data = sent(masked, FIN | TEXT, EMOJI[:2]) + sent(masked, FIN | TEXT, EMOJI[2:])
    assert broken(flat(parser_for(masked).receive(data)), 1007, "not UTF-8") == []


def test_message_that_is_not_utf8_ends_the_batch_before_it() -> None:
    sizes = [3, 130, 66000]
    good = [raw_frame(FIN | TEXT, b"\xc3\xa9" * size) for size in sizes]
    data = b"".join(good) + raw_frame(FIN | BINARY, b"\xff") + raw_frame(FIN | TEXT, b"\xff") + good[0]
    events = client_side(1 << 20).receive(data)
    broken(events, 1007, "not UTF-8")
    assert isinstance(events[0], Batch)
    assert events[0].data == b"".join(good) + raw_frame(FIN | BINARY, b"\xff")
    assert len(events[0].ends) == 4


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
@pytest.mark.parametrize("last", [raw_frame(FIN | BINARY, b"\xff" * 200), raw_frame(FIN | TEXT, b"\xc3\xa9" * 100)])
def test_texts_are_validated_without_the_incomplete_frame(last: bytes, cut: int) -> None:
    whole = raw_frame(FIN | TEXT, b"one") + raw_frame(FIN | BINARY, b"\xff") + raw_frame(FIN | TEXT, b"x" * 300)
    parser = client_side()
    assert only_batch(parser.receive(whole + last[:cut])).data == whole
    assert only_batch(parser.receive(last[cut:])).data == last


def test_binary_messages_are_not_validated() -> None:
    data = raw_frame(FIN | BINARY, b"\xff" * 200) + raw_frame(FIN | TEXT, b"text") + raw_frame(FIN | BINARY, b"\xc3")
    assert only_batch(client_side().receive(data)).data == data
    assert only_batch(client_side().receive(raw_frame(FIN | BINARY, b"\xff") * 2)).ends == [3, 6]


@pytest.mark.parametrize("size", [126, 127, 128, 255, 256, 32768, 65535, 65536, 65536 + 0xC3A9])
def test_length_of_a_frame_is_not_validated_as_text(size: int) -> None:
    # The bytes of an extended length may look like the end, or the beginning, of a character.
    data = raw_frame(FIN | TEXT, b"a") + raw_frame(FIN | TEXT, b"x" * size) + raw_frame(FIN | TEXT, EMOJI)
    assert only_batch(client_side().receive(data)).data == data


def test_fragmented_text_that_is_not_utf8_is_a_violation(masked: bool) -> None:
    data = sent(masked, FIN | TEXT, b"ok") + sent(masked, TEXT, EMOJI[:2]) + sent(masked, FIN | CONT, b"x")
    assert broken(flat(parser_for(masked).receive(data)), 1007, "not UTF-8") == [Message(TEXT, b"ok")]


# Limits


@pytest.mark.parametrize("limit", [0, 1, 100, 125, 126, 127, 65535, 65536])
def test_message_may_be_as_large_as_the_limit_and_no_larger(masked: bool, limit: int) -> None:
    exact = sent(masked, FIN | TEXT, b"x" * limit)
    over = sent(masked, FIN | TEXT, b"x" * (limit + 1))
    assert flat(parser_for(masked, limit).receive(exact)) == [Message(TEXT, b"x" * limit)]
    assert broken(flat(parser_for(masked, limit).receive(over)), 1009, f"more than {limit} bytes") == []
    events = flat(parser_for(masked, limit).receive(exact + over))
    assert broken(events, 1009, f"more than {limit} bytes") == [Message(TEXT, b"x" * limit)]


@pytest.mark.parametrize("length", [1001, 65536, 1 << 40, (1 << 63) - 1])
def test_too_large_message_is_refused_at_its_header(masked: bool, length: int) -> None:
    data = sent(masked, FIN | BINARY, length=length)
    header = data[: -4 if masked else None]
    assert broken(parser_for(masked, 1000).receive(header), 1009, "more than 1000 bytes") == []
    byte_by_byte = [bytes((byte,)) for byte in header]
    assert broken(feed(parser_for(masked, 1000), byte_by_byte), 1009, "more than 1000 bytes") == []


def test_sizes_of_fragments_add_up(masked: bool) -> None:
    parser = parser_for(masked, 1000)
    for _ in range(2):
        assert parser.receive(sent(masked, TEXT, b"x" * 400)) == []
        assert parser.receive(sent(masked, CONT, b"x" * 600)) == []
        assert flat(parser.receive(sent(masked, FIN | CONT))) == [Message(TEXT, b"x" * 1000)]
    parser.receive(sent(masked, BINARY, b"x" * 999))
    assert broken(parser.receive(sent(masked, CONT, length=2)[:2]), 1009, "more than 1000") == []


def test_control_frames_do_not_count_toward_the_limit(masked: bool) -> None:
    data = sent(masked, FIN | PING, b"p" * 125) + sent(masked, TEXT, b"ab") + sent(masked, FIN | PONG, b"p" * 125)
    assert parser_for(masked, 2).receive(data) == [Ping(b"p" * 125), Pong(b"p" * 125)]


# What no frame may be


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcode_is_a_violation(masked: bool, opcode: int) -> None:
    data = sent(masked, FIN | TEXT, b"ok") + sent(masked, FIN | opcode)
    assert broken(flat(parser_for(masked).receive(data)), 1002, "reserved opcode") == [Message(TEXT, b"ok")]


@pytest.mark.parametrize("bits", [RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_reserved_bit_is_a_violation(masked: bool, opcode: int, bits: int) -> None:
    assert broken(parser_for(masked).receive(sent(masked, FIN | bits | opcode)), 1002, "reserved bit") == []


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_deflated_control_frame_is_a_violation(masked: bool, opcode: int) -> None:
    parser = parser_for(masked, inflater=Inflater(LIMIT))
    assert broken(parser.receive(sent(masked, FIN | RSV1 | opcode)), 1002, "reserved bit") == []


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_fragmented_control_frame_is_a_violation(masked: bool, opcode: int) -> None:
    assert broken(parser_for(masked).receive(sent(masked, opcode)), 1002, "fragmented control frame") == []


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
@pytest.mark.parametrize("length", [126, 65536])
def test_long_control_frame_is_a_violation(masked: bool, opcode: int, length: int) -> None:
    data = sent(masked, FIN | opcode, b"x" * length)
    assert broken(parser_for(masked).receive(data[:2]), 1002, "more than 125 bytes") == []


@pytest.mark.parametrize("first", [CONT, FIN | CONT])
def test_continuation_of_nothing_is_a_violation(masked: bool, first: int) -> None:
    assert broken(parser_for(masked).receive(sent(masked, first)), 1002, "continuation frame without a message") == []
    after_a_message = sent(masked, TEXT) + sent(masked, FIN | CONT, b"x") + sent(masked, first)
    events = flat(parser_for(masked).receive(after_a_message))
    assert broken(events, 1002, "continuation frame without a message") == [Message(TEXT, b"x")]


@pytest.mark.parametrize("first", [TEXT, BINARY, FIN | TEXT, FIN | BINARY])
def test_data_frame_inside_a_fragmented_message_is_a_violation(masked: bool, first: int) -> None:
    data = sent(masked, TEXT, b"a") + sent(masked, first, b"b")
    assert broken(parser_for(masked).receive(data), 1002, "inside a fragmented message") == []


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
@pytest.mark.parametrize("length", [0, 5])
def test_unmasked_frame_of_a_client_is_a_violation(opcode: int, length: int) -> None:
    data = raw_frame(FIN | opcode, b"x" * length)
    assert broken(server_side().receive(data), 1002, "unmasked frame") == []


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
@pytest.mark.parametrize("length", [0, 5, 125, 126])
def test_masked_frame_of_an_origin_is_a_violation(opcode: int, length: int) -> None:
    if length > 125 and opcode >= CLOSE:
        length = 125
    data = raw_frame(FIN | TEXT, b"ok") + raw_frame(FIN | opcode, b"x" * length, mask=MASK)
    assert broken(flat(client_side().receive(data)), 1002, "masked frame") == [Message(TEXT, b"ok")]


@pytest.mark.parametrize(("length", "size"), [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)])
@pytest.mark.parametrize("first", [FIN | TEXT, BINARY])
def test_length_must_have_its_shortest_form(masked: bool, first: int, length: int, size: int) -> None:
    data = sent(masked, first, b"x" * length, size=size)
    assert broken(parser_for(masked).receive(data), 1002, "shortest form") == []


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1])
def test_length_must_not_have_its_top_bit(masked: bool, length: int) -> None:
    assert broken(parser_for(masked).receive(sent(masked, FIN | TEXT, length=length)), 1002, "shortest form") == []


# Close


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_with_an_allowed_code(masked: bool, code: int) -> None:
    data = sent(masked, FIN | CLOSE, code.to_bytes(2, "big") + "adiós".encode())
    assert parser_for(masked).receive(data) == [Close(code, "adiós")]


def test_close_without_a_code(masked: bool) -> None:
    assert parser_for(masked).receive(sent(masked, FIN | CLOSE)) == [Close(1005, "")]


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_close_with_a_reserved_code(masked: bool, code: int) -> None:
    data = sent(masked, FIN | CLOSE, code.to_bytes(2, "big"))
    assert broken(parser_for(masked).receive(data), 1002, "reserved close code") == []


def test_close_with_half_a_code(masked: bool) -> None:
    assert broken(parser_for(masked).receive(sent(masked, FIN | CLOSE, b"\x03")), 1002, "half a status code") == []


def test_close_with_a_reason_that_is_not_utf8(masked: bool) -> None:
    data = sent(masked, FIN | CLOSE, b"\x03\xe8\xff")
    assert broken(parser_for(masked).receive(data), 1007, "reason of a close frame") == []


@pytest.mark.parametrize("end", [FIN | CLOSE, FIN | 3], ids=["close", "violation"])
def test_there_are_no_events_after_the_end(masked: bool, end: int) -> None:
    parser = parser_for(masked)
    more = sent(masked, FIN | TEXT, b"more") + sent(masked, FIN | CLOSE)
    assert len(parser.receive(sent(masked, TEXT, b"begun") + sent(masked, end) + more)) == 1
    assert parser.receive(more) == []
    assert parser.receive(more[:3]) == []
    assert sys.getsizeof(parser) == sys.getsizeof(parser_for(masked))
    assert (parser._buffer, parser._fragments) == (None, None)


# permessage-deflate


def test_deflated_message_is_inflated(masked: bool) -> None:
    text = "größer ".encode() * 100
    parser = parser_for(masked, inflater=Inflater(LIMIT))
    data = sent(masked, FIN | TEXT, b"plain") + sent(masked, FIN | RSV1 | TEXT, deflated(text))
    events = parser.receive(data + sent(masked, FIN | RSV1 | BINARY, deflated(b"\xff")))
    assert flat(events) == [Message(TEXT, b"plain"), Message(TEXT, text), Message(BINARY, b"\xff")]
    if not masked:  # a batch never holds a deflated frame
        batch = only_batch(events)
        assert [part[0] for part in batch.frames] == [FIN | TEXT, FIN | TEXT, FIN | BINARY]


def test_deflated_message_may_be_fragmented(masked: bool) -> None:
    data = deflated(b"abc" * 1000)
    parser = parser_for(masked, inflater=Inflater(LIMIT))
    parser.receive(sent(masked, RSV1 | TEXT, data[:5]))
    assert parser.receive(sent(masked, FIN | PING)) == [Ping(b"")]
    assert flat(parser.receive(sent(masked, FIN | CONT, data[5:]))) == [Message(TEXT, b"abc" * 1000)]
    assert flat(parser.receive(sent(masked, TEXT, b"pl") + sent(masked, FIN | CONT, b"ain"))) == [
        Message(TEXT, b"plain")
    ]


def test_rsv1_on_a_continuation_is_a_violation(masked: bool) -> None:
    parser = parser_for(masked, inflater=Inflater(LIMIT))
    parser.receive(sent(masked, RSV1 | TEXT, deflated(b"abc")))
    assert broken(parser.receive(sent(masked, FIN | RSV1 | CONT)), 1002, "reserved bit") == []


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (deflated(b"\xff"), 1007, "not UTF-8"),
        (b"\xff\xff\xff", 1007, "not DEFLATE"),
        (deflated(b"x" * 2000), 1009, "more than 1000 bytes"),
    ],
)
def test_invalid_deflated_messages_are_violations(masked: bool, payload: bytes, code: int, reason: str) -> None:
    parser = parser_for(masked, 1000, Inflater(1000))
    assert broken(parser.receive(sent(masked, FIN | RSV1 | TEXT, payload)), code, reason) == []


def test_the_parsers_limit_applies_with_a_shared_inflater(masked: bool) -> None:
    parser = parser_for(masked, 1000, Inflater(5000))
    data = sent(masked, FIN | RSV1 | TEXT, deflated(b"x" * 1001))
    assert broken(parser.receive(data), 1009, "more than 1000 bytes") == []


# Memory


def test_idle_parser_keeps_nothing() -> None:
    parser = server_side()
    assert not hasattr(parser, "__dict__")
    assert sys.getsizeof(parser) <= 96
    for data in split(raw_frame(TEXT, b"a", mask=MASK) + raw_frame(FIN | CONT, b"b", mask=MASK), range(99)):
        parser.receive(data)
    assert (parser._buffer, parser._fragments) == (None, None)


def test_only_the_received_part_of_a_frame_is_kept() -> None:
    parser = server_side(1 << 30)
    parser.receive(raw_frame(FIN | BINARY, length=1 << 30, mask=MASK))
    assert parser._buffer is not None
    assert len(parser._buffer) == 14


def test_frames_of_the_latest_read_are_counted_including_fragments() -> None:
    parser = server_side()
    parser.receive(sent(True, TEXT) + sent(True, CONT) * 3 + sent(True, FIN | PING))
    assert parser.frames == 5
    parser.receive(sent(True, CONT, b"abc")[:-1])
    assert parser.frames == 1
    parser.receive(b"")
    assert parser.frames == 0


def test_incomplete_counts_the_bytes_of_a_message_of_which_more_is_to_come() -> None:
    parser = FrameParser(masked=False, max_message_bytes=1 << 20)
    assert parser.incomplete == 0
    parser.receive(frame(Opcode.TEXT, b"whole") + frame(Opcode.TEXT, b"x" * 200)[:50])
    assert parser.incomplete == 50
    parser.receive(b"x" * 50)
    assert parser.incomplete == 100
    parser.receive(b"x" * 104 + frame(Opcode.PING, b"ping")[:3])
    assert parser.incomplete == 0  # a control frame is no message
    parser.receive(frame(Opcode.PING, b"ping")[3:] + b"\x01\x02hi" + frame(Opcode.PONG, b"")[:1])
    assert parser.incomplete == 2
