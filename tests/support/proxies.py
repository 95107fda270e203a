"""A strict HTTP proxy for tests: CONNECT alone (RFC 9110 §9.3.6), with Basic authentication if it is told a login."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


class FakeProxy:
    """Connects to a target, whatever name a client asks for, unless `others` has the name.

    Attributes:
        requests: the heads of all requests.
        violations: what clients did wrong.
        answer: a response in place of a connection; None: it connects.
        others: where it connects to for some names.
    """

    def __init__(
        self, target: tuple[str, int], login: str = "", others: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.answer: bytes | None = None
        self.port = 0
        self.others = others or {}
        self._target = target
        self._login = login
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
            self.requests.append(head)
            lines = head.split("\r\n")
            method, authority, version = lines[0].split(" ")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            if (method, version, fields.get("host")) != ("CONNECT", "HTTP/1.1", authority):
                self.violations.append(head)
            login = base64.b64encode(self._login.encode()).decode()
            if self._login and f"Proxy-Authorization: Basic {login}" not in lines:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            if self.answer is not None:
                writer.write(self.answer)
                await writer.drain()
                return
            there, to = await asyncio.open_connection(*self.others.get(authority.rpartition(":")[0], self._target))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with contextlib.closing(to):
                await asyncio.gather(_copy(reader, to), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def fake_proxy(
    target: tuple[str, int], login: str = "", others: Mapping[str, tuple[str, int]] | None = None
) -> AsyncIterator[FakeProxy]:
    proxy = FakeProxy(target, login, others)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
