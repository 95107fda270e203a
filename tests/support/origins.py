"""Fake origins on loopback that can misbehave like real ones, and record what they receive.

The server is `websockets`, a strict implementation independent of ours. It runs in the event loop of the test, and lobbies in
this or other processes connect to it. The test sends messages (`send`, `send_raw`), or a timer does (`ticking`).
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import itertools
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import trustme
from tests.support.sockets import hold_port
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

DEADLINE = 10.0


@dataclass(slots=True, kw_only=True)
class ConnectionRecord:
    """What an origin received on one connection.

    Attributes:
        path: path of the request, with the query.
        headers: headers of the request, by lower-case name.
        offered: offered subprotocols.
        opened_at: `time.monotonic()` at the end of the handshake.
        messages: received messages, in order.
        pings: number of received pings.
        closed: whether the connection has ended.
        close_code: code of the received close frame; None without one.
        close_reason: its reason, likewise.
        server: the connection.
    """

    path: str
    headers: dict[str, str]
    offered: tuple[str, ...]
    opened_at: float
    messages: list[str | bytes] = field(default_factory=list)
    pings: int = 0
    closed: bool = False
    close_code: int | None = None
    close_reason: str = ""
    server: ServerConnection = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refuse:
    """A response to the handshake other than 101."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = "no"


class _Connection(ServerConnection):
    """Counts pings, which `websockets` answers silently."""

    record: ConnectionRecord | None = None
    changed: asyncio.Event | None = None

    def process_event(self, event: Any) -> None:
        if self.record is not None and self.changed is not None and getattr(event, "opcode", None) is Opcode.PING:
            self.record.pings += 1
            self.changed.set()
        super().process_event(event)


Behavior = Callable[["FakeOrigin", ConnectionRecord], Awaitable[None]]


