from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from http import HTTPStatus

import pytest

from lobby_gateway import close_codes
from lobby_gateway.close_codes import REFUSALS, Refusal
from lobby_gateway.websocket.server_handshake import (
    HandshakeError,
    Request,
    Upgrade,
    accept_response,
    choose_subprotocol,
    http_response,
    offered_subprotocols,
    parse_request,
    refusal_response,
    upgrade,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # with its answer in RFC 6455 §1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE = {
    "Host": "lobby.example:8000",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
TLS_CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303")


def head(*lines: str, line: str = "GET /prices HTTP/1.1", change: dict[str, str | None] | None = None) -> bytes:
    """A request head: that of a good handshake, with headers changed, taken out (None) and added."""
    changed = {**UPGRADE, **(change or {})}
    headers = {name: value for name, value in changed.items() if value is not None}
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in headers.items()), *lines, "", ""]).encode(
        "latin-1"
    )


def parsed(data: bytes) -> Request:
    request = parse_request(data)
    assert request is not None
    return request


def refused(data: bytes, refusal: Refusal, *details: str, limit: int = 16384) -> None:
    """The head is refused, and so it is when it comes byte by byte."""
    with pytest.raises(HandshakeError) as caught:
        parse_request(data, max_header_bytes=limit)
    assert caught.value.refusal is refusal
    assert all(detail in caught.value.detail for detail in details), caught.value.detail
    assert refusal.explanation in str(caught.value)
    early = None
    for size in range(len(data)):
        try:
            early = parse_request(data[:size], max_header_bytes=limit)
        except HandshakeError as error:
            assert error.refusal is refusal  # noqa: PT017  # whether it is raised early is not the point here
            break
        assert early is None


# What is accepted


def test_request_is_parsed() -> None:
    request = parsed(head("X-Thing: a b ", line="GET /prices/eu?token=a%20b&x HTTP/1.1") + b"\x81\x80")
    assert (request.method, request.target) == ("GET", "/prices/eu?token=a%20b&x")
    assert (request.path, request.query_string) == ("/prices/eu", "token=a%20b&x")
    assert request.headers["host"] == "lobby.example:8000"
    assert request.headers["x-thing"] == "a b"
    assert request.leftover == b"\x81\x80"
    assert "token" not in repr(request)
    assert not hasattr(request, "__dict__")


def test_the_first_value_of_a_name_in_the_query_is_decoded() -> None:
    request = parsed(head(line="GET /p?b=%C3%A9&a=1+2&b=&c&%64=4&=5 HTTP/1.1"))
    values = {name: request.query_value(name) for name in ("a", "b", "c", "d", "", "none")}
    assert values == {"a": "1 2", "b": "é", "c": "", "d": "4", "": "5", "none": None}
    assert parsed(head()).query_value("") is None


@pytest.mark.parametrize(
    "target",
    ["/", "/%2e%2e/x", "/a//b", "//host/x", "/a;b=1,2", "/~a/b.c?x=[1]{2}|3^`'", "/p?resume=1:2/3", "/p?", "/p??"],
)
def test_path_is_kept_as_sent(target: str) -> None:
    request = parsed(head(line=f"GET {target} HTTP/1.1"))
    assert request.target == target
    assert request.path == target.split("?", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("target", "host", "origin_form"),
    [
        ("http://lobby.example/prices", "lobby.example", "/prices"),
        ("HTTPS://Lobby.example:8443/prices?x=1/2?", "Lobby.example:8443", "/prices?x=1/2?"),
        ("ws://[::1]:80/prices", "[::1]:80", "/prices"),
        ("wss://lobby.example//a/", "lobby.example", "//a/"),
        ("http://lobby.example", "lobby.example", "/"),
        ("http://lobby.example?x=1", "lobby.example", "/?x=1"),
        ("http://lobby.example/p?next=http://a/b", "lobby.example", "/p?next=http://a/b"),
    ],
)
def test_target_in_absolute_form_replaces_the_host(target: str, host: str, origin_form: str) -> None:
    request = parsed(head(line=f"GET {target} HTTP/1.1", change={"Host": "other.example"}))
    assert (request.target, request.path) == (origin_form, origin_form.partition("?")[0])
    assert request.headers["host"] == host
    assert upgrade(request).subprotocols == ()


