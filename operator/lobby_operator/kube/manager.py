"""The lobby host of a cluster: what the informers tell, and a care for each Lobby while this process acts.

Until `begin`, what is told is only kept: a standby knows all that there is, and writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from lobby_gateway.metrics import LoopLag
from lobby_gateway.resource.list_watch import Change
from lobby_gateway.resource.overview import shown_spec
from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.events import Recorder
from lobby_operator.kube.greeters import GreeterPods
from lobby_operator.kube.lobbies import Lobbies, LobbyRecord
from lobby_operator.kube.lobby_controller import LobbyController, Parts
from lobby_operator.kube.runtime import KubeRuntime
from lobby_operator.kube.status_writer import StatusWriter
from lobby_operator.kube.token_secret import TokenSecret
from lobby_operator.planner.demand import waiting_clients
from lobby_operator.reconcile.poller import PollSchedule
from lobby_operator.reconcile.reconciler import Reconciler
from lobby_operator.settings import PlannerSettings, PodSettings, PollSettings, ReconcileSettings

_METADATA = (
    *("name", "namespace", "uid", "labels", "annotations", "ownerReferences"),
    *("creationTimestamp", "deletionTimestamp"),
)
_SPEC = ("nodeName",)
_STATUS = ("phase", "reason", "message", "podIP", "conditions", "containerStatuses")


class ControllerManager:
    """Looks after the Lobbies of a cluster, or of one namespace.

    Args:
        api: access to the API.
        pods: how pods are made.
        identity: of this process, for Events.
        token_secret: keeps the key of seat tokens where lobbies need it; None: somebody else does.
        admin_port: of lobbies and greeters.
        polling: how lobbies and greeters are polled.
        planner: times and limits of the planner.
        reconcile: when Lobbies are reconciled, and how failures are retried.

    Attributes:
        lobbies: all Lobbies.
        recorder: writes Events.
        lag: of the event loop.
        acts: it looks after them now.
    """

    def __init__(
        self,
        api: KubeApi,
        pods: PodSettings,
        identity: str,
        *,
        token_secret: TokenSecret | None = None,
        admin_port: int = names.ADMIN_PORT,
        polling: PollSettings | None = None,
        planner: PlannerSettings | None = None,
        reconcile: ReconcileSettings | None = None,
    ) -> None:
        self.lobbies = Lobbies()
        self.recorder = Recorder(api, identity)
        self.lag = LoopLag()
        self.acts = False
        self._api = api
        self._settings = pods
        self._token_secret = token_secret
        self._schedule = PollSchedule(polling)
        self._admin_port = admin_port
        self._pods: dict[str, dict[str, Mapping[str, Any]]] = {}  # by key of the Lobby, then by name
        self._lobby_of: dict[str, str] = {}  # key of the Lobby by that of the pod
        self._greeter_pods: dict[str, Change] = {}
        self._greeters: GreeterPods | None = None
        self._active: set[str] = set()
        self._cares: dict[str, LobbyController] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._clock = asyncio.get_running_loop().time
        self._parts = Parts(self._runtime, self._writer, planner, reconcile)
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # What the informers tell

    def lobby_changed(self, change: Change) -> None:
        """A Lobby came, changed or went."""
        changed = self.lobbies.gone(change.key) if change.object is None else self.lobbies.seen(change.object)
        for key in changed:
            self._look_after(key)

    def lobbies_listed(self) -> None:
        """All Lobbies are known."""
        if not self.lobbies.compared:
            self.lobbies.compared = True
            for care in self._cares.values():
                care.wake()

    def pod_changed(self, change: Change) -> None:
        """A pod of a lobby came, changed or went."""
        lobby = _lobby_of(change.object) if change.object is not None else ""
        before = self._lobby_of.get(change.key, "")
        if before and before != lobby:
            self._pod_gone(change.key, before)
        if change.object is None or not lobby:
            return
        name, pod = change.key.rpartition("/")[2], _trimmed(change.object)
        self._pods.setdefault(lobby, {})[name] = pod
        self._lobby_of[change.key] = lobby
        care = self._cares.get(lobby)
        if care is not None and care.runtime is not None:
            care.runtime.seen(pod)

    def _pod_gone(self, key: str, lobby: str) -> None:
        name = key.rpartition("/")[2]
        del self._lobby_of[key]
        del self._pods[lobby][name]
        if not self._pods[lobby]:
            del self._pods[lobby]
        care = self._cares.get(lobby)
        if care is not None and care.runtime is not None:
            care.runtime.gone(name)

    def greeter_changed(self, change: Change) -> None:
        """A greeter's pod came, changed or went."""
        if change.object is None:
            self._greeter_pods.pop(change.key, None)
        else:
            change = Change(change.key, _trimmed(change.object))
            self._greeter_pods[change.key] = change
        if self._greeters is not None:
            self._greeters.seen(change)

    # What is done

    def begin(self) -> None:
        """Looks after them from now on. All that there is was told."""
        self.acts = True
        self._greeters = GreeterPods(self._greeters_changed, port=self._admin_port, schedule=self._schedule)
        for change in self._greeter_pods.values():
            self._greeters.seen(change)
        for known in list(self.lobbies):
            self._look_after(known.key)

    async def fault(self) -> None:
        """Waits until one of its tasks ends that should not, and raises what it ended by."""
        await asyncio.shield(self._fault)

    async def close(self) -> None:
        """Looks after nothing any more. Lobbies and greeters go on."""
        self.acts = False
        cares, self._cares = self._cares, {}
        await asyncio.gather(*(care.close() for care in cares.values()), *self._closing)
        if self._greeters is not None:
            await self._greeters.close()

    def _look_after(self, key: str) -> None:
        if not self.acts:
            return
        known = self.lobbies.get(key)
        care = self._cares.get(key)
        if care is not None and (known is None or known.uid != care.uid):
            del self._cares[key]
            task = asyncio.create_task(care.close(), name=f"close {key}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            care = None
        if known is None:
            return
        if care is None:
            self._cares[key] = LobbyController(known, self, self._parts)
        else:
            care.update(known)

    def _runtime(self, known: LobbyRecord, lobby: Lobby, changed: Callable[[], None]) -> KubeRuntime:
        runtime = KubeRuntime(
            self._api,
            self._settings,
            lobby,
            known.resource,
            changed=changed,
            admin_port=self._admin_port,
            schedule=self._schedule,
        )
        for pod in self._pods.get(known.key, {}).values():
            runtime.seen(pod)
        return runtime

    def _writer(self, key: str) -> StatusWriter:
        return StatusWriter(self._api, key, self.lobbies)

    # What a Lobby's care needs

    def waiting(self, key: str, taken: int) -> int:
        """Clients of a Lobby without a seat."""
        poll_results = self._greeters.poll_results() if self._greeters is not None else {}
        return waiting_clients(poll_results, key, taken, self._clock())

    def set_active(self, key: str, *, active: bool) -> None:
        """Polls the greeters faster while any Lobby is changing."""
        before = bool(self._active)
        if active:
            self._active.add(key)
        else:
            self._active.discard(key)
        if self._greeters is not None and before != bool(self._active):
            self._greeters.poll_fast(fast=bool(self._active))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Makes a task that never ends by itself."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._fault.done():
            self._fault.set_exception(error)
            self._fault.exception()  # nobody may be waiting any more

    async def prepare(self, namespace: str) -> None:
        """Makes what lobbies need in their namespace."""
        if self._token_secret is not None:
            await self._token_secret.ensure(namespace)

    def _greeters_changed(self, keys: frozenset[str]) -> None:
        for key in keys or self._cares:
            if (care := self._cares.get(key)) is not None:
                care.wake()

    # What is shown

    @property
    def reconcilers(self) -> Sequence[Reconciler]:
        """One for each Lobby that is looked after."""
        return [care.reconciler for care in self._cares.values() if care.reconciler is not None]

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """Status of each Lobby, by key, as it should be."""
        return {key: care.status for key, care in self._cares.items()}

    @property
    def status_writes(self) -> Mapping[str, int]:
        """How often each status was written, by key of the Lobby."""
        return {key: care.writer.writes for key, care in self._cares.items()}

    @property
    def known(self) -> Mapping[str, int]:
        """How many objects of each kind there are."""
        return {"lobbies": len(self.lobbies), "pods": len(self._lobby_of), "greeters": len(self._greeter_pods)}

    @property
    def greeters_serving(self) -> int:
        """Greeters that answer."""
        return self._greeters.serving if self._greeters is not None else 0

    def items(self) -> list[dict[str, Any]]:
        """Every Lobby as JSON types: what is wanted without what may be secret, its status, its lobbies."""
        return [
            {
                "metadata": {"namespace": known.namespace, "name": known.name, "generation": known.generation},
                "problem": known.problem,
                "spec": shown_spec(known.resource["spec"]) if known.resource else {},
                "status": known.status,
                "lobbies": {name: poll_result.to_json() for name, poll_result in self._poll_results(known.key).items()},
            }
            for known in self.lobbies
        ]

    def greeters(self) -> dict[str, Any]:
        """What each greeter said last, as JSON types."""
        poll_results = self._greeters.poll_results() if self._greeters is not None else {}
        return {key: poll_result.to_json() for key, poll_result in poll_results.items()}

    def _poll_results(self, key: str) -> Mapping[str, Any]:
        care = self._cares.get(key)
        return care.runtime.poll_results() if care is not None and care.runtime is not None else {}


def _lobby_of(pod: Mapping[str, Any]) -> str:
    """Key of the Lobby that a pod says it is of; empty: it says nothing, and is none that we made."""
    metadata = pod["metadata"]
    name = (metadata.get("labels") or {}).get(names.LOBBY_LABEL, "")
    return f"{metadata['namespace']}/{name}" if name else ""


def _trimmed(pod: Mapping[str, Any]) -> dict[str, Any]:
    """What is read of a pod, by anybody. There may be thousands, and each is 10 KiB."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    return {
        "metadata": {name: metadata[name] for name in _METADATA if name in metadata},
        "spec": {name: spec[name] for name in _SPEC if name in spec},
        "status": {name: status[name] for name in _STATUS if name in status},
    }
