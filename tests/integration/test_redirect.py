"""Redirect mode: clients connect to the lobby itself, by a 307 or by a ticket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support import proc, web
from tests.support.lobby import lobby_process
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

REDIRECT = {"mode": "Redirect"}


def lobby_ports(up: LobbyUp) -> set[int]:
    return {port for each in up.lobby_processes().values() for port in proc.listening_ports(each.pid)}


def test_python_websockets_follows_the_307_to_the_lobby(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, routing=REDIRECT))
            async with lobby_up("-f", file) as up, connect(up.url, proxy=None) as client:
                first = await client.recv()
                assert '"seq"' in str(first)
                assert client.remote_address[1] in lobby_ports(up)
                (report,) = (await up.until_clients(1)).values()
                assert report["direct"] == 1
                greeter = (await up.greeter_metrics())[0]
                assert greeter("greeter_redirects_total") == 1
                assert greeter("greeter_clients") == 0

    run(main(), deadline=60)


def test_redirected_clients_fill_one_lobby_after_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            resource = lobby_resource("prices", origin.url, routing=REDIRECT, clients_seats=50, spareSeats=10)
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
            ):
                # Another client may take the seat first: a redirected client then gets 503 and retries, as any client does.
                for target in (40, 80, 120):
                    while len(swarm.open) < target:
                        new = await swarm.connect(target - len(swarm.open), concurrency=10)
                        refused = [client for client in new if client.status != 101]
                        assert all(client.status == 503 for client in refused), swarm.summary()
                        if refused:
                            await asyncio.sleep(0.2)
                reports = await up.until_clients(120)
                assert len([report for report in reports.values() if report["clients"]]) == 3
                await swarm.each_gets(3)
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()

    run(main(), deadline=90)


def test_ticket_opens_one_seat(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, routing=REDIRECT))
            async with lobby_up("-f", file) as up:
                answer = await web.get(up.url.replace("ws://", "http://"), accept="application/json")
                assert answer.status == 200, answer
                ticket = answer.json()
                assert set(ticket) == {"url", "token", "expires"}
                assert ticket["token"] in ticket["url"]
                async with Swarm(ticket["url"]) as swarm:
                    await swarm.connect_all(1)
                    await swarm.each_has(2)
                    (again,) = await swarm.connect(1)
                    assert again.status == 401

    run(main(), deadline=60)


def test_location_has_the_form_that_most_clients_follow(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, routing=REDIRECT))
            async with lobby_up("-f", file) as up, Swarm(up.url) as swarm:
                (client,) = await swarm.connect(1)
                assert client.status == 307
                assert client.headers["Location"].startswith("//127.0.0.1:")

    run(main(), deadline=60)


def test_a_lobby_whose_lobby_was_deleted_closes_its_clients_and_refuses_others() -> None:
    async def main() -> None:
        async with ticker() as origin, lobby_process(lobby_resource("prices", origin.url)) as lobby:
            client = await connect(lobby.client_url(), proxy=None)
            late = lobby.client_url()  # issued before the deletion
            await client.recv()
            await lobby.tell_deleted()
            await lobby.tell_deleted()  # idempotent
            async for _ in client:
                pass  # what it was sent before
            assert (client.close_code, client.close_reason) == (1001, "the Lobby was deleted")
            with pytest.raises(InvalidStatus) as refused:
                await connect(late, proxy=None)
            assert refused.value.response.status_code == 410
            assert refused.value.response.body == b"This Lobby was deleted.\n"
            metrics = await lobby.metrics()
            assert metrics("lobby_closes_total", reason="lobby_deleted") == 1

    run(main(), deadline=60)
