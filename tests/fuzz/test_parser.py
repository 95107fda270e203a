"""Any bytes give events, ending with a violation if there is one; no other exception is raised, and buffers stay bounded."""

from __future__ import annotations

import tracemalloc

from hypothesis import event, given
from hypothesis import strategies as st
from tests.support.wire import MASK, TEXT, raw_frame
from tests.support.wire_strategies import any_streams

from lobby_gateway.websocket.deflate import Inflater
from lobby_gateway.websocket.frames import Batch
from lobby_gateway.websocket.parser import Close, FrameParser, Message, Ping, Pong, Violation

MAX_HEADER = 14
CODES = (1002, 1007, 1009)


@st.composite
def pieces(draw: st.DrawFn, masked: bool) -> list[bytes]:
    """Reads: streams of either side, including the wrong one, and noise, in any order."""
    streams = st.one_of(any_streams(masked=masked), any_streams(masked=not masked), st.binary(max_size=300))
    return draw(st.lists(streams, max_size=4))


def buffered(parser: FrameParser) -> int:
    """Bytes of payload that a parser buffers."""
    fragments = len(parser._fragments.data) if parser._fragments is not None else 0
    return fragments + len(parser._buffer or b"")


@given(st.data(), st.booleans(), st.sampled_from([0, 1, 125, 126, 1000, 1 << 17]), st.booleans())
def test_any_bytes_give_events_or_a_violation(data: st.DataObject, masked: bool, limit: int, deflate: bool) -> None:
    parser = FrameParser(masked=masked, max_message_bytes=limit, deflate=Inflater(limit) if deflate else None)
    over = False
    for read in data.draw(pieces(masked)):
        events = parser.receive(read)
        assert buffered(parser) <= 2 * limit + MAX_HEADER + 125
        if over:
            assert events == []
            assert buffered(parser) == 0
        for index, each in enumerate(events):
            last = index == len(events) - 1
            match each:
                case Batch():
                    assert not masked
                    assert all(len(each.payload(number)) <= limit for number in range(len(each)))
                case Message(payload=payload):
                    assert masked
                    assert len(payload) <= limit
                case Ping(payload) | Pong(payload):
                    assert len(payload) <= 125
                case Close(code, reason):
                    assert last
                    assert 1000 <= code < 5000
                    assert len(reason.encode()) <= 123
                    over = True
                case Violation(code, reason):
                    assert last
                    assert code in CODES
                    assert 0 < len(reason.encode()) <= 123
                    over = True
                    event(reason)


@given(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=5), st.integers(1, 40))
def test_small_reads_of_a_large_message_cost_no_more_than_their_bytes(parts: list[bytes], times: int) -> None:
    # A client that sends one byte at a time must not make the parser keep an object for each.
    parser = FrameParser(masked=True, max_message_bytes=1 << 20)
    parser.receive(raw_frame(TEXT, length=1 << 20, mask=MASK))
    sent = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(times * 10):
            for part in parts:
                assert parser.receive(bytes(bytearray(part))) == []
                sent += len(part)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 2 * sent + 1000
