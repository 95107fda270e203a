"""The lobby host of local mode: greeters, lobbies, and a worker for each Lobby, wired together."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lobby_gateway import __version__
from lobby_gateway.metrics import LoopLag
from lobby_gateway.resource.overview import Overview
from lobby_operator import wall_clock
from lobby_operator.local.admin import ScrapeTarget
from lobby_operator.local.child import LogLine
from lobby_operator.local.greeters import GreeterProcesses
from lobby_operator.local.overview import shown_item
from lobby_operator.local.runtime import LocalRuntime, LocalSettings, authority
from lobby_operator.local.sources import Source
from lobby_operator.local.terminal import TRY, LobbyPanel, Terminal, View
from lobby_operator.local.view import Rates, events, lobby_view
from lobby_operator.planner.status import PathClaim, lobby_status
from lobby_operator.reconcile.poller import waiting
from lobby_operator.reconcile.reconciler import Reconciler
from lobby_operator.reconcile.shown import shown_reading, shown_spec
from lobby_operator.settings import PlannerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyHostSettings:
    """How Lobbies are served.

    Attributes:
        host: address for clients.
        port: their port.
        greeters: how many greeter processes.
        token_key: signs seat tokens, in hex.
        environment: of which children get what they need.
        directory: private to this user.
    """

    host: str
    port: int
    greeters: int
    token_key: str
    environment: Mapping[str, str]
    directory: Path


class LobbyHost:
    """Serves Lobbies on this machine.

    Args:
        sources: the Lobbies.
        settings: how.
        log: is called with each line that a child logs; None: they have our standard error.
        terminal: is told what happens.

    Attributes:
        admin: URL of the admin port, once it is known.
        lag: how late its event loop is.
    """

    def __init__(
        self, sources: Sequence[Source], settings: LobbyHostSettings, *, log: LogLine | None, terminal: Terminal
    ) -> None:
        self.admin = ""
        self.lag = LoopLag()
        self._terminal = terminal
        self._sources = {source.lobby.name: source for source in sources}
        self._where = authority(settings.host, settings.port)
        self._greeters_wanted = settings.greeters
        self._started_at = time.monotonic()
        self._clock = asyncio.get_running_loop().time
        self._rates = {source.lobby.name: Rates() for source in sources}
        self._views: dict[str, LobbyPanel] = {}
        self._statuses: dict[str, dict[str, Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._greeters = GreeterProcesses(
            settings.greeters,
            host=settings.host,
            port=settings.port,
            token_key=settings.token_key,
            environment=settings.environment,
            log=log,
            changed=self._changed,
            event=self._told,
        )
        self._runtime = LocalRuntime(
            LocalSettings(
                host=settings.host,
                token_key=settings.token_key,
                environment=settings.environment,
                directory=settings.directory,
            ),
            log=log,
            changed=self._changed,
            event=self._told,
        )
        self._workers = [self._worker(source) for source in sources]

    @property
    def workers(self) -> Sequence[Reconciler]:
        """One for each Lobby."""
        return self._workers

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """Status of each Lobby that has one."""
        return self._statuses

    @property
    def greeters_serving(self) -> int:
        """Greeters that answer."""
        return self._greeters.serving

    async def start(self) -> None:
        """Starts the greeters, and a worker for each Lobby; returns when clients can connect.

        Raises:
            ChildFailedError: a greeter does not start.
        """
        for source in self._sources.values():
            await self._runtime.add(source.lobby, source.resource)
        self._tasks = [
            asyncio.create_task(worker.run(), name=f"worker of {worker.lobby.name}") for worker in self._workers
        ]
        self._tasks.append(asyncio.create_task(self.lag.watch(), name="loop lag"))
        self._publish()
        await self._greeters.start()

    async def close(self, grace: float) -> None:
        """Ends all: first greeters, which close their clients, then lobbies.

        Args:
            grace: seconds that each of the two may take; what is left then is killed.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._greeters.close(grace)
        await self._runtime.close(grace)

    def kill(self) -> None:
        """Ends all child processes at once."""
        self._greeters.kill()
        self._runtime.kill()

    def addresses(self) -> list[str]:
        """Lines for people: where to connect to."""
        lines = []
        for name in self._sources:
            url = self._url(name)
            lines += [f"{name}: clients connect to {url}", f"{name}: try it: {TRY} {url}"]
        return [*lines, f"status page: {self.admin}/", f"admin: {self.admin}/lobbies and {self.admin}/metrics"]

    def view(self, *, stopping: bool) -> View:
        """All that is shown now."""
        for worker in self._workers:
            self._look(worker)
        return View(
            lobbies=tuple(self._views.values()),
            admin=self.admin,
            greeters=(self._greeters.serving, self._greeters_wanted),
            seconds=time.monotonic() - self._started_at,
            stopping=stopping,
        )

    def not_ready(self) -> str:
        """Why no client can be served now; empty: it can."""
        return "" if self._greeters.serving else "no greeter answers"

    def items(self) -> list[dict[str, Any]]:
        """Every Lobby as JSON types: the resource without what may be secret, its status, its lobbies, the greeters."""
        greeters = {name: shown_reading(reading) for name, reading in self._greeters.readings().items()}
        return [
            {
                "metadata": source.resource["metadata"],
                "url": self._url(name),
                "spec": shown_spec(source.resource["spec"]),
                "status": self._statuses.get(name, {}),
                "lobbies": {key: shown_reading(reading) for key, reading in self._runtime.readings(name).items()},
                "greeters": greeters,
            }
            for name, source in self._sources.items()
        ]

    def targets(self) -> list[ScrapeTarget]:
        """Every process that answers on `/metrics`: this one, the greeters, the lobbies."""
        found = [ScrapeTarget(self.admin.removeprefix("http://"), "operator", "lobby-host")]
        found += [
            ScrapeTarget(authority(*address), "greeter", name)
            for name, address in sorted(self._greeters.admin_addresses().items())
        ]
        found += [
            ScrapeTarget(authority(*address), "lobby", name, lobby)
            for lobby in sorted(self._sources)
            for name, address in sorted(self._runtime.admin_addresses(lobby).items())
        ]
        return found

    def overview(self) -> Overview:
        """All that the status page shows."""
        now = time.monotonic()
        items = (
            shown_item(
                source.lobby,
                self._statuses.get(name, {}),
                self._runtime.readings(name),
                self._greeters.readings().values(),
                address=self._url(name),
                now=now,
            )
            for name, source in sorted(self._sources.items())
        )
        return Overview(
            kind="lobby host",
            name=f"lobby host {socket.gethostname()}/{os.getpid()}",
            version=__version__,
            seconds=now - self._started_at,
            problem=self.not_ready(),
            greeters=(self._greeters.serving, self._greeters_wanted),
            items=tuple(items),
        )

    def _url(self, name: str) -> str:
        return f"ws://{self._where}{self._sources[name].lobby.spec.path}"

    def _worker(self, source: Source) -> Reconciler:
        return Reconciler(
            source.lobby,
            self._runtime,
            waiting=lambda taken: waiting(self._greeters.readings(), source.lobby.key, taken, self._clock()),
            told=lambda action, text: self._told(action.name, text),
            passed=self._passed,
            # More processes that start at the same time than there are cores only delay each other, and the greeters.
            settings=PlannerSettings(max_starting=2 * (os.cpu_count() or 1)),
        )

    def _changed(self) -> None:
        for worker in self._workers:
            worker.wake()

    def _told(self, name: str, text: str) -> None:
        self._terminal.line(f"{time.strftime('%H:%M:%S')} {name}: {text}")

    def _passed(self, worker: Reconciler) -> None:
        """A worker has made a pass: tells greeters and people what is new."""
        name = worker.lobby.name
        if worker.planned is not None and worker.planned.complete:
            self._statuses[name] = lobby_status(
                worker.spec,
                worker.observed,
                worker.planned,
                claim=PathClaim(worker.lobby.spec.path),
                at=wall_clock.now(),
                previous=self._statuses.get(name),
            )
        self._publish()
        self._runtime.hurry(name, hurried=worker.hurried)
        self._greeters.hurry(hurried=any(each.hurried for each in self._workers))
        self._look(worker)

    def _publish(self) -> None:
        self._greeters.publish(
            [{**source.resource, "status": self._statuses.get(each, {})} for each, source in self._sources.items()]
        )

    def _look(self, worker: Reconciler) -> None:
        name = worker.lobby.name
        latest = self._statuses.get(name, {}).get("latest") or {}
        view = lobby_view(
            name,
            self._url(name),
            worker.observed,
            self._runtime.readings(name),
            self._greeters.readings(),
            latest=latest.get("name", ""),
            rates=self._rates[name],
        )
        for line in events(self._views.get(name), view):
            self._terminal.line(f"{time.strftime('%H:%M:%S')} {line}")
        self._views[name] = view
