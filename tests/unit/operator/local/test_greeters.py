"""Greeters as child processes: directories, polling, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import until

from lobby_gateway.http.client import HttpClient
from lobby_gateway.process.background import BackgroundTasks
from lobby_operator.local.child import ChildFailedError
from lobby_operator.local.greeters import GreeterProcesses
from lobby_operator.settings import LOCAL_MODE, LocalModeSettings

MODULE = "tests.support.scripted_lobby"
ROOT = Path(__file__).parents[4]


class Running:
    """Greeters and their events."""

    def __init__(self, count: int, module: str, settings: LocalModeSettings = LOCAL_MODE) -> None:
        self.events: list[tuple[str, str]] = []
        self.background = BackgroundTasks()
        self.bug = False
        self.greeters = GreeterProcesses(
            count,
            host="127.0.0.1",
            port=4321,
            token_key="ab" * 32,
            environment={**os.environ, "PYTHONPATH": str(ROOT), "LOBBY_SECRET_A": "s3cret"},
            log=lambda _line: None,
            changed=lambda: None,
            event=self._event,
            spawn=self.background.spawn,
            module=module,
            settings=settings,
        )

    def _event(self, name: str, text: str) -> None:
        self.events.append((name, text))
        if self.bug:
            raise ZeroDivisionError

    def waiting(self) -> list[int]:
        """How many directories each greeter was told, by its own account."""
        reports = [result.report for result in self.greeters.poll_results().values()]
        return [report.waiting["prices"] if report else -1 for report in reports]

    def pid(self, number: int) -> int:
        child = self.greeters._greeters[number].child
        assert child is not None
        return child.pid

    async def environment(self, number: int) -> dict[str, Any]:
        poller = self.greeters._greeters[number].poller
        assert poller is not None
        client = HttpClient(poller._client.host, poller._client.port, timeout=20)
        given: dict[str, Any] = (await client.get("/environment")).json()
        client.close()
        return given


@asynccontextmanager
async def running(count: int, settings: LocalModeSettings = LOCAL_MODE) -> AsyncIterator[Running]:
    made = Running(count, MODULE, settings)
    await made.greeters.start()
    made.greeters.poll_fast(fast=True)
    try:
        yield made
    finally:
        await made.greeters.close(20)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


ITEMS = [{"metadata": {"name": "prices"}}]


def test_every_greeter_gets_each_new_directory_once() -> None:
    async def main() -> None:
        async with running(2) as made:
            made.greeters.publish(ITEMS)
            await until(lambda: made.waiting() == [1, 1])
            made.greeters.publish(list(ITEMS))  # nothing new in it
            made.greeters.publish([*ITEMS, *ITEMS])
            await until(lambda: made.waiting() == [2, 2])
            assert (await made.environment(0))["directories"] == [1, 2]
            assert made.greeters.serving == 2

    run(main())


def test_greeters_get_the_port_and_only_the_variables_they_need() -> None:
    async def main() -> None:
        async with running(1) as made:
            given = await made.environment(0)
            line = " ".join(given["arguments"][1:])
            assert line == (
                "--directory-from-stdin --reuse-port --host 127.0.0.1 --port 4321 --admin-host 127.0.0.1 --admin-port 0"
            )
            assert given["environment"]["LOBBY_TOKEN_KEY"] == "ab" * 32
            assert "LOBBY_SECRET_A" not in given["environment"]

    run(main())


def test_killed_greeter_is_restarted_and_gets_the_directory() -> None:
    async def main() -> None:
        async with running(2) as made:
            made.greeters.publish(ITEMS)
            await until(lambda: made.waiting() == [1, 1])
            pids = {made.pid(0), made.pid(1)}
            os.kill(made.pid(0), signal.SIGKILL)
            await until(lambda: ("greeter-1", "serving again") in made.events)
            await until(lambda: made.waiting() == [1, 1])
            assert made.events[0] == ("greeter-1", "exited unexpectedly: SIGKILL (Killed)")
            assert made.pid(0) not in pids
            assert made.pid(1) in pids

    run(main())


def test_a_bug_while_a_greeter_is_restarted_is_the_owners() -> None:
    """Otherwise it would stay away, and nobody would know why."""

    async def main() -> None:
        async with running(1) as made:
            made.bug = True
            os.kill(made.pid(0), signal.SIGKILL)
            with pytest.raises(ZeroDivisionError):
                async with asyncio.timeout(20):
                    await made.background.wait_failed()

    run(main())


def test_greeter_that_keeps_exiting_is_restarted_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LocalModeSettings(min_restart_seconds=0.01, max_restart_seconds=0.04)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name().startswith("restart "):
            pauses.append(seconds)
        await sleep(seconds)

    async def main() -> None:
        async with running(1, settings) as made:
            monkeypatch.setattr(asyncio, "sleep", noted)
            made.greeters._arguments[1] = "tests.support.no_such_module"
            os.kill(made.pid(0), signal.SIGKILL)
            await until(lambda: len(pauses) >= 4)
            assert pauses[:4] == [0.01, 0.02, 0.04, 0.04]
            assert made.greeters.serving == 0
            made.greeters._arguments[1] = MODULE
            await until(lambda: made.greeters.serving == 1)

    run(main())


def test_stopped_greeter_blocks_nobody_and_gets_the_latest_directory_later() -> None:
    async def main() -> None:
        async with running(2) as made:
            made.greeters.publish(ITEMS)
            await until(lambda: made.waiting() == [1, 1])
            os.kill(made.pid(0), signal.SIGSTOP)
            big = {"metadata": {"name": "x" * 200_000}}
            for count in range(2, 6):
                made.greeters.publish([big] * count)
                await until(lambda count=count: made.waiting()[1] == count)  # type: ignore[misc]
            os.kill(made.pid(0), signal.SIGCONT)

            async def told() -> bool:
                try:
                    return bool((await made.environment(0))["directories"][-1] == 5)
                except OSError:
                    return False

            await until(told)
            assert len((await made.environment(0))["directories"]) <= 4  # not each of those that it missed

    run(main())


def test_greeter_that_fails_to_start_is_an_error_and_none_is_left() -> None:
    async def main() -> None:
        made = Running(2, "tests.support.no_such_module")
        with pytest.raises(ChildFailedError, match=r"greeter-[12] exited before it listened: exit code 1"):
            await made.greeters.start()
        children = [each.child for each in made.greeters._greeters]
        assert [child.returncode for child in children if child is not None] == [1, 1]
        assert made.greeters.poll_results() == {}

    run(main())


def test_killing_ends_all_at_once() -> None:
    async def main() -> None:
        async with running(2) as made:
            children = [each.child for each in made.greeters._greeters]
            made.greeters.kill()
            codes = [await child.wait() for child in children if child is not None]
            assert codes == [-signal.SIGKILL, -signal.SIGKILL]

    run(main())
