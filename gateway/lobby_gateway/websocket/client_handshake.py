"""The client's side of an opening handshake (RFC 6455 §4.1): the request, and what the response means.

`websockets` builds the request and validates the fields of a 101. No extension is offered, so the bytes after the 101 are
plain frames that can be passed on unchanged. Responses are parsed here, as tolerantly as RFC 9112 allows and other clients
are: the status, `Retry-After` and redirect target of a refusal are useful, too, whatever its body.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from lobby_gateway import __version__
from lobby_gateway.errors import LobbyGatewayError, UserError

# RFC 9112 §4: the phrase may be missing.
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9][ \t]+([1-5][0-9][0-9])(?:[ \t]+(.*))?")
_LINE_END = re.compile(rb"\r?\n")  # RFC 9112 §2.2
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_TO_SPACE = re.compile(rb"\r?\n[ \t]+|\r(?!\n)|\0")  # folded lines (RFC 9112 §5.2), bare CR (§2.2), NUL (RFC 9110 §5.5)
_OF_A_HANDSHAKE = re.compile("connection|upgrade|sec-websocket-.*", re.IGNORECASE)
_NOT_A_HANDSHAKE = "the response is not a WebSocket handshake"
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 §5.6.2


class HandshakeRefusedError(LobbyGatewayError):
    """The server answered the handshake with a status other than 101.

    Attributes:
        status: HTTP status.
        retry_after_seconds: seconds of `Retry-After`; None if there is none.
        reason: one line for people: "HTTP 404 Not Found".
    """

    def __init__(self, status: int, retry_after_seconds: float | None, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.reason = reason


class ConnectFailedError(LobbyGatewayError):
    """Connecting failed: DNS, network, TLS, timeout, or a response that is not HTTP or not valid.

    Attributes:
        reason: one line for people: "connection refused".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ClientHandshake:
    """One handshake.

    Attributes:
        host: host to connect to.
        port: port to connect to.
        secure: whether to use TLS (`wss`).
        request: bytes of the request.
        leftover: bytes after the response, once it has arrived.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        max_head_bytes: int = 65536,
    ) -> None:
        """Builds the request.

        Args:
            url: `ws://` or `wss://`.
            headers: headers of the request; they replace ours of the same name.
            subprotocols: subprotocols to offer, preferred one first.
            max_head_bytes: longest head that is accepted, together with those of interim responses.

        Raises:
            UserError: the URL or a header is not valid. The text never contains a value, which may be a secret.
        """
        try:
            uri = parse_uri(url)
        except (InvalidURI, ValueError) as error:
            # The URL itself may contain a secret.
            detail = error.msg if isinstance(error, InvalidURI) else _url_problem(url)
            raise UserError(f"url: {detail}; accepted: ws://host[:port]/path or wss://…") from None
        self.host = uri.host
        self.port = uri.port
        self.secure = uri.secure
        self.leftover = b""
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol(each) for each in subprotocols] or None)
        request = self._protocol.connect()
        request.headers["User-Agent"] = f"lobby-gateway/{__version__}"
        given = list(headers)
        for name in {name.lower() for name, _ in given} & set(request.headers):
            del request.headers[name]
        for name, value in given:
            if not _HEADER_NAME.fullmatch(name):
                raise UserError(f"header {name!r}: not a header name; accepted: letters, digits and !#$%&'*+-.^_`|~")
            if not _HEADER_VALUE.fullmatch(value):
                raise UserError(
                    f"header {name}: its value contains a line break or another character that is not allowed in a header"
                )
            request.headers[name] = value.strip()
        self.request = request.serialize()
        self._buffer = bytearray()
        self._head_bytes = 0  # of interim responses
        self._max_head_bytes = max_head_bytes

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose; None if it chose none."""
        return self._protocol.subprotocol

    def receive(self, data: bytes, unix_now: float) -> bool:
        """Takes bytes of the response.

        Args:
            data: the bytes.
            unix_now: Unix time in seconds, for a `Retry-After` that is a date.

        Returns:
            True once the connection is open; `leftover` then contains the bytes after the response.

        Raises:
            HandshakeRefusedError: it was refused.
            ConnectFailedError: the response is not one to a WebSocket handshake.
        """
        searched = max(0, len(self._buffer) - 3)  # an end may have arrived in part
        self._buffer += data
        while True:
            end = _HEAD_END.search(self._buffer, searched)
            if self._head_bytes + (len(self._buffer) if end is None else end.end()) > self._max_head_bytes:
                raise ConnectFailedError(f"the response's headers are longer than {self._max_head_bytes} bytes")
            if end is None:
                if not b"HTTP/1.".startswith(self._buffer[:7]):
                    raise ConnectFailedError("the response is not HTTP/1.1")
                return False
            head = bytes(self._buffer[: end.start()])
            del self._buffer[: end.end()]
            self._head_bytes += end.end()
            searched = 0
            status, phrase, fields = _parse_head(head)
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                break
            if status >= 200:
                raise _refusal(status, phrase, fields, unix_now)
            # An interim response, such as 103 Early Hints, precedes the final one (RFC 9110 §15.2).
        try:
            self._protocol.process_response(Response(status, phrase, _headers(fields)))
        except InvalidHandshake as error:
            raise ConnectFailedError(f"{_NOT_A_HANDSHAKE}: {error}") from error
        self.leftover = bytes(self._buffer)
        self._buffer.clear()
        return True


