"""Passes what the watches report to the controller of each Lobby while this process is active.

Before `start`, everything is only stored: a standby knows all objects and writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from lobby_gateway.metrics import LoopLag
from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.resource.list_watch import Change, object_key
from lobby_gateway.resource.redacted_spec import redacted_spec
from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.client import KubeApi, NotFoundError
from lobby_operator.kube.events import Recorder
from lobby_operator.kube.greeter_pods import GreeterPods
from lobby_operator.kube.lobby_controller import LobbyController
from lobby_operator.kube.lobby_quota import LobbyQuota
from lobby_operator.kube.lobby_registry import LobbyRecord, LobbyRegistry
from lobby_operator.kube.pod_state import PodState, pod_state
from lobby_operator.kube.pods import configured
from lobby_operator.kube.runtime import KubeRuntime
from lobby_operator.kube.status_writer import StatusWriter
from lobby_operator.kube.tenancy import Tenancy
from lobby_operator.kube.token_secret import TokenSecrets
from lobby_operator.kube.written_objects import WrittenObjects
from lobby_operator.planner.demand import Demand, measure_demand
from lobby_operator.reconcile.poller import PollSchedule
from lobby_operator.reconcile.reconciler import Reconciler
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import OperatorSettings


class ControllerManager:
    """Controls the Lobbies of a cluster, or of one namespace.

    Args:
        api: access to the API.
        settings: settings of the operator.
        token_secrets: writes the keys of tokens to where lobbies need them; None: someone else does.

    Attributes:
        lobbies: all Lobbies.
        recorder: writes Events.
        lag: lag of the event loop.
        active: Lobbies are being reconciled.
        term: of the Lease.
    """

    def __init__(self, api: KubeApi, settings: OperatorSettings, *, token_secrets: TokenSecrets | None = None) -> None:
        self.lobbies = LobbyRegistry(settings.policy, Tenancy.of(settings))
        self.recorder = Recorder(api, settings.identity, settings.events)
        self.lag = LoopLag()
        self.active = False
        self.term = 0
        self._api = api
        self._settings = settings
        self._token_secrets = token_secrets
        self._schedule = PollSchedule(settings.polling)
        self._quota = LobbyQuota(settings.policy.max_lobbies, unseen_seconds=settings.reconcile.expected_seconds)
        self._pods_listed: set[str] = set()  # namespaces
        self._pods: dict[str, dict[str, PodState]] = {}  # by key of the Lobby, then by name
        self._lobby_of: dict[str, str] = {}  # key of the Lobby by key of the pod
        self._greeter_pods: dict[str, Change] = {}
        self._greeters: GreeterPods | None = None
        self._active_lobbies: set[str] = set()
        self._controllers: dict[str, LobbyController] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._written: asyncio.Task[None] | None = None
        self._clock = asyncio.get_running_loop().time
        self._tasks = BackgroundTasks()

    # What the watches report

    def lobby_changed(self, change: Change) -> None:
        """A Lobby was added, changed or deleted."""
        affected = self.lobbies.remove(change.key) if change.object is None else self.lobbies.update(change.object)
        for key in affected:
            self._sync(key)

    def lobbies_listed(self) -> None:
        """All Lobbies are known."""
        if not self.lobbies.synced:
            self.lobbies.synced = True
            for controller in self._controllers.values():
                controller.wake()

    def pods_listed(self, namespace: str) -> None:
        """All pods of lobbies in a namespace are known, as they are since this process may act."""
        if namespace not in self._pods_listed:
            self._pods_listed.add(namespace)
            for record in list(self.lobbies):
                self._sync(record.key)

    def pod_changed(self, change: Change) -> None:
        """A lobby's pod was added, changed or deleted."""
        lobby = _lobby_of(change.object) if change.object is not None else ""
        before = self._lobby_of.get(change.key, "")
        if before and before != lobby:
            self._forget_pod(change.key, before)
        if change.object is None or not lobby:
            return
        namespace, _, name = change.key.rpartition("/")
        pod = pod_state(change.object)
        self._quota.seen(namespace, name)
        self._pods.setdefault(lobby, {})[name] = pod
        self._lobby_of[change.key] = lobby
        controller = self._controllers.get(lobby)
        if controller is not None and controller.runtime is not None:
            controller.runtime.pod_changed(pod)

    def _forget_pod(self, key: str, lobby: str) -> None:
        namespace, _, name = key.rpartition("/")
        self._quota.gone(namespace, name)
        del self._lobby_of[key]
        del self._pods[lobby][name]
        if not self._pods[lobby]:
            del self._pods[lobby]
        controller = self._controllers.get(lobby)
        if controller is not None and controller.runtime is not None:
            controller.runtime.pod_deleted(name)

    def greeter_changed(self, change: Change) -> None:
        """A greeter's pod was added, changed or deleted."""
        if change.object is None:
            self._greeter_pods.pop(change.key, None)
        else:
            change = Change(change.key, _trimmed(change.object))
            self._greeter_pods[change.key] = change
        if self._greeters is not None:
            self._greeters.pod_changed(change)

    # Life cycle

    def start(self, term: int = 0) -> None:
        """Starts reconciling; all Lobbies and greeters must be known, as they are since this process may act.

        If the namespaces are named, a Lobby waits until the pods in its own are.

        Args:
            term: of the Lease.
        """
        self.active = True
        self.term = term
        self._greeters = GreeterPods(
            self._greeters_changed, port=self._settings.lobby_admin_port, schedule=self._schedule, spawn=self.spawn
        )
        for change in self._greeter_pods.values():
            self._greeters.pod_changed(change)
        for record in list(self.lobbies):
            self._sync(record.key)
        self._written = self.spawn(
            WrittenObjects(
                self._api,
                self._settings.lobby_namespaces or (self._settings.namespace,),
                self._writers,
                token_secrets=self._token_secrets,
                settings=self._settings.written,
            ).run(),
            "written objects",
        )

    async def wait_failed(self) -> None:
        """Waits until any of its tasks fails, and raises its exception."""
        await self._tasks.wait_failed()

    async def close(self) -> None:
        """Stops reconciling; lobbies and greeters keep running."""
        self.active = False
        if self._written is not None:
            self._written.cancel()
            await asyncio.gather(self._written, return_exceptions=True)
        controllers, self._controllers = self._controllers, {}
        await asyncio.gather(*(controller.close() for controller in controllers.values()), *self._closing)
        if self._greeters is not None:
            await self._greeters.close()

    def _sync(self, key: str) -> None:
        """Creates, updates or closes the controller of a Lobby."""
        if not self.active:
            return
        record = self.lobbies.get(key)
        controller = self._controllers.get(key)
        if controller is not None and (record is None or record.uid != controller.uid):
            del self._controllers[key]
            task = self.spawn(controller.close(deleted=True), f"close {key}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            controller = None
        if record is None or (record.served and not self._pods_known(record.namespace)):
            return
        if controller is None:
            self._controllers[key] = LobbyController(record, self, self._settings)
        else:
            controller.update(record)

    def _pods_known(self, namespace: str) -> bool:
        return not self._settings.lobby_namespaces or namespace in self._pods_listed

    # What controllers need

    def create_runtime(self, record: LobbyRecord, lobby: Lobby, changed: Callable[[], None]) -> KubeRuntime:
        """Creates the runtime of a Lobby, with all its pods."""
        runtime = KubeRuntime(
            self._api,
            self._settings,
            lobby,
            record.resource,
            changed=changed,
            schedule=self._schedule,
            quota=self._quota,
            token_keys=partial(self._token_keys, lobby.namespace),
            spawn=self.spawn,
        )
        for pod in self._pods.get(record.key, {}).values():
            runtime.pod_changed(pod)
        return runtime

    def create_status_writer(self, key: str) -> StatusWriter:
        """Creates the writer of a Lobby's status."""
        return StatusWriter(self._api, key, self.lobbies, self._settings.status)

    def demand(self, key: str, taken: int) -> Demand:
        """Counts the clients of a Lobby that wait for a seat."""
        results = self._greeters.poll_results() if self._greeters is not None else {}
        return measure_demand(results, key, taken, self._clock(), self._settings.planner)

    def set_active(self, key: str, *, active: bool) -> None:
        """Polls greeters at the fast interval while something about any Lobby is changing."""
        before = bool(self._active_lobbies)
        if active:
            self._active_lobbies.add(key)
        else:
            self._active_lobbies.discard(key)
        if self._greeters is not None and before != bool(self._active_lobbies):
            self._greeters.poll_fast(fast=bool(self._active_lobbies))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Creates a task; if it fails, so does `wait_failed`."""
        return self._tasks.spawn(work, name)

    async def prepare(self, namespace: str) -> None:
        """Creates what lobbies need in their namespace."""
        if self._token_secrets is not None:
            await self._token_secrets.ensure(namespace)

    async def configured(self, record: LobbyRecord) -> Mapping[str, Any] | None:
        """The Lobby with its last valid spec, as its ConfigMap has it."""
        try:
            stored = await self._api.get(names.CONFIG_MAPS, record.namespace, names.owned_name(record.name))
        except NotFoundError:
            return None
        return configured(stored, record.uid)

    def restore(self, resource: Mapping[str, Any]) -> None:
        """Brings what `configured` returned in force, if it is still valid."""
        key = object_key(resource)
        for each in self.lobbies.restore(key, resource) - {key}:
            self._sync(each)

    def forget_prepared(self, namespace: str) -> None:
        """Some of what `prepare` created may be gone: it is created again."""
        if self._token_secrets is not None:
            self._token_secrets.forget(namespace)

    def _writers(self, namespace: str) -> list[LobbyController]:
        """The controllers of the Lobbies in a namespace; empty: of all."""
        return [
            controller
            for key, controller in self._controllers.items()
            if not namespace or key.partition("/")[0] == namespace
        ]

    async def _token_keys(self, namespace: str) -> tuple[bytes, ...]:
        """The keys of a namespace.

        Raises:
            RuntimeFailedError: they are unknown now.
        """
        if self._token_secrets is None:
            raise RuntimeFailedError("--token-key-file: missing; accepted: a file with the master keys")
        return await self._token_secrets.keys_of(namespace)

    def token_keys_changed(self, master_keys: tuple[bytes, ...]) -> None:
        """The file with the master keys was read, at the start and after each change."""
        if self._token_secrets is not None:
            self._token_secrets.replace(master_keys)
        for controller in self._controllers.values():
            controller.apply_again()

    def _greeters_changed(self, keys: frozenset[str]) -> None:
        for key in keys or self._controllers:
            if (controller := self._controllers.get(key)) is not None:
                controller.wake()

    # For metrics and the admin port

    @property
    def reconcilers(self) -> Sequence[Reconciler]:
        """The reconcilers of all Lobbies that have one."""
        return [each.reconciler for each in self._controllers.values() if each.reconciler is not None]

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """The desired status of each Lobby, by key."""
        return {key: controller.status for key, controller in self._controllers.items()}

    @property
    def status_writes(self) -> Mapping[str, int]:
        """Number of writes of each status, by key of the Lobby."""
        return {key: controller.status_writer.writes for key, controller in self._controllers.items()}

    @property
    def object_counts(self) -> Mapping[str, int]:
        """Number of known objects of each kind."""
        return {"lobbies": len(self.lobbies), "pods": len(self._lobby_of), "greeters": len(self._greeter_pods)}

    @property
    def greeters_serving(self) -> int:
        """Number of greeters that answer."""
        return self._greeters.serving if self._greeters is not None else 0

    def items(self) -> list[dict[str, Any]]:
        """All Lobbies as JSON types: spec without possible secrets, status, lobbies."""
        return [
            {
                "metadata": {"namespace": record.namespace, "name": record.name, "generation": record.generation},
                "problem": record.problem,
                "spec": redacted_spec(record.resource["spec"]) if record.resource else {},
                "status": record.status,
                "lobbies": {name: result.to_json() for name, result in self._poll_results(record.key).items()},
            }
            for record in self.lobbies
        ]

    def greeters(self) -> dict[str, Any]:
        """The latest report of each greeter, as JSON types."""
        results = self._greeters.poll_results() if self._greeters is not None else {}
        return {key: result.to_json() for key, result in results.items()}

    def _poll_results(self, key: str) -> Mapping[str, Any]:
        controller = self._controllers.get(key)
        return controller.runtime.poll_results() if controller is not None and controller.runtime is not None else {}


def _lobby_of(pod: Mapping[str, Any]) -> str:
    """Key of the Lobby that a pod's labels name; empty: it has no such label and is not ours."""
    metadata = pod["metadata"]
    name = (metadata.get("labels") or {}).get(names.LOBBY_LABEL, "")
    return f"{metadata['namespace']}/{name}" if name else ""


def _trimmed(pod: Mapping[str, Any]) -> dict[str, Any]:
    """What is read of a greeter's pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    return {
        "metadata": {name: metadata[name] for name in ("deletionTimestamp",) if name in metadata},
        "status": {name: status[name] for name in ("phase", "podIP") if name in status},
    }
