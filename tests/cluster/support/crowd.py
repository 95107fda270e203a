"""Clients that stay connected across tests: a swarm on an event loop in its own thread.

Tests are plain functions that run commands and wait; meanwhile the crowd reads, counts and answers pings.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tests.cluster.support.waiting import eventually
from tests.support.swarm import Client, Swarm, describe
from tests.support.tally import Sequence, Tally, by_seq

T = TypeVar("T")
NEW_CLIENT_EVERY = 0.5
COME_BACK_EVERY = 0.2
MUTE_SECONDS = 35.0
"""A client that receives nothing for this long reconnects. Longer than a greeter holds a client whose lobby is lost (30 s): a
client that reconnects has lost its greeter; the others receive messages again, or are closed by a greeter by mistake."""
NEW_CLIENT_DEADLINE = 20.0  # a greeter lets no client wait longer for a seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the clients of a crowd saw since they were marked.

    Attributes:
        clients: number of clients at that time.
        open: how many of them are still connected and receive messages.
        closed: how many were closed, by code.
        mute: how many are connected, but have received nothing for longer than `MUTE`.
        missing: total number of messages that clients did not receive.
        most_missing: number of missing messages of the client that misses most.
        duplicates: total number of messages that arrived twice or too late.
        median_silence: median over the open clients of their longest time without a message, in seconds.
        longest_silence: longest time that an open client was without a message, in seconds.
    """

    clients: int
    open: int
    closed: dict[int, int]
    mute: int
    missing: int
    most_missing: int
    duplicates: int
    median_silence: float
    longest_silence: float


@dataclass(slots=True)
class NewClients:
    """Clients that connected one after the other while something was broken.

    Attributes:
        came: how many were answered.
        refused: how many of them were not admitted, by HTTP status (None: no answer).
        longest_wait: longest time that a client waited for its answer, in seconds.
        first: the first refusal.
    """

    came: int
    refused: dict[int | None, int]
    longest_wait: float
    first: str


