"""The server's side of an opening handshake: HTTP/1.1 as far as a WebSocket server needs it (RFC 9112, RFC 6455 §4).

The parser is our own because a burst of clients is a burst of handshakes, and because it guards everything after it:
malformed and ambiguous requests are refused, never repaired. Requests are not forwarded to another HTTP server, so nothing is
lost.

How the network splits a request does not affect why it is refused: the request line is validated first, then the bytes of the
headers, then their size, then their values.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import sha1
from http import HTTPStatus
from typing import NoReturn
from urllib.parse import unquote_plus

from lobby_gateway import close_codes
from lobby_gateway.close_codes import Refusal
from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.http.hosts import host_of, split_target

Headers = Iterable[tuple[str, str]]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_END = b"\r\n\r\n"
_MAX_HEADERS = 128  # Apache and Tomcat allow 100; Go and nginx limit only the bytes
_ONLY_ONCE = {
    name.lower(): name
    for name in (
        "Authorization", "Content-Length", "Host", "Origin", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
    )
}  # fmt: skip

# Allowed in a request head: tab, CR, LF, visible ASCII, space, and obs-text (RFC 9110 §5.5).
_HEAD_BYTES = bytes((9, 10, 13, *range(32, 127), *range(128, 256)))
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # noqa: S105  # RFC 9110 §5.6.2
_is_token = re.compile(f"{_TOKEN}+").fullmatch
_match_request_line = re.compile(rf"({_TOKEN}{{1,20}}) ([!-~]+) HTTP/([0-9]\.[0-9])".encode()).fullmatch
_is_beginning = re.compile(rf"{_TOKEN}{{1,20}}(?: [\x20-\x7e]*\r?)?".encode()).fullmatch
_empty_lines = re.compile(rb"(?:\r\n)*").match
# Origin-form (RFC 9112 §3.2.1) and what browsers leave unescaped in it; no fragment, and nothing ambiguous: browsers take a
# backslash in the path for a slash, and in the query for itself.
_is_target = re.compile(r"/[!$-;=@-\[\]-~]*(?:\?[!$-;=?-~]*)?").fullmatch
_is_host = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch
_is_key = re.compile(r"[A-Za-z0-9+/]{22}==").fullmatch  # 16 bytes as base64
_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# Headers that a status requires or recommends (RFC 9110 §15.5.2, §15.5.6, §15.5.22; RFC 6455 §4.4).
_HEADERS_OF_STATUS: dict[int, tuple[tuple[str, str], ...]] = {
    401: (("WWW-Authenticate", "Bearer"),),
    405: (("Allow", "GET"),),
    426: (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
}


class HandshakeError(LobbyGatewayError):
    """A malformed or unsupported request.

    Attributes:
        refusal: the response.
        detail: what is wrong, for people; contains no bytes of the request.
        headers: additional headers of the response.
    """

    def __init__(self, refusal: Refusal, detail: str = "", *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{refusal.explanation} {detail}".strip())
        self.refusal = refusal
        self.detail = detail
        self.headers = headers


class Request:
    """A whole, well-formed GET request.

    Attributes:
        method: always GET.
        target: path and query, as sent; without the authority of a target in absolute-form (RFC 9112 §3.2.2).
        path: of the target, as sent. It is not percent-decoded, so `/%61` and `/a` are two paths, and no decoding can make one
            path look like another.
        query_string: of the target, without the question mark, not decoded.
        headers: values by name in lower case. Lines of the same name are joined by commas (RFC 9110 §5.3), cookies by
            semicolons; if that would be ambiguous the request is refused. The authority of a target in absolute-form
            replaces the host.
        leftover: bytes after the request.
    """

    __slots__ = ("headers", "leftover", "method", "path", "query_string", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], leftover: bytes) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query_string = target.partition("?")
        self.headers = headers
        self.leftover = leftover

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"  # the query may contain a token

    def query_value(self, name: str) -> str | None:
        """The first value of a name in the query, or None.

        Nothing else is decoded: otherwise one request with thousands of names and values would cost as much as a thousand.
        """
        for part in self.query_string.split("&"):
            key, _, value = part.partition("=")
            if part and (unquote_plus(key) if "%" in key or "+" in key else key) == name:
                return unquote_plus(value)
        return None

    @property
    def host(self) -> str:
        """The host that it is for, as `hosts.host_of` returns it."""
        return host_of(self.headers["host"])

    @property
    def wants_upgrade(self) -> bool:
        """It asks for the WebSocket protocol; `upgrade` checks whether correctly."""
        headers = self.headers
        return "websocket" in _elements(headers.get("upgrade", "").lower()) and "upgrade" in _elements(
            headers.get("connection", "").lower()
        )


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A client's WebSocket handshake.

    Attributes:
        subprotocols: offered, the client's preferred one first.
        extensions: the `Sec-WebSocket-Extensions` header, "" if there is none.
    """

    subprotocols: tuple[str, ...]
    extensions: str