def _url_problem(url: str) -> str:
    """What a `ValueError` of `urllib.parse` is about; its own text repeats parts of the URL."""
    try:
        urlsplit(url)
    except ValueError:
        return "its host is not an IPv6 address"  # the only part in brackets (RFC 3986 §3.2.2)
    return "its port is not a number from 1 to 65535"


def retry_after_seconds(value: str, unix_now: float) -> float | None:
    """The seconds of a `Retry-After` header, which is a number or a date (RFC 9110 §10.2.3); None if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # unreadable, or numbers beyond any date
        return None
    return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - unix_now)


Fields = list[tuple[str, str]]
"""Names and values of a head, in order. The name of a line without a colon is the whole line."""


def _parse_head(head: bytes) -> tuple[int, str, Fields]:
    """Status, reason phrase and fields of a response, without the empty line at its end.

    Raises:
        ConnectFailedError: this is not the head of an HTTP response.
    """
    status_line, *lines = _LINE_END.split(_TO_SPACE.sub(b" ", head))
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise ConnectFailedError("the response is not HTTP/1.1")
    fields = [
        # RFC 9112 §5.1: whitespace before the colon is to be removed from a response.
        (name.rstrip(b" \t").decode("latin-1"), value.strip(b" \t").decode("latin-1"))
        for name, _, value in (line.partition(b":") for line in lines)
    ]
    return int(match[1]), (match[2] or b"").decode("latin-1"), fields


def _headers(fields: Fields) -> Headers:
    """The fields that `websockets` validates; it accepts no control characters, which others may contain (RFC 9110 §5.5).

    Raises:
        ConnectFailedError: a line is not a field.
    """
    headers = Headers()
    for name, value in fields:
        if not _HEADER_NAME.fullmatch(name):
            raise ConnectFailedError(f"{_NOT_A_HANDSHAKE}: a header line has no name")
        if _OF_A_HANDSHAKE.fullmatch(name):
            headers[name] = value
    return headers


def _refusal(status: int, phrase: str, fields: Fields, unix_now: float) -> HandshakeRefusedError:
    values = {name.lower(): value for name, value in fields}
    reason = f"HTTP {status_text(status, phrase)}"
    if 300 <= status < 400 and "location" in values:
        reason += f": {not_followed(without_query(values['location']))}"
    retry_after = values.get("retry-after")
    seconds = None if retry_after is None else retry_after_seconds(retry_after, unix_now)
    return HandshakeRefusedError(status, seconds, reason)


def status_text(status: int, phrase: str = "") -> str:
    """An HTTP status for people, with its registered phrase; `phrase` is that of a status without one."""
    with contextlib.suppress(ValueError):
        phrase = HTTPStatus(status).phrase
    return f"{status} {phrase}".rstrip()


def not_followed(location: str) -> str:
    """What is said of a redirect: headers, including credentials, would go to a host that the Lobby does not name."""
    return f"redirects are not followed; this one points to {location}"


def without_query(url: str) -> str:
    """A URL for people: without user, query and fragment, which may contain secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
