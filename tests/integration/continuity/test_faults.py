"""Every way in which a lobby ends: its clients notice nothing.

CONTINUITY_CLIENTS sets the number of clients; `make continuity` takes 2,000.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.support.continuity import continuity
from tests.support.sockets import run

CLIENTS = int(os.environ.get("CONTINUITY_CLIENTS", "60"))
LOBBIES = 5
SEATS = max(4, CLIENTS * 512 // 2000)  # 2,000 clients fill four lobbies of 512 seats nearly; the fifth is empty


@pytest.mark.timeout(180)
def test_a_drained_lobby_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=CLIENTS, lobbies=LOBBIES, seats=SEATS) as running:
            await running.drain(await running.busiest())
            await running.steady()
            await running.check("drain", silence=2.0)

    run(main(), deadline=170)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_lobby_that_ends_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=CLIENTS, lobbies=LOBBIES, seats=SEATS) as running:
            pid = running.signal(await running.busiest(), number)
            await running.up.until_gone(pid, deadline=60)
            await running.steady()
            await running.check(number.name, silence=6.0)

    run(main(), deadline=170)
