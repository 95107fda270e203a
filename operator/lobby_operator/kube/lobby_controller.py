"""Controls one Lobby in the cluster: connects its reconciler, its runtime, its status and its Events.

A controller exists while this process is active and the Lobby exists. A Lobby without a known valid spec has no reconciler:
its lobbies, if it has any, are left alone, and its status says why. If its spec became invalid before this process was
active, its ConfigMap has the last valid one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Protocol

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.resource.redacted_spec import redacted_spec
from lobby_gateway.resource.spec import Lobby
from lobby_operator import wall_clock
from lobby_operator.kube import names
from lobby_operator.kube.client import ApiError
from lobby_operator.kube.event_reasons import event_of_action, event_of_taken_name, events_between
from lobby_operator.kube.events import Recorder, Regarding
from lobby_operator.kube.lobby_registry import LobbyRecord, LobbyRegistry
from lobby_operator.kube.runtime import KubeRuntime
from lobby_operator.kube.status_writer import StatusWriter
from lobby_operator.planner.actions import Action
from lobby_operator.planner.connect_permits import EarlierConnects
from lobby_operator.planner.demand import Demand
from lobby_operator.planner.state import Phase
from lobby_operator.planner.status import invalid_spec_status, listed_lobbies, lobby_status, not_served_status
from lobby_operator.reconcile.reconciler import Reconciler
from lobby_operator.reconcile.runtime import INTERNAL_ERROR, RuntimeFailedError
from lobby_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


class ControllerContext(Protocol):
    """What a controller needs from the manager."""

    @property
    def lobbies(self) -> LobbyRegistry:
        """All Lobbies."""

    @property
    def recorder(self) -> Recorder:
        """Writes Events."""

    @property
    def term(self) -> int:
        """Of the Lease."""

    def demand(self, key: str, taken: int) -> Demand:
        """Counts the clients of a Lobby that wait for a seat; `taken` seats are taken through greeters."""

    def set_active(self, key: str, *, active: bool) -> None:
        """Sets whether something about a Lobby is changing."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Creates a task that never returns; if it fails, so does the process."""

    async def prepare(self, namespace: str) -> None:
        """Creates what lobbies need in their namespace.

        Raises:
            RuntimeFailedError: it can't be created now.
        """

    async def configured(self, record: LobbyRecord) -> Mapping[str, Any] | None:
        """The Lobby with its last valid spec, as an operator wrote it to the Lobby's ConfigMap; None: there is none.

        Raises:
            ApiError: it can't be read now.
        """

    def restore(self, resource: Mapping[str, Any]) -> None:
        """Brings what `configured` returned in force, if it is still valid."""

    def forget_prepared(self, namespace: str) -> None:
        """Some of what `prepare` created may be gone: it is created again."""

    def create_runtime(self, record: LobbyRecord, lobby: Lobby, changed: Callable[[], None]) -> KubeRuntime:
        """Creates the runtime of a Lobby, which calls `changed` when something about a lobby changed."""

    def create_status_writer(self, key: str) -> StatusWriter:
        """Creates the writer of a Lobby's status."""


