"""A client that does not read loses its oldest messages or its connection; other clients get every message."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import web
from tests.support.origins import FakeOrigin
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

AT_A_TIME = 8
PAD = "x" * 16384


async def send_until(done: Callable[[], Awaitable[bool]], origin: FakeOrigin, quick: Swarm) -> int:
    """Sends messages until there is a reason to stop; returns how many. The quick clients get each of them."""
    last = 0
    async with asyncio.timeout(30):
        while last < 100 or not await done():
            await origin.send(*(json.dumps({"seq": last + 1 + i, "pad": PAD}) for i in range(AT_A_TIME)))
            last += AT_A_TIME
            await quick.each_reaches(last)
    return last


async def item_of(up: LobbyUp) -> dict[str, Any]:
    """What the status page shows about the only Lobby."""
    (item,) = (await web.get(f"{up.admin}/status")).json()["items"]
    found: dict[str, Any] = item
    return found


@contextlib.asynccontextmanager
async def served(tmp_path: Path, mode: str, **queue: object) -> AsyncIterator[tuple[FakeOrigin, LobbyUp, Swarm, Swarm]]:
    """An origin, `lobby up` with this `clients.queue`, five quick clients, and one that is about to stall."""
    async with FakeOrigin() as origin:
        resource = lobby_resource("prices", origin.url, clients_queue=queue, routing={"mode": mode})
        async with (
            lobby_up("-f", lobby_file(tmp_path, resource)) as up,
            Swarm(up.url, follow_redirects=True) as quick,
            Swarm(up.url, follow_redirects=True, receive_buffer=65536) as slow,
        ):
            await quick.connect_all(5)
            await slow.connect_all(1)
            await origin.until_open(1)
            yield origin, up, quick, slow


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_drop_oldest_drops_the_oldest_messages_of_the_slow_client(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with served(tmp_path, mode) as (origin, up, quick, slow):
            (stalled,) = slow.clients
            stalled.pause()

            async def dropped() -> int:
                greeters = [greeter("greeter_dropped_messages_total") for greeter in await up.greeter_metrics()]
                return int(sum(report["dropped"] for report in (await up.reports()).values()) + sum(greeters))

            async def enough_dropped() -> bool:
                return await dropped() > 100

            messages = await send_until(enough_dropped, origin, quick)
            assert (quick.gaps, quick.disorder, quick.closes) == (0, 0, {}), quick.summary()

            stalled.resume()
            await slow.each_reaches(messages)
            assert stalled.is_open
            assert slow.disorder == 0
            # It got what its buffers held, then the latest 16 messages.
            latest = set(range(messages - 15, messages + 1))
            assert not latest & stalled.tally.missing
            assert await dropped() == len(stalled.tally.missing)

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_a_stalled_client_counts_as_not_reading_and_its_dropped_messages_as_slow(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        # So many bytes may wait that none are dropped for lack of memory before the client counts as not reading.
        async with served(tmp_path, mode, bytes=1 << 30) as (origin, up, quick, slow):
            (stalled,) = slow.clients
            holder = "greeter" if mode == "Proxy" else "lobby"
            processes = up.greeter_processes() if mode == "Proxy" else list(up.lobby_processes().values())
            admin = await up.admin_of(processes[0].pid)

            async def of_holder(name: str, **labels: str) -> float:
                return (await web.metrics(f"{admin}/metrics"))(f"{holder}_{name}", **labels)

            assert await of_holder("clients_behind", cause="not_reading") == 0
            stalled.pause()

            async def some_dropped() -> bool:
                return await of_holder("dropped_messages_total", reason="slow") > 0

            last = await send_until(some_dropped, origin, quick)
            assert await of_holder("clients_behind", cause="not_reading") == 1
            assert await of_holder("clients_behind", cause="line") == 0
            for reason in ("old", "memory"):
                assert await of_holder("dropped_messages_total", reason=reason) == 0

            async def only_the_newest_wait() -> bool:
                return await of_holder("client_lag_messages") == 16

            await until(only_the_newest_wait, describe="all but the newest messages to be dropped")
            total = await of_holder("dropped_messages_total", reason="slow")

            async def shown() -> bool:
                return bool((await item_of(up))["counts"]["dropped_by"] == {"slow": total, "old": 0, "memory": 0})

            await until(shown, describe="the status page to say why")

            stalled.resume()
            await slow.each_reaches(last)

            async def caught_up() -> bool:
                return await of_holder("clients_behind") == 0

            await until(caught_up, describe="the client to catch up")

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_disconnect_closes_only_the_slow_client(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with served(tmp_path, mode, overflow="Disconnect") as (origin, up, quick, slow):
            (stalled,) = slow.clients
            stalled.pause()

            async def released() -> bool:
                reports = await up.reports()
                return bool(sum(report["clients"] for report in reports.values()) == 5)

            await send_until(released, origin, quick)
            assert (quick.gaps, quick.disorder, quick.closes) == (0, 0, {}), quick.summary()
            stalled.resume()
            await until(lambda: stalled.close_code is not None, describe="the slow client to be closed")
            # If the close frame did not fit into its full socket, the client only sees the end of the stream.
            assert stalled.close_code in {4008, 1006}, stalled.close_code
            assert slow.gaps == 0

    run(main(), deadline=60)