class FakeOrigin:
    """An origin; use it as an async context manager.

    Attributes:
        connections: those whose handshake succeeded, in order.
        attempts: `time.monotonic()` of each handshake, including refused ones.
        most_open: maximum of simultaneously open connections.
        refuse: response to further handshakes; None accepts them.
        on_open: awaited with each new connection before its messages are read.
        on_message: returns the reply to a message, or None.
    """

    def __init__(
        self,
        *,
        refuse: Refuse | None = None,
        on_open: Behavior | None = None,
        on_message: Callable[[str | bytes], Iterable[str]] | None = None,
        subprotocols: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.connections: list[ConnectionRecord] = []
        self.attempts: list[float] = []
        self.most_open = 0
        self.refuse = refuse
        self.on_open = on_open
        self.on_message = on_message
        self._subprotocols = [Subprotocol(each) for each in subprotocols] or None
        self._tls = tls
        self._port = port
        self._server: Server | None = None
        self._held: socket.socket | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        if not self._port:
            self._held = hold_port()
            self._port = self._held.getsockname()[1]
        await self.start_again_on_same_port()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self._held is not None:
            self._held.close()

    @property
    def url(self) -> str:
        """Its URL, with a host name, because certificates have names."""
        return f"{'wss' if self._tls else 'ws'}://localhost:{self.port}/"

    @property
    def port(self) -> int:
        """Port that it listens on, or did before `stop`."""
        assert self._port, "the origin was not started"
        return self._port

    @property
    def open(self) -> list[ConnectionRecord]:
        """Open connections."""
        return [each for each in self.connections if not each.closed]

    # Actions

    async def send(self, *messages: str | bytes) -> None:
        """Sends messages to every open connection."""
        for each in self.open:
            with contextlib.suppress(ConnectionClosed):
                for message in messages:
                    await each.server.send(message)

    def send_raw(self, data: bytes, *, to: Iterable[ConnectionRecord] | None = None) -> None:
        """Sends bytes to every open connection (or to these), in one write if possible."""
        for each in self.open if to is None else to:
            if each.server.state is State.OPEN:
                each.server.transport.write(data)

    async def close_connections(self, code: int = 1000, reason: str = "") -> None:
        """Closes every open connection with a close frame."""
        await asyncio.gather(*(each.server.close(code, reason) for each in self.open))

    def kill_connections(self) -> None:
        """Resets every open TCP connection, as a crashed machine behind a NAT does."""
        for each in self.open:
            reset(each.server)

    def end_connections(self) -> None:
        """Ends every open TCP connection without a close frame, as a process that crashes does."""
        for each in self.open:
            each.server.transport.abort()

    def go_silent(self) -> None:
        """Stops reading and answering on the open connections, even pings."""
        for each in self.open:
            each.server.transport.pause_reading()

    async def stop(self) -> None:
        """Ends all connections and stops listening: the kernel refuses new ones."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close(close_connections=False)
        self.end_connections()
        await server.wait_closed()

    async def start_again_on_same_port(self) -> None:
        """Listens (again)."""
        assert self._server is None, "the origin is running"
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            self._port,
            ssl=self._tls,
            subprotocols=self._subprotocols,
            process_request=self._process_request,
            create_connection=_Connection,
            ping_interval=None,
            close_timeout=DEADLINE,
            max_size=None,
        )

    # Observations

    async def until(self, condition: Callable[[], Any], *, deadline: float = DEADLINE) -> None:
        """Waits until an event at the origin makes a condition true.

        Raises:
            TimeoutError: the condition was not true within `deadline` seconds.
        """
        async with asyncio.timeout(deadline):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_open(self, count: int = 1, *, deadline: float = DEADLINE) -> ConnectionRecord:
        """Waits until `count` connections are open; returns the newest."""
        await self.until(lambda: len(self.open) == count, deadline=deadline)
        return self.open[-1]

    async def until_connected(self, count: int, *, deadline: float = DEADLINE) -> ConnectionRecord:
        """Waits for the connection with this number, counted from 1; returns it."""
        await self.until(lambda: len(self.connections) >= count, deadline=deadline)
        return self.connections[count - 1]

    async def until_closed(self, record: ConnectionRecord, *, deadline: float = DEADLINE) -> ConnectionRecord:
        """Waits until a connection has ended."""
        await self.until(lambda: record.closed, deadline=deadline)
        return record

    async def until_attempts(self, count: int, *, deadline: float = DEADLINE) -> None:
        """Waits for `count` handshakes."""
        await self.until(lambda: len(self.attempts) >= count, deadline=deadline)

    def shortest_wait(self) -> float:
        """Seconds between the two closest attempts, to detect hammering."""
        return min(b - a for a, b in zip(self.attempts, self.attempts[1:], strict=False))

    def _process_request(self, connection: ServerConnection, _request: Request) -> Response | None:
        self.attempts.append(time.monotonic())
        self._changed.set()
        if self.refuse is None:
            return None
        response = connection.respond(http.HTTPStatus(self.refuse.status), self.refuse.body)
        for name, value in self.refuse.headers:
            response.headers[name] = value
        return response

    async def _handle(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        record = ConnectionRecord(
            path=request.path,
            headers={name.lower(): value for name, value in request.headers.raw_items()},
            offered=tuple(
                part.strip() for each in request.headers.get_all("Sec-WebSocket-Protocol") for part in each.split(",")
            ),
            opened_at=time.monotonic(),
            server=connection,
        )
        assert isinstance(connection, _Connection)
        connection.record, connection.changed = record, self._changed
        self.connections.append(record)
        self.most_open = max(self.most_open, len(self.open))
        self._changed.set()
        try:
            if self.on_open is not None:
                await self.on_open(self, record)
            await self._read(record)
        except ConnectionClosed:
            pass
        finally:
            await connection.wait_closed()
            received = connection.protocol.close_rcvd
            if received is not None:
                record.close_code, record.close_reason = received.code, received.reason
            record.closed = True
            self._changed.set()

    async def _read(self, record: ConnectionRecord) -> None:
        async for message in record.server:
            record.messages.append(message)
            for answer in self.on_message(message) if self.on_message is not None else ():
                await record.server.send(answer)
            self._changed.set()


@contextlib.asynccontextmanager
async def ticking(origin: FakeOrigin, *, interval: float = 0.01, first: int = 1) -> AsyncIterator[None]:
    """Sends `{"sequence": 1}`, 2, … to all open connections during a block."""

    async def tick() -> None:
        for sequence in itertools.count(first):
            await origin.send(json.dumps({"sequence": sequence}))
            await asyncio.sleep(interval)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def reset(server: ServerConnection) -> None:
    """Ends a TCP connection with RST, unless it has just ended."""
    sock: socket.socket = server.transport.get_extra_info("socket")
    if sock.fileno() != -1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.transport.abort()


# Valid and invalid frames of a server as bytes; `websockets` would not send the invalid ones.


def server_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """An unmasked frame (RFC 6455 §5.2)."""
    first = (0x80 if fin else 0) | opcode
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


def fragmented(*parts: bytes, opcode: int = 1) -> bytes:
    """A message fragmented into one frame per part (RFC 6455 §5.4)."""
    last = len(parts) - 1
    return b"".join(server_frame(0 if i else opcode, part, fin=i == last) for i, part in enumerate(parts))


INVALID_UTF8 = server_frame(1, b"\xff\xfe")
MASKED = bytes((0x81, 0x81, 0, 0, 0, 0)) + b"x"


# TLS


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority for tests.

    Attributes:
        ca_pem: its certificate.
        server: the context of an origin with a certificate for `localhost`.
        certificate_pem: certificate of a client.
        key_pem: key of that certificate.
    """

    ca_pem: str
    server: ssl.SSLContext
    certificate_pem: str
    key_pem: str


def authority(*names: str, ask_client: bool = False) -> Authority:
    """Creates an authority and a certificate of an origin for `names` (default: `localhost`).

    Args:
        names: host names of the origin.
        ask_client: whether the origin requires a client certificate.
    """
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("localhost",))).configure_cert(server)
    if ask_client:
        server.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(server)
    client = ca.issue_cert("lobby@example.com")
    return Authority(
        ca_pem=ca.cert_pem.bytes().decode(),
        server=server,
        certificate_pem="".join(each.bytes().decode() for each in client.cert_chain_pems),
        key_pem=client.private_key_pem.bytes().decode(),
    )
