"""Pairs of connected TCP sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from lobby_gateway.websocket.listener import listen

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, deadline: float = 60.0) -> T:
    """Runs a coroutine, for at most `deadline` seconds."""

    async def bounded() -> T:
        async with asyncio.timeout(deadline):
            return await main

    return asyncio.run(bounded())


def hold_port() -> socket.socket:
    """Reserves a loopback port while the socket is open; a server may start and stop on it.

    The server must set `SO_REUSEADDR`. While no server listens, connections are refused.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def tcp_pair(*, receive_buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """The server end, with the options that `listen` sets on client sockets, and the client end; both non-blocking."""
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
        EOFError: the stream ended early.
    """
    loop = asyncio.get_running_loop()
    data = bytearray(size)
    received = 0
    while received < size:
        count = await loop.sock_recv_into(sock, memoryview(data)[received:])
        if not count:
            raise EOFError(f"{received} of {size} bytes: {bytes(data[: min(received, 60)])!r}")
        received += count
    return bytes(data)


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


def resolve_absolute_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `localhost.` resolve, which not every resolver knows."""
    resolve = socket.getaddrinfo

    def without_dot(host: str | bytes, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve(name.removesuffix("."), *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", without_dot)
