"""Any bytes before the upgrade are a request, an incomplete request or a sendable refusal; no other exception is raised."""

from __future__ import annotations

from urllib.parse import parse_qsl

import h11
from hypothesis import event, given
from hypothesis import strategies as st
from tests.support.wire_strategies import any_heads, field_values, tokens

from lobby_gateway.websocket.deflate import negotiate
from lobby_gateway.websocket.server_handshake import (
    HandshakeError,
    Request,
    accept_response,
    choose_subprotocol,
    offered_subprotocols,
    parse_request,
    refusal_response,
    upgrade,
)

LIMIT = 2048
HEADS = st.one_of(
    any_heads,
    st.binary(max_size=LIMIT + 100),
    st.lists(any_heads | st.binary(max_size=20), max_size=3).map(b"".join),
    st.builds(lambda head, noise: head[: len(head) // 2] + noise * 200, any_heads, st.binary(max_size=20)),
)


def check_refusal(error: HandshakeError, *statuses: int) -> None:
    """The refusal is an allowed one, and its response is valid HTTP."""
    assert error.refusal.status in statuses, error
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(refusal_response(error.refusal, headers=error.headers, body=str(error)))
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == error.refusal.status
    event(f"{error.refusal.label} {error.detail}")


def check_request(request: Request, data: bytes) -> None:
    """An accepted request is unambiguous text, and every part of it is usable."""
    assert data.lstrip(b"\r\n").lower().startswith((b"get /", b"get http", b"get ws"))
    assert data.endswith(request.leftover)
    assert request.target.isascii()
    assert request.target.isprintable()
    assert request.headers["host"]
    for name, value in request.headers.items():
        assert name == name.lower()
        assert not {"\r", "\n", "\x00"} & {*name, *value}
    pairs = parse_qsl(request.query_string, keep_blank_values=True)
    for name in {name for name, _ in pairs} | {"token", ""}:
        assert request.query_value(name) == next((value for key, value in pairs if key == name), None)
    try:
        asked = upgrade(request)
    except HandshakeError as error:
        check_refusal(error, 400, 426)
        return
    chosen = choose_subprotocol(asked.subprotocols, asked.subprotocols)
    response = accept_response(request, subprotocol=chosen, extensions=negotiate(asked.extensions))
    assert response.startswith(b"HTTP/1.1 101 ")
    assert response.endswith(b"\r\n\r\n")
    event("upgraded")


@given(HEADS)
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        request = parse_request(data, max_header_bytes=LIMIT)
    except HandshakeError as error:
        check_refusal(error, 400, 405, 426, 431, 505)
        return
    if request is None:
        assert len(data) < LIMIT  # the limit refuses longer heads
        event("incomplete")
    else:
        check_request(request, data)


VALUES = st.one_of(st.text(max_size=30), field_values, st.lists(tokens | st.just(""), max_size=4).map(", ".join))


@given(
    st.dictionaries(st.sampled_from(["Upgrade", "Connection", "Sec-WebSocket-Protocol", "Sec-WebSocket-Key"]), VALUES)
)
def test_any_values_of_the_upgrade_are_accepted_or_refused(values: dict[str, str]) -> None:
    headers = {
        "host": "a", "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    } | {name.lower(): value for name, value in values.items()}  # fmt: skip
    request = Request("GET", "/", headers, b"")
    try:
        offered_subprotocols(request)
        asked = upgrade(request)
    except HandshakeError as error:
        check_refusal(error, 400, 426)
        return
    assert all(name.isascii() and name.isprintable() and "," not in name for name in asked.subprotocols)
    event("upgraded")
