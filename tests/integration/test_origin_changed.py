"""The origin of a Lobby changes: clients move only to lobbies that have the stream, and stay if there are none."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support import web
from tests.support.lobby import lobby_process
from tests.support.processes import free_port
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

from lobby_gateway.clients.tokens import PRECONNECT_PATH, Purpose, key_from_hex, sign


async def until_scaling(up: LobbyUp, reason: str) -> str:
    """Waits for a reason of the condition Scaling; returns its message."""
    seen: dict[str, str] = {}

    async def look() -> bool:
        conditions = (await up.status()).get("conditions", [])
        seen.update(next((each for each in conditions if each["type"] == "Scaling"), {}))
        return seen.get("reason") == reason

    await until(look, deadline=60, describe=lambda: f"Scaling {reason}, not {seen}; {up.process.tail()}")
    return seen["message"]


def prices(url: str) -> dict[str, Any]:
    """The Lobby; its clients move within half of `drainSeconds`."""
    return lobby_resource("prices", url, drainSeconds=8)


@pytest.mark.timeout(240)
def test_a_wrong_url_moves_nobody_and_a_right_one_moves_everybody(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=20) as first, ticker(rate=20) as second:
            lobby_file(tmp_path, prices(first.url))
            async with lobby_up("-f", str(tmp_path / "prices.yaml")) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(5)
                await swarm.each_has(5)
                (old,) = up.lobby_processes()
                lobby_file(tmp_path, prices(f"ws://127.0.0.1:{free_port()}"))
                message = await until_scaling(up, "RolloutStopped")
                assert "prices-2, of the new revision, has no connection to its origin" in message
                assert sorted(up.lobby_processes()) == [old, "prices-2"]
                assert (await up.seats(old))["clients"] == 5
                await swarm.connect_all(1)
                assert (await up.seats(old))["clients"] == 6
                await swarm.each_gets(20)
                assert (len(swarm.open), swarm.gaps) == (6, 0), swarm.summary()

                swarm.begin_stream()
                lobby_file(tmp_path, prices(second.url))
                await until(lambda: sorted(up.lobby_processes()) == ["prices-3"], deadline=60)
                await up.until_clients(6)  # on a busy machine some seats are taken twice for a moment
                assert len(swarm.open) == 6, swarm.summary()
                await swarm.each_gets(20)

    run(main(), deadline=200)


def test_an_invalid_file_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin:
            file = Path(lobby_file(tmp_path, lobby_resource("prices", origin.url)))
            async with lobby_up("-f", str(file)) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(1)
                await swarm.each_has(1)
                for wrong, said in (
                    (lobby_resource("prices", "http://example.com"), "must begin with ws://"),
                    (lobby_resource("prices", origin.url, path="/other"), "until `lobby up` is restarted: /prices"),
                ):
                    await asyncio.to_thread(lobby_file, tmp_path, wrong)
                    await until(lambda said=said: said in up.process.tail(), deadline=20)  # type: ignore[misc]
                assert sorted(up.lobby_processes()) == ["prices-1"]
                await swarm.each_gets(5)

    run(main(), deadline=90)


def test_a_lobby_asked_to_connect_has_the_stream_before_its_first_client() -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin, lobby_process(lobby_resource("prices", origin.url)) as lobby:

            async def ask(purpose: Purpose) -> web.HttpResponse:
                token = sign(
                    key_from_hex(lobby.key),
                    purpose=purpose,
                    lobby=lobby.name,
                    path=PRECONNECT_PATH,
                    expires=time.time() + 30,
                )
                return await web.request("POST", f"{lobby.admin}{PRECONNECT_PATH}", Authorization=f"Bearer {token}")

            assert (await ask(Purpose.DRAIN)).status == 401
            report = await lobby.seats()
            assert (report["origin"]["state"], report["preconnected"]) == ("Idle", False)
            assert (await ask(Purpose.PRECONNECT)).status == 202
            await lobby.until_origin("Connected")
            report = await lobby.seats()
            assert (report["clients"], report["preconnected"]) == (0, True)
            await lobby.drain()
            report = await lobby.seats()
            assert not report["preconnected"]

    run(main(), deadline=60)