class Crowd:
    """A swarm in a thread. As a context manager it closes its clients at the end."""

    def __init__(self, url: str, *, sequence: Sequence = by_seq, keep: int = 0) -> None:
        self.url = url
        self._sequence = sequence
        self._keep = keep
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crowd", daemon=True)
        self.swarm: Swarm
        self._marked: list[Client] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.swarm = Swarm(self.url, sequence=self._sequence, keep=self._keep)
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            self.run(self.swarm.close(), deadline=60)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], *, deadline: float = 120.0) -> T:
        """Runs a coroutine on the crowd's loop, and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(deadline)

    def look(self, function: Callable[[], T]) -> T:
        """Calls a function on the crowd's loop, where it sees a consistent state."""

        async def call() -> T:
            return function()

        return self.run(call())

    def connect(self, count: int, *, concurrency: int = 32, deadline: float = 90.0) -> list[Client]:
        """Connects `count` more clients; none may be refused."""
        return self.run(
            self.swarm.connect_all(count, concurrency=concurrency, deadline=deadline), deadline=deadline + 10
        )

    def fill(self, count: int, *, mute_after: float = 10.0) -> None:
        """Restores `count` clients: replaces those that were closed or no longer receive anything."""

        async def cull() -> int:
            now = time.monotonic()
            dead = [each for each in self.swarm.clients if not each.is_open or now - each.last_at > mute_after]
            await self.swarm.close([each for each in dead if each.is_open], deadline=1)
            alive = [each for each in self.swarm.clients if each.is_open]
            self.swarm.clients = alive[:count]
            await self.swarm.close(alive[count:])
            return count - len(self.swarm.clients)

        with contextlib.suppress(TimeoutError):  # a mute client does not answer a close either, and is cut off
            self.run(cull())
        missing = count - self.look(lambda: len(self.swarm.open))
        if missing > 0:
            self.connect(missing)
        if count:
            self.each_gets(2)

    def leave(self, count: int) -> None:
        """Closes the latest `count` clients."""

        async def close() -> None:
            await self.swarm.close(self.swarm.clients[-count:])
            del self.swarm.clients[-count:]

        self.run(close())

    def thin(self, stays: Callable[[int], bool]) -> None:
        """Closes all clients except those whose number, in the order of their arrival, is to stay."""

        async def close() -> None:
            leaving = [client for i, client in enumerate(self.swarm.clients) if not stays(i)]
            self.swarm.clients = [client for i, client in enumerate(self.swarm.clients) if stays(i)]
            await self.swarm.close(leaving)

        self.run(close())

    def each_gets(self, more: int, *, deadline: float = 30.0) -> None:
        """Waits until each open client has received this many more messages."""
        self.run(self.swarm.each_gets(more, deadline=deadline), deadline=deadline + 10)

    def mark(self) -> None:
        """Restarts the counts and the measurement of silences."""

        def mark() -> None:
            self._marked = self.swarm.open
            for client in self._marked:
                client.tally = Tally()
            self.swarm.mark()

        self.look(mark)

    def seen(self, *, mute_after: float = 5.0) -> Seen:
        """What the clients have seen since `mark`."""

        def look() -> Seen:
            now = time.monotonic()
            closed: dict[int, int] = {}
            for client in self._marked:
                if client.close_code is not None:
                    closed[client.close_code] = closed.get(client.close_code, 0) + 1
            connected = [client for client in self._marked if client.is_open]
            hearing = [client for client in connected if now - client.last_at <= mute_after]
            silences = [client.silence(now) for client in hearing] or [0.0]
            return Seen(
                clients=len(self._marked),
                open=len(hearing),
                closed=closed,
                mute=len(connected) - len(hearing),
                missing=sum(len(client.tally.missing) for client in hearing),
                most_missing=max((len(client.tally.missing) for client in hearing), default=0),
                duplicates=sum(client.tally.duplicates + client.tally.reordered for client in hearing),
                median_silence=statistics.median(silences),
                longest_silence=max(silences),
            )

        return self.look(look)

    def summary(self) -> str:
        """One line for failures."""
        return self.look(self.swarm.summary)

    @contextlib.contextmanager
    def new_clients(self, url: str = "") -> Iterator[NewClients]:
        """During the block a new client connects every half second and leaves; at least one does at its end."""
        found = NewClients(came=0, refused={}, longest_wait=0.0, first="")
        with self._meanwhile(self._let_come(url or self.url, found)) as task:
            yield found
            before = found.came
            eventually(
                lambda: found.came > before + 1 or task.done(),
                deadline=3 * NEW_CLIENT_DEADLINE,
                what="one more new client",
            )

    @contextlib.contextmanager
    def coming_back(self) -> Iterator[NewClients]:
        """During the block clients that are closed or mute reconnect at once, as real clients do."""
        found = NewClients(came=0, refused={}, longest_wait=0.0, first="")
        with self._meanwhile(self._come_back(found)):
            yield found

    @contextlib.contextmanager
    def _meanwhile(self, work: Coroutine[Any, Any, None]) -> Iterator[concurrent.futures.Future[None]]:
        task = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            yield task
        finally:
            task.cancel()
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _let_come(self, url: str, found: NewClients) -> None:
        swarm = Swarm(url, sequence=self._sequence)
        try:
            while True:
                await self._one_more(swarm, found)
                with contextlib.suppress(TimeoutError):
                    await swarm.close(deadline=1)
                swarm.clients.clear()
                await asyncio.sleep(NEW_CLIENT_EVERY)
        finally:
            for client in swarm.clients:
                client.abort()

    async def _come_back(self, found: NewClients) -> None:
        gate = asyncio.Semaphore(32)

        async def one() -> None:
            async with gate:
                await self._one_more(self.swarm, found)

        while True:
            now = time.monotonic()
            for client in self.swarm.clients:
                if client.is_open and now - client.last_at > MUTE_SECONDS:
                    client.abort()
            gone = [client for client in self.swarm.clients if client.close_code is not None or client.status != 101]
            self.swarm.clients = [client for client in self.swarm.clients if client not in set(gone)]
            await asyncio.gather(*(one() for _ in gone))
            await asyncio.sleep(COME_BACK_EVERY)

    async def _one_more(self, swarm: Swarm, found: NewClients) -> None:
        begun = time.monotonic()
        status, refusal = None, "no answer in time"
        with contextlib.suppress(TimeoutError):
            (client,) = await swarm.connect(1, deadline=NEW_CLIENT_DEADLINE)
            status, refusal = client.status, describe(client)
        found.came += 1
        found.longest_wait = max(found.longest_wait, time.monotonic() - begun)
        if status != 101:
            found.refused[status] = found.refused.get(status, 0) + 1
            found.first = found.first or refusal
