"""The lobby host of local mode: greeters, lobbies, and a reconciler for each Lobby."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lobby_gateway import __version__
from lobby_gateway.metrics import LoopLag
from lobby_gateway.process.background import Spawn
from lobby_gateway.resource.lobby_overview import Overview
from lobby_gateway.resource.redacted_spec import redacted_spec
from lobby_operator import wall_clock
from lobby_operator.local.admin import ScrapeTarget, overview_item
from lobby_operator.local.child import LogLine
from lobby_operator.local.greeters import GreeterProcesses
from lobby_operator.local.lobby_sources import Source
from lobby_operator.local.runtime import LobbyProcessSettings, LocalRuntime, reachable_authority
from lobby_operator.local.terminal import TRY_COMMAND, Terminal
from lobby_operator.local.view import LobbySummary, Rates, TerminalView, changes, lobby_summary
from lobby_operator.planner import reasons
from lobby_operator.planner.demand import measure_demand
from lobby_operator.planner.status import PathClaim, lobby_status
from lobby_operator.reconcile.poller import PollSchedule
from lobby_operator.reconcile.reconciler import Reconciler
from lobby_operator.settings import PlannerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyHostSettings:
    """How to serve Lobbies.

    Attributes:
        host: address for clients.
        port: port for clients.
        greeters: number of greeter processes.
        token_key: key that signs seat tokens, in hex.
        environment: environment of this process; children get the variables that they need.
        directory: folder for files, private to this user.
    """

    host: str
    port: int
    greeters: int
    token_key: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    directory: Path


class LobbyHost:
    """Serves Lobbies on this machine.

    Args:
        sources: the Lobbies.
        settings: how to serve them.
        log: called with each line that a child logs; None: children inherit our standard error.
        terminal: shows a line for each event.
        spawn: creates tasks.

    Attributes:
        admin: URL of the admin port, once known.
        lag: lag of its event loop.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: LobbyHostSettings,
        *,
        log: LogLine | None,
        terminal: Terminal,
        spawn: Spawn,
    ) -> None:
        self.admin = ""
        self.lag = LoopLag()
        self._terminal = terminal
        self._sources = {source.lobby.name: source for source in sources}
        self._authority = reachable_authority(settings.host, settings.port)
        self._greeter_count = settings.greeters
        self._started_at = time.monotonic()
        self._clock = asyncio.get_running_loop().time
        self._rates = {source.lobby.name: Rates() for source in sources}
        self._summaries: dict[str, LobbySummary] = {}
        self._statuses: dict[str, dict[str, Any]] = {}
        self._spawn = spawn
        self._tasks: list[asyncio.Task[None]] = []
        schedule = PollSchedule()
        self._greeters = GreeterProcesses(
            settings.greeters,
            host=settings.host,
            port=settings.port,
            token_key=settings.token_key,
            environment=settings.environment,
            log=log,
            changed=self._changed,
            event=self._print_event,
            spawn=spawn,
            schedule=schedule,
        )
        self._runtime = LocalRuntime(
            LobbyProcessSettings(
                host=settings.host,
                token_key=settings.token_key,
                environment=settings.environment,
                directory=settings.directory,
            ),
            log=log,
            changed=self._changed,
            event=self._print_event,
            spawn=spawn,
            schedule=schedule,
        )
        self._reconcilers = [self._reconciler(source) for source in sources]

    @property
    def reconcilers(self) -> Sequence[Reconciler]:
        """One for each Lobby."""
        return self._reconcilers

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """Status of each Lobby that has one."""
        return self._statuses

    @property
    def greeters_serving(self) -> int:
        """Number of greeters that respond."""
        return self._greeters.serving

    async def start(self) -> None:
        """Starts the greeters and a reconciler for each Lobby; returns when clients can connect.

        Raises:
            ChildFailedError: a greeter failed to start.
        """
        for source in self._sources.values():
            await self._runtime.apply(source)
        self._tasks = [self._spawn(each.run(), f"reconcile {each.lobby.name}") for each in self._reconcilers]
        self._tasks.append(self._spawn(self.lag.watch(), "loop lag"))
        self._publish()
        await self._greeters.start()

    async def change(self, sources: Sequence[Source]) -> None:
        """Applies Lobbies that have changed. If a lobby's process must be another one, lobbies are replaced one by one."""
        reconcilers = {each.lobby.name: each for each in self._reconcilers}
        for source in sources:
            name = source.lobby.name
            replaces = source.revision != self._sources[name].revision
            self._sources[name] = source
            await self._runtime.apply(source)
            reconcilers[name].update(source.lobby, source.revision)
            self._print_event(name, "changed; replacing its lobbies" if replaces else "changed")
        self._publish()

    @property
    def sources(self) -> Sequence[Source]:
        """The Lobbies as they are now."""
        return list(self._sources.values())

    async def close(self, grace: float) -> None:
        """Stops greeters, which close their clients, and then lobbies.

        Args:
            grace: time in seconds for each of the two steps; whatever is left then is killed.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._greeters.close(grace)
        await self._runtime.close(grace)

    def kill(self) -> None:
        """Kills all child processes."""
        self._greeters.kill()
        self._runtime.kill()

    def addresses(self) -> list[str]:
        """Lines for people: where to connect."""
        lines = []
        for name in self._sources:
            url = self._url(name)
            lines += [f"{name}: clients connect to {url}", f"{name}: try it: {TRY_COMMAND} {url}"]
        return [*lines, f"status page: {self.admin}/", f"admin: {self.admin}/lobbies and {self.admin}/metrics"]

    def view(self, *, stopping: bool) -> TerminalView:
        """Everything to show on the terminal now."""
        for reconciler in self._reconcilers:
            self._update_summary(reconciler)
        return TerminalView(
            lobbies=tuple(self._summaries.values()),
            admin=self.admin,
            greeters=(self._greeters.serving, self._greeter_count),
            seconds=time.monotonic() - self._started_at,
            stopping=stopping,
        )

    def not_ready(self) -> str:
        """Why no client can be served now; empty if clients can be served."""
        return "" if self._greeters.serving else "no greeter responds"

    def items(self) -> list[dict[str, Any]]:
        """All Lobbies as JSON types: spec without possible secrets, status, lobbies, greeters."""
        greeters = {name: result.to_json() for name, result in self._greeters.poll_results().items()}
        return [
            {
                "metadata": {key: each for key, each in source.resource["metadata"].items() if key != "annotations"},
                "url": self._url(name),
                "spec": redacted_spec(source.resource["spec"]),
                "status": self._statuses.get(name, {}),
                "lobbies": {key: result.to_json() for key, result in self._runtime.poll_results(name).items()},
                "greeters": greeters,
            }
            for name, source in self._sources.items()
        ]

    def targets(self) -> list[ScrapeTarget]:
        """Every process that serves `/metrics`: this one, the greeters, the lobbies."""
        found = [ScrapeTarget(self.admin.removeprefix("http://"), "operator", "lobby-host")]
        found += [
            ScrapeTarget(reachable_authority(*address), "greeter", name)
            for name, address in sorted(self._greeters.admin_addresses().items())
        ]
        found += [
            ScrapeTarget(reachable_authority(*address), "lobby", name, lobby)
            for lobby in sorted(self._sources)
            for name, address in sorted(self._runtime.admin_addresses(lobby).items())
        ]
        return found

    def overview(self) -> Overview:
        """Everything on the status page."""
        now = time.monotonic()
        items = (
            overview_item(
                source.lobby,
                self._statuses.get(name, {}),
                self._runtime.poll_results(name),
                self._greeters.poll_results().values(),
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
            greeters=(self._greeters.serving, self._greeter_count),
            items=tuple(items),
        )

    def _url(self, name: str) -> str:
        return f"ws://{self._authority}{self._sources[name].lobby.spec.path}"

    def _reconciler(self, source: Source) -> Reconciler:
        return Reconciler(
            source.lobby,
            self._runtime,
            demand=lambda taken: measure_demand(self._greeters.poll_results(), source.lobby.key, taken, self._clock()),
            on_action=lambda action, text: self._print_event(action.name, text),
            on_plan=self._on_plan,
            revision=source.revision,
            # Starting many more processes than there are cores at a time delays all of them, and the greeters.
            planner_settings=PlannerSettings(max_starting=2 * (os.cpu_count() or 1)),
        )

    def _changed(self) -> None:
        for each in self._reconcilers:
            each.wake()

    def _print_event(self, name: str, text: str) -> None:
        self._terminal.line(f"{time.strftime('%H:%M:%S')} {name}: {text}")

    def _on_plan(self, reconciler: Reconciler) -> None:
        """Publishes the result of a reconciler's pass to greeters and people."""
        name = reconciler.lobby.name
        if reconciler.planned is not None and reconciler.planned.complete:
            before = self._statuses.get(name, {})
            self._statuses[name] = lobby_status(
                reconciler.spec,
                reconciler.observed,
                reconciler.planned,
                claim=PathClaim(reconciler.lobby.spec.path),
                at=wall_clock.now(),
                url=f"ws://{self._authority}",
                previous=before,
                problem=reconciler.problem,
            )
            self._print_scaling(name, _scaling(before), _scaling(self._statuses[name]))
        self._publish()
        self._runtime.poll_fast(name, fast=reconciler.active)
        self._greeters.poll_fast(fast=any(each.active for each in self._reconcilers))
        self._update_summary(reconciler)

    def _print_scaling(self, name: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """A line when something prevents what the Lobby needs, and when nothing does any more."""
        fails = now["status"] == reasons.FALSE
        if (fails and before.get("reason") != now["reason"]) or (not fails and before.get("status") == reasons.FALSE):
            self._print_event(name, now["message"])

    def _publish(self) -> None:
        self._greeters.publish(
            [{**source.resource, "status": self._statuses.get(each, {})} for each, source in self._sources.items()]
        )

    def _update_summary(self, reconciler: Reconciler) -> None:
        name = reconciler.lobby.name
        latest = self._statuses.get(name, {}).get("latest") or {}
        summary = lobby_summary(
            name,
            self._url(name),
            reconciler.observed,
            self._runtime.poll_results(name),
            self._greeters.poll_results(),
            latest=latest.get("name", ""),
            rates=self._rates[name],
        )
        for line in changes(self._summaries.get(name), summary):
            self._terminal.line(f"{time.strftime('%H:%M:%S')} {line}")
        self._summaries[name] = summary


def _scaling(status: Mapping[str, Any]) -> Mapping[str, str]:
    conditions: Sequence[Mapping[str, str]] = status.get("conditions") or ()
    return next((each for each in conditions if each["type"] == reasons.ConditionType.SCALING), {})