def parse_request(data: bytes, *, max_header_bytes: int = 16384) -> Request | None:
    """The request at the beginning of `data`; None if it is incomplete.

    Args:
        data: all bytes of the connection so far.
        max_header_bytes: most bytes of the request line and all headers, with the empty line after them and those before.

    Raises:
        HandshakeError: it is not a request, or not one that a WebSocket server accepts: 400, 405, 426, 431 or 505.
    """
    empty = _empty_lines(data)
    begin = empty.end() if empty else 0  # RFC 9112 §2.2
    end = data.find(_END, begin, max_header_bytes)
    head = data[begin : end + 2] if end >= 0 else data[begin:max_header_bytes]
    line_end = head.find(b"\r\n")
    authority, target = "", ""
    if line_end >= 0:
        authority, target = _parse_request_line(head[:line_end])
        _check_bytes(head)
    elif head != b"\r":
        _check_beginning(head)
    if end < 0:
        if len(data) >= max_header_bytes:
            raise HandshakeError(close_codes.HEADERS_TOO_LARGE, f"At most {max_header_bytes} bytes are accepted.")
        return None
    headers = _parse_headers(head[line_end + 2 :].decode("latin-1").split("\r\n"))
    _check_headers(headers)
    if authority:
        headers["host"] = authority
    return Request("GET", target, headers, data[end + 4 :])


def _bad(detail: str) -> NoReturn:
    raise HandshakeError(close_codes.BAD_REQUEST, detail)


def _check_beginning(head: bytes) -> None:
    """Refuses what can't become a request line, without waiting for the rest."""
    if head.startswith(b"\x16"):  # record type of a TLS ClientHello
        _bad("This port does not speak TLS.")
    if head and not _is_beginning(head):
        _bad("This is not an HTTP request.")


def _parse_request_line(line: bytes) -> tuple[str, str]:
    """The target of a request line (RFC 9112 §3): its authority if it has one, and path and query."""
    match = _match_request_line(line)
    if match is None:
        _check_beginning(line)
        _bad("The request line is malformed.")
    method, target, version = match.groups()
    if version == b"1.0":  # has no upgrades (RFC 9110 §7.8)
        raise HandshakeError(close_codes.UPGRADE_REQUIRED, "HTTP/1.1 is required.")
    if not version.startswith(b"1."):  # a later minor version is processed as 1.1 (RFC 9110 §2.5)
        raise HandshakeError(close_codes.HTTP_VERSION)
    if method != b"GET":
        raise HandshakeError(close_codes.METHOD_NOT_ALLOWED)
    whole: str = target.decode("ascii")
    authority, text = split_target(whole)
    if text is not whole and not _is_host(authority):
        _bad("The host in the request target is malformed.")
    if not _is_target(text):
        _bad("The request target is not a path with an optional query.")
    return authority, text


def _check_bytes(head: bytes) -> None:
    """Refuses control characters, and line ends other than CR LF, which make a request ambiguous (RFC 9112 §2.2, §11.2)."""
    if head.translate(None, _HEAD_BYTES):
        _bad("There is a control character in the headers.")
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") - head.endswith(b"\r") != lines:
        _bad("Lines must end with CR LF.")


def _parse_headers(lines: list[str]) -> dict[str, str]:
    """Values by name (RFC 9112 §5). The last line is the empty one."""
    if len(lines) > _MAX_HEADERS + 1:
        raise HandshakeError(close_codes.HEADERS_TOO_LARGE, f"At most {_MAX_HEADERS} headers are accepted.")
    headers: dict[str, str] = {}
    lines.pop()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _is_token(name):  # includes space before the colon, and folded lines (§5.1, §5.2)
            _bad("A header line is malformed.")
        name = name.lower()
        value = value.strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in _ONLY_ONCE:
            _bad(f"There is more than one {_ONLY_ONCE[name]} header.")
        else:
            headers[name] += f"; {value}" if name == "cookie" else f", {value}"
    return headers


