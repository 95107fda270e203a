"""The opening handshakes of `lobby bench`, as plain bytes because there are thousands. Redirects are followed."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha1
from urllib.parse import urljoin, urlsplit

from lobby_gateway import __version__

MAX_HEAD_BYTES = 65536
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY = b64encode(os.urandom(16))
_ACCEPT = b64encode(sha1(_KEY + _GUID, usedforsecurity=False).digest())
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: .*)?")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class AnswerError(Exception):
    """The answer is not one to a WebSocket handshake; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a client connects.

    Attributes:
        host: name or address.
        port: TCP port.
        secure: whether to use TLS.
        request: the complete handshake request.
    """

    host: str
    port: int
    secure: bool
    request: bytes


def endpoint_of(url: str) -> Endpoint:
    """The endpoint of a `ws://` or `wss://` URL.

    Raises:
        ValueError: it is not a WebSocket URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise ValueError(f"{url} is not a WebSocket URL")
    secure = parts.scheme == "wss"
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {resource} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {_KEY.decode()}",
        "Sec-WebSocket-Version: 13",
        f"User-Agent: lobby-bench/{__version__}",
    ]
    if parts.username is not None:
        credentials = b64encode(f"{parts.username}:{parts.password or ''}".encode()).decode()
        lines.append(f"Authorization: Basic {credentials}")
    request = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    return Endpoint(host=parts.hostname, port=parts.port or (443 if secure else 80), secure=secure, request=request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to a handshake.

    Attributes:
        status: HTTP status; 101 means the connection is open.
        location: target of a redirect; empty otherwise.
        leftover: bytes after the answer.
    """

    status: int
    location: str
    leftover: bytes


def parse_answer(data: bytes) -> Answer | None:
    """Parses the answer at the start of `data`, all bytes received so far; returns None while it is incomplete.

    Raises:
        AnswerError: it is not HTTP, or it is a 101 that does not match our key (RFC 6455 §4.1).
    """
    head, end, leftover = data.partition(b"\r\n\r\n")
    if not b"HTTP/1.".startswith(data[:7]):
        raise AnswerError("the answer is not HTTP/1.1")
    if not end:
        if len(data) > MAX_HEAD_BYTES:
            raise AnswerError(f"the answer's headers are larger than {MAX_HEAD_BYTES} bytes")
        return None
    status_line, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise AnswerError("the answer is not HTTP/1.1")
    status = int(match[1])
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if status == 101 and fields.get(b"sec-websocket-accept") != _ACCEPT:
        raise AnswerError("the answer's Sec-WebSocket-Accept does not match our key")
    location = fields.get(b"location", b"").decode("latin-1") if status in _REDIRECTS else ""
    return Answer(status=status, location=location, leftover=leftover)


def redirected(url: str, location: str) -> str:
    """The URL that a redirect leads to, resolved against `url` (RFC 9110 §10.2.2); `http` is taken as `ws`.

    Raises:
        ValueError: it does not lead to a WebSocket.
    """
    base = re.sub("^ws", "http", url)  # `urljoin` does not know WebSocket schemes
    joined = re.sub("^http", "ws", urljoin(base, re.sub("^ws", "http", location)))
    endpoint_of(joined)
    return joined
