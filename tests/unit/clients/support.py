"""Clients of a message bus, over real sockets, and numbered messages."""

from __future__ import annotations

import asyncio
import socket
import struct

from tests.support.sockets import tcp_pair

from lobby_gateway.clients.connection import ClientConnection, ClientPolicy
from lobby_gateway.websocket.frames import Batch, Opcode, frame


class Owner:
    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.closed: list[str] = []
        self.changed = asyncio.Event()

    def client_message(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
        self.messages.append((opcode, payload))
        self.changed.set()

    def client_closed(self, client: ClientConnection, label: str) -> None:
        self.closed.append(label)
        self.changed.set()

    async def until_closed(self) -> str:
        while not self.closed:
            self.changed.clear()
            await self.changed.wait()
        return self.closed[0]


def connect(
    owner: Owner, policy: ClientPolicy | None = None, *, deflate: bool = False, receive_buffer: int | None = None
) -> tuple[ClientConnection, socket.socket]:
    ours, theirs = tcp_pair(receive_buffer=receive_buffer)
    loop = asyncio.get_running_loop()
    return ClientConnection(ours, loop=loop, policy=policy or ClientPolicy(), owner=owner, deflate=deflate), theirs


def numbered(first: int, count: int, size: int = 64) -> Batch:
    return Batch.of([frame(Opcode.BINARY, struct.pack("!Q", n).ljust(size, b".")) for n in range(first, first + count)])


def numbers(stream: bytes) -> list[int]:
    batch = Batch.scan(stream)
    return [struct.unpack("!Q", batch.payload(i)[:8])[0] for i in range(len(batch)) if batch.opcode(i) == Opcode.BINARY]
