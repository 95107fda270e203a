"""Greeters as child processes, all on one port. Each reads the directory of Lobbies from its standard input."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lobby_gateway.process.background import Spawn
from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.seat_reports import GreeterReport
from lobby_gateway.settings import TOKEN_KEY_VARIABLE
from lobby_operator.local.child import NOT_STARTED, Child, LogLine, child_environment, describe_exit
from lobby_operator.planner.state import PollResult
from lobby_operator.reconcile.poller import Poller, PollSchedule
from lobby_operator.settings import LOCAL_MODE, LocalModeSettings

logger = logging.getLogger(__name__)


class _Greeter:
    """A greeter, whose process may be restarted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.child: Child | None = None
        self.poller: Poller[GreeterReport] | None = None


class GreeterProcesses:
    """Keeps a number of greeters running.

    Args:
        count: number of greeters.
        host: address for clients.
        port: port for clients; the caller reserves it, so that it is free when a greeter is restarted.
        token_key: key that signs seat tokens, in hex.
        environment: environment of this process.
        log: called with each line that a greeter logs; None: greeters inherit our standard error.
        changed: called after each poll of a greeter, and when one starts or exits.
        event: called with the name of a greeter and a line for people about it.
        spawn: creates tasks.
        module: module of the greeter process.
        settings: times of local mode.
        schedule: shared by all pollers of this process; None: a new one.
    """

    def __init__(
        self,
        count: int,
        *,
        host: str,
        port: int,
        token_key: str,
        environment: Mapping[str, str],
        log: LogLine | None,
        changed: Callable[[], None],
        event: Callable[[str, str], None],
        spawn: Spawn,
        module: str = "lobby_gateway.greeter",
        settings: LocalModeSettings = LOCAL_MODE,
        schedule: PollSchedule | None = None,
    ) -> None:
        self._settings = settings
        self._schedule = schedule or PollSchedule()
        self._arguments = [
            *("-m", module, "--directory-from-stdin", "--reuse-port"),
            *("--host", host, "--port", str(port), "--admin-host", "127.0.0.1", "--admin-port", "0"),
        ]
        self._environment = child_environment(environment, **{TOKEN_KEY_VARIABLE: token_key})
        self._log = log
        self._changed = changed
        self._event = event
        self._spawn = spawn
        self._clock = asyncio.get_running_loop().time
        self._greeters = [_Greeter(f"greeter-{number}") for number in range(1, count + 1)]
        self._directory: list[Mapping[str, Any]] = []
        self._line = b""
        self._new_directory = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts all greeters; returns when all of them listen.

        Raises:
            ChildFailedError: one of them failed to start.
        """
        self._tasks = [self._spawn(self._send_directories(), "send directories")]
        started = await asyncio.gather(*(self._start(each) for each in self._greeters), return_exceptions=True)
        failed = [each for each in started if isinstance(each, BaseException)]
        if failed:
            await self.close(self._settings.greeter_kill_seconds)
            raise failed[0]
        self._tasks += [self._spawn(self._restart(greeter), f"restart {greeter.name}") for greeter in self._greeters]

    @property
    def serving(self) -> int:
        """Number of greeters that listen and respond."""
        return sum(each.poller is not None and each.poller.result.unresponsive_since is None for each in self._greeters)

    def poll_results(self) -> dict[str, PollResult[GreeterReport]]:
        """The latest poll of each greeter, by name."""
        return {each.name: each.poller.result for each in self._greeters if each.poller is not None}

    def admin_addresses(self) -> dict[str, tuple[str, int]]:
        """Admin address of each greeter, by name."""
        return {each.name: each.poller.address for each in self._greeters if each.poller is not None}

    def poll_fast(self, *, fast: bool) -> None:
        """Polls at the fast interval, or at the normal one."""
        for greeter in self._greeters:
            if greeter.poller is not None:
                greeter.poller.fast = fast

    def publish(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Sends a directory to all greeters. If called before `start`, they have it by the time they listen.

        Args:
            items: every Lobby, as a resource with status.
        """
        self._directory = list(items)
        self._new_directory.set()

    async def close(self, grace: float) -> None:
        """Stops all greeters, kills those that take longer than `grace` seconds, and waits until all have exited."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for greeter in self._greeters:
            if greeter.poller is not None:
                greeter.poller.quiet = True
        await asyncio.gather(*(each.child.stop(grace) for each in self._greeters if each.child is not None))
        await asyncio.gather(*(each.poller.close() for each in self._greeters if each.poller is not None))
        for greeter in self._greeters:
            greeter.poller = None

    def kill(self) -> None:
        """Kills all greeters."""
        for greeter in self._greeters:
            if greeter.child is not None:
                greeter.child.kill()

    async def _start(self, greeter: _Greeter) -> None:
        greeter.child = None
        child = await Child.start(greeter.name, self._arguments, environment=self._environment, log=self._log)
        greeter.child = child
        if self._line:
            child.send_latest(self._line)
        announced = await child.listening(self._settings.listen_seconds)
        port = int(announced["admin_port"])
        address = ("127.0.0.1", port)
        greeter.poller = Poller(
            greeter.name, address, "/waiting", GreeterReport.from_json, self._changed, schedule=self._schedule
        )

    async def _restart(self, greeter: _Greeter) -> None:
        """Restarts a greeter whenever it exits: at once at first, with growing pauses if it keeps exiting."""
        settings = self._settings
        backoff = Backoff(base=settings.min_restart_seconds, cap=settings.max_restart_seconds)
        started = self._clock()
        while True:
            if greeter.child is not None:
                code = await greeter.child.wait()
                self._event(greeter.name, f"exited unexpectedly: {describe_exit(code)}")
            if greeter.poller is not None:
                await greeter.poller.close()
                greeter.poller = None
            self._changed()
            if self._clock() - started > settings.greeter_stable_seconds:
                backoff.reset()
            await asyncio.sleep(backoff.next())
            started = self._clock()
            try:
                await self._start(greeter)
            except NOT_STARTED as error:
                logger.warning("a greeter failed to start", extra={"child": greeter.name, "problem": str(error)})
                if greeter.child is not None:
                    greeter.child.kill()
            else:
                self._event(greeter.name, "serving again")
                self._changed()

    async def _send_directories(self) -> None:
        while True:
            await self._new_directory.wait()
            self._new_directory.clear()
            line = json.dumps({"items": self._directory}, separators=(",", ":")).encode() + b"\n"
            if line != self._line:
                self._line = line
                for greeter in self._greeters:
                    if greeter.child is not None:
                        greeter.child.send_latest(line)
            await asyncio.sleep(self._settings.directory_seconds)
