"""Resuming clients (`lobby_gateway.client`) in the test's process, and what each of them received."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.support import web
from tests.support.tally import Tally, by_seq
from tests.support.up import LobbyUp
from tests.support.waiting import until

from lobby_gateway.client import Stream
from lobby_gateway.clients.resuming import HASHES_KEPT


@dataclass(slots=True)
class Resuming:
    """Resuming clients.

    Attributes:
        streams: the clients.
        tallies: what each received.
        reasons: why streams did not continue where they were.
    """

    streams: list[Stream] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def reconnects(self) -> int:
        """Connections after the first one of each client."""
        return sum(stream.reconnects for stream in self.streams)

    @property
    def newest(self) -> int:
        """Number of the newest message that any client received."""
        return max(tally.last for tally in self.tallies)

    async def each_goes_on(self, *, deadline: float = 60.0) -> None:
        """Waits until each client has received something newer than any client has now."""
        newest = self.newest
        await until(
            lambda: all(tally.last > newest for tally in self.tallies), deadline=deadline, describe=self.summary
        )

    def faults(self) -> dict[str, int]:
        """Counts of everything that must be zero."""
        return {
            "missing": sum(len(tally.missing) for tally in self.tallies),
            "duplicates": sum(tally.duplicates for tally in self.tallies),
            "reordered": sum(tally.reordered for tally in self.tallies),
            "not in the stream": sum(tally.other for tally in self.tallies),
            "gaps": sum(stream.gaps for stream in self.streams),
        }

    def summary(self) -> str:
        """For failures."""
        behind = sum(tally.last < self.newest for tally in self.tallies)
        counts = f"{len(self.streams)} clients, {behind} behind, {self.reconnects} reconnects"
        return f"{counts}, {self.faults()}, {dict(self.reasons)}"


NO_FAULTS = {"missing": 0, "duplicates": 0, "reordered": 0, "not in the stream": 0, "gaps": 0}


@contextlib.asynccontextmanager
async def resuming(url: str, count: int) -> AsyncIterator[Resuming]:
    """Runs clients; each has received a message before the context is entered."""
    made = Resuming()

    async def follow(stream: Stream, tally: Tally) -> None:
        async for message in stream:
            tally.add(by_seq(message.encode() if isinstance(message, str) else message))

    def note(reason: str) -> None:
        made.reasons[reason] += 1

    for _ in range(count):
        made.streams.append(Stream(url, on_gap=note, compression=None, proxy=None))
        made.tallies.append(Tally())
    async with asyncio.TaskGroup() as tasks:
        for stream, tally in zip(made.streams, made.tallies, strict=True):
            tasks.create_task(follow(stream, tally))
        try:
            await until(
                lambda: all(tally.count for tally in made.tallies), deadline=90, describe="each client to get a message"
            )
            yield made
        finally:
            await asyncio.gather(*(stream.close() for stream in made.streams))


async def fuller_greeter(up: LobbyUp) -> int:
    """Process id of the greeter with the most clients, once all greeters are open."""

    async def counts() -> dict[int, int] | None:
        try:
            found = {pid: await up.admin_of(pid) for pid in (each.pid for each in up.greeter_processes())}
            reports = {pid: (await web.get(f"{admin}/waiting")).json() for pid, admin in found.items()}
        except (OSError, LookupError):
            return None
        return {pid: report["clients"].get("prices", 0) for pid, report in reports.items()}

    seen: dict[int, int] = await until(counts, describe="all greeters to be open")
    return max(seen, key=lambda pid: seen[pid])


async def until_found_anywhere(up: LobbyUp) -> None:
    """Waits until each lobby has more messages than clients send hashes of: before, it cannot tell where they were."""

    async def look() -> bool:
        try:
            reports = await up.reports()
        except (OSError, LookupError):
            return False  # a lobby does not listen yet
        return all(report["messages"] > 2 * HASHES_KEPT for report in reports.values())

    await until(look, every=0.1, describe="each lobby to have a few messages")