class LobbyController:
    """Controls one Lobby.

    Args:
        record: the Lobby.
        context: the manager.
        settings: settings of the operator.

    Attributes:
        key: key of the Lobby.
        uid: uid of the Lobby.
        reconciler: None: no valid spec is known.
        runtime: None: no valid spec is known.
        status: the desired status; empty: not known yet.
        status_writer: writes it.
    """

    def __init__(self, record: LobbyRecord, context: ControllerContext, settings: OperatorSettings) -> None:
        self.key = record.key
        self.uid = record.uid
        self.reconciler: Reconciler | None = None
        self.runtime: KubeRuntime | None = None
        self.status: Mapping[str, Any] = {}
        self.status_writer = context.create_status_writer(record.key)
        self._context = context
        self._settings = settings
        self._regarding = Regarding(record.namespace, record.name, record.uid)
        self._record: LobbyRecord | None = None  # the latest with a valid spec
        self._spec_changed = asyncio.Event()
        self._problem = ""
        self._lacks: Collection[str] = set()
        self._restored = False  # it has been looked for a valid spec
        self._restoring: asyncio.Task[None] | None = None
        self._tasks = [context.spawn(self.status_writer.run(), f"status of {self.key}")]
        self.update(record)

    def update(self, record: LobbyRecord) -> None:
        """Sets the Lobby as it is now."""
        self.status_writer.wake()
        if not record.served:
            self._set_status(
                not_served_status(record.namespace, record.generation, at=wall_clock.now(), previous=record.status)
            )
            return
        if record.lobby is None and not self._restored:
            if self._restoring is None:
                self._restoring = self._context.spawn(self._restore(record), f"last valid spec of {self.key}")
                self._tasks.append(self._restoring)
            return
        if record.lobby is None:
            self._set_status(
                invalid_spec_status(record.generation, record.problem, at=wall_clock.now(), previous=record.status)
            )
            return
        if self.runtime is None:
            self._start(record, record.lobby)
        if self._record is None or record.lobby is not self._record.lobby:
            self._record = record
            self._spec_changed.set()
        self.wake()

    def wake(self) -> None:
        """Something may have changed."""
        if self.reconciler is not None:
            self.reconciler.wake()

    def apply_again(self) -> None:
        """What the Lobby needs besides its pods has changed."""
        self._spec_changed.set()

    @property
    def written(self) -> Mapping[names.Resource, str]:
        """The uids of its ConfigMap and of its disruption budget, as far as they are written."""
        return self.runtime.written if self.runtime is not None else {}

    def write_again(self) -> None:
        """Someone deleted what the operator wrote for it: writes all of it again."""
        if self.runtime is not None:
            logger.warning("an object of a Lobby was deleted; writing it again", extra={"lobby": self.key})
            self.runtime.forget_written()
            self._context.forget_prepared(self._regarding.namespace)
            self.apply_again()

    async def close(self, *, deleted: bool = False) -> None:
        """Stops reconciling the Lobby; its lobbies keep running, unless it was deleted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.runtime is not None:
            if deleted:
                await self.runtime.tell_deleted()
            await self.runtime.close()
        self._context.set_active(self.key, active=False)

    async def _restore(self, record: LobbyRecord) -> None:
        """Looks for the last valid spec of a Lobby whose stored one is invalid, until it is known whether there is one."""
        settings = self._settings.controller
        backoff = Backoff(base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds, fraction=random.random)
        failures = RepeatedFailures(asyncio.get_running_loop().time)
        while True:
            try:
                resource = await self._context.configured(record)
                break
            except ApiError as error:
                if (told := failures.failed(str(error))) is not None:
                    logger.warning("can't read a Lobby's last valid spec", extra={"lobby": self.key, **told})
                await asyncio.sleep(backoff.next(floor=settings.min_backoff_seconds))
        self._restored = True
        if resource is not None:
            self._context.restore(resource)
        if (latest := self._context.lobbies.get(self.key)) is not None and latest.uid == self.uid:
            self.update(latest)

    def _start(self, record: LobbyRecord, lobby: Lobby) -> None:
        self.runtime = self._context.create_runtime(record, lobby, self.wake)
        self.reconciler = Reconciler(
            lobby,
            self.runtime,
            demand=lambda taken: self._context.demand(self.key, taken),
            on_action=self._on_action,
            on_plan=self._on_plan,
            on_name_taken=self._on_name_taken,
            planner_settings=self._settings.planner,
            settings=self._settings.reconcile,
            revision=self.runtime.revision,
            term=self._context.term,
            peer_settings=self._settings.peers,
            earlier=_earlier_connects(record.status, lobby),
            recorded=self._recorded,
        )
        self._tasks += [
            self._context.spawn(self._apply(self.runtime, self.reconciler), f"configuration of {self.key}"),
            self._context.spawn(self.reconciler.run(), f"reconciler of {self.key}"),
        ]

    async def _apply(self, runtime: KubeRuntime, reconciler: Reconciler) -> None:
        """Applies what a Lobby needs besides its pods: after a change, after a failure, and periodically."""
        settings = self._settings.controller
        backoff = Backoff(base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds, fraction=random.random)
        failures = RepeatedFailures(asyncio.get_running_loop().time)
        while True:
            self._spec_changed.clear()
            record = self._record
            wait = settings.resync_seconds
            try:
                if record is not None and record.lobby is not None:
                    await self._context.prepare(record.namespace)
                    await runtime.apply(record.lobby, record.resource)
                    reconciler.update(record.lobby, runtime.revision)
                self._problem = ""
                backoff.reset()
                if (told := failures.worked()) is not None:
                    logger.warning("a Lobby's configuration can be written again", extra={"lobby": self.key, **told})
            except Exception as error:  # any error: it is retried, and other Lobbies are not affected
                wait = backoff.next(floor=settings.min_backoff_seconds)
                expected = isinstance(error, RuntimeFailedError)
                if (told := failures.failed(str(error))) is not None:
                    fields = {"lobby": self.key, "again_in_seconds": round(wait, 1), **told}
                    trace = None if expected else error
                    logger.warning("can't write a Lobby's configuration", extra=fields, exc_info=trace)
                self._problem = str(error) if expected else INTERNAL_ERROR
                self.wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._spec_changed.wait()

    def _on_action(self, action: Action, text: str) -> None:
        problems = self.runtime.problems() if self.runtime is not None else {}
        self._context.recorder.record(self._regarding, event_of_action(action, text, problems.get(action.name, "")))

    def _on_name_taken(self, name: str, problem: str) -> None:
        self._context.recorder.record(self._regarding, event_of_taken_name(name, problem))

    def _on_plan(self, reconciler: Reconciler) -> None:
        """Publishes each plan before its actions are taken."""
        active = reconciler.active
        if self.runtime is not None:
            self.runtime.poll_fast(fast=active)
            lacks = self.runtime.lacks
            if lacks != self._lacks:
                self._lacks = lacks
                if lacks:
                    self.write_again()
        self._context.set_active(self.key, active=active)
        record = self._context.lobbies.get(self.key)
        if record is None or reconciler.planned is None or not reconciler.planned.complete:
            return
        # The status describes the stored spec if that is invalid and an earlier one is in force. Otherwise it describes the
        # spec that was planned for, which is an earlier one until the ConfigMap is written.
        spec = replace(reconciler.spec, generation=record.generation) if record.problem else reconciler.spec
        self._set_status(
            lobby_status(
                spec,
                reconciler.observed,
                reconciler.planned,
                claim=self._context.lobbies.claim(self.key),
                at=wall_clock.now(),
                url=self._settings.clients_url,
                previous=self.status or record.status,
                selector=names.selector(names.lobby_labels(record.name)),
                problem=reconciler.problem or self._problem or self._other_problem(reconciler),
                invalid=record.problem,
                last_valid=redacted_spec(record.resource["spec"]) if record.problem else None,
                connects_until=self._connects_until(reconciler),
            )
        )

    @staticmethod
    def _connects_until(reconciler: Reconciler) -> str:
        seconds = reconciler.untold_connects_until - asyncio.get_running_loop().time()
        return wall_clock.later(seconds) if seconds > 0 else ""

    def _recorded(self) -> Collection[str] | None:
        """The lobbies that the stored status lists; None: it does not say, or a later operator would not go by it."""
        record = self._context.lobbies.get(self.key)
        return frozenset() if record is None else listed_lobbies(record.status)

    def _other_problem(self, reconciler: Reconciler) -> str:
        """Why a starting lobby does not start, or the budget can't be written; empty if unknown."""
        if self.runtime is None:
            return ""
        problems = self.runtime.problems()
        starting = (
            lobby.name
            for lobby in reconciler.observed.in_phase(Phase.STARTING, Phase.UNRESPONSIVE)
            if not lobby.ready_at and lobby.held is None  # the planner names what holds it
        )
        found = (f"{name}: {problems[name]}" for name in starting if name in problems)
        return next(found, self.runtime.maintenance_problem)

    def _set_status(self, status: Mapping[str, Any]) -> None:
        record = self._context.lobbies.get(self.key)
        before = self.status or (record.status if record is not None else {})
        for event in events_between(before, status):
            self._context.recorder.record(self._regarding, event)
        self.status = status
        self.status_writer.set(status)


def _earlier_connects(status: Mapping[str, Any], lobby: Lobby) -> EarlierConnects:
    """What the status says of attempts to connect that an earlier lobby host counted."""
    until = (status.get("origin") or {}).get("connectsUntil", "")
    seconds = 0.0
    try:
        seconds = wall_clock.seconds_until(until) if until else 0.0
    except ValueError:  # someone else wrote it; then as if the last attempt were now
        limit = lobby.spec.origin.limits.connects
        seconds = float(limit.seconds) if limit is not None else 0.0
        logger.warning("can't read status.origin.connectsUntil", extra={"lobby": lobby.key, "value": until[:100]})
    return EarlierConnects(listed_lobbies(status), asyncio.get_running_loop().time() + seconds)
