"""An origin that accepts and then goes silent: the stale timeout or the ping timeout reconnects."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.support.lobby import LobbyProcess, lobby_process
from tests.support.origins import FakeOrigin, ticking
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_resource
from tests.support.waiting import until

FAST = {"minMilliseconds": 50, "maxMilliseconds": 200}


@pytest.mark.parametrize(
    "spec",
    [
        {"origin_staleSeconds": 1},
        {"origin_keepalive": {"pingSeconds": 1, "timeoutSeconds": 1}},
    ],
    ids=["no data", "no answer to a ping"],
)
def test_lobby_reconnects_and_clients_stay(spec: dict[str, Any]) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST, **spec)
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(20)
                first = await origin.until_open(1)
                async with ticking(origin, interval=0.05):
                    await swarm.each_has(5)
                # From now on the origin sends nothing, not even pongs.
                origin.go_silent()
                await origin.until_connected(2)
                swarm.begin_stream()
                async with ticking(origin, interval=0.05):
                    await swarm.each_has(5)
                assert len(swarm.open) == 20, swarm.summary()
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                assert (await lobby.seats())["origin"]["connections"] >= 2
                await lobby.until_origin("Connected")
                origin.end_connections()
                await origin.until_closed(first)

    run(main(), deadline=60)


def test_slow_origin_is_not_considered_stale() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST, origin_staleSeconds=2)
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(1)
                await origin.until_open(1)
                async with ticking(origin, interval=1):
                    await swarm.each_has(5)
                assert len(origin.connections) == 1

    run(main(), deadline=60)


async def has_reason(lobby: LobbyProcess) -> bool:
    return bool((await lobby.seats())["origin"]["reason"])


def test_unfinished_handshake_times_out() -> None:
    async def main() -> None:
        accepted = asyncio.Event()
        finished = asyncio.Event()

        async def never_respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await finished.wait()
            writer.close()

        server = await asyncio.start_server(never_respond, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        resource = lobby_resource("prices", f"ws://127.0.0.1:{port}/", origin_reconnect=FAST)
        async with server, lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
            await swarm.connect_all(3)
            await accepted.wait()
            await until(partial(has_reason, lobby), deadline=40, describe="the handshake to time out")
            assert len(swarm.open) == 3
            finished.set()

    run(main(), deadline=90)
