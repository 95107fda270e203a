"""Lobbies as pods, of one Lobby.

What there is comes from an informer outside (`seen`, `gone`), and from the lobbies' own admin ports. Whatever is done is one
call of the API for one object, and may be done again: an operator that is killed between any two calls is followed by one that
does the rest. The ConfigMap is written before a pod is made of it. Upkeep, which may wait, is in `upkeep.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lobby_gateway.http.client import HttpClient, HttpError
from lobby_gateway.process.reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator import wall_clock
from lobby_operator.kube import names, pods
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.config_map import config_map
from lobby_operator.kube.errors import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from lobby_operator.kube.pod_maintenance import PodMaintenance
from lobby_operator.kube.pod_state import PodState, lobby_reading, owner_of, pod_state
from lobby_operator.kube.pods import live_digest
from lobby_operator.kube.resources import CONFIG_MAPS, PODS
from lobby_operator.planner.state import LobbyReading, PollResult
from lobby_operator.reconcile.poller import Poller, PollSchedule
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import PodSettings

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 2.0
"""For a lobby to answer that it drains."""

APPLY_AGAIN_SECONDS = 300.0
"""So often what belongs to a Lobby beside its pods is written anew: somebody may have changed or deleted it."""


class _Pod:
    """A pod, and what its lobby says."""

    def __init__(self, seen: PodState, created_at: float) -> None:
        self.seen = seen
        self.created_at = created_at
        self.was_up = seen.started
        self.poller: Poller[LobbyReport] | None = None
        self.told: tuple[object, ...] = ()

    @property
    def poll_result(self) -> PollResult[LobbyReport]:
        return self.poller.result if self.poller is not None else PollResult()


class KubeRuntime:
    """Runs the lobbies of one Lobby as pods; see `lobby_operator.reconcile.runtime.Runtime`.

    Args:
        api: access to the API.
        settings: of pods.
        lobby: the Lobby.
        resource: the same as JSON, checked and defaulted.
        changed: is called when something about a lobby may have changed.
        admin_port: of lobbies.
        schedule: polls of this process; None: of its own.
    """

    def __init__(
        self,
        api: KubeApi,
        settings: PodSettings,
        lobby: Lobby,
        resource: Mapping[str, Any],
        *,
        changed: Callable[[], None],
        admin_port: int = names.ADMIN_PORT,
        schedule: PollSchedule | None = None,
    ) -> None:
        self._api = api
        self._settings = settings
        self._lobby = lobby
        self._resource = resource
        self._changed = changed
        self._admin_port = admin_port
        self._schedule = schedule or PollSchedule()
        self._clock = asyncio.get_running_loop().time
        self._pods: dict[str, _Pod] = {}
        self._fast = True
        self._written: Mapping[str, Any] | None = None
        self._written_at = 0.0
        self._writing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._upkeep = PodMaintenance(api, lobby, self._pods_and_reports)

    @property
    def revision(self) -> str:
        """What pods are made from now."""
        return pods.revision(self._lobby, self._settings)

    # What there is

    def seen(self, pod: Mapping[str, Any]) -> None:
        """A pod with the labels of this Lobby's lobbies is there, or has changed."""
        seen = pod_state(pod)
        if seen.owner != self._lobby.uid:  # left over from an earlier Lobby of that name: Kubernetes takes it away
            self.gone(seen.name)
            return
        known = self._pods.get(seen.name)
        if known is None or known.seen.uid != seen.uid:
            self._forget(known)
            # The clocks of two machines may differ; nothing was made in the future.
            age = max(0.0, time.time() - seen.created)
            known = self._pods[seen.name] = _Pod(seen, self._clock() - age)
        elif known.seen == seen:
            return
        self._update(known, seen)
        self._upkeep.wake()
        self._changed()

    def gone(self, name: str) -> None:
        """A pod is no longer there."""
        known = self._pods.pop(name, None)
        if known is not None:
            self._forget(known)
            self._upkeep.wake()
            self._changed()

    def _update(self, known: _Pod, seen: PodState) -> None:
        known.seen = seen
        if known.poller is not None and seen.ended:
            self._forget(known)
        elif known.poller is None and seen.ip and not seen.ended:
            known.poller = Poller(
                seen.name,
                (seen.ip, self._admin_port),
                "/seats",
                LobbyReport.from_json,
                lambda: self._answered(known),
                schedule=self._schedule,
            )
            known.poller.fast = self._fast
        if known.poller is not None:
            # While it starts it is no news that it does not answer.
            starts = known.poll_result.report is None and not seen.ready
            known.poller.quiet = seen.ending or starts

    def _answered(self, known: _Pod) -> None:
        """Most answers tell nothing new, apart from counts that nobody decides by."""
        poll_result = known.poll_result
        report = poll_result.report
        said = (report.draining, report.seats, report.clients, report.direct, report.origin) if report else ()
        told = (*said, poll_result.unresponsive_since)
        if told != known.told:
            known.told = told
            self._upkeep.wake()
            self._changed()

    def _forget(self, known: _Pod | None) -> None:
        if known is not None and known.poller is not None:
            task = asyncio.create_task(known.poller.close(), name=f"close {known.seen.name}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            known.poller = None

    def _pods_and_reports(self) -> list[tuple[PodState, LobbyReport | None]]:
        return [(pod.seen, pod.poll_result.report) for pod in self._pods.values()]

    def poll_fast(self, *, fast: bool) -> None:
        """Asks the lobbies more often, or no longer so."""
        self._fast = fast
        for pod in self._pods.values():
            if pod.poller is not None:
                pod.poller.fast = fast

    def poll_results(self) -> dict[str, PollResult[LobbyReport]]:
        """What each lobby said of itself last, by name."""
        return {name: pod.poll_result for name, pod in self._pods.items()}

    def problems(self) -> dict[str, str]:
        """Why pods do not run, by name, in a line for a person each; those of which nothing is known are left out."""
        return {name: pod.seen.problem for name, pod in self._pods.items() if pod.seen.problem}

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        """See `Runtime`. Is not to be asked before all pods that there are were `seen`."""
        self._upkeep.start()
        return [
            lobby_reading(pod.seen, pod.poll_result, pod.created_at, was_up=pod.was_up) for pod in self._pods.values()
        ]

    async def read(self, name: str) -> PollResult[LobbyReport] | None:
        """See `Runtime`."""
        pod = self._pods.get(name)
        return pod.poll_result if pod is not None else None

    # What is done

    async def apply(self, lobby: Lobby, resource: Mapping[str, Any]) -> None:
        """Takes on a Lobby as it is now; the ConfigMap becomes what it should be, if it is not.

        Args:
            lobby: the Lobby; the same, with another spec.
            resource: the same as JSON, checked and defaulted.

        Raises:
            RuntimeFailedError: it can't be done now. Pods are not made until it is; it is to be asked again.
        """
        self._lobby, self._resource = lobby, resource
        await self._write_config()

    async def _write_config(self) -> None:
        async with self._writing:
            manifest = config_map(self._lobby, self._resource)
            config = live_digest(self._resource)
            recently = self._clock() - self._written_at < APPLY_AGAIN_SECONDS
            if self._written == manifest and recently:
                return
            name = manifest["metadata"]["name"]
            try:
                await self._api.apply(CONFIG_MAPS, self._lobby.namespace, name, manifest)
            except ApiError as error:
                raise RuntimeFailedError(f"the configuration of lobbies can't be written: {error}") from error
            self._written, self._written_at = manifest, self._clock()
            self._upkeep.configured(config)

    async def create(self, lobby: Lobby, name: str) -> None:
        """See `Runtime`. Of the Lobby as it was applied last: so that a pod and its ConfigMap fit together."""
        await self._write_config()
        config, avoid = live_digest(self._resource), self._silent_nodes()
        manifest = pods.pod_manifest(self._lobby, name, self._settings, config=config, avoid=avoid)
        try:
            await self._api.create(PODS, self._lobby.namespace, manifest)
        except AlreadyExistsError as error:
            await self._check_owner(name, error)
        except ApiError as error:
            raise RuntimeFailedError(f"{name} can't be made: {error}") from error

    def _silent_nodes(self) -> Sequence[str]:
        """Nodes of lobbies that answered once and do not now, where no other answered since: they may be lost.

        Kubernetes takes a lost node for a good one for another 20 to 50 s, and would put new lobbies there.
        """
        silent: dict[str, float] = {}
        answered: dict[str, float] = {}
        for pod in self._pods.values():
            node, poll_result = pod.seen.node, pod.poll_result
            if poll_result.unresponsive_since is None:
                answered[node] = max(poll_result.at, answered.get(node, 0.0))
            elif (pod.was_up or poll_result.report is not None) and not pod.seen.ending:
                silent[node] = min(poll_result.unresponsive_since, silent.get(node, poll_result.unresponsive_since))
        return sorted(node for node, since in silent.items() if node and answered.get(node, 0.0) < since)

    async def _check_owner(self, name: str, error: AlreadyExistsError) -> None:
        """A pod of that name is what was asked for, if it is this Lobby's: the informer does not show it yet."""
        try:
            there = await self._api.get(PODS, self._lobby.namespace, name)
        except ApiError as second:
            raise RuntimeFailedError(f"{name} can't be made: {second}") from second
        if owner_of(there["metadata"]) != self._lobby.uid:
            raise RuntimeFailedError(f"{name} can't be made: a pod of that name belongs to somebody else") from error

    async def drain(self, name: str) -> None:
        """See `Runtime`. The mark comes first: it lasts when the operator is killed, and the lobby is told again."""
        pod = self._pods.get(name)
        if pod is None or pod.seen.ending or pod.seen.ended:
            return
        if not pod.seen.draining:
            await self._mark_draining(pod.seen)
        if pod.poller is None:
            raise RuntimeFailedError(f"{name} can't be told to drain: it has no address yet")
        client = HttpClient(pod.seen.ip, self._admin_port, timeout=DRAIN_SECONDS)
        try:
            response = await client.post("/drain")
        except HttpError as error:
            raise RuntimeFailedError(f"{name} can't be told to drain: {error}") from error
        finally:
            client.close()
        if response.status >= 300:
            raise RuntimeFailedError(f"{name} does not drain: answer {response.status}")
        if pod.poller is not None:
            pod.poller.poll_now()

    async def _mark_draining(self, seen: PodState) -> None:
        now = wall_clock.now()
        body = {"metadata": {"uid": seen.uid, "annotations": {names.DRAINING_ANNOTATION: now}}}
        try:
            self.seen(await self._api.patch(PODS, self._lobby.namespace, seen.name, body))
        except (NotFoundError, ConflictError):
            return  # it is gone already
        except ApiError as error:
            raise RuntimeFailedError(f"{seen.name} can't be marked as draining: {error}") from error

    async def delete(self, name: str) -> None:
        """See `Runtime`.

        Raises:
            RuntimeFailedError: it can't be deleted now.
        """
        pod = self._pods.get(name)
        if pod is None or pod.seen.ending:
            return
        if pod.poller is not None:
            pod.poller.quiet = True
        try:
            await self._api.delete(PODS, self._lobby.namespace, name, uid=pod.seen.uid)
        except (NotFoundError, ConflictError):
            return  # it is gone already; the name may be another's by now
        except ApiError as error:
            raise RuntimeFailedError(f"{name} can't be deleted: {error}") from error

    async def close(self) -> None:
        """Asks and writes no more. The lobbies go on."""
        await self._upkeep.close()
        for pod in self._pods.values():
            self._forget(pod)
        await asyncio.gather(*self._closing)