def test_backslash_in_the_query_is_passed_on() -> (
    None
):  # as browsers send it (URL Standard, "query percent-encode set")
    request = parsed(head(line="GET /prices?a=\\b\\ HTTP/1.1"))
    assert (request.path, request.query_string, request.query_value("a")) == ("/prices", "a=\\b\\", "\\b\\")


@pytest.mark.parametrize("lines", [1, 2, 100])
def test_empty_lines_before_the_request_are_ignored(lines: int) -> None:
    data = b"\r\n" * lines + head()
    for size in range(len(data)):
        assert parse_request(data[:size]) is None
    assert parsed(data + b"\r\n").leftover == b"\r\n"
    refused(data, close_codes.HEADERS_TOO_LARGE, limit=2 * lines + 20)  # they count


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.9"])
def test_later_minor_version_is_processed_as_1_1(version: str) -> None:  # RFC 9110 §2.5
    assert parsed(head(line=f"GET /prices HTTP/{version}")).path == "/prices"


def test_request_is_incomplete_without_its_last_byte() -> None:
    data = head()
    for size in range(len(data)):
        assert parse_request(data[:size]) is None
    assert parsed(data).leftover == b""


def test_lines_with_the_same_name_are_joined() -> None:
    request = parsed(head("x-a: 1", "X-A:2", "X-a:\t3\t", "Cookie: a=b", "Cookie: c=d"))
    assert request.headers["x-a"] == "1, 2, 3"
    assert request.headers["cookie"] == "a=b; c=d"


def test_header_value_may_be_any_text() -> None:
    request = parsed(
        head("X-Spaces: \xa0a\x85\t", "X-Latin: grün", "X-Colons: a:b:c", "X-Empty:", "!#$%&'*+-.^_`|~9: token")
    )
    assert request.headers["x-latin"] == "grün"
    assert request.headers["x-spaces"] == "\xa0a\x85"  # white space of Unicode, not of HTTP
    assert request.headers["x-colons"] == "a:b:c"
    assert request.headers["x-empty"] == ""
    assert request.headers["!#$%&'*+-.^_`|~9"] == "token"


@pytest.mark.parametrize(
    "host", ["a", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000", "a_b.example.", "x:", "xn--a-b.example:65535"]
)
def test_host_may_be_any_authority(host: str) -> None:
    assert parsed(head(change={"Host": host})).headers["host"] == host


def test_request_with_an_empty_body_is_accepted() -> None:
    assert parsed(head("Content-Length: 0")).headers["content-length"] == "0"


# What is refused


@pytest.mark.parametrize(
    "line",
    [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.1x",
        "GET /a b HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "G(T / HTTP/1.1",
        "A" * 21 + " / HTTP/1.1",
        "GET /gr\xfcn HTTP/1.1",
        "",
        "hello",
    ],
)
def test_malformed_request_line(line: str) -> None:
    refused(head(line=line), close_codes.BAD_REQUEST)


@pytest.mark.parametrize(
    "target",
    [
        *("lobby.example:443", "*", "prices", "?a", '/a"b', "/a#b", "/<a>", "/a\\b", "\\a", "/a?b#c", "/a#"),
        *("http://", "http:///prices", "http://user@lobby.example/prices", "http://lobby.example\\prices"),
        *("http://lobby.example/a#b", "http:/lobby.example/prices", "http:prices", "ftp://lobby.example/prices"),
        "http://lobby.example:port/",
    ],
)
def test_target_that_is_not_a_path(target: str) -> None:
    refused(head(line=f"GET {target} HTTP/1.1"), close_codes.BAD_REQUEST, "target")


def test_http_1_0_has_no_upgrade() -> None:  # RFC 6455 §4.1, item 1 asks for 1.1; RFC 9110 §7.8
    refused(head(line="GET /prices HTTP/1.0"), close_codes.UPGRADE_REQUIRED, "HTTP/1.1")
    refused(b"GET /prices HTTP/1.0\r\n\r\n", close_codes.UPGRADE_REQUIRED, "HTTP/1.1")


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0"])
def test_other_version_of_http(version: str) -> None:
    refused(head(line=f"GET / HTTP/{version}"), close_codes.HTTP_VERSION)


def test_preface_of_http2() -> None:
    refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", close_codes.HTTP_VERSION)


@pytest.mark.parametrize("line", ["POST / HTTP/1.1", "HEAD / HTTP/1.1", "get / HTTP/1.1", "CONNECT a:443 HTTP/1.1"])
def test_other_method(line: str) -> None:
    refused(head(line=line), close_codes.METHOD_NOT_ALLOWED)


def test_request_line_is_validated_without_the_headers() -> None:
    for line, status in (("POST / HTTP/1.1", 405), ("GET / HTTP/1.0", 426), ("GET * HTTP/1.1", 400)):
        with pytest.raises(HandshakeError) as caught:
            parse_request(f"{line}\r\n".encode())
        assert caught.value.refusal.status == status


def test_tls_on_the_plain_port_is_refused_at_once() -> None:
    for size in range(1, len(TLS_CLIENT_HELLO)):
        with pytest.raises(HandshakeError) as caught:
            parse_request(TLS_CLIENT_HELLO[:size])
        assert caught.value.refusal is close_codes.BAD_REQUEST
        assert "TLS" in caught.value.detail


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\r\n\n",
        b"\rG",
        b"\n",
        b" ",
        b"\x80",
        b"\xff\xff",
        b"GET /\x00",
        b"G\n",
        b"GET / HTTP/1.1\n",
        b"A" * 21,
    ],
)
def test_garbage_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(HandshakeError) as caught:
        parse_request(data)
    assert caught.value.refusal is close_codes.BAD_REQUEST


