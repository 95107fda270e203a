"""Asks for the Events about pods that are on a node and do not start, while there are any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from lobby_gateway.errors import internal_error
from lobby_gateway.process.background import Spawn
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_operator.kube.client import ApiError, KubeApi
from lobby_operator.kube.names import EVENTS
from lobby_operator.kube.pod_state import PodState
from lobby_operator.kube.start_events import held_by
from lobby_operator.planner.state import Held
from lobby_operator.settings import StartWatchSettings

logger = logging.getLogger(__name__)


class StartWatch:
    """Finds out what keeps the pods of one Lobby from starting.

    Args:
        api: access to the API.
        namespace: namespace of the pods.
        awaiting: returns the pods that wait for the kubelet.
        secrets: returns the names of the Secrets that they mount, by key.
        changed: called when `held` has changed.
        spawn: creates tasks.
        settings: intervals and limits.

    Attributes:
        held: what keeps each of these pods from starting, by uid.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        *,
        awaiting: Callable[[], Sequence[PodState]],
        secrets: Callable[[], Mapping[str, list[str]]],
        changed: Callable[[], None],
        spawn: Spawn,
        settings: StartWatchSettings | None = None,
    ) -> None:
        self.held: Mapping[str, Held] = {}
        self._api = api
        self._namespace = namespace
        self._awaiting = awaiting
        self._secrets = secrets
        self._notify = changed
        self._spawn = spawn
        self._settings = settings or StartWatchSettings()
        self._changed = asyncio.Event()
        self._failures = RepeatedFailures(asyncio.get_running_loop().time)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts watching."""
        if self._task is None:
            self._task = self._spawn(self._run(), f"starts of pods in {self._namespace}")

    def wake(self) -> None:
        """A pod was created, or has changed."""
        self._changed.set()

    async def close(self) -> None:
        """Stops watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            early = {pod.uid for pod in self._awaiting()}
            if not early:
                self._set({})
                await self._changed.wait()
                self._changed.clear()
                continue
            await asyncio.sleep(self._settings.poll_seconds)  # most pods have started by then
            try:
                await self._look(early)
                if (fields := self._failures.worked()) is not None:
                    logger.info("can read the Events about pods again", extra=fields)
            except ApiError as error:
                self._log(str(error))
            except Exception as error:  # noqa: BLE001  # whatever the server answers: the loop must keep running
                self._log(internal_error(error))

    async def _look(self, early: Collection[str]) -> None:
        """Reads the Events about those pods that still wait.

        Not about later ones: a server looks through all Events of the namespace for each of these lists, and while many
        lobbies start there are always some that were bound a moment ago.
        """
        found: dict[str, Held] = {}
        pods = [pod for pod in self._awaiting() if pod.uid in early]
        for pod in pods[: self._settings.max_pods]:
            events = await self._api.list(EVENTS, self._namespace, fields=f"regarding.uid={pod.uid}")
            if (held := held_by(events["items"], self._secrets())) is not None:
                found[pod.uid] = held
        if found:  # the others wait for the same
            common = next(iter(found.values()))
            found |= {pod.uid: common for pod in pods[self._settings.max_pods :]}
        self._set(found)

    def _log(self, problem: str) -> None:
        if (fields := self._failures.failed(problem)) is not None:
            extra = {"namespace": self._namespace, **fields}
            logger.warning("can't read the Events about pods that do not start", extra=extra)

    def _set(self, held: Mapping[str, Held]) -> None:
        if held != self.held:
            self.held = held
            self._notify()
