"""Everything at once for a long time: clients come and go, lobbies are killed, the origin flaps. Nothing may grow.

It takes a minute by default and ten with `make soak`; SOAK_SECONDS sets any other duration.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support import proc, web
from tests.support.growth import Sample, Samples
from tests.support.origins import FakeOrigin, ticking
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

from lobby_operator.settings import PlannerSettings

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
WARM_UP = min(0.25 * SECONDS, 30.0)
STEADY = 40
PASSING = 40
SEATS = 24
FEW_FILES = 12  # medians vary while clients come and go
MIB = 1 << 20
LASTING = PlannerSettings().min_ready_seconds + 2.0
CHANCE = random.Random(1)

Step = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Soak:
    """The running system and what was observed.

    Attributes:
        up: the running `lobby up`.
        origin: origin of the Lobby.
        kept: a lobby that is never killed, so that its memory can be sampled throughout.
        steady: clients that stay connected.
        samples: samples by process ID.
        statuses: HTTP statuses of clients that came and went.
        reordered: messages that they received out of order.
        since: when each lobby was first seen.
        kills: lobbies killed.
        flaps: outages of the origin.
    """

    up: LobbyUp
    origin: FakeOrigin
    kept: int
    steady: Swarm
    samples: dict[int, Samples] = field(default_factory=lambda: defaultdict(Samples))
    statuses: list[int | None] = field(default_factory=list)
    reordered: int = 0
    since: dict[int, float] = field(default_factory=dict)
    kills: int = 0
    flaps: int = 0

    async def sample(self) -> None:
        """Samples the processes that run from start to end."""
        now = asyncio.get_running_loop().time()
        for pid in (self.up.process.pid, self.kept, *(each.pid for each in self.up.greeter_processes())):
            self.samples[pid].items.append(Sample(now, proc.resident_bytes(pid), proc.open_files(pid)))
        await asyncio.sleep(0.5)

    async def come_and_go(self) -> None:
        """A group of clients connects, receives messages for a moment, and disconnects, half of them without a close frame."""
        async with Swarm(self.up.url) as swarm:
            new = await swarm.connect(PASSING, concurrency=8)
            self.statuses += [client.status for client in new]
            await asyncio.sleep(CHANCE.uniform(0.2, 1.0))
            for client in CHANCE.sample(new, PASSING // 2):
                client.abort()
        self.reordered += sum(client.tally.reordered for client in swarm.clients)

    async def kill_a_lobby(self) -> None:
        """Kills a lobby that has run for a while: lobbies that end soon after their start are replaced with back-off."""
        now = asyncio.get_running_loop().time()
        pids = {each.pid for each in self.up.lobby_processes().values()}
        self.since = {pid: self.since.get(pid, now) for pid in pids}
        others = [pid for pid in pids if pid != self.kept and now - self.since[pid] > LASTING]
        if others:
            victim = CHANCE.choice(others)
            self.up.kill(victim, CHANCE.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]))
            await asyncio.sleep(CHANCE.uniform(0.5, 3.0))
            if proc.process(victim) is not None:  # stopped and not replaced yet
                self.up.kill(victim)
            self.kills += 1
        await asyncio.sleep(CHANCE.uniform(0.5, 2.0))

    async def flap_origin(self) -> None:
        """The origin disconnects in one of several ways, then returns."""
        await asyncio.sleep(CHANCE.uniform(2.0, 5.0))
        self.flaps += 1
        match self.flaps % 3:
            case 0:
                await self.origin.close_connections(1012)
            case 1:
                self.origin.kill_connections()
            case 2:
                await self.origin.stop()
                await asyncio.sleep(CHANCE.uniform(0.1, 1.5))
                await self.origin.start_again_on_same_port()


async def repeat_until(end: float, step: Step) -> None:
    """Repeats a step until the time is over."""
    while asyncio.get_running_loop().time() < end:
        await step()


async def ring_messages(up: LobbyUp, pid: int) -> float:
    return (await web.metrics(f"{await up.admin_of(pid)}/metrics"))("lobby_ring_messages")


@pytest.mark.timeout(SECONDS + 120)
def test_nothing_grows_and_no_message_is_out_of_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, ticking(origin, interval=0.02):
            resource = lobby_resource(
                "prices", origin.url, clients_seats=SEATS, spareSeats=SEATS,
                compaction={"enabled": False}, emptySeconds=3600,  # only this test ends lobbies
                origin_reconnect={"minMilliseconds": 50, "maxMilliseconds": 500},
            )  # fmt: skip
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as steady:
                await steady.connect_all(STEADY)
                await up.until_clients(STEADY)
                kept = min(up.lobby_processes().items(), key=lambda item: int(item[0].rpartition("-")[2]))[1].pid
                soak = Soak(up, origin, kept, steady)
                await steady.each_has(1)
                ring = await ring_messages(up, kept)
                end = asyncio.get_running_loop().time() + SECONDS
                async with asyncio.TaskGroup() as group:
                    for step in (soak.sample, soak.come_and_go, soak.kill_a_lobby, soak.flap_origin):
                        group.create_task(repeat_until(end, step))

                await up.until_clients(STEADY)
                await up.until_origin("Connected", "Idle")
                await steady.each_gets(3)
                check(soak, ring=await ring_messages(up, kept) - ring)
                await until(
                    lambda: not [client for client in steady.clients if not client.is_open], describe=steady.summary
                )

    run(main(), deadline=SECONDS + 100)


def check(soak: Soak, *, ring: float) -> None:
    """No client was refused, no message came out of order, and no process grew."""
    steady = soak.steady
    assert soak.kills >= SECONDS / 30
    assert soak.flaps >= SECONDS / 30
    assert len(soak.statuses) >= PASSING * SECONDS / 20
    assert set(soak.statuses) == {101}, {status: soak.statuses.count(status) for status in set(soak.statuses)}
    assert len(steady.open) == STEADY, steady.summary()
    assert soak.reordered + sum(client.tally.reordered for client in steady.clients) == 0, steady.summary()
    for pid, samples in soak.samples.items():
        # A lobby's ring fills up to its bound by design.
        allowed = 2 * MIB + (400 * ring if pid == soak.kept else 0)
        grown = samples.growth(lambda each: each.resident, WARM_UP)
        found = proc.process(pid)
        assert grown < allowed, f"{found} grew by {grown} bytes; {allowed} are allowed"
        # One leaked descriptor per client, kill or outage would add up to dozens.
        files = samples.growth(lambda each: each.files, WARM_UP)
        assert abs(files) <= FEW_FILES, f"{found} has {files} more descriptors"


def test_medians_detect_a_leak_and_ignore_a_peak() -> None:
    flat = itertools.cycle([100, 120, 90, 5000, 100])
    samples = Samples([Sample(float(at), next(flat), at) for at in range(100)])
    assert samples.growth(lambda each: each.resident, 0.0) == 0
    assert samples.growth(lambda each: each.files, 0.0) > 40
