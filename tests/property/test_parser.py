"""The laws of the frame parser: how reads are split does not matter, and it agrees with another implementation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import event, example, given
from hypothesis import strategies as st
from tests.support.wire import (
    BINARY,
    CLOSE,
    CONT,
    FIN,
    MASK,
    PING,
    RSV1,
    TEXT,
    feed,
    flat,
    raw_frame,
    split,
)
from tests.support.wire_strategies import Sent, any_streams, closes, conversations, cuts, endings, masks
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close as TheirClose
from websockets.frames import Frame
from websockets.protocol import CLIENT, SERVER, Protocol

from lobby_gateway.websocket.deflate import Inflater
from lobby_gateway.websocket.frames import Batch
from lobby_gateway.websocket.parser import Close, Event, FrameParser, Message, Ping, Pong, Violation

LIMIT = 1 << 16


def parser_for(masked: bool, limit: int = LIMIT, deflate: bool = False) -> FrameParser:
    return FrameParser(masked=masked, max_message_bytes=limit, deflate=Inflater(limit) if deflate else None)


def meant(sent: Sequence[Sent]) -> list[Event]:
    """The expected events of a conversation."""
    events: list[Event] = []
    for each in sent:
        if each.opcode in (TEXT, BINARY):
            events += [Ping(ping) for _ in each.cuts for ping in each.between]
            events.append(Message(each.opcode, each.payload))
        elif each.opcode == CLOSE:
            code = int.from_bytes(each.payload[:2], "big") or 1005
            events.append(Close(code, each.payload[2:].decode()))
        else:
            events.append(Ping(each.payload) if each.opcode == PING else Pong(each.payload))
    return events


@given(sent=conversations, ending=endings, mask=st.none() | masks, where=cuts)
def test_events_match_what_was_sent(
    sent: list[Sent], ending: Sent | None, mask: bytes | None, where: list[int]
) -> None:
    if ending is not None:
        sent = [*sent, ending]
    data = b"".join(each.encoded(mask) for each in sent)
    assert feed(parser_for(mask is not None), split(data, where)) == meant(sent)


@given(st.data(), st.booleans(), cuts)
def test_how_reads_are_split_does_not_matter(data: st.DataObject, masked: bool, where: list[int]) -> None:
    deflate = data.draw(st.booleans())
    limit = data.draw(st.sampled_from([0, 1, 5, 125, 126, 127, 300, LIMIT]))
    stream = data.draw(any_streams(masked=masked))
    whole = flat(parser_for(masked, limit, deflate).receive(stream))
    assert feed(parser_for(masked, limit, deflate), split(stream, where)) == whole
    if len(stream) < 1000:
        assert feed(parser_for(masked, limit, deflate), [bytes((byte,)) for byte in stream]) == whole
    event(type(whole[-1]).__name__ if whole else "nothing")


@given(sent=conversations, where=cuts)
def test_whole_frames_of_an_origin_are_not_changed(sent: list[Sent], where: list[int]) -> None:
    plain = [raw_frame(FIN | each.opcode, each.payload) for each in sent if each.opcode in (TEXT, BINARY)]
    parser = parser_for(False)
    events = [event for piece in split(b"".join(plain), where) for event in parser.receive(piece)]
    frames = [frame for event in events if isinstance(event, Batch) for frame in event.frames]
    assert frames == plain
    for read in events:
        assert isinstance(read, Batch)
        assert list(Batch.scan(read.data).ends) == list(read.ends)


@given(stream=any_streams(masked=False), where=cuts)
def test_batches_are_whole_frames_and_texts_utf8(stream: bytes, where: list[int]) -> None:
    parser = parser_for(False)
    for read in split(stream, where):
        events = parser.receive(read)
        for one, two in pairwise(events):
            assert not (isinstance(one, Batch) and isinstance(two, Batch)), "messages of one read form one batch"
        for batch in events:
            if isinstance(batch, Batch):
                assert len(batch) > 0
                assert list(Batch.scan(batch.data).ends) == list(batch.ends)
                for message in flat([batch]):
                    assert isinstance(message, Message)
                    assert message.opcode in (TEXT, BINARY)
                    if message.opcode == TEXT:
                        message.payload.decode()


# Another implementation: websockets

WE_ARE_STRICTER = (
    "shortest form",  # it accepts any encoding of a length
    "more than 125 bytes",  # also of control frames
    "final block",  # it ignores data after the final block of a deflated message
)


THEY_ARE_STRICTER = (
    "incomplete fragmented message",  # a close within a message, which RFC 6455 §5.4 allows
    "decompression failed",  # they inflate each fragment, we inflate the whole message
)


def theirs(data: bytes, masked: bool, deflate: bool) -> tuple[list[Event], int | None, str]:
    """What websockets reads: events, and code and reason of its failure, if any."""
    protocol = Protocol(SERVER if masked else CLIENT, max_size=LIMIT)
    if deflate:
        protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(data)
    events: list[Event] = []
    opcode, parts = 0, bytearray()
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        payload = bytes(frame.data)
        if frame.opcode in (TEXT, BINARY, CONT):
            opcode = frame.opcode or opcode
            parts = parts + payload if frame.opcode == CONT else bytearray(payload)
            if frame.fin:
                try:
                    bytes(parts).decode("utf-8" if opcode == TEXT else "latin-1")
                except UnicodeDecodeError:
                    return events, 1007, ""
                events.append(Message(int(opcode), bytes(parts)))
        elif frame.opcode == CLOSE:
            close = TheirClose.parse(payload)
            return [*events, Close(int(close.code), close.reason)], None, ""
        else:
            events.append(Ping(payload) if frame.opcode == PING else Pong(payload))
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        return events, int(protocol.close_sent.code), protocol.close_sent.reason
    return events, None, ""


@given(st.data(), st.booleans(), st.booleans())
def test_agrees_with_websockets(data: st.DataObject, masked: bool, deflate: bool) -> None:
    stream = data.draw(any_streams(masked=masked))
    ours = flat(parser_for(masked, deflate=deflate).receive(stream))
    last = ours[-1] if ours else None
    if not isinstance(last, Violation):
        events, code, reason = theirs(stream, masked, deflate)
        if reason in THEY_ARE_STRICTER:
            assert ours[: len(events)] == events
            assert not any(isinstance(each, Message) for each in ours[len(events) :])
        else:
            assert (ours, None) == (events, code)
        event("no violation")
        return
    event(f"violation: {last.reason}")
    # They check a frame once its payload has arrived; we check its header, so the announced payload is added.
    events, code, _ = theirs(stream + bytes(1 << 17), masked, deflate)
    if any(reason in last.reason for reason in WE_ARE_STRICTER):
        assert events[: len(ours) - 1] == ours[:-1]
        return
    assert events == ours[:-1]
    assert code in (1002, 1007, 1009), last
    if code != last.code:
        # For a frame with two errors, they check its size before its bits. They use 1002 for invalid DEFLATE data.
        assert {code, last.code} in ({1002, 1009}, {1002, 1007}), (code, last)


@given(sent=conversations, ending=st.none() | closes, where=cuts)
def test_messages_of_a_websockets_server_are_parsed(sent: list[Sent], ending: Sent | None, where: list[int]) -> None:
    sender = Protocol(SERVER)
    sender.extensions = [PerMessageDeflate(True, True, 15, 15)]
    for each in sent:
        match each.opcode:
            case 0x1:
                sender.send_text(each.payload)
            case 0x2:
                sender.send_binary(each.payload)
            case 0x9:
                sender.send_ping(each.payload)
            case _:
                sender.send_pong(each.payload)
    if ending is not None:
        sender.send_close(int.from_bytes(ending.payload[:2], "big"), ending.payload[2:].decode())
    data = b"".join(sender.data_to_send())
    plain = [Sent(each.opcode, each.payload) for each in sent]
    events = feed(parser_for(False, 1 << 17, deflate=True), split(data, where))
    assert events == meant([*plain, ending] if ending is not None else plain)


# A deflated message that is also fragmented, with a ping between, byte by byte.
@example(b"abc" * 100, 7)
@given(payload=st.binary(max_size=300), at=st.integers(0, 300))
def test_deflated_fragments(payload: bytes, at: int) -> None:
    compressor = zlib.compressobj(wbits=-15)
    data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    stream = (
        raw_frame(RSV1 | BINARY, data[:at], mask=MASK)
        + raw_frame(FIN | PING, b"?", mask=MASK)
        + raw_frame(FIN | CONT, data[at:], mask=MASK)
    )
    events = feed(parser_for(True, deflate=True), [bytes((byte,)) for byte in stream])
    assert events == [Ping(b"?"), Message(BINARY, payload)]
