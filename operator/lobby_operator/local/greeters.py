"""Greeters as child processes, all on one port, each told what there is on its standard input."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lobby_gateway.process.reports import GreeterReport
from lobby_gateway.settings import TOKEN_KEY_VARIABLE
from lobby_operator.local.child import Child, ChildFailedError, LogLine, child_environment, describe_exit
from lobby_operator.reconcile.poller import Poller, PollResult

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 20.0
END_SECONDS = 5.0
MIN_RESTART_SECONDS = 0.1
MAX_RESTART_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""A greeter that served so long did not fail because it was started again."""

PUBLISH_SECONDS = 0.05
"""Between two directories for the greeters: figures of many lobbies change at the same time."""


class _Greeter:
    """One of the greeters: whoever has its number now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.child: Child | None = None
        self.poller: Poller[GreeterReport] | None = None


class GreeterProcesses:
    """Keeps a number of greeters running.

    Args:
        count: how many.
        host: address for clients.
        port: their port; whoever starts them holds it, so that a greeter that is started again finds it free.
        token_key: signs seat tokens, in hex.
        environment: of the parent.
        log: is called with each line that a greeter logs; None: they have our standard error.
        changed: is called when a greeter was asked how it is, came or went.
        event: is called with the name of a greeter and a line for people about it.
        module: of the greeter process.
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
        module: str = "lobby_gateway.greeter",
    ) -> None:
        self._arguments = [
            *("-m", module, "--directory-from-stdin", "--reuse-port"),
            *("--host", host, "--port", str(port), "--admin-host", "127.0.0.1", "--admin-port", "0"),
        ]
        self._environment = child_environment(environment, **{TOKEN_KEY_VARIABLE: token_key})
        self._log = log
        self._changed = changed
        self._event = event
        self._clock = asyncio.get_running_loop().time
        self._greeters = [_Greeter(f"greeter-{number}") for number in range(1, count + 1)]
        self._directory: list[Mapping[str, Any]] = []
        self._line = b""
        self._new_directory = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    async def start(self) -> None:
        """Starts them; returns when all of them listen.

        Raises:
            ChildFailedError: one of them does not.
        """
        self._tasks = [asyncio.create_task(self._publish(), name="publish")]
        started = await asyncio.gather(*(self._start(each) for each in self._greeters), return_exceptions=True)
        failed = [each for each in started if isinstance(each, BaseException)]
        if failed:
            await self.close(END_SECONDS)
            raise failed[0]
        self._tasks += [
            asyncio.create_task(self._keep(greeter), name=f"keep {greeter.name}") for greeter in self._greeters
        ]

    @property
    def serving(self) -> int:
        """How many listen and answer."""
        return sum(
            each.poller is not None and each.poller.reading.unresponsive_since is None for each in self._greeters
        )

    def readings(self) -> dict[str, PollResult[GreeterReport]]:
        """What each said of itself last, by its name."""
        return {each.name: each.poller.reading for each in self._greeters if each.poller is not None}

    def admin_addresses(self) -> dict[str, tuple[str, int]]:
        """Where each is asked, by its name."""
        return {each.name: each.poller.address for each in self._greeters if each.poller is not None}

    def hurry(self, *, hurried: bool) -> None:
        """Asks them more often, or no longer so."""
        for greeter in self._greeters:
            if greeter.poller is not None:
                greeter.poller.hurried = hurried

    def publish(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Tells all of them what there is; told before they are started, they know it when they listen.

        Args:
            items: every Lobby, as a resource with status.
        """
        self._directory = list(items)
        self._new_directory.set()

    async def close(self, grace: float) -> None:
        """Ends them, at once those that take longer than `grace` seconds, and waits until they are gone."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for greeter in self._greeters:
            if greeter.poller is not None:
                greeter.poller.ending = True
        await asyncio.gather(*(each.child.stop(grace) for each in self._greeters if each.child is not None))
        await asyncio.gather(*(each.poller.close() for each in self._greeters if each.poller is not None))
        for greeter in self._greeters:
            greeter.poller = None

    def kill(self) -> None:
        """Ends them at once."""
        for greeter in self._greeters:
            if greeter.child is not None:
                greeter.child.kill()

    async def _start(self, greeter: _Greeter) -> None:
        greeter.child = None
        child = await Child.start(greeter.name, self._arguments, environment=self._environment, log=self._log)
        greeter.child = child
        if self._line:
            child.send_latest(self._line)
        announced = await child.listening(LISTEN_SECONDS)
        port = int(announced["admin_port"])
        greeter.poller = Poller(greeter.name, ("127.0.0.1", port), "/waiting", GreeterReport.from_json, self._changed)

    async def _keep(self, greeter: _Greeter) -> None:
        """Starts a greeter again whenever it has ended, soon at first, later if it keeps on ending."""
        pause = MIN_RESTART_SECONDS
        started = self._clock()
        while True:
            if greeter.child is not None:
                code = await greeter.child.wait()
                self._event(greeter.name, f"gone without being told to: {describe_exit(code)}")
            if greeter.poller is not None:
                await greeter.poller.close()
                greeter.poller = None
            self._changed()
            pause = MIN_RESTART_SECONDS if self._clock() - started > STEADY_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_RESTART_SECONDS)
            started = self._clock()
            try:
                await self._start(greeter)
            except (ChildFailedError, OSError, ValueError, TypeError, KeyError) as error:
                logger.warning("a greeter does not start", extra={"child": greeter.name, "problem": str(error)})
                if greeter.child is not None:
                    greeter.child.kill()
            else:
                self._event(greeter.name, "serves again")
                self._changed()

    async def _publish(self) -> None:
        while True:
            await self._new_directory.wait()
            self._new_directory.clear()
            line = json.dumps({"items": self._directory}, separators=(",", ":")).encode() + b"\n"
            if line != self._line:
                self._line = line
                for greeter in self._greeters:
                    if greeter.child is not None:
                        greeter.child.send_latest(line)
            await asyncio.sleep(PUBLISH_SECONDS)
