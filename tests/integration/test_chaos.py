"""Every 2 s a lobby, the origin or a greeter is killed, stopped for a while, or asked to end, at random.

No client is closed whose greeter lived, none receives a message twice or out of order, memory stays flat, and no process is
left over. It takes half a minute by default and ten minutes with `make chaos`; CHAOS_SECONDS sets any other duration and
CHAOS_SEED another sequence of faults.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import json
import logging
import os
import random
import signal
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support import proc
from tests.support.growth import Sample, Samples
from tests.support.processes import free_port
from tests.support.sockets import run
from tests.support.swarm import Client, Swarm
from tests.support.tally import Tally
from tests.support.ticker import TickerProcess, ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

logger = logging.getLogger(__name__)

SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
EVERY = 2.0
CLIENTS = 500
SEATS = 128
RATE = 4.0
WARM_UP = min(0.25 * SECONDS, 30.0)
MIB = 1 << 20
STREAM = 1 << 32  # numbers per stream of the origin
PAUSE = (0.5, 12.0)  # seconds for which a process is stopped; a lobby that does not respond for 10 s is replaced
VICTIMS = ("lobby",) * 5 + ("greeter",) * 2 + ("origin",) * 2
SETTLE_SECONDS = 60.0


@dataclass(slots=True)
class StreamTally(Tally):
    """Counts messages of an origin that numbers from 1 each time it starts; messages between two starts are not missing."""

    def add(self, number: int | None) -> None:
        """Counts a message; its number contains the number of the origin's start."""
        if number is not None and self.first is not None and number // STREAM > self.last // STREAM:
            self.count += 1
            self.last = number
        else:
            Tally.add(self, number)


@dataclass(frozen=True, slots=True)
class Close:
    """A client that was closed although its greeter lived."""

    at: float
    code: int | None
    reason: str
    tally: Tally


