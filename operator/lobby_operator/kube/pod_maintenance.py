"""Keeps the annotations of a Lobby's pods and its PodDisruptionBudget up to date. Both may lag a little.

A separate task does it, so that the reconciler never waits. Each round compares what the watch shows with what should be
there, and writes the difference, a few writes at a time. What fails is retried later, since the difference is still there.

The budget limits how many lobbies may be evicted at a time (when a node is drained). Clients that a greeter holds notice
nothing when their lobby is evicted, but each of them needs a seat elsewhere, and the more lobbies go together, the less room
is left. So a tenth of them may go at a time, but at least one.

`maxUnavailable` can't express this. For pods of a custom resource, Kubernetes takes the expected number from the `scale`
subresource, and `replicas` of a Lobby is only a minimum; with the usual 0, everything could be evicted at once. So
`minAvailable` is a number that the operator keeps up to date. It is raised at once and lowered late: while evicted lobbies are
being replaced, there are fewer for a moment, which must not allow further evictions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lobby_gateway.process.background import Spawn
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.client import ApiError, ConflictError, KubeApi, NotFoundError
from lobby_operator.kube.names import DISRUPTION_BUDGETS, PODS
from lobby_operator.kube.owned_object import NameTakenError, OwnedObject, belongs_to
from lobby_operator.kube.pod_state import PodState
from lobby_operator.settings import PodMaintenanceSettings

logger = logging.getLogger(__name__)


def min_available(lobbies: int, lobbies_per_eviction: int) -> int:
    """How many of this many lobbies must stay."""
    return max(0, lobbies - max(1, lobbies // lobbies_per_eviction))


def disruption_budget(lobby: Lobby, available: int, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The manifest of the budget.

    Args:
        lobby: the Lobby.
        available: how many lobbies must stay.
        labels: further labels of the budget.
    """
    return {
        "apiVersion": DISRUPTION_BUDGETS.api_version,
        "kind": DISRUPTION_BUDGETS.kind,
        "metadata": names.owned_metadata(lobby, names.owned_name(lobby.name), labels),
        "spec": {
            "minAvailable": available,
            "selector": {"matchLabels": names.lobby_labels(lobby.name)},
            # A lobby that is not ready has no clients to protect: it drains, or is broken.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


class DisruptionBudget:
    """What `minAvailable` should be, over time. Does no I/O.

    Args:
        settings: settings of the maintenance.

    Attributes:
        current: the value on the server; None: unknown.
    """

    def __init__(self, settings: PodMaintenanceSettings | None = None) -> None:
        self.current: int | None = None
        self._settings = settings or PodMaintenanceSettings()
        self._fewer_since: float | None = None

    def change(self, lobbies: int, now: float) -> int | None:
        """The value to write now; None: it need not change, or `current` is unknown.

        Args:
            lobbies: number of lobbies that serve or start.
            now: the time.
        """
        if self.current is None:
            return None
        available = min_available(lobbies, self._settings.lobbies_per_eviction)
        if available >= self.current:
            self._fewer_since = None
            return available if available > self.current else None
        if self._fewer_since is None:
            self._fewer_since = now
        return available if now - self._fewer_since >= self._settings.lower_budget_seconds else None

    def written(self, available: int) -> None:
        """This value was written."""
        self.current = available
        self._fewer_since = None


class PodMaintenance:
    """Maintains the pods of one Lobby.

    Args:
        api: access to the API.
        lobby: the Lobby.
        pods: returns its pods, each with the latest report of its lobby.
        settings: times and limits.
        spawn: creates tasks.
        labels: further labels of the budget.
        changed: called when `problem` has changed.

    Attributes:
        problem: whose object has the budget's name, for people; empty: nobody else's.
    """

    def __init__(
        self,
        api: KubeApi,
        lobby: Lobby,
        pods: Callable[[], Sequence[tuple[PodState, LobbyReport | None]]],
        settings: PodMaintenanceSettings | None = None,
        *,
        spawn: Spawn,
        labels: Mapping[str, str] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._spawn = spawn
        self.problem = ""
        self._notify = changed
        self._api = api
        self._lobby = lobby
        self._pods = pods
        self._settings = settings or PodMaintenanceSettings()
        self._labels = labels
        self._clock = asyncio.get_running_loop().time
        self._changed = asyncio.Event()
        self._config = ""
        self._failures = RepeatedFailures(self._clock)
        self._budget = DisruptionBudget(settings)
        self._budget_object = OwnedObject(
            api,
            DISRUPTION_BUDGETS,
            lobby.namespace,
            names.owned_name(lobby.name),
            lambda found: belongs_to(lobby, found),
        )
        self._empty_since: dict[str, float] = {}
        self._written: dict[str, tuple[dict[str, str], float]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the maintenance; all existing pods must be known."""
        if self._task is None:
            self._task = self._spawn(self._run(), f"maintain pods of {self._lobby.key}")

    def wake(self) -> None:
        """Something may have changed."""
        self._changed.set()

    def configured(self, config: str) -> None:
        """The ConfigMap was written; pods annotated with another digest must update their volume."""
        self._config = config
        self.wake()

    @property
    def budget_uid(self) -> str:
        """The uid of the disruption budget; empty: not written yet."""
        return self._budget_object.uid

    def forget_budget(self) -> None:
        """Someone may have deleted the budget: looks, and writes it if it is gone."""
        self._budget.current = None
        self._budget_object.forget()
        self.wake()

    async def close(self) -> None:
        """Stops writing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            pause = self._settings.min_interval_seconds
            try:
                await self._maintain_pods()
                await self._maintain_budget()
                self._set_problem("")
                if (told := self._failures.worked()) is not None:
                    logger.warning("pod maintenance works again", extra={"lobby": self._lobby.key, **told})
            except NameTakenError as error:
                self._set_problem(str(error))
                pause = self._settings.retry_seconds
            except Exception as error:  # any error: the loop must keep running
                if (told := self._failures.failed(str(error))) is not None:
                    level, trace = (logging.WARNING, None) if isinstance(error, ApiError) else (logging.ERROR, error)
                    extra = {"lobby": self._lobby.key, **told}
                    logger.log(level, "pod maintenance failed", extra=extra, exc_info=trace)
                pause = self._settings.retry_seconds
            await asyncio.sleep(pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.max_interval_seconds):
                    await self._changed.wait()

    # The budget

    async def _maintain_budget(self) -> None:
        if self._budget.current is None:
            stored = await self._budget_object.read()
            try:
                self._budget.current = int(stored["spec"].get("minAvailable", -1)) if stored is not None else -1
            except ValueError:  # not as we write it
                self._budget.current = -1
        serving = sum(pod.serves for pod, _ in self._pods())
        available = self._budget.change(serving, self._clock())
        if available is None:
            return
        await self._budget_object.write(disruption_budget(self._lobby, available, self._labels))
        self._budget.written(available)

    def _set_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            logger.warning(
                "the disruption budget can't be written" if problem else "the disruption budget can be written again",
                extra={"lobby": self._lobby.key, "problem": problem},
            )
            self._notify()

    # The pods

    async def _maintain_pods(self) -> None:
        now = self._clock()
        pods = self._pods()
        uids = {pod.uid for pod, _ in pods}
        self._empty_since = {uid: since for uid, since in self._empty_since.items() if uid in uids}
        self._written = {uid: written for uid, written in self._written.items() if uid in uids}
        writes = 0
        for pod, report in pods:
            annotations = dict(self._stale_annotations(pod, report, now))
            written, at = self._written.get(pod.uid, ({}, 0.0))
            if not annotations or (annotations == written and now - at < self._settings.rewrite_seconds):
                continue
            if writes == self._settings.max_writes:
                self.wake()
                return
            writes += 1
            body: dict[str, Any] = {"metadata": {"uid": pod.uid, "annotations": annotations}}
            # If the pod is gone, there is nothing left to do.
            with contextlib.suppress(NotFoundError, ConflictError):
                await self._api.patch(PODS, self._lobby.namespace, pod.name, body)
            self._written[pod.uid] = (annotations, now)

    def _stale_annotations(self, pod: PodState, report: LobbyReport | None, now: float) -> Iterator[tuple[str, str]]:
        """The annotations to change, with their new values."""
        if pod.ending or pod.ended:
            return
        if self._config and pod.config != self._config:
            yield names.CONFIG_ANNOTATION, self._config
        if report is None:
            return
        if report.clients:
            self._empty_since.pop(pod.uid, None)
            if pod.safe_to_evict is not False:
                yield names.SAFE_TO_EVICT_ANNOTATION, "false"
        elif pod.safe_to_evict is not True:
            since = self._empty_since.setdefault(pod.uid, now)
            if now - since >= self._settings.evictable_after_seconds:
                yield names.SAFE_TO_EVICT_ANNOTATION, "true"
