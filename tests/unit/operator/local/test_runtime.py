"""Lobbies as child processes, from `create` to their exit, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import until

from lobby_gateway.http.client import HttpClient
from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_operator.local.lobby_sources import Source, from_url
from lobby_operator.local.runtime import LobbyProcessSettings, LocalRuntime, reachable_authority
from lobby_operator.planner.state import LobbyReading
from lobby_operator.reconcile.poller import PollSchedule
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import LOCAL_MODE, LocalModeSettings, PollSettings

MODULE = "tests.support.scripted_lobby"
ROOT = Path(__file__).parents[4]


def source(name: str, **spec: Any) -> Source:
    made = from_url("ws://127.0.0.1:9/", name=name, seats=5, option="test")
    if spec:
        resource = {**made.resource, "spec": {**made.resource["spec"], **spec}}
        return Source(lobby_from_resource(resource), resource, "test")
    return made


class Running:
    """A runtime and its events."""

    def __init__(self, directory: Path, host: str, times: LocalModeSettings, polling: PollSettings) -> None:
        self.events: list[tuple[str, str]] = []
        self.changes = 0
        settings = LobbyProcessSettings(
            host=host,
            token_key="ab" * 32,
            environment={**os.environ, "PYTHONPATH": str(ROOT), "LOBBY_SECRET_FEED_KEY": "s3cret", "OTHER": "x"},
            directory=directory,
            module=MODULE,
            times=times,
        )
        self.runtime = LocalRuntime(
            settings,
            log=lambda _line: None,
            changed=self._changed,
            event=lambda *event: self.events.append(event),
            spawn=BackgroundTasks().spawn,
            schedule=PollSchedule(polling),
        )

    def _changed(self) -> None:
        self.changes += 1

    async def one(self, lobby: str, name: str) -> LobbyReading | None:
        return next((each for each in await self.runtime.list(lobby) if each.name == name), None)

    async def until(self, lobby: str, name: str, holds: Callable[[Any], Any]) -> LobbyReading:
        async def look() -> bool:
            return bool(holds(await self.one(lobby, name)))

        await until(look, deadline=20)
        return await self.one(lobby, name)  # type: ignore[return-value]


@asynccontextmanager
async def running(
    directory: Path,
    *sources: Source,
    host: str = "127.0.0.1",
    times: LocalModeSettings = LOCAL_MODE,
    polling: PollSettings | None = None,
) -> AsyncIterator[Running]:
    made = Running(directory, host, times, polling or PollSettings())
    for each in sources:
        await made.runtime.apply(each)
    try:
        yield made
    finally:
        made.runtime.kill()
        await made.runtime.close(20)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_a_lobby_starts_drains_and_is_deleted(tmp_path: Path) -> None:
    prices = source("prices")

    async def main() -> None:
        async with running(tmp_path, prices) as made:
            await made.runtime.create(prices.lobby, "prices-1")
            started = await made.one("prices", "prices-1")
            assert started is not None
            assert (started.address, started.report, started.unresponsive_since) == ("", None, None)
            await made.runtime.create(prices.lobby, "prices-1")  # once more does nothing
            assert len(await made.runtime.list("prices")) == 1
            assert await made.runtime.list("others") == []

            up = await made.until("prices", "prices-1", lambda lobby: lobby.report)
            assert up.address == "127.0.0.1:4321"
            assert up.report is not None
            assert (up.report.clients, up.draining, up.ending) == (1, False, False)
            results = made.runtime.poll_results("prices")
            assert list(results) == ["prices-1"]
            assert results["prices-1"].report == up.report

            await made.runtime.drain("prices-1")
            assert (await made.one("prices", "prices-1")).draining  # type: ignore[union-attr]
            drained = await made.until("prices", "prices-1", lambda lobby: lobby.report.draining)
            assert drained.report is not None
            assert drained.report.clients == 0

            changes = made.changes
            await made.runtime.delete("prices-1")
            await made.runtime.delete("prices-1")
            ending = await made.one("prices", "prices-1")
            assert ending is None or ending.ending
            await made.until("prices", "prices-1", lambda lobby: lobby is None)
            assert made.changes > changes
            assert made.events == [("prices-1", "stopped")]
            assert made.runtime.poll_results("prices") == {}

    run(main())


def test_a_lobby_gets_its_file_and_only_the_variables_it_needs(tmp_path: Path) -> None:
    headers = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "key"}}}]
    plain = source("plain")
    secret = source("secret", origin={**plain.resource["spec"]["origin"], "headers": headers})

    async def environment(made: Running, lobby: str, name: str) -> dict[str, Any]:
        await made.until(lobby, name, lambda each: each.report)
        process = made.runtime._processes[name]
        assert process.admin is not None
        client = HttpClient(*process.admin, timeout=20)
        given: dict[str, Any] = (await client.get("/environment")).json()
        client.close()
        return given

    async def main() -> None:
        async with running(tmp_path, plain, secret) as made:
            await made.runtime.create(plain.lobby, "plain-1")
            await made.runtime.create(secret.lobby, "secret-1")
            one = await environment(made, "plain", "plain-1")
            other = await environment(made, "secret", "secret-1")
            assert one["environment"]["LOBBY_TOKEN_KEY"] == "ab" * 32
            assert "LOBBY_SECRET_FEED_KEY" not in one["environment"]
            assert other["environment"]["LOBBY_SECRET_FEED_KEY"] == "s3cret"
            assert "OTHER" not in other["environment"]
            assert "ab" * 32 not in " ".join(one["arguments"])  # everybody may read a command line
            file = Path(one["arguments"][one["arguments"].index("--file") + 1])
            assert json.loads(await asyncio.to_thread(file.read_text)) == plain.resource
            assert (await asyncio.to_thread(file.stat)).st_mode & 0o077 == 0

    run(main())


def test_a_killed_lobby_is_removed_and_reported(tmp_path: Path) -> None:
    prices = source("prices")

    async def main() -> None:
        async with running(tmp_path, prices) as made:
            await made.runtime.create(prices.lobby, "prices-1")
            await made.until("prices", "prices-1", lambda lobby: lobby.report)
            os.kill(made.runtime._processes["prices-1"].child.pid, signal.SIGKILL)
            await made.until("prices", "prices-1", lambda lobby: lobby is None)
            assert made.events == [("prices-1", "exited unexpectedly: SIGKILL (Killed)")]

    run(main())


def test_a_stopped_lobby_is_unresponsive_and_keeps_its_last_report(tmp_path: Path) -> None:
    prices = source("prices")
    polling = PollSettings(timeout_seconds=0.1)

    async def main() -> None:
        async with running(tmp_path, prices, polling=polling) as made:
            await made.runtime.create(prices.lobby, "prices-1")
            up = await made.until("prices", "prices-1", lambda lobby: lobby.report)
            pid = made.runtime._processes["prices-1"].child.pid
            os.kill(pid, signal.SIGSTOP)
            silent = await made.until("prices", "prices-1", lambda lobby: lobby.unresponsive_since is not None)
            assert silent.report == up.report
            os.kill(pid, signal.SIGCONT)
            await made.until("prices", "prices-1", lambda lobby: lobby.unresponsive_since is None)

    run(main())


@pytest.mark.parametrize(("busy_seconds", "alive"), [(30.0, True), (0.5, None)], ids=["at first", "for too long"])
def test_a_lobby_that_answers_late_because_it_is_busy_is_alive(
    tmp_path: Path, busy_seconds: float, alive: bool | None
) -> None:
    prices = source("prices")
    polling = PollSettings(timeout_seconds=0.1)
    times = LocalModeSettings(busy_seconds=busy_seconds)

    async def main() -> None:
        async with running(tmp_path, prices, polling=polling, times=times) as made:
            await made.runtime.create(prices.lobby, "prices-1")
            await made.until("prices", "prices-1", lambda lobby: lobby.report)
            client = HttpClient(*made.runtime._processes["prices-1"].admin, timeout=20)  # type: ignore[misc]
            spinning = asyncio.create_task(client.post("/spin"))
            late = await made.until(
                "prices",
                "prices-1",
                lambda lobby: (
                    lobby.unresponsive_since is not None
                    and asyncio.get_running_loop().time() - lobby.unresponsive_since > 1
                    and lobby.alive is alive
                ),
            )
            assert late.report is not None
            assert not spinning.done()
            await spinning
            client.close()
            await made.until("prices", "prices-1", lambda lobby: lobby.unresponsive_since is None)

    run(main())


@pytest.mark.parametrize("name", ["quits", "mute", "garbled"])
def test_lobby_that_does_not_start_is_removed(tmp_path: Path, name: str) -> None:
    times = LocalModeSettings(listen_seconds=0.5 if name == "mute" else 20.0)
    lobby = source(name)

    async def main() -> None:
        async with running(tmp_path, lobby, times=times) as made:
            await made.runtime.create(lobby.lobby, f"{name}-1")
            await made.until(name, f"{name}-1", lambda each: each is None)
            assert made.events[0][1].startswith("exited unexpectedly: ")

    run(main())


def test_lobby_that_does_not_exit_in_time_is_killed(tmp_path: Path) -> None:
    times = LocalModeSettings(lobby_kill_seconds=0.05)
    stubborn = source("stubborn")

    async def main() -> None:
        async with running(tmp_path, stubborn, times=times) as made:
            await made.runtime.create(stubborn.lobby, "stubborn-1")
            await made.until("stubborn", "stubborn-1", lambda lobby: lobby.report)
            await made.runtime.delete("stubborn-1")
            await made.until("stubborn", "stubborn-1", lambda lobby: lobby is None)

    run(main())


def test_a_drain_request_that_fails_is_an_error(tmp_path: Path) -> None:
    mute, broken = source("mute"), source("broken")

    async def main() -> None:
        async with running(tmp_path, mute, broken) as made:
            await made.runtime.create(mute.lobby, "mute-1")
            with pytest.raises(RuntimeFailedError, match="can't drain mute-1: it does not listen yet"):
                await made.runtime.drain("mute-1")
            await made.runtime.create(broken.lobby, "broken-1")
            await made.until("broken", "broken-1", lambda lobby: lobby.report)
            with pytest.raises(RuntimeFailedError, match="can't drain broken-1: it answered 500"):
                await made.runtime.drain("broken-1")
            assert not (await made.one("broken", "broken-1")).draining  # type: ignore[union-attr]
            os.kill(made.runtime._processes["broken-1"].child.pid, signal.SIGKILL)
            await made.runtime._processes["broken-1"].child.wait()
            await made.runtime.drain("nobody-1")  # a lobby that exited needs no drain

    run(main())


def test_closing_stops_all_lobbies_and_starts_none(tmp_path: Path) -> None:
    prices, stubborn = source("prices"), source("stubborn")

    async def main() -> None:
        async with running(tmp_path, prices, stubborn) as made:
            for number in range(3):
                await made.runtime.create(prices.lobby, f"prices-{number}")
            await made.runtime.create(stubborn.lobby, "stubborn-1")
            await made.until("stubborn", "stubborn-1", lambda lobby: lobby.report)
            await made.runtime.close(0.5)
            assert [*await made.runtime.list("prices"), *await made.runtime.list("stubborn")] == []
            assert {event for _, event in made.events} == {"stopped"}
            await made.runtime.create(prices.lobby, "prices-9")
            assert await made.runtime.list("prices") == []

    run(main())


@pytest.mark.parametrize(
    ("mode", "host", "listens", "address"),
    [
        ("Proxy", "0.0.0.0", "127.0.0.1", "127.0.0.1:4321"),
        ("Redirect", "0.0.0.0", "0.0.0.0", "127.0.0.1:4321"),
        ("Redirect", "::1", "::1", "[::1]:4321"),
    ],
)
def test_only_lobbies_with_direct_clients_listen_on_the_client_address(
    tmp_path: Path, mode: str, host: str, listens: str, address: str
) -> None:
    routing = {"mode": mode, "redirect": {"urlTemplate": "ws://{ip}:{port}/"}}
    prices = source("prices", routing=routing)

    async def main() -> None:
        async with running(tmp_path, prices, host=host) as made:
            await made.runtime.create(prices.lobby, "prices-1")
            up = await made.until("prices", "prices-1", lambda lobby: lobby.report)
            assert up.address == address
            assert made.runtime._processes["prices-1"].host == listens

    run(main())


@pytest.mark.parametrize(
    ("host", "text"),
    [("127.0.0.1", "127.0.0.1:80"), ("0.0.0.0", "127.0.0.1:80"), ("::", "127.0.0.1:80"), ("::1", "[::1]:80")],
)
def test_authority_is_reachable_from_this_machine(host: str, text: str) -> None:
    assert reachable_authority(host, 80) == text
