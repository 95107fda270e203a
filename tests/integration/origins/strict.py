"""Origins that hold their clients to the rules of real feeds, written from the feeds' public documents.

A feed is a function that talks to one connection, as the feed's documents say, and calls `violation` for whatever a client
must not do. Times are scaled: what takes a feed 30 seconds takes it here one or two.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

TICK_SECONDS = 0.02
REFUSED_SECONDS = 30.0  # fewest between two tries of all lobbies together, while the origin refuses them


class GoneError(Exception):
    """The connection is over, by the client or by the feed."""


@dataclass(slots=True, kw_only=True)
class StrictOrigin:
    """One feed.

    Attributes:
        violations: what clients did against its rules, one line each.
        attempts: `time.monotonic()` of each connection.
        open: its connections.
        most_open: most of them at a time.
        url: its address.
        number: of the latest tick, the same on all connections.
        calls: `time.monotonic()` of each HTTP call.
        tokens: what its HTTP server has given out, and nobody has used yet.
        sessions: sessions that an HTTP call refers to, by their ids.
        failing: what it says on each connection as soon as the stream begins; None: nothing.
    """

    feed: Callable[[Peer], Awaitable[None]]
    subprotocol: str = ""
    path: str = "/"
    violations: list[str] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    open: list[Peer] = field(default_factory=list)
    most_open: int = 0
    url: str = ""
    number: int = 0
    calls: list[float] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    sessions: dict[str, asyncio.Event] = field(default_factory=dict)
    failing: Callable[[Peer], Awaitable[None]] | None = None
    _listening: set[asyncio.Queue[int]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[StrictOrigin]:
        """Serves during a block."""
        offered = [Subprotocol(self.subprotocol)] if self.subprotocol else None
        async with serve(self._serve, "127.0.0.1", 0, subprotocols=offered, ping_interval=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}{self.path}"
            ticking = asyncio.create_task(self._tick())
            try:
                yield self
            finally:
                ticking.cancel()
                await asyncio.wait([ticking])

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.number += 1
            for each in self._listening:
                each.put_nowait(self.number)

    def hammered(self, lobbies: int) -> list[float]:
        """Pauses between tries that are shorter than an origin that refuses us wants. The first try of each lobby is free.

        A try that ended with the HTTP call before the handshake counts, too.
        """
        tries = max(self.attempts, self.calls, key=len)[lobbies - 1 :]
        return [after - before for before, after in pairwise(tries) if after - before < REFUSED_SECONDS]

    async def fail(self, error: Callable[[Peer], Awaitable[None]]) -> None:
        """Sends an error on all connections, and on each that comes."""
        self.failing = error
        await self.each(error)

    async def each(self, act: Callable[[Peer], Awaitable[None]]) -> None:
        """Does something to all open connections; those that end meanwhile are left out."""

        async def one(peer: Peer) -> None:
            with contextlib.suppress(ConnectionClosed, GoneError):
                await act(peer)

        await asyncio.gather(*map(one, tuple(self.open)))

    @contextlib.contextmanager
    def ticks(self) -> Iterator[asyncio.Queue[int]]:
        """The numbers of the ticks during a block."""
        queue: asyncio.Queue[int] = asyncio.Queue()
        self._listening.add(queue)
        try:
            yield queue
        finally:
            self._listening.remove(queue)

    async def _serve(self, connection: ServerConnection) -> None:
        self.attempts.append(time.monotonic())
        peer = Peer(self, connection)
        self.open.append(peer)
        self.most_open = max(self.most_open, len(self.open))
        try:
            await self.feed(peer)
        except (GoneError, ConnectionClosed):
            pass
        finally:
            self.open.remove(peer)
            await connection.close()


class Peer:
    """One connection to a feed.

    Attributes:
        origin: the feed.
        connection: the connection.
        name: that it claimed; empty if it did not.
    """

    def __init__(self, origin: StrictOrigin, connection: ServerConnection) -> None:
        self.origin = origin
        self.connection = connection
        self.name = ""

    def header(self, name: str) -> str:
        """A header of the handshake; empty if there is none."""
        assert self.connection.request is not None
        return self.connection.request.headers.get(name, "")

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the handshake's URL."""
        assert self.connection.request is not None
        return dict(parse_qsl(urlsplit(self.connection.request.path).query))

    def violation(self, text: str) -> None:
        """Records what the client did against the rules, and ends the connection.

        Raises:
            GoneError: always.
        """
        self.origin.violations.append(text)
        raise GoneError

    def claim(self, name: str) -> None:
        """Takes a name that no other open connection may have."""
        if any(each.name == name for each in self.origin.open):
            self.violation(f"another connection has the name {name}")
        self.name = name

    async def receive(self, seconds: float, what: str) -> str | bytes:
        """The next message; a violation if none comes within that time."""
        try:
            async with asyncio.timeout(seconds):
                return await self.connection.recv()
        except TimeoutError:
            self.violation(f"no {what} within {seconds} s")
            raise AssertionError from None

    async def receive_json(self, seconds: float, what: str) -> Any:
        """The next message, which must be JSON."""
        said = await self.receive(seconds, what)
        try:
            return json.loads(said)
        except ValueError:
            self.violation(f"not JSON: {said[:80]!r}")

    async def send(self, *messages: object) -> None:
        """Sends messages; what is not text is sent as JSON."""
        for each in messages:
            await self.connection.send(
                each if isinstance(each, str | bytes) else json.dumps(each, separators=(",", ":"))
            )

    async def close(self, code: int, reason: str = "") -> None:
        """Closes the connection.

        Raises:
            GoneError: always.
        """
        await self.connection.close(code, reason)
        raise GoneError

    async def until_set(self, event: asyncio.Event, seconds: float, what: str) -> None:
        """Waits for something that happens elsewhere; a violation if it does not within that time, nor the client leaves."""
        happens, leaves = asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.connection.wait_closed())
        try:
            await asyncio.wait((happens, leaves), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not event.is_set() and not leaves.done():
                self.violation(f"no {what} within {seconds} s")
        finally:
            happens.cancel()
            leaves.cancel()
        if not event.is_set():
            raise GoneError

    async def stream(
        self, tick: Callable[[int], object], on_message: Callable[[str | bytes], Awaitable[None]], *, idle: float = 0.0
    ) -> None:
        """Sends ticks, and gives each message of the client to `on_message`, until the connection ends.

        Args:
            tick: the message with this number, the same on all connections.
            on_message: what the feed does with a message.
            idle: longest time without a message of the client, in seconds; 0: no limit.
        """
        heard = time.monotonic()

        async def listen() -> None:
            nonlocal heard
            async for message in self.connection:
                heard = time.monotonic()
                await on_message(message)
            raise GoneError

        async def talk() -> None:
            with self.origin.ticks() as ticks:
                if self.origin.failing is not None:
                    await self.origin.failing(self)
                while True:
                    await self.send(tick(await ticks.get()))
                    if idle and time.monotonic() - heard > idle:
                        self.violation(f"nothing sent for {idle} s")

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(listen())
                tasks.create_task(talk())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
