"""Pairs of connected TCP sockets on loopback, for tests of what sits on a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from lobby_gateway.websocket.listener import listen

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, deadline: float = 20.0) -> T:
    """Runs a coroutine to its end, within `deadline` seconds."""

    async def bounded() -> T:
        async with asyncio.timeout(deadline):
            return await main

    return asyncio.run(bounded())


def hold_port() -> socket.socket:
    """A port of the loopback that is given to nobody else while the socket is open, and a server may come and go on it.

    The server sets `SO_REUSEADDR`, as servers do. While there is none, whoever connects is refused.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def tcp_pair(*, receive_buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Our end, with the options that `listen` gives every client's socket, and the client's end; both non-blocking."""
    server = listen("127.0.0.1", 0)
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(server.getsockname())
    server.setblocking(True)
    ours, _ = server.accept()
    server.close()
    ours.setblocking(False)
    client.setblocking(False)
    return ours, client


async def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes.

    Raises:
        EOFError: the stream ended before.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise EOFError(f"{len(data)} of {size} bytes: {data[:60]!r}")
        data += more
    return data


async def receive_to_end(sock: socket.socket) -> bytes:
    """Everything until the stream ends; a reset counts as the end."""
    loop = asyncio.get_running_loop()
    data = b""
    while True:
        try:
            more = await loop.sock_recv(sock, 1 << 20)
        except ConnectionError:
            return data
        if not more:
            return data
        data += more
