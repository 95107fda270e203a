"""The server end of an outgoing connection, and a receiver that records its events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.utils import accept_key

from lobby_gateway.websocket.frames import Batch
from lobby_gateway.websocket.parser import Event


class Recorder:
    """A receiver that records its events and lets tests wait for them."""

    def __init__(self) -> None:
        self.reads: list[list[Event]] = []
        self.lost_with: list[Exception | None] = []
        self._changed = asyncio.Event()

    def received(self, events: list[Event]) -> None:
        assert not self.lost_with, "event after the connection was lost"
        self.reads.append(events)
        self._changed.set()

    def lost(self, error: Exception | None) -> None:
        self.lost_with.append(error)
        self._changed.set()

    @property
    def events(self) -> list[Event]:
        return [event for read in self.reads for event in read]

    @property
    def messages(self) -> list[bytes]:
        batches = [event for event in self.events if isinstance(event, Batch)]
        return [bytes(batch.payload(i)) for batch in batches for i in range(len(batch))]

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_lost(self) -> None:
        await self.until(lambda: self.lost_with)


def acceptance(key: str) -> bytes:
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{head}Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def raw_server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that reads a request and calls `handle` with the bytes of a 101 response."""
    done: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        done.add(task)
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = request.lower().split("sec-websocket-key: ")[1].split("\r\n")[0]
        at = request.lower().index(key)
        accept = acceptance(request[at : at + len(key)])
        try:
            await handle(reader, writer, accept)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await server.wait_closed()
        if done:
            await asyncio.wait(done)
