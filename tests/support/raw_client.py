"""A client that sends any bytes on a TCP connection. It uses none of the code under test."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tests.support.waiting import until
from tests.support.wire import BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, raw_frame

DEADLINE = 20.0
DATA = frozenset({CONT, TEXT, BINARY})


@dataclass(frozen=True, slots=True)
class RawResponse:
    """An HTTP response.

    Attributes:
        status: HTTP status code; 0 if the connection ended without a response.
        headers: by lower-case name.
        body: the bytes read after the headers.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ServerFrame:
    """A received frame."""

    first: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first & 0x0F

    @property
    def close_code(self) -> int:
        """Code of a close frame; 1005 if it has none."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005


def request(
    path: str, headers: Mapping[str, str | None] | None = None, *, line: str | None = None, more: bytes = b""
) -> bytes:
    """A valid upgrade request, except for the changes.

    Args:
        path: with the query.
        headers: headers to replace or add; None removes one.
        line: replaces the request line.
        more: lines appended to the headers, with line ends.
    """
    good: dict[str, str | None] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [line or f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in good.items() if value is not None)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n" + more + b"\r\n"


def masked(first: int, payload: bytes = b"", *, length: int | None = None, size: int | None = None) -> bytes:
    """A masked frame with any first byte."""
    return raw_frame(first, payload, mask=os.urandom(4), length=length, size=size)


class RawClient:
    """One TCP connection. As an asynchronous context manager it is closed at the end.

    Attributes:
        sock: its socket, non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, port: int, data: bytes = b"", *, receive_buffer: int | None = None) -> Self:
        """Connects and sends `data`."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        made = cls(sock)
        if data:
            await made.send(data)
        return made

    @classmethod
    async def upgraded(cls, port: int, data: bytes, *, receive_buffer: int | None = None) -> Self:
        """Connects and completes the handshake."""
        made = await cls.connect(port, data, receive_buffer=receive_buffer)
        try:
            answer = await made.head()
        except BaseException:
            made.close()
            raise
        assert answer.status == 101, answer
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def send(self, data: bytes) -> None:
        """Sends bytes; ignores that the peer has closed the connection."""
        try:
            async with asyncio.timeout(DEADLINE):
                await self._loop.sock_sendall(self.sock, data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    async def head(self) -> RawResponse:
        """The response to the request, without its body."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._more():
                assert not self._buffer, f"the connection ended within a response: {self._buffer!r}"
                return RawResponse(0, {}, b"")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        version, code, _phrase = status.split(" ", 2)
        assert version == "HTTP/1.1", status
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return RawResponse(int(code), headers, b"")

    async def response(self) -> RawResponse:
        """The response to the request, up to the end of the connection."""
        head = await self.head()
        while await self._more():
            pass
        if head.status:
            assert int(head.headers["content-length"]) == len(self._buffer), (head, self._buffer)
        return RawResponse(head.status, head.headers, self._buffer)

    async def frame(self) -> ServerFrame | None:
        """The next frame; None at the end of the connection."""
        while True:
            if len(self._buffer) >= 2:
                first, second = self._buffer[0], self._buffer[1]
                assert not second & 0x80, "a server's frame has a mask"
                extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
                start = 2 + extended
                length = int.from_bytes(self._buffer[2:start], "big") if extended else second & 0x7F
                if len(self._buffer) >= start + length:
                    payload = self._buffer[start : start + length]
                    self._buffer = self._buffer[start + length :]
                    return ServerFrame(first, payload)
            if not await self._more():
                return None

    async def control(self) -> ServerFrame | None:
        """The next control frame; None at the end of the connection."""
        while (frame := await self.frame()) is not None and frame.opcode in DATA:
            assert frame.first & FIN, "a fragment"
        return frame

    async def closed_with(self) -> int:
        """The code of the close frame, which must be the last frame; 1006 if the connection ended without one."""
        while (frame := await self.control()) is not None:
            if frame.opcode == CLOSE:
                assert await self.frame() is None, "data after the close frame"
                return frame.close_code
            assert frame.opcode in {PING, PONG}
        return 1006

    async def until_unread(self, size: int) -> None:
        """Waits, without reading, until `size` bytes are in the receive buffer."""
        await until(lambda: self._unread() >= size, describe=lambda: f"{size} bytes to be read, not {self._unread()}")

    async def end(self) -> None:
        """Reads to the end of the connection."""
        while await self._more():
            self._buffer = b""

    def half_close(self) -> None:
        """Shuts down the sending side; reading continues."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Closes the socket."""
        self.sock.close()

    def _unread(self) -> int:
        return int.from_bytes(fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4)), sys.byteorder)

    async def _more(self) -> bool:
        try:
            async with asyncio.timeout(DEADLINE):
                data = await self._loop.sock_recv(self.sock, 1 << 18)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)
