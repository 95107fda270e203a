"""The manifests in docs/origins hold servers that nobody here wrote, at scaled times, longer than those give a client up.

SERVERS_SECONDS says how long: `make origins` holds each for two minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.real_servers import SERVERS, TICK_SECONDS, RealServer
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import LobbyUp, lobby_file, lobby_up
from tests.support.waiting import stays, until

CLIENTS = 200
LOBBIES = 2
SECONDS = float(os.environ.get("SERVERS_SECONDS", "6"))
TOGETHER = 3  # servers that run at the same time: most of the time each waits
KEPT = round(2 * (SECONDS + 60) / TICK_SECONDS)  # messages of each client: all of them


def groups() -> list[Any]:
    """The servers that are there, some at a time; and those that are not, with the reason."""
    there = [each for each in SERVERS if not each.missing]
    some = [there[at : at + TOGETHER] for at in range(0, len(there), TOGETHER)]
    absent = [each for each in SERVERS if each.missing]
    return [
        *(pytest.param(each, id=",".join(server.name for server in each)) for each in some),
        *(pytest.param([each], id=each.name, marks=pytest.mark.skip(reason=each.missing)) for each in absent),
    ]


@pytest.mark.timeout(SECONDS + 150)
@pytest.mark.parametrize("servers", groups())
def test_real_servers_are_held_without_a_gap_and_only_because_they_get_what_they_demand(
    servers: list[RealServer], tmp_path: Path
) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            urls = {each.name: await stack.enter_async_context(each.run()) for each in servers}
            resources = [shared(each.lobby(urls[each.name])) for each in servers]
            resources += [each.silent_lobby(urls[each.name]) for each in servers if each.silence is not None]
            options = [part for each in resources for part in ("-f", lobby_file(tmp_path, each))]
            secrets = {name: value for each in servers for name, value in each.secrets.items()}
            up = await stack.enter_async_context(lobby_up(*options, env=secrets, deadline=60))
            await asyncio.gather(*(hold(each, up) for each in servers))

    run(main(), deadline=SECONDS + 140)


def shared(resource: dict[str, Any]) -> dict[str, Any]:
    """The Lobby with so few seats in a lobby that the clients need several."""
    resource["spec"] |= {"replicas": LOBBIES, "maxReplicas": LOBBIES, "spareSeats": 0}
    resource["spec"]["clients"] = {"seats": CLIENTS * 3 // (2 * LOBBIES)}
    return resource


async def hold(server: RealServer, up: LobbyUp) -> None:
    try:
        async with Swarm(up.at(f"/{server.name}"), keep=KEPT) as swarm:
            await swarm.connect_all(CLIENTS)
            await until(
                lambda: all(client.kept for client in swarm.clients),
                deadline=60,
                describe=lambda: f"a message for each; {swarm.summary()} {up.process.tail()}",
            )
            await stays(lambda: len(swarm.open) == CLIENTS, seconds=SECONDS, describe=swarm.summary, every=0.2)
            if server.silence is not None:
                await until_given_up(up, f"{server.name}-silent")
            assert len(swarm.open) == CLIENTS, swarm.summary()
            reports = await reports_of(up, server.name)
            assert [report["clients"] > 0 for report in reports] == [True] * LOBBIES, reports
            assert [report["origin"]["connections"] for report in reports] == [1] * LOBBIES, up.process.tail()
            assert [report["origin"]["state"] for report in reports] == ["Connected"] * LOBBIES, reports
            for client in swarm.clients:
                payloads = [payload for _, payload in client.kept]
                assert len(payloads) < KEPT
                first, payloads = payloads[: server.kept], payloads[server.kept :]
                assert not any(server.numbers(payload) for payload in first), "a kept message is missing"
                assert all(server.numbers(payload) for payload in payloads), "a control message reached a client"
                numbers = [number for payload in payloads for number in server.numbers(payload)]
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a gap or a duplicate"
                assert len(numbers) > SECONDS / 3  # the slowest sends one in 1.3 s
            counts = [len(client.kept) for client in swarm.clients]
            figures = f"{min(counts)} to {max(counts)} messages over {LOBBIES} connections"
            print(f"{server.program}: {CLIENTS} clients got {figures}")  # noqa: T201  # with `pytest -s`
    except Exception as error:
        error.add_note(f"the server is {server.program}")
        raise


async def reports_of(up: LobbyUp, name: str) -> list[dict[str, Any]]:
    """What the lobbies of one Lobby report."""
    numbered = [each for each in up.lobby_processes() if each.rpartition("-")[0] == name]
    return [await up.seats(each) for each in numbered]


async def until_given_up(up: LobbyUp, name: str) -> None:
    """Waits until a Lobby that does not say what the server demands has lost the connection."""

    async def look() -> bool:
        with contextlib.suppress(LookupError, OSError):
            (report,) = await reports_of(up, name)
            lost: bool = report["origin"]["connections"] > 1 or report["origin"]["state"] in {"Waiting", "Refused"}
            return lost
        return False

    await until(look, deadline=60, every=0.2, describe=lambda: f"{name} is held without what the server demands")