@pytest.mark.parametrize(
    "line",
    ["no colon", ": no name", "X Y: 1", "X : 1", " X: 1", "X\xe4: 1", "X(: 1", "X: 1\r\n folded", "X: 1\r\n\tfolded"],
)
def test_malformed_header_line(line: str) -> None:
    refused(head(line), close_codes.BAD_REQUEST, "header line")


@pytest.mark.parametrize("character", [*map(chr, range(9)), *map(chr, range(11, 13)), *map(chr, range(14, 32)), "\x7f"])
def test_control_character(character: str) -> None:
    refused(head(f"X: a{character}b"), close_codes.BAD_REQUEST, "control character")
    refused(head(line=f"GET /{character} HTTP/1.1"), close_codes.BAD_REQUEST)


@pytest.mark.parametrize("line", ["X: a\nY: b", "X: a\rY: b", "X: a\r\rY: b", "X: a\n", "X: a\r", "\nX: a"])
def test_line_end_that_is_not_cr_lf(line: str) -> None:
    refused(head(line), close_codes.BAD_REQUEST, "CR LF")


def test_head_with_bare_line_feeds_is_refused_at_once() -> None:
    refused(head().replace(b"\r\n", b"\n"), close_codes.BAD_REQUEST)
    refused(b"GET / HTTP/1.1\r\nHost: a\n\n", close_codes.BAD_REQUEST, "CR LF")


def test_request_without_host() -> None:
    refused(head(change={"Host": None}), close_codes.BAD_REQUEST, "no Host")


@pytest.mark.parametrize(
    "host", ["", "a b", "a,b", "a/b", "user@a", "a:b", "a:123456", "[::1", "::1", "[g]", "a:80:80", "ä"]
)
def test_invalid_host(host: str) -> None:
    refused(head(change={"Host": host}), close_codes.BAD_REQUEST, "Host header is malformed")


@pytest.mark.parametrize(
    "line",
    ["host: lobby.example:8000", f"sec-websocket-key: {KEY}", "Sec-WebSocket-Version: 13", "SEC-WEBSOCKET-VERSION: 8"],
)
def test_header_that_must_not_be_repeated(line: str) -> None:
    name = next(name for name in UPGRADE if name.lower() == line.partition(":")[0].lower())
    refused(head(line), close_codes.BAD_REQUEST, f"more than one {name} header")


@pytest.mark.parametrize("name", ["Origin", "Content-Length", "Authorization"])
def test_optional_header_that_must_not_be_repeated(name: str) -> None:
    assert parsed(head(f"{name}: 0")).headers[name.lower()] == "0"
    refused(head(f"{name}: 0", f"{name}: 0"), close_codes.BAD_REQUEST, "more than one", name)


@pytest.mark.parametrize(
    "line",
    ["Content-Length: 1", "Content-Length: x", "Content-Length:", "Content-Length: 00", "Transfer-Encoding: chunked"],
)
def test_request_with_a_body(line: str) -> None:
    refused(head(line), close_codes.BAD_REQUEST, "body")


