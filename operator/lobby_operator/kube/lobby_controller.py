"""Looks after one Lobby in the cluster: its reconciler, its runtime, its status and its Events, wired together.

It exists while this process acts and the Lobby exists. A Lobby whose spec never could be read has no reconciler: nothing is
done to the lobbies that it may have, and its status says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.resource.spec import Lobby
from lobby_operator import wall_clock
from lobby_operator.kube import event_reasons, names
from lobby_operator.kube.events import Recorder, Regarding
from lobby_operator.kube.lobbies import Lobbies, LobbyRecord
from lobby_operator.kube.runtime import APPLY_AGAIN_SECONDS, KubeRuntime
from lobby_operator.kube.status_writer import StatusWriter
from lobby_operator.planner.actions import Action
from lobby_operator.planner.state import Phase
from lobby_operator.planner.status import lobby_status, unread_status
from lobby_operator.reconcile.reconciler import Reconciler
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import PlannerSettings, ReconcileSettings

logger = logging.getLogger(__name__)


class Around(Protocol):
    """What a Lobby's care needs of the host."""

    @property
    def lobbies(self) -> Lobbies:
        """All Lobbies."""

    @property
    def recorder(self) -> Recorder:
        """Writes Events."""

    def waiting(self, key: str, taken: int) -> int:
        """Clients of a Lobby without a seat; see `planner.demand.waiting_clients`."""

    def set_active(self, key: str, *, active: bool) -> None:
        """Whether lobbies of a Lobby are changing."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Makes a task that never ends by itself; that it does is a fault which ends the process."""

    async def prepare(self, namespace: str) -> None:
        """Makes what lobbies need in their namespace.

        Raises:
            RuntimeFailedError: it can't be made now.
        """


@dataclass(frozen=True, slots=True)
class Parts:
    """What is made for a Lobby.

    Attributes:
        runtime: makes what runs its lobbies; is called with what is to be called when something about one changed.
        writer: of its status.
        planner: times and limits of the planner.
        reconcile: when it is reconciled, and how failures are retried.
    """

    runtime: Callable[[LobbyRecord, Lobby, Callable[[], None]], KubeRuntime]
    writer: Callable[[str], StatusWriter]
    planner: PlannerSettings | None = None
    reconcile: ReconcileSettings | None = None


class LobbyController:
    """Looks after one Lobby.

    Args:
        known: the Lobby.
        around: the host.
        parts: what to make for it.

    Attributes:
        key: of the Lobby.
        uid: of the Lobby.
        reconciler: None: its spec never could be read.
        status: as it should be on the server; empty: not known yet.
        writer: of its status.
    """

    def __init__(self, known: LobbyRecord, around: Around, parts: Parts) -> None:
        self.key = known.key
        self.uid = known.uid
        self.reconciler: Reconciler | None = None
        self.status: Mapping[str, Any] = {}
        self.writer = parts.writer(known.key)
        self.runtime: KubeRuntime | None = None
        self._around = around
        self._parts = parts
        self._regarding = Regarding(known.namespace, known.name, known.uid)
        self._wanted: LobbyRecord | None = None
        self._new = asyncio.Event()
        self._problem = ""
        self._tasks = [around.spawn(self.writer.run(), f"status of {self.key}")]
        self.update(known)

    def update(self, known: LobbyRecord) -> None:
        """The Lobby is like this now."""
        self.writer.wake()
        if known.lobby is None:
            self._say(unread_status(known.generation, known.problem, at=wall_clock.now(), previous=known.status))
            return
        if self.runtime is None:
            self._begin(known, known.lobby)
        if self._wanted is None or known.lobby is not self._wanted.lobby:
            self._wanted = known
            self._new.set()
        self.wake()

    def wake(self) -> None:
        """Something may have changed."""
        if self.reconciler is not None:
            self.reconciler.wake()

    async def close(self) -> None:
        """Looks after it no more. Its lobbies go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.runtime is not None:
            await self.runtime.close()
        self._around.set_active(self.key, active=False)

    def _begin(self, known: LobbyRecord, lobby: Lobby) -> None:
        self.runtime = self._parts.runtime(known, lobby, self.wake)
        self.reconciler = Reconciler(
            lobby,
            self.runtime,
            waiting=lambda taken: self._around.waiting(self.key, taken),
            on_action=self._on_action,
            on_plan=self._on_plan,
            planner_settings=self._parts.planner,
            settings=self._parts.reconcile,
            revision=self.runtime.revision,
        )
        self._tasks += [
            self._around.spawn(self._apply(self.runtime, self.reconciler), f"configuration of {self.key}"),
            self._around.spawn(self.reconciler.run(), f"reconciler of {self.key}"),
        ]

    async def _apply(self, runtime: KubeRuntime, reconciler: Reconciler) -> None:
        """Makes what belongs to the Lobby as it should be: when it changed, when it failed, and now and then."""
        backoff = Backoff(base=0.2, cap=10.0, fraction=random.random)
        while True:
            self._new.clear()
            known = self._wanted
            wait = APPLY_AGAIN_SECONDS
            try:
                if known is not None and known.lobby is not None:
                    await self._around.prepare(known.namespace)
                    await runtime.apply(known.lobby, known.resource)
                    reconciler.update(known.lobby, runtime.revision)
                self._problem = ""
                backoff.reset()
            except Exception as error:  # whatever it is: it is done again, and the other Lobbies are looked after
                wait = backoff.next(floor=0.2)
                fields = {"lobby": self.key, "problem": str(error), "again_in_seconds": round(wait, 1)}
                expected = isinstance(error, RuntimeFailedError)
                logger.warning(
                    "a Lobby's configuration can't be written", extra=fields, exc_info=None if expected else error
                )
                self._problem = str(error) if expected else "internal error in the operator, see its log"
                self.wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._new.wait()

    def _on_action(self, action: Action, text: str) -> None:
        self._around.recorder.tell(self._regarding, event_reasons.of_action(action, text))

    def _on_plan(self, reconciler: Reconciler) -> None:
        """The reconciler has made a pass: tells greeters and people what is new."""
        active = reconciler.active
        if self.runtime is not None:
            self.runtime.poll_fast(fast=active)
        self._around.set_active(self.key, active=active)
        known = self._around.lobbies.get(self.key)
        if known is None or reconciler.planned is None or not reconciler.planned.complete:
            return
        # The status speaks of the spec that is stored, also where it is one that can't be followed.
        spec = replace(reconciler.spec, generation=known.generation)
        self._say(
            lobby_status(
                spec,
                reconciler.observed,
                reconciler.planned,
                claim=self._around.lobbies.claim(self.key),
                at=wall_clock.now(),
                previous=self.status or known.status,
                selector=names.selector(names.lobby_labels(known.name)),
                problem=reconciler.problem or self._problem or self._trouble(reconciler),
                invalid=known.problem,
            )
        )

    def _trouble(self, reconciler: Reconciler) -> str:
        """Why a lobby that should start does not."""
        problems = self.runtime.problems() if self.runtime is not None else {}
        starting = (
            lobby.name
            for lobby in reconciler.observed.in_phase(Phase.STARTING, Phase.UNRESPONSIVE)
            if not lobby.ready_at
        )
        return next((f"{name}: {problems[name]}" for name in starting if name in problems), "")

    def _say(self, status: Mapping[str, Any]) -> None:
        known = self._around.lobbies.get(self.key)
        before = self.status or (known.status if known is not None else {})
        for happening in event_reasons.between(before, status):
            self._around.recorder.tell(self._regarding, happening)
        self.status = status
        self.writer.want(status)
