"""The laws of compression: deflated data inflates to the original, here and in other implementations, within bounds."""

from __future__ import annotations

import zlib

from hypothesis import event, given
from hypothesis import strategies as st
from tests.support.wire import BINARY, TEXT, feed, flat, messages, split
from tests.support.wire_strategies import binaries, cuts, texts
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from lobby_gateway.websocket.deflate import InflateError, Inflater, deflate_batch, negotiate
from lobby_gateway.websocket.frames import Batch, frame
from lobby_gateway.websocket.parser import FrameParser, Message
from lobby_gateway.websocket.server_handshake import accept_response, parse_request, upgrade

LIMIT = 1 << 18
payloads = st.one_of(
    texts(),
    binaries(),
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=40), st.integers(1, 2000)),
)
batches = st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), payloads), max_size=5)


def inflated_or_code(data: bytes, limit: int) -> bytes | int:
    """The message, or the close code if it can't be inflated."""
    try:
        return Inflater(limit).inflate(data)
    except InflateError as error:
        return error.code


def client_with_deflate(factory: ClientPerMessageDeflateFactory) -> ClientProtocol:
    """A `websockets` client that has negotiated compression with our server."""
    client = ClientProtocol(parse_uri("ws://lobby.example/"), extensions=[factory], max_size=LIMIT)
    client.send_request(client.connect())
    request = parse_request(b"".join(client.data_to_send()))
    assert request is not None
    client.receive_data(accept_response(request, extensions=negotiate(upgrade(request).extensions)))
    assert client.state is OPEN
    assert len(client.extensions) == 1
    client.events_received()
    return client


factories = st.builds(
    ClientPerMessageDeflateFactory,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.sampled_from([None, 15]),
    client_max_window_bits=st.sampled_from([None, True, 9, 12, 15]),
)


@given(factory=factories, sent=batches, where=cuts)
def test_websockets_client_inflates_our_messages(
    factory: ClientPerMessageDeflateFactory, sent: list[tuple[int, bytes]], where: list[int]
) -> None:
    client = client_with_deflate(factory)
    batch = Batch.of([frame(opcode, payload) for opcode, payload in sent])
    deflated = deflate_batch(batch)
    assert len(deflated) == len(batch)
    assert len(deflated.data) <= len(batch.data)
    for piece in split(deflated.data, where):
        client.receive_data(piece)
    received = client.events_received()
    assert client.parser_exc is None
    assert [(int(each.opcode), bytes(each.data)) for each in received if isinstance(each, Frame)] == sent


@given(factory=factories, sent=batches, where=cuts)
def test_messages_of_a_websockets_client_are_inflated(
    factory: ClientPerMessageDeflateFactory, sent: list[tuple[int, bytes]], where: list[int]
) -> None:
    client = client_with_deflate(factory)
    expected = []
    for opcode, payload in sent:
        text = payload.decode(errors="replace").encode() if opcode == TEXT else payload
        (client.send_text if opcode == TEXT else client.send_binary)(text)
        expected.append(Message(opcode, text))
    data = b"".join(client.data_to_send())
    parser = FrameParser(masked=True, max_message_bytes=LIMIT, deflate=Inflater(LIMIT))
    assert feed(parser, split(data, where)) == expected


@given(sent=batches)
def test_our_parser_inflates_our_messages(sent: list[tuple[int, bytes]]) -> None:
    plain = [(opcode, payload) for opcode, payload in sent if opcode == BINARY]
    batch = Batch.of([frame(opcode, payload) for opcode, payload in plain])
    parser = FrameParser(masked=False, max_message_bytes=LIMIT, deflate=Inflater(LIMIT))
    assert flat(parser.receive(deflate_batch(batch).data)) == messages(batch)


@given(
    payload=payloads, level=st.integers(0, 9), bits=st.integers(9, 15), limit=st.integers(0, 2000), final=st.booleans()
)
def test_inflated_message_is_whole_or_too_large(payload: bytes, level: int, bits: int, limit: int, final: bool) -> None:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
    data = data + b"\x00" if final else data[:-4]
    result = inflated_or_code(data, limit)
    assert result == (payload if len(payload) <= limit else 1009)


@given(data=st.binary(max_size=60), limit=st.integers(0, 5000))
def test_any_bytes_are_inflated_or_refused(data: bytes, limit: int) -> None:
    result = inflated_or_code(data, limit)
    assert len(result) <= limit if isinstance(result, bytes) else result in (1007, 1009)
    event("inflated" if isinstance(result, bytes) else str(result))


@given(first=payloads, second=payloads.map(lambda payload: payload + b"." * 200))
def test_messages_are_compressed_independently(first: bytes, second: bytes) -> None:
    together = deflate_batch(Batch.of([frame(BINARY, first), frame(BINARY, second)]))
    alone = deflate_batch(Batch.of([frame(BINARY, second)]))
    assert together.frames[1] == alone.frames[0]
