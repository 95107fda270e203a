"""The laws of the handshake: how reads are split does not matter, and other implementations agree."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import h11
from hypothesis import assume, event, given
from hypothesis import strategies as st
from tests.support.wire import split
from tests.support.wire_strategies import any_heads, cuts, field_values, good_heads, tokens
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.headers import parse_extension
from websockets.http11 import Request as TheirRequest
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from lobby_gateway import close_codes
from lobby_gateway.websocket.deflate import negotiate
from lobby_gateway.websocket.server_handshake import (
    HandshakeError,
    Request,
    accept_response,
    choose_subprotocol,
    http_response,
    parse_request,
    refusal_response,
    upgrade,
)

LIMITS = st.sampled_from([1, 16, 20, 40, 120, 200, 16384])


def outcome(pieces: list[bytes], limit: int = 16384) -> str | tuple[str, dict[str, str], bytes] | None:
    """The outcome of a connection: the label of a refusal, the parsed request, or None if more bytes are needed."""
    data = b""
    request: Request | None = None
    for piece in pieces:
        data += piece
        if request is not None:
            request.leftover += piece
            continue
        try:
            request = parse_request(data, max_header_bytes=limit)
        except HandshakeError as error:
            return error.refusal.label
    return None if request is None else (request.target, request.headers, request.leftover)


@given(head=any_heads, where=cuts, limit=LIMITS)
def test_how_reads_are_split_does_not_matter(head: bytes, where: list[int], limit: int) -> None:
    whole = outcome([head], limit)
    assert outcome(split(head, where), limit) == whole
    assert outcome([bytes((byte,)) for byte in head], limit) == whole
    event(whole if isinstance(whole, str) else type(whole).__name__)


@given(
    path=st.lists(st.text("abcXYZ019-._~%!$&'()*+,;=:@", max_size=6), max_size=4),
    query=st.none()
    | st.lists(st.tuples(st.text("aé& =+%/", max_size=5), st.text("aé& =+%/?", max_size=5)), max_size=4),
    headers=st.lists(st.tuples(tokens.map(lambda name: f"X-{name}"), field_values), max_size=6),
    leftover=st.binary(max_size=10),
)
def test_request_is_parsed_as_it_was_written(
    path: list[str], query: list[tuple[str, str]] | None, headers: list[tuple[str, str]], leftover: bytes
) -> None:
    target = "/" + "/".join(path)
    if query is not None:
        escaped = ["=".join("".join(f"%{byte:02X}" for byte in part.encode()) for part in pair) for pair in query]
        target = f"{target}?{'&'.join(escaped)}"
    lines = [f"GET {target} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in headers), "", ""]
    request = parse_request("\r\n".join(lines).encode() + leftover)
    assert request is not None
    assert (request.target, request.path, request.leftover) == (target, target.partition("?")[0], leftover)
    for name, _ in query or [("none", "")]:
        assert request.query_value(name) == next((value for key, value in query or [] if key == name), None)
    expected: dict[str, str] = {"host": "a"}
    for name, value in headers:
        key = name.lower()
        expected[key] = f"{expected[key]}, {value}" if key in expected else value
    assert request.headers == expected


def read_by_h11(head: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER)
    while head.startswith(b"\r\n"):  # h11 knows nothing of these (RFC 9112 §2.2)
        head = head[2:]
    connection.receive_data(head)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    return request


@given(head=any_heads)
def test_accepted_request_is_parsed_alike_by_h11(head: bytes) -> None:
    # Differences between parsers allow request smuggling.
    try:
        request = parse_request(head)
    except HandshakeError as error:
        event(error.refusal.label)
        return
    assume(request is not None)
    assert request is not None
    event("accepted")
    other = read_by_h11(head)
    target = urlsplit(other.target.decode())
    assert (other.method, urlunsplit(("", "", target.path or "/", target.query, ""))) == (b"GET", request.target)
    joined: dict[str, str] = {}
    for raw_name, raw_value in other.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        separator = "; " if name == "cookie" else ", "
        joined[name] = f"{joined[name]}{separator}{value}" if name in joined else value
    if target.netloc:  # absolute-form
        joined["host"] = target.netloc
    assert joined == request.headers


@given(head=st.one_of(good_heads, any_heads))
def test_accepted_upgrade_is_accepted_by_websockets(head: bytes) -> None:
    try:
        request = parse_request(head)
        assume(request is not None)
        assert request is not None
        offered = upgrade(request)
    except HandshakeError as error:
        event(error.refusal.label)
        return
    assume(request.headers["upgrade"].lower() == "websocket")  # they reject a list, which RFC 9110 §7.8 allows
    event("accepted")
    server = ServerProtocol(subprotocols=[Subprotocol(name) for name in offered.subprotocols])
    server.receive_data(head.lstrip(b"\r\n"))
    (theirs,) = server.events_received()
    assert isinstance(theirs, TheirRequest)
    response = server.accept(theirs)
    assert response.status_code == 101, response.body
    ours = accept_response(request).decode().split("\r\n")
    assert f"Sec-WebSocket-Accept: {response.headers['Sec-WebSocket-Accept']}" in ours


@given(
    path=st.sampled_from(["", "/", "/prices", "/prices?resume=1&x=%C3%A9", "/a%20b/"]),
    offered=st.none() | st.lists(tokens, min_size=1, max_size=3, unique=True),
    accepted=st.lists(tokens, max_size=2),
    deflate=st.booleans(),
    window=st.sampled_from([None, 15]),
    headers=st.lists(st.tuples(tokens.map(lambda name: f"X-{name}"), field_values), max_size=3),
)
def test_websockets_client_is_accepted(
    *,
    path: str,
    offered: list[str] | None,
    accepted: list[str],
    deflate: bool,
    window: int | None,
    headers: list[tuple[str, str]],
) -> None:
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=window, client_max_window_bits=True)
    client = ClientProtocol(
        parse_uri(f"ws://lobby.example:8000{path}"),
        subprotocols=None if offered is None else [Subprotocol(name) for name in offered],
        extensions=[factory] if deflate else None,
    )
    client.send_request(client.connect())
    request = parse_request(b"".join(client.data_to_send()))
    assert request is not None
    asked = upgrade(request)
    assert asked.subprotocols == tuple(offered or ())
    chosen = choose_subprotocol(asked.subprotocols, [*accepted, *(offered or [])[1:2]])
    extensions = negotiate(asked.extensions)
    assert (extensions is not None) == deflate
    client.receive_data(accept_response(request, subprotocol=chosen, extensions=extensions, headers=headers))
    assert client.handshake_exc is None
    assert client.state is OPEN
    assert client.subprotocol == chosen
    assert len(client.extensions) == (1 if deflate else 0)


@given(
    status=st.integers(200, 599),
    headers=st.lists(st.tuples(tokens.map(lambda name: f"X-{name}"), field_values), max_size=3),
    body=st.binary(max_size=200).filter(lambda body: not body.startswith(b"HTTP")),
)
def test_response_is_parsed_alike_by_h11(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    assume(status not in (204, 304))  # these have no body
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(http_response(status, headers, body))
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
    sent = [(name.lower().encode(), value.encode()) for name, value in headers]
    assert [header for header in response.headers if header in sent] == sent
    received = b""
    while isinstance(part := client.next_event(), h11.Data):
        received += part.data
    assert isinstance(part, h11.EndOfMessage)
    assert received == body
    assert client.their_state is h11.MUST_CLOSE


@given(st.sampled_from(close_codes.REFUSALS), st.text(max_size=30))
def test_refusal_is_a_complete_response_whatever_its_text(refusal: close_codes.Refusal, text: str) -> None:
    head, _, body = refusal_response(refusal, body=text).partition(b"\r\n\r\n")
    assert body == f"{text}\n".encode()
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


@given(st.text(max_size=20))
def test_no_header_breaks_a_response(value: str) -> None:
    try:
        response = http_response(200, [("X-Value", value)], b"")
    except ValueError:
        assert not all(
            character == "\t" or " " <= character <= "~" or "\x80" <= character <= "\xff" for character in value
        )
        return
    lines = response.split(b"\r\n")
    assert [line for line in lines if line.startswith(b"X-Value")] == [f"X-Value: {value}".encode("latin-1")]
    assert len(lines) == 6
    assert response.count(b"\n") == response.count(b"\r") == 5


@given(st.text(max_size=60))
def test_extensions_are_declined_or_accepted_but_never_fail(header: str) -> None:
    response = negotiate(header)
    if response is not None:
        ((name, parameters),) = parse_extension(response)
        assert name == "permessage-deflate"
        assert ("server_no_context_takeover", None) in parameters
        assert "permessage-deflate" in header
