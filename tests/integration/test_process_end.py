"""However `lobby up` ends, no process or connection remains."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.support.processes import LOBBY, Process
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource
from tests.support.waiting import until


async def start(tmp_path: Path, origin: str) -> LobbyUp:
    resource = lobby_resource("prices", origin, clients_seats=20, replicas=2)
    process = await Process.start(
        "lobby up",
        LOBBY,
        "up",
        "-f",
        lobby_file(tmp_path, resource),
        "--greeters",
        "2",
        "--port",
        "0",
        "--admin-port",
        "0",
    )
    try:
        url = await process.line(r"(ws://\S+)", deadline=30)
        admin = await process.line(r"(http://[^\s/]+)", deadline=30)
    except BaseException:
        await process.destroy()
        raise
    return LobbyUp(process, url[1], admin[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_graceful_shutdown_closes_clients_and_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        async with ticker() as origin:
            up = await start(tmp_path, origin.url)
            try:
                async with Swarm(up.url) as swarm:
                    await swarm.connect_all(30)
                    await swarm.each_has(1)
                    assert len(up.process.left()) >= 5  # lobby up, two lobbies, two greeters
                    assert await up.process.stop(number) == 0, up.process.tail()
                    await until(lambda: not swarm.open, describe=swarm.summary)
                    assert set(swarm.closes) <= {1001, 1012}, swarm.summary()
                    assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                await up.process.until_nothing_left()
                await until(lambda: origin.connections == 0, describe="the origin connections to be closed")
                assert "Traceback" not in up.process.tail(400)
            finally:
                await up.process.destroy()

    run(main(), deadline=60)


@pytest.mark.parametrize("stopped", [False, True], ids=["all running", "one lobby stopped"])
def test_killed_parent_ends_its_children(tmp_path: Path, *, stopped: bool) -> None:
    async def main() -> None:
        async with ticker() as origin:
            up = await start(tmp_path, origin.url)
            try:
                async with Swarm(up.url) as swarm:
                    await swarm.connect_all(30)
                    await swarm.each_has(1)
                    if stopped:
                        name, lobby = next(iter(up.lobby_processes().items()))
                        up.kill(lobby.pid, signal.SIGSTOP)
                        # When orphaned, stopped processes are continued by the kernel; those about to stop are not.
                        await until(lambda: up.lobby_processes()[name].state == "T", describe=f"{name} to stop")
                    await up.process.stop(signal.SIGKILL)
                    await up.process.until_nothing_left(deadline=15)
                    await until(lambda: not swarm.open, describe=swarm.summary)
                await until(lambda: origin.connections == 0, describe="the origin connections to be closed")
            finally:
                await up.process.destroy()

    run(main(), deadline=60)


def test_second_signal_during_shutdown_is_harmless(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            up = await start(tmp_path, origin.url)
            try:
                async with Swarm(up.url) as swarm:
                    await swarm.connect_all(5)
                    up.process.send(signal.SIGINT)
                    up.process.send(signal.SIGINT)
                    up.process.send(signal.SIGTERM)
                    await up.process.exited()
                await up.process.until_nothing_left()
                assert "Traceback" not in up.process.tail(400)
            finally:
                await up.process.destroy()

    run(main(), deadline=60)
