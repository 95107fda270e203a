"""What is kept up to date about a Lobby's pods and may wait a little: annotations, and the PodDisruptionBudget.

A task of its own, so that the lobby host never waits for it. It compares what the informer shows with what should be there and
writes the difference, a few writes at a time. What fails is done again later, since the difference is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lobby_gateway.process.reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.disruption import Budget, disruption_budget
from lobby_operator.kube.errors import ApiError, ConflictError, NotFoundError
from lobby_operator.kube.pod_state import PodState
from lobby_operator.kube.resources import DISRUPTION_BUDGETS, PODS

logger = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
"""Between two rounds, so that what comes together is written together."""

IDLE_SECONDS = 15.0
"""Without news, a round now and then: some of it depends on the time."""

RETRY_SECONDS = 10.0

MAX_WRITES = 50
"""In one round: a thousand lobbies that fill at once are no reason to stand in the way of more urgent calls."""

EMPTY_SECONDS = 30.0
"""A lobby must have been empty for so long before it is said that its node may go."""

SHOWS_SECONDS = 30.0
"""What was written shows within that time, or is written again."""


class PodMaintenance:
    """Looks after the pods of one Lobby.

    Args:
        api: access to the API.
        lobby: the Lobby.
        pods: gives its pods, and what their lobbies said last.
    """

    def __init__(
        self, api: KubeApi, lobby: Lobby, pods: Callable[[], Sequence[tuple[PodState, LobbyReport | None]]]
    ) -> None:
        self._api = api
        self._lobby = lobby
        self._pods = pods
        self._clock = asyncio.get_running_loop().time
        self._news = asyncio.Event()
        self._config = ""
        self._budget = Budget()
        self._empty_since: dict[str, float] = {}
        self._written: dict[str, tuple[dict[str, str], float]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """All pods that there are were seen. From now on they are looked after."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"upkeep of {self._lobby.key}")

    def wake(self) -> None:
        """Something may have changed."""
        self._news.set()

    def configured(self, config: str) -> None:
        """The ConfigMap has been written; lobbies with another digest than this are to look at it."""
        self._config = config
        self.wake()

    async def close(self) -> None:
        """Writes no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            pause = ROUND_SECONDS
            try:
                await self._look_after_budget()
                await self._look_after_pods()
            except ApiError as error:
                logger.warning("upkeep failed", extra={"lobby": self._lobby.key, "problem": str(error)})
                pause = RETRY_SECONDS
            except Exception:  # whatever it is: this goes on
                logger.exception("upkeep failed", extra={"lobby": self._lobby.key})
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._news.wait()

    # The budget

    async def _look_after_budget(self) -> None:
        name = names.config_map_name(self._lobby.name)
        if self._budget.known is None:
            try:
                there = await self._api.get(DISRUPTION_BUDGETS, self._lobby.namespace, name)
                self._budget.known = int(there["spec"].get("minAvailable", -1))
            except (NotFoundError, ValueError):  # not there, or not as we make it
                self._budget.known = -1
        serving = sum(pod.serves for pod, _ in self._pods())
        wanted = self._budget.wanted(serving, self._clock())
        if wanted is None:
            return
        manifest = disruption_budget(self._lobby, wanted)
        await self._api.apply(DISRUPTION_BUDGETS, self._lobby.namespace, name, manifest)
        self._budget.written(wanted)

    # The pods

    async def _look_after_pods(self) -> None:
        now = self._clock()
        pods = self._pods()
        there = {pod.uid for pod, _ in pods}
        self._empty_since = {uid: since for uid, since in self._empty_since.items() if uid in there}
        self._written = {uid: written for uid, written in self._written.items() if uid in there}
        writes = 0
        for pod, report in pods:
            annotations = dict(self._wanted(pod, report, now))
            written, at = self._written.get(pod.uid, ({}, 0.0))
            if not annotations or (annotations == written and now - at < SHOWS_SECONDS):
                continue
            if writes == MAX_WRITES:
                self.wake()
                return
            writes += 1
            body: dict[str, Any] = {"metadata": {"uid": pod.uid, "annotations": annotations}}
            # Where it failed because the pod is gone, there is nothing more to do.
            with contextlib.suppress(NotFoundError, ConflictError):
                await self._api.patch(PODS, self._lobby.namespace, pod.name, body)
            self._written[pod.uid] = (annotations, now)

    def _wanted(self, pod: PodState, report: LobbyReport | None, now: float) -> Iterator[tuple[str, str]]:
        """The annotations that are not as they should be."""
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
            if now - since >= EMPTY_SECONDS:
                yield names.SAFE_TO_EVICT_ANNOTATION, "true"