def test_head_may_be_as_large_as_the_limit_and_no_larger() -> None:
    data = head()
    request = parse_request(data + b"leftover", max_header_bytes=len(data))
    assert request is not None
    assert request.leftover == b"leftover"
    refused(data, close_codes.HEADERS_TOO_LARGE, str(len(data) - 1), limit=len(data) - 1)
    refused(head("X: " + "x" * 65536), close_codes.HEADERS_TOO_LARGE, "16384")
    refused(b"GET /" + b"x" * 65536, close_codes.HEADERS_TOO_LARGE, "100 bytes", limit=100)


def test_number_of_headers_is_limited() -> None:
    assert len(parsed(head(*(f"X-{number}: 1" for number in range(123)))).headers) == 128
    refused(head(*(f"X-{number}: 1" for number in range(124))), close_codes.HEADERS_TOO_LARGE, "128")


# The WebSocket handshake


def test_upgrade_returns_what_is_offered() -> None:
    request = parsed(
        head("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Extensions: x", "Sec-WebSocket-Extensions: y; z")
    )
    assert request.wants_upgrade
    assert upgrade(request) == Upgrade(subprotocols=("a", "b"), extensions="x, y; z")
    assert upgrade(parsed(head())) == Upgrade(subprotocols=(), extensions="")


