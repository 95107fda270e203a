"""Origin connections are reset and renewed, and the only one that the origin allows moves to another lobby.

CONTINUITY_CLIENTS sets the number of clients, CONTINUITY_RATE the messages per second, and CONTINUITY_SECONDS how long
connections are reset and holders killed. By hand: 2,000 clients and 60 s; for the budget 2,048.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.continuity import Continuity, continuity
from tests.support.origins import reset
from tests.support.sockets import run
from tests.support.waiting import until

CLIENTS = int(os.environ.get("CONTINUITY_CLIENTS", "60"))
RATE = float(os.environ.get("CONTINUITY_RATE", "200"))
SECONDS = float(os.environ.get("CONTINUITY_SECONDS", "8"))
LOBBIES = 5
SEATS = max(4, CLIENTS * 512 // 2000)
KILL_SECONDS = 5.0
RESET_SECONDS = 2.0


async def total(running: Continuity, name: str, **labels: str) -> float:
    """Sum of a metric over all lobbies."""
    return sum(each(name, **labels) for each in await running.up.lobby_metrics("prices"))


@pytest.mark.timeout(SECONDS + 200)
def test_reset_connections_are_not_noticed_as_long_as_one_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=CLIENTS, rate=RATE, lobbies=LOBBIES, seats=SEATS) as running:
            end = time.monotonic() + SECONDS
            resets = 0
            while time.monotonic() < end:
                await running.origin.until(lambda: len(running.origin.open) > 1, deadline=30)
                open_now = running.origin.open
                lost = running.chance.sample(open_now, running.chance.randint(1, len(open_now) - 1))
                for each in lost:
                    reset(each.server)
                resets += len(lost)
                running.note(f"reset {len(lost)} of {len(open_now)} origin connections")
                await asyncio.sleep(RESET_SECONDS)
            await running.steady()
            assert await total(running, "lobby_stream_gaps_total") == 0
            await running.check(f"{resets} resets", silence=3.0)

    run(main(), deadline=SECONDS + 190)


@pytest.mark.timeout(200)
def test_renewed_connections_are_not_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        fields: dict[str, Any] = {"origin_renew": {"everySeconds": 10}}
        async with continuity(tmp_path, clients=CLIENTS, rate=RATE, lobbies=LOBBIES, seats=SEATS, **fields) as running:
            await running.origin.until_connected(3 * LOBBIES, deadline=60)
            await running.steady()
            assert await total(running, "lobby_source_changes_total", to="renewal", verdict="exact") >= LOBBIES
            assert await total(running, "lobby_stream_gaps_total") == 0
            await running.check("renewals", silence=3.0)

    run(main(), deadline=190)


@pytest.mark.timeout(SECONDS + 200)
def test_the_only_connection_moves_and_all_clients_miss_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        fields: dict[str, Any] = {"origin_limits": {"connections": 1}, "spareSeats": 0}
        seats = -(-CLIENTS // 3)  # one lobby is empty, so that clients of a killed one have seats at once
        async with continuity(
            tmp_path, clients=CLIENTS, rate=RATE, lobbies=4, seats=seats, deflated=0, **fields
        ) as running:
            end = time.monotonic() + SECONDS
            kills = 0
            while True:
                holder = await _holder(running)
                if time.monotonic() >= end:
                    break
                running.signal(holder, signal.SIGKILL)
                kills += 1
                await asyncio.sleep(KILL_SECONDS)
            await running.settled()
            assert running.origin.most_open == 1
            report = running.report()
            assert not report.closes, running.summary()
            assert report.duplicates == report.reorderings == 0, running.summary()
            missing = {frozenset(viewer.missing) for viewer in running.viewers}
            print(f"{kills} holders killed: {report}; each client missed {sorted(map(len, missing))}")  # noqa: T201
            assert len(missing) == 1, f"{sorted(map(len, missing))} messages missing; {running.summary()}"

    run(main(), deadline=SECONDS + 190)


async def _holder(running: Continuity) -> str:
    """Waits until one lobby is connected and all have its stream; returns its name."""
    found: list[str] = []

    async def look() -> bool:
        try:
            reports = await running.reports()
        except (OSError, LookupError):
            return False
        found[:] = [name for name, report in reports.items() if report["origin"]["state"] == "Connected"]
        return len(found) == 1 and all(report["flowing"] for report in reports.values())

    await until(look, deadline=60, every=0.1, describe=lambda: f"one connection for all; {found}; {running.summary()}")
    return found[0]
