"""The lobby host of local mode, with real greeters and lobbies."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import web
from tests.support.waiting import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from lobby_gateway.commands.origin import Ticker, TickerSettings
from lobby_gateway.process.background import BackgroundTasks
from lobby_operator.local.host import LobbyHost, LobbyHostSettings
from lobby_operator.local.lobby_sources import from_url
from lobby_operator.local.terminal import Terminal
from lobby_operator.local.up import _reserved_port
from lobby_operator.local.view import TerminalView


class Lines:
    """A screen that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, lines: Sequence[str], view: TerminalView | None) -> None:
        self.lines += lines

    def close(self) -> None:
        pass


@asynccontextmanager
async def hosting(directory: Path, *names: str) -> AsyncIterator[tuple[LobbyHost, str, Lines]]:
    ticker = Ticker(TickerSettings(port=0, rate=100))
    origin = f"ws://127.0.0.1:{await ticker.start()}/"
    ticking = asyncio.create_task(ticker.tick())
    sources = [await asyncio.to_thread(from_url, origin, name=name, seats=4, option="test") for name in names]
    screen = Lines()
    terminal = Terminal(lambda: screen)
    with _reserved_port("127.0.0.1", 0) as port:
        settings = LobbyHostSettings(
            host="127.0.0.1",
            port=port,
            greeters=1,
            token_key="ab" * 32,
            environment=os.environ,
            directory=directory,
        )
        host = LobbyHost(sources, settings, log=lambda _line: None, terminal=terminal, spawn=BackgroundTasks().spawn)
        try:
            await host.start()
            yield host, f"ws://127.0.0.1:{port}", screen
        finally:
            await host.close(20)
            ticking.cancel()
            await ticker.close()
            await asyncio.to_thread(terminal.close)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def greeted(host: LobbyHost) -> Any:
    """Clients of the greeter by Lobby, as it says itself."""
    report = host.items()[0]["greeters"]["greeter-1"]["report"]
    return report and report["clients"]


def test_clients_of_each_lobby_are_served_counted_and_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with hosting(tmp_path, "prices", "books") as (host, url, screen):
            host.admin = "http://127.0.0.1:1"
            async with connect(f"{url}/prices") as one, connect(f"{url}/books") as two:
                assert '"seq": ' in str(await one.recv())
                assert '"seq": ' in str(await two.recv())
                await until(lambda: [item["status"]["clients"] for item in host.items()] == [1, 1], deadline=20)
                await until(lambda: greeted(host) == {"prices": 1, "books": 1}, deadline=20)
                view = host.view(stopping=False)
                assert [lobby.name for lobby in view.lobbies] == ["prices", "books"]
                assert [row.name for row in view.lobbies[0].lobbies] == ["prices-1"]
                assert view.lobbies[0].lobbies[0].latest
                assert view.lobbies[0].url == f"{url}/prices"
                assert view.greeters == (1, 1)
                item = host.items()[0]
                assert item["metadata"]["name"] == "prices"
                assert item["url"] == f"{url}/prices"
                assert item["spec"]["clients"]["seats"] == 4
                assert item["lobbies"]["prices-1"]["report"]["clients"] == 1
                assert {each["type"]: each["status"] for each in item["status"]["conditions"]}["Ready"] == "True"
                targets = host.targets()
                assert [(each.job, each.name, each.lobby) for each in targets] == [
                    ("operator", "lobby-host", ""),
                    ("greeter", "greeter-1", ""),
                    ("lobby", "books-1", "books"),
                    ("lobby", "prices-1", "prices"),
                ]
                for target in targets[1:]:
                    figures = await web.metrics(f"http://{target.address}/metrics")
                    assert figures("process_open_fds") > 0
                for client in (one, two):
                    client.transport.abort()  # a close would wait for messages that nobody reads
            assert host.not_ready() == ""
            assert f"prices: clients connect to {url}/prices" in host.addresses()
            assert any(line.endswith("prices-1: open, with 4 seats") for line in screen.lines)

    run(main())


def test_lobbies_are_added_for_more_clients_than_seats(tmp_path: Path) -> None:
    async def main() -> None:
        async with hosting(tmp_path, "prices") as (host, url, _):
            clients = await asyncio.gather(*(connect(f"{url}/prices", open_timeout=20) for _ in range(10)))
            for client in clients:
                assert '"seq": ' in str(await client.recv())
            await until(lambda: host.items()[0]["status"]["clients"] == 10, deadline=20)
            assert len(host.items()[0]["lobbies"]) >= 3
            for client in clients:
                client.transport.abort()  # a close would wait for messages that nobody reads

    run(main())


def test_a_lobby_that_cannot_be_started_is_a_condition_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoChild:
        @staticmethod
        async def start(*_: object, **__: object) -> None:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("lobby_operator.local.runtime.Child", NoChild)
            async with hosting(tmp_path, "prices") as (host, _, screen):

                def scaling() -> tuple[str, str]:
                    conditions = host.items()[0]["status"].get("conditions") or ()
                    return next(
                        ((each["reason"], each["message"]) for each in conditions if each["type"] == "Scaling"),
                        ("", ""),
                    )

                problem = "can't start prices-1: Resource temporarily unavailable; retrying"
                await until(lambda: scaling() == ("Failing", problem), describe=lambda: str(scaling()))
                assert any(line.endswith(f"prices: {problem}") for line in screen.lines)
                patch.undo()
                await until(lambda: scaling()[0] == "AsNeeded", describe=lambda: str(scaling()))

    run(main())


def test_closing_closes_clients_and_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with hosting(tmp_path, "prices") as (host, url, screen):
            async with connect(f"{url}/prices") as client:
                await client.recv()
                closing = asyncio.create_task(host.close(20))
                try:
                    while True:
                        await client.recv()
                except ConnectionClosed:
                    assert client.close_code == 1012
                await closing
            assert host.not_ready() == "no greeter responds"
            assert host.items()[0]["lobbies"] == {}
        assert screen.lines[-1].endswith("prices-1: stopped")

    run(main())


def test_killing_ends_all_processes_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with hosting(tmp_path, "prices") as (host, _, __):
            await until(lambda: host.items()[0]["lobbies"], deadline=20)
            closing = asyncio.create_task(host.close(20))
            await asyncio.sleep(0)
            host.kill()
            await closing
            assert host.items()[0]["lobbies"] == {}

    run(main())
