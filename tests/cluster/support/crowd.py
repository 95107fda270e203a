"""Clients that stay connected from test to test: a swarm on an event loop in a thread of its own.

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
NEWCOMER_EVERY = 0.5
COME_BACK_EVERY = 0.2
MUTE_SECONDS = 35.0
"""A client that hears nothing for so long gives up, and comes back. Longer than a greeter lets one wait whose lobby is lost
(30 s): who gives up has lost its greeter; the others hear again, or are closed by a greeter that should not."""
NEWCOMER_DEADLINE = 20.0  # a greeter lets nobody wait longer for a seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the clients of a crowd saw since they were marked.

    Attributes:
        clients: how many there were then.
        open: how many of them are connected still, and get messages.
        closed: how many were closed, by code.
        mute: how many are connected, but got nothing for longer than `MUTE`.
        missing: messages that did not come, of all clients together.
        most_missing: of the one client that misses most.
        duplicates: messages that came twice or too late, of all clients together.
        median_silence: of the open ones: longest time without a message, its median over the clients, in seconds.
        longest_silence: of the open ones, of the one that waited longest, in seconds.
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
class Newcomers:
    """Clients that came one after the other while something was broken.

    Attributes:
        came: how many had an answer.
        refused: how many of them did not get in, by HTTP status (None: no answer).
        longest_wait: longest time that one of them waited for its answer, in seconds.
        first: the first refusal.
    """

    came: int
    refused: dict[int | None, int]
    longest_wait: float
    first: str


class Crowd:
    """A swarm in a thread. As a context manager it closes its clients at its end."""

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
        """Runs a coroutine on the crowd's loop to its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(deadline)

    def look(self, function: Callable[[], T]) -> T:
        """Calls a function on the crowd's loop: what it sees is of one moment."""

        async def call() -> T:
            return function()

        return self.run(call())

    def connect(self, count: int, *, concurrency: int = 32, deadline: float = 90.0) -> list[Client]:
        """Lets `count` more clients in; none may be refused."""
        return self.run(
            self.swarm.connect_all(count, concurrency=concurrency, deadline=deadline), deadline=deadline + 10
        )

    def fill(self, count: int, *, mute_after: float = 10.0) -> None:
        """Makes it `count` clients again: those that were closed or hear nothing any more are replaced."""

        async def cull() -> int:
            now = time.monotonic()
            dead = [each for each in self.swarm.clients if not each.is_open or now - each.last_at > mute_after]
            await self.swarm.close([each for each in dead if each.is_open], deadline=1)
            alive = [each for each in self.swarm.clients if each.is_open]
            self.swarm.clients = alive[:count]
            await self.swarm.close(alive[count:])
            return count - len(self.swarm.clients)

        with contextlib.suppress(TimeoutError):  # who hears nothing doesn't answer a close either, and is cut off
            self.run(cull())
        missing = count - self.look(lambda: len(self.swarm.open))
        if missing > 0:
            self.connect(missing)
        if count:
            self.each_gets(2)

    def leave(self, count: int) -> None:
        """Lets the `count` clients that came last leave."""

        async def close() -> None:
            await self.swarm.close(self.swarm.clients[-count:])
            del self.swarm.clients[-count:]

        self.run(close())

    def thin(self, stays: Callable[[int], bool]) -> None:
        """Lets all leave but those whose number, in the order of their coming, is to stay."""

        async def close() -> None:
            leaving = [client for i, client in enumerate(self.swarm.clients) if not stays(i)]
            self.swarm.clients = [client for i, client in enumerate(self.swarm.clients) if stays(i)]
            await self.swarm.close(leaving)

        self.run(close())

    def each_gets(self, more: int, *, deadline: float = 30.0) -> None:
        """Waits until each open client got so many more messages."""
        self.run(self.swarm.each_gets(more, deadline=deadline), deadline=deadline + 10)

    def mark(self) -> None:
        """Begins to count and to measure silences anew."""

        def mark() -> None:
            self._marked = self.swarm.open
            for client in self._marked:
                client.tally = Tally()
            self.swarm.mark()

        self.look(mark)

    def seen(self, *, mute_after: float = 5.0) -> Seen:
        """What the clients saw since `mark`."""

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
    def newcomers(self, url: str = "") -> Iterator[Newcomers]:
        """For the time of the block a new client comes every half second, and leaves; at least one at its end."""
        found = Newcomers(came=0, refused={}, longest_wait=0.0, first="")
        with self._meanwhile(self._let_come(url or self.url, found)) as task:
            yield found
            before = found.came
            eventually(
                lambda: found.came > before + 1 or task.done(), deadline=3 * NEWCOMER_DEADLINE, what="one more newcomer"
            )

    @contextlib.contextmanager
    def coming_back(self) -> Iterator[Newcomers]:
        """For the time of the block whoever is closed, or hears nothing for long, comes back at once, as clients do."""
        found = Newcomers(came=0, refused={}, longest_wait=0.0, first="")
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

    async def _let_come(self, url: str, found: Newcomers) -> None:
        swarm = Swarm(url, sequence=self._sequence)
        try:
            while True:
                await self._one_more(swarm, found)
                with contextlib.suppress(TimeoutError):
                    await swarm.close(deadline=1)
                swarm.clients.clear()
                await asyncio.sleep(NEWCOMER_EVERY)
        finally:
            for client in swarm.clients:
                client.abort()

    async def _come_back(self, found: Newcomers) -> None:
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

    async def _one_more(self, swarm: Swarm, found: Newcomers) -> None:
        begun = time.monotonic()
        status, refusal = None, "no answer in time"
        with contextlib.suppress(TimeoutError):
            (client,) = await swarm.connect(1, deadline=NEWCOMER_DEADLINE)
            status, refusal = client.status, describe(client)
        found.came += 1
        found.longest_wait = max(found.longest_wait, time.monotonic() - begun)
        if status != 101:
            found.refused[status] = found.refused.get(status, 0) + 1
            found.first = found.first or refusal
