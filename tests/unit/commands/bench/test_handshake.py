"""The opening handshakes of `lobby bench`."""

from __future__ import annotations

import pytest
from websockets.utils import accept_key

from lobby_gateway.commands.bench.handshake import AnswerError, endpoint_of, parse_answer, redirected


def key_of(request: bytes) -> str:
    return next(line[19:] for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: "))


def accepted() -> bytes:
    accept = accept_key(key_of(endpoint_of("ws://h/").request))
    return f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept:{accept}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("url", "where", "line", "header"),
    [
        ("ws://example.com", ("example.com", 80, False), "GET / HTTP/1.1", "Host: example.com"),
        ("wss://example.com/a?b=c", ("example.com", 443, True), "GET /a?b=c HTTP/1.1", "Host: example.com"),
        ("ws://[::1]:8000/x", ("::1", 8000, False), "GET /x HTTP/1.1", "Host: [::1]:8000"),
        ("ws://me:word@h/", ("h", 80, False), "GET / HTTP/1.1", "Authorization: Basic bWU6d29yZA=="),
        ("ws://me:word@h/", ("h", 80, False), "GET / HTTP/1.1", "Host: h"),
    ],
)
def test_a_url_tells_where_to_connect_and_what_to_say(
    url: str, where: tuple[str, int, bool], line: str, header: str
) -> None:
    target = endpoint_of(url)
    assert (target.host, target.port, target.secure) == where
    lines = target.request.decode().split("\r\n")
    assert lines[0] == line
    assert header in lines
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize("url", ["http://h/", "ws:///path", "h"])
def test_refuses_what_is_no_websocket_url(url: str) -> None:
    with pytest.raises(ValueError, match="not a WebSocket URL"):
        endpoint_of(url)


def test_an_answer_may_come_byte_by_byte_and_have_messages_behind_it() -> None:
    whole = accepted()
    for end in range(len(whole)):
        assert parse_answer(whole[:end]) is None
    answer = parse_answer(whole + b"\x81\x02hi")
    assert answer is not None
    assert (answer.status, answer.location, answer.leftover) == (101, "", b"\x81\x02hi")


def test_a_refusal_has_its_status() -> None:
    answer = parse_answer(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\nno seat\n")
    assert answer is not None
    assert (answer.status, answer.location) == (503, "")


def test_a_redirect_tells_where_to_and_others_may_have_a_location_that_is_none() -> None:
    redirect = parse_answer(b"HTTP/1.1 307 Temporary Redirect\r\nLOCATION: //h:1/x\r\n\r\n")
    created = parse_answer(b"HTTP/1.1 201 Created\r\nLocation: /x\r\n\r\n")
    assert redirect is not None
    assert created is not None
    assert (redirect.location, created.location) == ("//h:1/x", "")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH",
        b"HTTP/2",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200" + b"x" * 70000,
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_refuses_what_is_no_answer_to_the_handshake(data: bytes) -> None:
    with pytest.raises(AnswerError):
        parse_answer(data)


@pytest.mark.parametrize(
    ("url", "location", "to"),
    [
        ("ws://h/prices", "//10.0.0.7:8000/prices?token=x", "ws://10.0.0.7:8000/prices?token=x"),
        ("wss://h/prices", "//other/prices", "wss://other/prices"),
        ("ws://h/prices", "http://other/x", "ws://other/x"),
        ("ws://h/prices", "wss://other/x", "wss://other/x"),
        ("ws://h/a/b?q", "../c", "ws://h/c"),
    ],
)
def test_a_redirect_is_relative_to_what_was_asked_for(url: str, location: str, to: str) -> None:
    assert redirected(url, location) == to


def test_a_redirect_to_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="not a WebSocket URL"):
        redirected("ws://h/", "ftp://h/")
