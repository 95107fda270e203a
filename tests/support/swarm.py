"""Many WebSocket clients in one process, cheaply: an asyncio.Protocol each, over the sans-I/O half of `websockets`.

It uses none of the code under test: what clients receive is what an independent implementation understands.
"""

from __future__ import annotations

import asyncio
import collections
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Self
from urllib.parse import urljoin

from tests.support.tally import Sequence, Tally, by_seq
from tests.support.waiting import until
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

CONNECT_DEADLINE = 60.0
MAX_REDIRECTS = 3
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class Client(asyncio.Protocol):
    """One client, from its handshake to its end.

    Attributes:
        number: index in its swarm.
        url: URL after redirects.
        status: HTTP status of the latest response; None before it.
        headers: headers of that response.
        body: body of a response other than 101.
        error: why there was no response.
        tally: counts of the messages that it received.
        kept: its latest messages as (opcode, payload), up to `keep` of the swarm.
        close_code: received close code; 1006 if the connection ended without one, None while it is open.
        close_reason: received close reason.
        opened_at: monotonic time of the 101.
        last_at: monotonic time of the latest message, or of the 101 before the first one.
        longest_silence: longest time between two messages since the last `mark`, in seconds.
        handshake_seconds: time from connecting to the response.
        pings: pings it answered.
    """

    def __init__(self, swarm: Swarm, number: int) -> None:
        self._swarm = swarm
        self.number = number
        self.url = swarm.next_url()
        self.status: int | None = None
        self.headers = Headers()
        self.body = b""
        self.error = ""
        self.tally = Tally()
        self.kept: collections.deque[tuple[Opcode, bytes]] = collections.deque(maxlen=swarm.keep)
        self.close_code: int | None = None
        self.close_reason = ""
        self.opened_at = 0.0
        self.last_at = 0.0
        self.longest_silence = 0.0
        self.handshake_seconds = 0.0
        self.pings = 0
        self._begun_at = 0.0
        self._fragments: list[bytes] = []
        self._opcode = Opcode.TEXT
        self._protocol: ClientProtocol
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] | None = None
        self._lost = asyncio.Event()  # its latest connection
        self.ended = asyncio.Event()  # the client itself: no further redirects

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self.status == 101 and self.close_code is None

    @property
    def was_connected(self) -> bool:
        """Whether it has or had a TCP connection."""
        return self._transport is not None

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol."""
        return self._protocol.subprotocol

    @property
    def extensions(self) -> list[str]:
        """Names of the negotiated extensions."""
        return [extension.name for extension in self._protocol.extensions]

    @property
    def local_port(self) -> int:
        """Its TCP port."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def silence(self, now: float) -> float:
        """Longest silence since the last `mark`, including the current one."""
        return max(self.longest_silence, now - self.last_at)

    def mark(self, now: float) -> None:
        """Restarts the measurement of silence."""
        self.longest_silence = 0.0
        self.last_at = now

    async def connect(self) -> None:
        """Connects, following redirects if the swarm does; never raises because of the server."""
        self._begun_at = time.monotonic()
        for _ in range(MAX_REDIRECTS + 1):
            await self._connect_once()
            if not (self.status == 307 and self._swarm.follow_redirects):
                return
            await self._lost.wait()
            location = urljoin(self.url.replace("ws", "http", 1), self.headers["Location"])
            self.url = location.replace("http", "ws", 1)
        raise AssertionError(f"more than {MAX_REDIRECTS} redirects, the last to {self.url}")

    def send(self, message: str | bytes) -> None:
        """Sends a text or binary message."""
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begins the closing handshake."""
        if self.is_open and self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()

    def abort(self) -> None:
        """Ends the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stops reading: data accumulates in the socket buffers and then at the server."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        """Resumes reading."""
        assert self._transport is not None
        self._transport.resume_reading()

    async def _connect_once(self) -> None:
        loop = asyncio.get_running_loop()
        uri = parse_uri(self.url)
        self._protocol = self._swarm.protocol(self.url)
        self._lost = asyncio.Event()
        self._answered = loop.create_future()
        self.status = None
        try:
            sock = await self._swarm.socket(uri.host, uri.port)
            await loop.create_connection(lambda: self, sock=sock)
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"
            self.ended.set()
            return
        request = self._protocol.connect()
        for name, value in self._swarm.headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()
        await self._answered
        self.handshake_seconds = time.monotonic() - self._begun_at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._take_events()
        self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take_events()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self.error = self.error or f"no answer to the handshake ({exc or 'end of stream'})"
            self._answered.set_result(None)
        if self.status == 101 and self.close_code is None:
            self.close_code, self.close_reason = 1006, str(exc or "")
        self._lost.set()
        if self.status != 307 or not self._swarm.follow_redirects:
            self.ended.set()

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._answer(event)
            elif isinstance(event, Frame):
                self._frame(event)

    def _answer(self, response: Response) -> None:
        self.status, self.headers, self.body = response.status_code, response.headers, bytes(response.body or b"")
        self.opened_at = self.last_at = time.monotonic()
        failed = self._protocol.handshake_exc
        if response.status_code == 101 and isinstance(failed, InvalidHandshake):
            self.error = f"{type(failed).__name__}: {failed}"
            self.status = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        if self.status != 101 and self._transport is not None:
            self._transport.close()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in _DATA:
            if frame.opcode is not Opcode.CONT:
                self._opcode = frame.opcode
            if not frame.fin or self._fragments:
                self._fragments.append(bytes(frame.data))
                if not frame.fin:
                    return
                payload = b"".join(self._fragments)
                self._fragments.clear()
            else:
                payload = bytes(frame.data)
            now = time.monotonic()
            self.longest_silence = max(self.longest_silence, now - self.last_at)
            self.last_at = now
            self.tally.add(self._swarm.sequence(payload))
            self.kept.append((self._opcode, payload))
        elif frame.opcode is Opcode.PING:
            self.pings += 1
        elif frame.opcode is Opcode.CLOSE:
            close = Close.parse(frame.data)
            self.close_code, self.close_reason = int(close.code), close.reason

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()


class Swarm:
    """Clients of one URL. As an asynchronous context manager, it closes them at the end.

    Attributes:
        next_url: returns the `ws://` URL of the next client.
        clients: all clients that connected or tried to, in order.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        sequence: Sequence = by_seq,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Iterable[str] = (),
        compression: bool = False,
        follow_redirects: bool = False,
        receive_buffer: int | None = None,
        keep: int = 0,
    ) -> None:
        self.next_url = url if callable(url) else lambda: url
        self.sequence = sequence
        self.headers = dict(headers or {})
        self.follow_redirects = follow_redirects
        self.keep = keep
        self.clients: list[Client] = []
        self._origin = Origin(origin) if origin is not None else None
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._compression = compression
        self._receive_buffer = receive_buffer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def protocol(self, url: str) -> ClientProtocol:
        """A new sans-I/O protocol."""
        return ClientProtocol(
            parse_uri(url),
            origin=self._origin,
            extensions=[ClientPerMessageDeflateFactory()] if self._compression else None,
            subprotocols=self._subprotocols or None,
            max_size=MAX_MESSAGE_BYTES,
        )

    async def socket(self, host: str, port: int) -> socket.socket:
        """A connected socket with the configured receive buffer."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setblocking(False)
            if self._receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def connect(
        self, count: int = 1, *, concurrency: int = 64, deadline: float = CONNECT_DEADLINE
    ) -> list[Client]:
        """Connects `count` more clients, at most `concurrency` at a time; returns them once each has a response."""
        new = [Client(self, len(self.clients) + i) for i in range(count)]
        self.clients += new
        gate = asyncio.Semaphore(concurrency)

        async def one(client: Client) -> None:
            async with gate:
                await client.connect()

        async with asyncio.timeout(deadline), asyncio.TaskGroup() as group:
            for client in new:
                group.create_task(one(client))
        return new

    async def connect_all(
        self, count: int = 1, *, concurrency: int = 64, deadline: float = CONNECT_DEADLINE
    ) -> list[Client]:
        """`connect`, where every client must be accepted.

        Raises:
            AssertionError: a client was not accepted.
        """
        new = await self.connect(count, concurrency=concurrency, deadline=deadline)
        out = [client for client in new if client.status != 101]
        assert not out, f"{len(out)} of {count} clients were not accepted; the first: {describe(out[0])}"
        return new

    @property
    def open(self) -> list[Client]:
        """Connected clients."""
        return [client for client in self.clients if client.is_open]

    @property
    def statuses(self) -> dict[int | None, int]:
        """Number of clients by HTTP status."""
        return dict(collections.Counter(client.status for client in self.clients))

    @property
    def closes(self) -> dict[int, int]:
        """Number of clients by close code."""
        return dict(collections.Counter(c.close_code for c in self.clients if c.close_code is not None))

    @property
    def gaps(self) -> int:
        """Total of messages missing between the first and the last of each client."""
        return sum(len(client.tally.missing) for client in self.clients)

    @property
    def disorder(self) -> int:
        """Total of duplicates and reorderings."""
        return sum(client.tally.duplicates + client.tally.reordered for client in self.clients)

    def mark(self) -> None:
        """Restarts the measurement of silence."""
        now = time.monotonic()
        for client in self.open:
            client.mark(now)

    def begin_stream(self) -> None:
        """Resets the counts for an origin that numbers from the start again. No message may be in flight."""
        for client in self.clients:
            client.tally = Tally()

    def longest_silence(self) -> float:
        """The longest silence of any open client since `mark`, in seconds."""
        now = time.monotonic()
        return max((client.silence(now) for client in self.open), default=0.0)

    async def each_has(self, messages: int, *, deadline: float = 20.0, of: Iterable[Client] | None = None) -> None:
        """Waits until each open client has received `messages` numbered messages since it connected."""
        clients = list(self.open if of is None else of)
        await until(
            lambda: all(client.tally.count >= messages for client in clients),
            deadline=deadline,
            describe=lambda: f"{messages} messages for each of {len(clients)} clients; {self.summary()}",
        )

    async def each_gets(self, more: int, *, deadline: float = 20.0, of: Iterable[Client] | None = None) -> None:
        """Waits until each open client has received `more` further numbered messages."""
        clients = list(self.open if of is None else of)
        before = [client.tally.count for client in clients]
        await until(
            lambda: all(c.tally.count >= b + more for c, b in zip(clients, before, strict=True)),
            deadline=deadline,
            describe=lambda: f"{more} more messages for each of {len(clients)} clients; {self.summary()}",
        )

    async def each_reaches(self, number: int, *, deadline: float = 20.0) -> None:
        """Waits until each open client has received the message with this number or a later one."""
        await until(
            lambda: all(client.tally.last >= number for client in self.open),
            deadline=deadline,
            describe=lambda: f"message {number} for each client; {self.summary()}",
        )

    def summary(self) -> str:
        """One line for failure messages: statuses, closes, counts, gaps."""
        counts = [client.tally.count for client in self.clients] or [0]
        lasts = [client.tally.last for client in self.clients] or [0]
        errors = sorted({client.error for client in self.clients if client.error})[:3]
        return (
            f"{len(self.clients)} clients, {len(self.open)} open, statuses {self.statuses}, closes {self.closes}, "
            f"messages {min(counts)}..{max(counts)}, last {min(lasts)}..{max(lasts)}, gaps {self.gaps}, "
            f"disorder {self.disorder}, silence {self.longest_silence():.2f} s, errors {errors}"
        )

    async def close(self, which: Iterable[Client] | None = None, *, deadline: float = 20.0) -> None:
        """Closes clients (by default all) and waits for their connections to end; aborts those that don't answer."""
        clients = [client for client in (self.clients if which is None else which) if client.was_connected]
        for client in clients:
            client.close()
        try:
            async with asyncio.timeout(deadline):
                for client in clients:
                    await client.ended.wait()
        finally:
            for client in clients:
                client.abort()


def describe(client: Client) -> str:
    """One line on a client, for failure messages."""
    return (
        f"client {client.number} of {client.url}: status {client.status} {client.error} {client.body[:200]!r}, "
        f"close {client.close_code} {client.close_reason!r}, tally {client.tally}"
    )
