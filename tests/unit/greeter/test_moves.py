"""Lobbies come, drain, die and lose their trunks at random, clients come and go: nobody may notice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random

import pytest
from tests.support.sockets import run
from tests.unit.greeter.lobbies import Lobby, Running, greeter, until
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

STEPS = 120


class World:
    """Lobbies that all have the same stream of numbers, so that every move can be exact."""

    def __init__(self, running: Running, seed: int) -> None:
        self.running = running
        self.random = random.Random(seed)
        self.history: list[list[str]] = []
        self.numbers = itertools.count()
        self.dead: set[Lobby] = set()
        self.drained: set[Lobby] = set()
        self.joining: set[asyncio.Task[None]] = set()
        self.leaving: list[asyncio.Task[None]] = []
        self.seen: dict[ClientConnection, list[int]] = {}
        self.readers: list[asyncio.Task[None]] = []
        self.made = 0

    @property
    def alive(self) -> list[Lobby]:
        return [lobby for lobby in self.running.lobbies if lobby not in self.dead]

    def new_lobby(self, seats: int) -> None:
        self.made += 1
        lobby = self.running.lobby(f"prices-{self.made}", seats)
        lobby.ring.begin_epoch(1)
        for texts in self.history:
            lobby.publish(*texts)

    def tell(self) -> None:
        self.running.tell(*(lobby for lobby in self.alive if lobby not in self.drained))

    def publish(self, count: int) -> None:
        texts = [str(next(self.numbers)) for _ in range(count)]
        self.history.append(texts)
        for lobby in self.alive:
            lobby.publish(*texts)

    async def join(self) -> None:
        client = await self.running.connect()
        seen = self.seen[client] = []
        self.readers.append(asyncio.create_task(self.read(client, seen)))

    async def read(self, client: ClientConnection, seen: list[int]) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in client:
                seen.append(int(message))  # noqa: PERF401  # the test looks at it meanwhile

    def step(self) -> None:
        draw = self.random.random()
        lobby = self.random.choice(self.alive)
        if draw < 0.4:
            self.joining.update(asyncio.create_task(self.join()) for _ in range(self.random.randint(1, 4)))
        elif draw < 0.5 and self.seen:
            client = self.random.choice(list(self.seen))
            del self.seen[client]
            self.leaving.append(asyncio.create_task(client.close()))
        elif draw < 0.6 and self.joining:
            self.random.choice(list(self.joining)).cancel()
        elif draw < 0.7:
            lobby.break_trunks()
        elif draw < 0.75 and len(self.alive) > 1:
            self.dead.add(lobby)
            lobby.die()
        elif draw < 0.8:
            self.drained.add(lobby)
            lobby.drain()
        elif draw < 0.9:
            self.new_lobby(self.random.randint(2, 12))
            self.tell()
        else:
            self.tell()
        self.publish(self.random.randint(1, 3))

    async def settle(self) -> None:
        """With room for all, everyone gets a seat."""
        self.new_lobby(1000)
        self.tell()
        await asyncio.gather(*self.joining, return_exceptions=True)
        await asyncio.gather(*self.leaving)
        report = self.running.greeter.report
        await until(lambda: report().waiting == {"prices": 0})
        await until(lambda: report().clients == {"prices": len(self.seen)})
        await until(lambda: sum(lobby.seat_count.taken for lobby in self.alive) == len(self.seen))
        self.publish(1)
        newest = next(self.numbers) - 1
        await until(lambda: all(seen[-1:] == [newest] for seen in self.seen.values()))

    async def end(self) -> None:
        await asyncio.gather(*(client.close() for client in self.seen))
        await asyncio.gather(*self.readers)


@pytest.mark.parametrize(("seed", "batch_milliseconds"), [(0, 0), (1, 0), (2, 0), (3, 5), (4, 50)])
def test_whatever_happens_to_lobbies_clients_miss_nothing_and_seats_add_up(seed: int, batch_milliseconds: int) -> None:
    async def main() -> None:
        async with greeter(waitSeconds=30, clients={"batchMilliseconds": batch_milliseconds}) as running:
            world = World(running, seed)
            world.new_lobby(8)
            world.new_lobby(8)
            world.tell()
            for _ in range(STEPS):
                world.step()
                await asyncio.sleep(world.random.choice([0, 0, 0.001, 0.01, 0.03]))
            await world.settle()
            for client, seen in world.seen.items():
                assert client.close_code is None
                assert seen == list(range(seen[0], seen[-1] + 1))
            report = running.greeter.report()
            assert report.moves_exact["prices"] > 0
            assert report.moves_live == {"prices": 0}
            await world.end()
            await until(lambda: not any(lobby.seat_count.taken for lobby in world.alive))

    run(main(), deadline=60)
