"""Runs the lobbies of one Lobby as pods.

What exists is known from the watches (`pod_changed`, `pod_deleted`) and from the lobbies' own admin ports. Every action is
idempotent, and each call to the API is about one object: if an operator is killed between any two calls, another one
completes the work. The ConfigMap is written before a pod is created. What may lag is in `pod_maintenance.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from lobby_gateway.clients.tokens import Purpose
from lobby_gateway.process.background import Spawn
from lobby_gateway.process.peer_list import PeerList
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator import wall_clock
from lobby_operator.kube import names, pods
from lobby_operator.kube.client import AlreadyExistsError, ApiError, ConflictError, KubeApi, NotFoundError
from lobby_operator.kube.lobby_quota import LobbyQuota
from lobby_operator.kube.names import CONFIG_MAPS, DISRUPTION_BUDGETS, PODS, Resource
from lobby_operator.kube.owned_object import OwnedObject, belongs_to
from lobby_operator.kube.pod_maintenance import PodMaintenance
from lobby_operator.kube.pod_state import PodState, lobby_reading, owner_of, pod_state
from lobby_operator.kube.start_events import secrets_by_key
from lobby_operator.kube.start_watch import StartWatch
from lobby_operator.planner.state import LobbyReading, PollResult, StreamState
from lobby_operator.reconcile.lobby_requests import send_request
from lobby_operator.reconcile.poller import Poller, PollSchedule
from lobby_operator.reconcile.runtime import LobbyNameTakenError, RuntimeFailedError
from lobby_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


class _Pod:
    """A pod, and the poller of its lobby."""

    def __init__(self, state: PodState, created_at: float) -> None:
        self.state = state
        self.created_at = created_at
        self.draining_since: float | None = None
        self.was_up = state.started
        self.poller: Poller[LobbyReport] | None = None
        self.decisive: tuple[object, ...] = ()

    @property
    def result(self) -> PollResult[LobbyReport]:
        return self.poller.result if self.poller is not None else PollResult()


class KubeRuntime:
    """Runs the lobbies of one Lobby as pods; see `lobby_operator.reconcile.runtime.Runtime`.

    Args:
        api: access to the API.
        settings: settings of the operator.
        lobby: the Lobby.
        resource: the same as JSON, validated and with defaults.
        changed: called when something about a lobby may have changed.
        schedule: shared by all pollers of this process; None: a new one.
        quota: shared by all Lobbies; None: a new one.
        token_keys: the keys of the Lobby's namespace; raises `RuntimeFailedError` if they are unknown now.
        spawn: creates tasks.
    """

    def __init__(
        self,
        api: KubeApi,
        settings: OperatorSettings,
        lobby: Lobby,
        resource: Mapping[str, Any],
        *,
        changed: Callable[[], None],
        schedule: PollSchedule | None = None,
        quota: LobbyQuota | None = None,
        token_keys: Callable[[], Awaitable[Sequence[bytes]]],
        spawn: Spawn,
    ) -> None:
        self._spawn = spawn
        self._api = api
        self._settings = settings
        self._lobby = lobby
        self._resource = resource
        self._changed = changed
        self._schedule = schedule or PollSchedule()
        self._quota = quota or LobbyQuota(
            settings.policy.max_lobbies, unseen_seconds=settings.reconcile.expected_seconds
        )
        self._token_keys = token_keys
        self._clock = asyncio.get_running_loop().time
        self._pods: dict[str, _Pod] = {}
        self._fast = True
        self._config_map = OwnedObject(
            api, CONFIG_MAPS, lobby.namespace, names.owned_name(lobby.name), lambda found: belongs_to(lobby, found)
        )
        self._config: Mapping[str, Any] | None = None  # as last written
        self._config_written_at = 0.0
        self._config_lock = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._starts = StartWatch(
            api,
            lobby.namespace,
            awaiting=lambda: [pod.state for pod in self._pods.values() if pod.state.awaits_kubelet],
            secrets=lambda: secrets_by_key(self._lobby, settings.pods.token_secret),
            changed=changed,
            spawn=spawn,
            settings=settings.starts,
        )
        self._maintenance = PodMaintenance(
            api,
            lobby,
            self._pods_and_reports,
            settings.maintenance,
            labels=settings.pods.labels,
            changed=changed,
            spawn=spawn,
        )

    @property
    def revision(self) -> str:
        """The revision of pods that are created now."""
        return pods.revision(self._lobby, self._settings.pods)

    # What exists

    def pod_changed(self, state: PodState) -> None:
        """A pod with the labels of this Lobby was added or changed."""
        if state.owner != self._lobby.uid:  # of an earlier Lobby of that name; Kubernetes will delete the pod
            self.pod_deleted(state.name)
            return
        known = self._pods.get(state.name)
        if known is None or known.state.uid != state.uid:
            self._close_poller(known)
            known = self._pods[state.name] = _Pod(state, self._on_our_clock(state.created))
        elif known.state == state:
            return
        self._update(known, state)
        self._starts.wake()
        self._maintenance.wake()
        self._changed()

    def _on_our_clock(self, at: float) -> float:
        """A time in seconds since 1970; the clock of another machine may be ahead, but nothing we know of is in the future."""
        return self._clock() - max(0.0, time.time() - at)

    def pod_deleted(self, name: str) -> None:
        """A pod is gone."""
        known = self._pods.pop(name, None)
        if known is not None:
            self._close_poller(known)
            self._maintenance.wake()
            self._changed()

    def _update(self, known: _Pod, state: PodState) -> None:
        known.state = state
        if known.draining_since is None and state.draining_at is not None:
            known.draining_since = self._on_our_clock(state.draining_at)
        if known.poller is not None and state.ended:
            self._close_poller(known)
        elif known.poller is None and state.ip and not state.ended:
            known.poller = Poller(
                state.name,
                (state.ip, self._settings.lobby_admin_port),
                "/seats",
                LobbyReport.from_json,
                lambda: self._polled(known),
                schedule=self._schedule,
            )
            known.poller.fast = self._fast
        if known.poller is not None:
            # A starting lobby does not answer yet, which is not worth logging.
            starting = known.result.report is None and not state.ready
            known.poller.quiet = state.ending or starting

    def _polled(self, known: _Pod) -> None:
        """Wakes the reconciler if the answer affects a decision, which most answers do not."""
        result = known.result
        report = result.report
        counts: tuple[object, ...] = ()
        if report is not None:
            counts = (
                report.draining,
                report.seats,
                report.clients,
                report.direct,
                report.origin,
                StreamState.of(report),
            )
        decisive = (*counts, result.unresponsive_since)
        if decisive != known.decisive:
            known.decisive = decisive
            self._maintenance.wake()
            self._changed()

    def _close_poller(self, known: _Pod | None) -> None:
        if known is not None and known.poller is not None:
            task = self._spawn(known.poller.close(), f"close {known.state.name}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            known.poller = None

    def _pods_and_reports(self) -> list[tuple[PodState, LobbyReport | None]]:
        return [(pod.state, pod.result.report) for pod in self._pods.values()]

    def poll_fast(self, *, fast: bool) -> None:
        """Polls lobbies at the fast interval, or at the normal one."""
        self._fast = fast
        for pod in self._pods.values():
            if pod.poller is not None:
                pod.poller.fast = fast

    def poll_results(self) -> dict[str, PollResult[LobbyReport]]:
        """The latest poll of each lobby, by name."""
        return {name: pod.result for name, pod in self._pods.items()}

    @property
    def maintenance_problem(self) -> str:
        """What keeps the PodDisruptionBudget from being written, for people; empty: nothing that a person must fix."""
        return self._maintenance.problem

    def problems(self) -> dict[str, str]:
        """Why pods do not run, by name, one line each for people; only pods with a known problem."""
        return {name: pod.state.problem for name, pod in self._pods.items() if pod.state.problem}

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        """See `Runtime`. Must not be called before all existing pods are known."""
        self._maintenance.start()
        self._starts.start()
        held = self._starts.held
        return [
            lobby_reading(
                pod.state,
                pod.result,
                pod.created_at,
                draining_since=pod.draining_since,
                was_up=pod.was_up,
                held=held.get(pod.state.uid),
            )
            for pod in self._pods.values()
        ]

    @property
    def written(self) -> Mapping[Resource, str]:
        """The uids of the ConfigMap and of the disruption budget, as far as they are written."""
        uids = {CONFIG_MAPS: self._config_map.uid, DISRUPTION_BUDGETS: self._maintenance.budget_uid}
        return {kind: uid for kind, uid in uids.items() if uid}

    def forget_written(self) -> None:
        """One of them was deleted: writes the ConfigMap with the next `apply` or `create`, and the budget at once."""
        self._config = None
        self._maintenance.forget_budget()

    @property
    def lacks(self) -> Collection[str]:
        """Names of the Secrets and ConfigMaps that pods wait for, as far as this operator writes them."""
        ours = {self._settings.pods.token_secret, names.owned_name(self._lobby.name)}
        return ours & {name for held in self._starts.held.values() for name in held.missing}

    # Actions

    async def apply(self, lobby: Lobby, resource: Mapping[str, Any]) -> None:
        """Sets the Lobby as it is now, and writes its ConfigMap if it changed or was last written long ago.

        Args:
            lobby: the same Lobby, with another spec.
            resource: the same as JSON, validated and with defaults.

        Raises:
            RuntimeFailedError: the ConfigMap can't be written now. No pods are created until it is.
        """
        self._lobby, self._resource = lobby, resource
        await self._write_config()

    async def _write_config(self) -> None:
        async with self._config_lock:
            manifest = pods.config_map(self._lobby, self._resource, self._settings.pods.labels)
            digest = pods.live_digest(self._resource)
            recent = self._clock() - self._config_written_at < self._settings.controller.resync_seconds
            if self._config == manifest and recent:
                return
            try:
                await self._config_map.write(manifest)
            except ApiError as error:
                raise RuntimeFailedError(f"can't write the ConfigMap of the lobbies: {error}") from error
            self._config, self._config_written_at = manifest, self._clock()
            self._maintenance.configured(digest)

    async def create(self, lobby: Lobby, name: str) -> None:
        """See `Runtime`. Uses the Lobby of the latest `apply`, so that a pod and its ConfigMap match."""
        await self._write_config()
        config, avoid = pods.live_digest(self._resource), self._unresponsive_nodes()
        manifest = pods.pod_manifest(self._lobby, name, self._settings.pods, config=config, avoid=avoid)
        namespace = self._lobby.namespace
        if not self._quota.reserve(namespace, name, self._clock()):
            most = self._quota.most
            raise RuntimeFailedError(
                f"can't create {name}: namespace {namespace} has {most} lobbies, the most that this cluster allows"
            )
        try:
            await self._create_pod(name, manifest)
        except RuntimeFailedError:
            self._quota.not_created(namespace, name)
            raise

    async def _create_pod(self, name: str, manifest: names.Object) -> None:
        try:
            await self._api.create(PODS, self._lobby.namespace, manifest)
        except AlreadyExistsError as error:
            await self._check_owner(name, error)
        except ApiError as error:
            raise RuntimeFailedError(f"can't create {name}: {error}") from error

    def _unresponsive_nodes(self) -> Sequence[str]:
        """Nodes of lobbies that stopped answering, where no other lobby has answered since: they may be lost.

        Kubernetes considers a lost node healthy for another 20 to 50 s, and would schedule new lobbies there.
        """
        unresponsive: dict[str, float] = {}
        answered: dict[str, float] = {}
        for pod in self._pods.values():
            node, result = pod.state.node, pod.result
            since = result.unresponsive_since
            if since is None:
                answered[node] = max(result.at, answered.get(node, 0.0))
            elif (pod.was_up or result.report is not None) and not pod.state.ending:
                unresponsive[node] = min(since, unresponsive.get(node, since))
        return sorted(node for node, since in unresponsive.items() if node and answered.get(node, 0.0) < since)

    async def _check_owner(self, name: str, error: AlreadyExistsError) -> None:
        """Accepts an existing pod of that name if it is one of this Lobby's, which the watch does not show yet."""
        try:
            pod = await self._api.get(PODS, self._lobby.namespace, name)
        except ApiError as second:
            raise RuntimeFailedError(f"can't create {name}: {second}") from second
        metadata = pod["metadata"]
        if owner_of(metadata) != self._lobby.uid:
            problem = "a pod of that name exists that this Lobby does not own"
        elif not names.lobby_labels(self._lobby.name).items() <= (metadata.get("labels") or {}).items():
            problem = "a pod of that name exists whose labels were changed, so it no longer belongs to this Lobby"
        else:
            return
        raise LobbyNameTakenError(name, f"{problem}; it is left alone, and another number is taken") from error

    async def drain(self, name: str) -> None:
        """See `Runtime`. The annotation comes first: it survives the operator, so that the lobby is asked again."""
        pod = self._pods.get(name)
        if pod is None or pod.state.ending or pod.state.ended:
            return
        if not pod.state.draining:
            await self._mark_draining(pod.state)
        await self._ask(pod, Purpose.DRAIN)

    async def preconnect(self, name: str) -> None:
        """See `Runtime`."""
        pod = self._pods.get(name)
        if pod is not None and pod.state.serves:
            await self._ask(pod, Purpose.PRECONNECT)

    async def _ask(self, pod: _Pod, purpose: Purpose) -> None:
        name = pod.state.name
        if pod.poller is None:
            raise RuntimeFailedError(f"can't {purpose} {name}: it has no address yet")
        await send_request(
            purpose,
            (pod.state.ip, self._settings.lobby_admin_port),
            namespace=self._lobby.namespace,
            name=name,
            keys=await self._token_keys(),
            timeout=self._settings.controller.request_timeout_seconds,
        )
        if pod.poller is not None:
            pod.poller.poll_now()

    async def _mark_draining(self, state: PodState) -> None:
        now = wall_clock.now()
        body = {"metadata": {"uid": state.uid, "annotations": {names.DRAINING_ANNOTATION: now}}}
        try:
            self.pod_changed(pod_state(await self._api.patch(PODS, self._lobby.namespace, state.name, body)))
        except (NotFoundError, ConflictError):
            return  # it is gone already
        except ApiError as error:
            raise RuntimeFailedError(f"can't mark {state.name} as draining: {error}") from error

    async def tell_peers(self, name: str, told: PeerList) -> None:
        """See `Runtime`."""
        pod = self._pods.get(name)
        if pod is None or pod.poller is None:
            raise RuntimeFailedError(f"can't tell {name} its peers: it has no address yet")
        await send_request(
            Purpose.PEERS,
            (pod.state.ip, self._settings.lobby_admin_port),
            body=json.dumps(told.to_json()).encode(),
            namespace=self._lobby.namespace,
            name=name,
            keys=await self._token_keys(),
            timeout=self._settings.peers.timeout_seconds,
        )
        if pod.poller is not None:
            pod.poller.poll_now()

    async def delete(self, name: str) -> None:
        """See `Runtime`."""
        pod = self._pods.get(name)
        if pod is None or pod.state.ending:
            return
        if pod.poller is not None:
            pod.poller.quiet = True
        try:
            await self._api.delete(PODS, self._lobby.namespace, name, uid=pod.state.uid)
        except (NotFoundError, ConflictError):
            return  # it is gone already; another pod may have its name by now
        except ApiError as error:
            raise RuntimeFailedError(f"can't delete {name}: {error}") from error

    async def tell_deleted(self) -> None:
        """Tells all lobbies that their Lobby was deleted, so that they close the clients that were redirected to them.

        Their pods end within seconds: Kubernetes deletes what a deleted Lobby owns. A lobby that can't be told is one of them.
        """
        lobbies = [pod.state for pod in self._pods.values() if pod.poller is not None]
        at_once = asyncio.Semaphore(self._settings.controller.max_deletion_notices)

        async def tell(state: PodState, keys: Sequence[bytes]) -> None:
            try:
                async with at_once:
                    await send_request(
                        Purpose.DRAIN,
                        (state.ip, self._settings.lobby_admin_port),
                        namespace=self._lobby.namespace,
                        name=state.name,
                        keys=keys,
                        timeout=self._settings.controller.request_timeout_seconds,
                        deleted=True,
                    )
            except RuntimeFailedError as error:
                logger.info("can't tell a lobby that its Lobby was deleted", extra={"problem": str(error)})

        if lobbies:
            try:
                keys = await self._token_keys()
            except RuntimeFailedError as error:
                logger.info("can't tell lobbies that their Lobby was deleted", extra={"problem": str(error)})
                return
            await asyncio.gather(*(tell(state, keys) for state in lobbies))

    async def close(self) -> None:
        """Stops polling and writing; the lobbies keep running."""
        await self._maintenance.close()
        await self._starts.close()
        for pod in self._pods.values():
            self._close_poller(pod)
        await asyncio.gather(*self._closing)