def _check_headers(headers: dict[str, str]) -> None:
    """Refuses a request without exactly one valid host, or with a body."""
    host = headers.get("host")
    if host is None:
        _bad("There is no Host header.")
    if not _is_host(host):
        _bad("The Host header is malformed.")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        _bad("A request with a body is not accepted.")


def _elements(value: str) -> list[str]:
    """Elements of a list in a header; empty ones are ignored (RFC 9110 §5.6.1)."""
    return [element for part in value.split(",") if (element := part.strip(" \t"))]


def upgrade(request: Request) -> Upgrade:
    """Checks a WebSocket handshake (RFC 6455 §4.2.1).

    Raises:
        HandshakeError: 426 if it asks for something else, or for another version of the protocol; 400 if it is malformed.
    """
    headers = request.headers
    if not request.wants_upgrade:
        raise HandshakeError(close_codes.UPGRADE_REQUIRED)
    if headers.get("sec-websocket-version") != "13":
        raise HandshakeError(close_codes.WRONG_VERSION)
    if not _is_key(headers.get("sec-websocket-key", "")):
        _bad("Sec-WebSocket-Key is not 16 bytes in base64.")
    return Upgrade(offered_subprotocols(request), headers.get("sec-websocket-extensions", ""))


def offered_subprotocols(request: Request) -> tuple[str, ...]:
    """The subprotocols that a client offers, its preferred one first; () if it has no such header.

    Raises:
        HandshakeError: 400; there must be at least one, all must be tokens, and none may be repeated (RFC 6455 §4.1).
    """
    value = request.headers.get("sec-websocket-protocol")
    if value is None:
        return ()
    offered = tuple(_elements(value))
    if not offered or len(set(offered)) != len(offered) or not all(map(_is_token, offered)):
        _bad("Sec-WebSocket-Protocol is malformed.")
    return offered


def choose_subprotocol(offered: Iterable[str], accepted: Collection[str]) -> str | None:
    """The first offered subprotocol that is accepted; None: the handshake continues without one."""
    return next((subprotocol for subprotocol in offered if subprotocol in accepted), None)


def accept_response(
    request: Request, *, subprotocol: str | None = None, extensions: str | None = None, headers: Headers = ()
) -> bytes:
    """The 101 response to a request that `upgrade` has checked (RFC 6455 §4.2.2).

    Raises:
        ValueError: a header can't be sent.
    """
    key = request.headers["sec-websocket-key"].encode("ascii")
    accept = b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
    )
    more = list(headers)
    if subprotocol is not None:
        more.append(("Sec-WebSocket-Protocol", subprotocol))
    if extensions is not None:
        more.append(("Sec-WebSocket-Extensions", extensions))
    return b"%b\r\n%b\r\n" % (head, _encode_headers(more))


def refusal_response(refusal: Refusal, *, headers: Headers = (), body: str | None = None) -> bytes:
    """The response to a request that is refused.

    Args:
        refusal: gives status, Retry-After, and the text unless `body` is set.
        headers: headers in addition to those that belong to the status.
        body: text for people.

    Raises:
        ValueError: a header can't be sent.
    """
    more = [("Content-Type", "text/plain; charset=utf-8"), *headers]
    if refusal.retry_after is not None:
        more.append(("Retry-After", str(refusal.retry_after)))
    text = refusal.explanation if body is None else body
    return http_response(refusal.status, more, f"{text}\n".encode())


def http_response(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole HTTP response, after which the connection is closed.

    Args:
        status: HTTP status code.
        headers: headers in addition to Connection, Content-Length and those that belong to the status.
        body: may be empty.

    Raises:
        ValueError: a header can't be sent.
    """
    more = [*_HEADERS_OF_STATUS.get(status, ()), *headers]
    connection = "Upgrade, close" if status == 426 else "close"  # RFC 9110 §7.8: Upgrade is a connection option, too
    more += [("Connection", connection), ("Content-Length", str(len(body)))]
    head = f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode("ascii")
    return b"%b%b\r\n%b" % (head, _encode_headers(more), body)


def _encode_headers(headers: Headers) -> bytes:
    lines: list[str] = []
    for name, value in headers:
        if not _is_token(name) or not _is_value(value):  # a line end in a value would begin another header, or the body
            # Not the value: it may contain a token.
            raise ValueError(f"header {name[:40]!a} can't be sent: it is not a token and printable Latin-1")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")