@pytest.mark.parametrize(
    "changes", [{"Upgrade": "WebSocket"}, {"Upgrade": "h2c, websocket"}, {"Connection": "keep-alive, UPGRADE"}]
)
def test_upgrade_header_is_a_list_of_names_in_any_case(changes: dict[str, str | None]) -> None:
    upgrade(parsed(head(change=changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": None},
        {"Connection": None},
        {"Upgrade": "h2c"},
        {"Upgrade": ""},
        {"Connection": "close"},
        {"Connection": "upgraded"},
    ],
)
def test_request_for_something_else(changes: dict[str, str | None]) -> None:
    request = parsed(head(change=changes))
    assert not request.wants_upgrade
    with pytest.raises(HandshakeError) as caught:
        upgrade(request)
    assert caught.value.refusal is close_codes.UPGRADE_REQUIRED


@pytest.mark.parametrize("version", ["8", "7", "12", "14", "013", "13, 8", "", None])
def test_other_version_of_the_protocol(version: str | None) -> None:
    with pytest.raises(HandshakeError) as caught:
        upgrade(parsed(head(change={"Sec-WebSocket-Version": version})))
    assert caught.value.refusal is close_codes.WRONG_VERSION


@pytest.mark.parametrize(
    "key", [None, "", "short", KEY[:-1], KEY + "=", "a" * 24, KEY.replace("d", "-"), "d" * 23 + "="]
)
def test_malformed_key(key: str | None) -> None:
    with pytest.raises(HandshakeError) as caught:
        upgrade(parsed(head(change={"Sec-WebSocket-Key": key})))
    assert caught.value.refusal is close_codes.BAD_REQUEST
    assert "Sec-WebSocket-Key" in caught.value.detail


def test_offered_subprotocols_come_from_all_lines() -> None:
    request = parsed(head("Sec-WebSocket-Protocol: lobby.v1 ,, chat", "Sec-WebSocket-Protocol: x.y_z-0"))
    assert offered_subprotocols(request) == ("lobby.v1", "chat", "x.y_z-0")
    assert offered_subprotocols(parsed(head())) == ()


@pytest.mark.parametrize("value", ["", ",", "a b", "a, a", 'a, "b"', "a;b", "a=b"])
def test_malformed_subprotocols(value: str) -> None:
    request = parsed(head(f"Sec-WebSocket-Protocol: {value}"))
    with pytest.raises(HandshakeError) as caught:
        upgrade(request)
    assert caught.value.refusal is close_codes.BAD_REQUEST
    assert "Sec-WebSocket-Protocol" in caught.value.detail


@pytest.mark.parametrize(
    ("offered", "accepted", "chosen"),
    [
        (("a", "b"), {"b", "a"}, "a"),
        (("x", "b"), ["a", "b"], "b"),
        (("x",), {"a"}, None),
        ((), {"a"}, None),
        (("a",), (), None),
    ],
)
def test_clients_preferred_subprotocol_is_chosen(
    offered: tuple[str, ...], accepted: set[str], chosen: str | None
) -> None:
    assert choose_subprotocol(offered, accepted) == chosen


# Answers


def test_accept_response_proves_that_the_key_was_read() -> None:
    assert accept_response(parsed(head())).decode().split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        "",
        "",
    ]
    other = base64.b64encode(bytes(16)).decode()
    digest = hashlib.sha1(f"{other}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    assert base64.b64encode(digest) in accept_response(parsed(head(change={"Sec-WebSocket-Key": other})))


def test_accept_response_names_what_was_chosen() -> None:
    response = accept_response(
        parsed(head()), subprotocol="lobby.v1", extensions="permessage-deflate", headers=[("X-Lobby", "prices-1")]
    )
    lines = response.decode().split("\r\n")
    assert lines[4:7] == [
        "X-Lobby: prices-1",
        "Sec-WebSocket-Protocol: lobby.v1",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ]
    assert lines[7:] == ["", ""]


def answer(response: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers in lower case, body."""
    top, _, body = response.partition(b"\r\n\r\n")
    status, *lines = top.decode("latin-1").split("\r\n")
    names = [line.partition(": ")[0].lower() for line in lines]
    assert len(set(names)) == len(names)
    return status, dict(zip(names, (line.partition(": ")[2] for line in lines), strict=True)), body


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.label)
def test_each_refusal_is_a_whole_response(refusal: Refusal) -> None:
    status, headers, body = answer(refusal_response(refusal))
    assert status == f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"
    assert body == f"{refusal.explanation}\n".encode()
    assert headers["content-length"] == str(len(body))
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers.get("retry-after") == (None if refusal.retry_after is None else str(refusal.retry_after))
    assert "close" in headers["connection"]
    # RFC 9110 §15.5.2, §15.5.6, §15.5.22
    assert headers.get("www-authenticate") == ("Bearer" if refusal.status == 401 else None)
    assert headers.get("allow") == ("GET" if refusal.status == 405 else None)
    assert headers.get("upgrade") == ("websocket" if refusal.status == 426 else None)
    assert headers.get("sec-websocket-version") == ("13" if refusal.status == 426 else None)
    assert ("Upgrade" in headers["connection"]) == (refusal.status == 426)


def test_refusal_may_have_more_headers_and_another_body() -> None:
    response = refusal_response(
        replace(close_codes.LOBBY_FULL, retry_after=0), headers=[("X-Lobby", "prices-1")], body="voll, größer"
    )
    _, headers, body = answer(response)
    assert (headers["retry-after"], headers["x-lobby"]) == ("0", "prices-1")
    assert body == "voll, größer\n".encode()
    assert headers["content-length"] == str(len(body))


def test_plain_response() -> None:
    status, headers, body = answer(http_response(200, [("Content-Type", "application/json")], b"{}"))
    assert status == "HTTP/1.1 200 OK"
    assert headers == {"content-type": "application/json", "connection": "close", "content-length": "2"}
    assert body == b"{}"
    assert http_response(299, (), b"").startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\rb", "a\x00b", "a\x7f", "\u20ac"])
def test_value_that_would_break_the_response_is_not_sent(value: str) -> None:
    request = parsed(head())
    with pytest.raises(ValueError, match="can't be sent"):
        accept_response(request, headers=[("X-Name", value)])
    with pytest.raises(ValueError, match="can't be sent"):
        accept_response(request, subprotocol=value)
    with pytest.raises(ValueError, match="can't be sent"):
        accept_response(request, extensions=value)
    with pytest.raises(ValueError, match="can't be sent"):
        refusal_response(close_codes.LOBBY_FULL, headers=[("X-Name", value)])
    with pytest.raises(ValueError, match="Location' can't be sent") as caught:
        http_response(307, [("Location", f"//host/?token=secret{value}")], b"")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nY", "ä"])
def test_name_that_would_break_the_response_is_not_sent(name: str) -> None:
    with pytest.raises(ValueError, match="can't be sent"):
        http_response(200, [(name, "value")], b"")


def test_error_may_have_headers_for_the_response() -> None:
    error = HandshakeError(close_codes.BAD_TOKEN, "It expired.", headers=(("X-A", "b"),))
    assert (error.detail, error.headers) == ("It expired.", (("X-A", "b"),))
    assert str(HandshakeError(close_codes.BAD_TOKEN)) == close_codes.BAD_TOKEN.explanation