@dataclass(slots=True)
class Chaos:
    """The running system, and what happened to it.

    Attributes:
        up: the running `lobby up`.
        port: port of the origin.
        swarm: makes the clients.
        chance: decides the faults.
        begun_at: monotonic time of the begin.
        origin: the origin; None while it restarts.
        starts: Unix time of each start of the origin.
        clients: the connected client of each slot; None while it connects.
        doomed: ports of the clients whose greeter was killed or asked to end.
        stopped: processes that are stopped now, and when they continue.
        faults: the latest faults, as lines.
        counts: number of faults by kind.
        closes: clients closed although their greeter lived.
        reconnects: clients that connected again, because their greeter had ended.
        refused: handshakes that failed, by status.
        duplicates: messages that clients received twice or out of order.
        samples: samples by kind of process.
    """

    up: LobbyUp
    port: int
    swarm: Swarm
    chance: random.Random
    begun_at: float
    origin: TickerProcess | None = None
    starts: list[float] = field(default_factory=list)
    clients: list[Client | None] = field(default_factory=lambda: [None] * CLIENTS)
    doomed: set[int] = field(default_factory=set)
    stopped: dict[int, asyncio.TimerHandle] = field(default_factory=dict)
    faults: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    counts: Counter[str] = field(default_factory=Counter)
    closes: list[Close] = field(default_factory=list)
    reconnects: int = 0
    refused: Counter[int | None] = field(default_factory=Counter)
    duplicates: int = 0
    samples: dict[str, Samples] = field(default_factory=lambda: defaultdict(Samples))

    def number(self, payload: bytes) -> int:
        """Number of a message, with that of the origin's start."""
        message = json.loads(payload)
        return bisect.bisect(self.starts, message["time"]) * STREAM + int(message["seq"])

    # The origin

    async def keep_origin(self) -> None:
        """Starts the origin again each time it has ended."""
        while True:
            self.starts.append(time.time())
            async with ticker(rate=RATE, port=self.port, may_be_killed=True) as self.origin:
                await self.origin.process.exited(deadline=float("inf"))
            self.origin = None

    # Clients

    async def keep_client(self, slot: int) -> None:
        """Connects a client; again when it was refused, or its greeter has ended."""
        while True:
            client = Client(self.swarm, slot)
            client.tally = StreamTally()
            await client.connect()
            if client.status != 101:
                self.refused[client.status] += 1
                if client.was_connected:
                    self.doomed.discard(client.local_port)  # another client may have this port next
                await asyncio.sleep(self.chance.uniform(0.1, 0.5))
                continue
            self.clients[slot] = client
            await client.ended.wait()
            self.clients[slot] = None
            self.duplicates += client.tally.duplicates + client.tally.reordered
            self.judge(client)
            self.reconnects += 1

    def judge(self, client: Client) -> None:
        """Records a client whose greeter lived."""
        if client.local_port in self.doomed:
            self.doomed.remove(client.local_port)
        else:
            at = time.monotonic() - self.begun_at
            self.closes.append(Close(at, client.close_code, client.close_reason, client.tally))

    def connected(self) -> list[Client]:
        """The connected clients."""
        return [client for client in self.clients if client is not None and client.is_open]

    async def doom(self, greeter: int) -> None:
        """Stops a greeter and records which clients it has, by their sockets: all greeters listen on one port."""
        if greeter in self.stopped:
            self.stopped.pop(greeter).cancel()
        with contextlib.suppress(ProcessLookupError):
            os.kill(greeter, signal.SIGSTOP)
        await until(lambda: (found := proc.process(greeter)) is None or found.state in "TZ")
        inodes = proc.socket_inodes(greeter)
        self.doomed |= {each.remote_port for each in proc.connections() if each.inode in inodes}

    # Faults

    def pids(self) -> dict[str, list[int]]:
        """Running processes by kind, from one look at `/proc`."""
        found: dict[str, list[int]] = {"lobby": [], "greeter": [], "origin": []}
        for each in proc.descendants(self.up.process.pid):
            for kind in ("lobby", "greeter"):
                if f"lobby_gateway.{kind}" in each.command and each.state != "Z":
                    found[kind].append(each.pid)
        if self.origin is not None:
            found["origin"].append(self.origin.process.pid)
        return {kind: sorted(pids) for kind, pids in found.items()}

    async def strike(self) -> None:
        """One fault."""
        kind = self.chance.choice(VICTIMS)
        pids = self.pids()[kind]
        number = self.chance.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM))
        position, seconds = self.chance.random(), self.chance.uniform(*PAUSE)
        if not pids:
            return
        pid = pids[int(position * len(pids))]
        if kind == "greeter" and number is not signal.SIGSTOP:
            await self.doom(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            if kind == "greeter" and number is signal.SIGTERM:
                os.kill(pid, signal.SIGCONT)
        self.counts[f"{kind} {number.name}"] += 1
        self.faults.append(f"{time.monotonic() - self.begun_at:.1f} s: {number.name} to {kind} {pid}")
        if number is signal.SIGSTOP:
            if pid in self.stopped:
                self.stopped.pop(pid).cancel()
            self.stopped[pid] = asyncio.get_running_loop().call_later(seconds, self.resume, pid)

    def resume(self, pid: int) -> None:
        """Continues a stopped process."""
        self.stopped.pop(pid).cancel()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self.faults.append(f"{time.monotonic() - self.begun_at:.1f} s: SIGCONT to {pid}")

    async def strike_until(self, end: float) -> None:
        """One fault every 2 s."""
        at = time.monotonic()
        while at < end:
            await self.strike()
            at += EVERY
            await asyncio.sleep(at - time.monotonic())
        for pid in list(self.stopped):
            self.resume(pid)

    # Observations

    async def watch(self) -> None:
        """Samples memory."""
        while True:
            running = self.pids()
            own = {"lobby up": [self.up.process.pid], "lobby": running["lobby"], "greeter": running["greeter"]}
            for kind, pids in own.items():
                sizes = []
                for pid in pids:
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                        sizes.append((proc.resident_bytes(pid), proc.open_files(pid)))
                if sizes:
                    resident, files = map(max, zip(*sizes, strict=True))
                    self.samples[kind].items.append(Sample(time.monotonic(), resident, files))
            await asyncio.sleep(1.0)

    def summary(self) -> str:
        """What happened, for failure messages."""
        gaps = sum(len(client.tally.missing) for client in self.connected())
        clients = (
            f"{len(self.connected())} of {CLIENTS} clients, {self.reconnects} reconnects, refused {dict(self.refused)}"
        )
        messages = f"{len(self.starts)} starts of the origin, {gaps} gaps, {self.duplicates} twice or out of order"
        lines = [
            f"seed {SEED}: {clients}; {messages}; {dict(sorted(self.counts.items()))}",
            *self.faults,
            f"closed although their greeter lived: {len(self.closes)}",
            *map(str, self.closes[:5]),
        ]
        return "\n".join(lines)


@contextlib.asynccontextmanager
async def background(*work: asyncio.Task[None]) -> AsyncIterator[None]:
    """Runs tasks that never return beside a block; a failed one fails the block."""
    try:
        yield
        for task in work:
            assert not task.done(), task.result()
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


@pytest.mark.timeout(SECONDS + 2 * SETTLE_SECONDS + 60)
def test_faults_every_two_seconds_close_no_client_whose_greeter_lives(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        resource = lobby_resource(
            "prices", f"ws://127.0.0.1:{port}/", clients_seats=SEATS,
            origin_reconnect={"minMilliseconds": 50, "maxMilliseconds": 1000},
        )  # fmt: skip
        async with (
            lobby_up("-f", lobby_file(tmp_path, resource), "--greeters", "2") as up,
            Swarm(up.url) as swarm,
        ):
            chaos = Chaos(up, port, swarm, random.Random(SEED), time.monotonic())
            swarm.sequence = chaos.number
            slots = [asyncio.create_task(chaos.keep_client(slot)) for slot in range(CLIENTS)]
            origin, watch = asyncio.create_task(chaos.keep_origin()), asyncio.create_task(chaos.watch())
            async with background(*slots, origin, watch):
                await until_served(chaos)
                await chaos.strike_until(time.monotonic() + SECONDS)
                await until_served(chaos)
                for client in chaos.connected():
                    chaos.duplicates += client.tally.duplicates + client.tally.reordered
                logger.info(chaos.summary())
                check(chaos)

    run(main(), deadline=SECONDS + 2 * SETTLE_SECONDS + 30)


async def until_served(chaos: Chaos) -> None:
    """Waits until each slot has a client that receives messages, and no lobby is left that the lobby host does not know."""
    await until(lambda: len(chaos.connected()) == CLIENTS, deadline=SETTLE_SECONDS, describe=chaos.summary, every=0.1)
    before = {client: client.tally.count for client in chaos.connected()}
    await until(
        lambda: all(client.tally.count > count + 2 for client, count in before.items() if client.is_open),
        deadline=SETTLE_SECONDS, describe=chaos.summary, every=0.1,
    )  # fmt: skip

    async def settled() -> bool:
        known = {lobby["name"] for lobby in (await chaos.up.status())["lobbies"]}
        return known == set(chaos.up.lobby_processes()) and len(chaos.up.greeter_processes()) == 2

    await until(settled, deadline=SETTLE_SECONDS, describe=chaos.summary, every=0.2)


def check(chaos: Chaos) -> None:
    """Each client was served as long as its greeter lived, in order, and memory is flat."""
    assert chaos.counts.total() >= SECONDS / EVERY / 2, chaos.summary()
    assert not chaos.closes, chaos.summary()
    assert chaos.duplicates == 0, chaos.summary()
    for kind, samples in chaos.samples.items():
        grown = samples.growth(lambda each: each.resident, WARM_UP)
        assert grown < 8 * MIB, f"{kind} grew by {grown} bytes; {chaos.summary()}"
