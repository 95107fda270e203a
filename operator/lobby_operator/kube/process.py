"""The operator process from start to stop: keeps track of objects, waits for the Lease, acts, and shuts down in order."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from lobby_gateway.clients.token_key_file import read_keys
from lobby_gateway.http.admin import (
    AdminRequest,
    AdminResponse,
    AdminServer,
    Routes,
    health_handlers,
    metrics_handler,
)
from lobby_gateway.metrics import Samples, registry
from lobby_gateway.process.file_watch import watch_files
from lobby_gateway.process.lifecycle import Shutdown
from lobby_operator import metrics
from lobby_operator.kube import names
from lobby_operator.kube.admission import Admission
from lobby_operator.kube.client import KubeApi, NotHolderError, connect
from lobby_operator.kube.election import Election
from lobby_operator.kube.lease import Lease
from lobby_operator.kube.manager import ControllerManager
from lobby_operator.kube.metrics import API_CALLS, OPERATOR, read_calls, read_operator
from lobby_operator.kube.names import LOBBIES, PODS, Resource
from lobby_operator.kube.token_secret import TokenSecrets
from lobby_operator.kube.watch import Watch
from lobby_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

_READ_VERBS = frozenset({"get", "list", "watch"})

LOBBY_SELECTOR = names.selector({names.NAME_LABEL: names.APP, names.COMPONENT_LABEL: names.LOBBY_COMPONENT})


async def serve(
    settings: OperatorSettings, stopping: Shutdown, *, before: Callable[[str, Resource], None] = lambda *_: None
) -> None:
    """Runs an operator until shutdown.

    Args:
        settings: settings of the operator.
        stopping: requests the shutdown.
        before: called with verb and resource before each call of the API: tests end the process here.

    Raises:
        UserError: it can't start with these settings.
        LeaseLostError: it may no longer act. The process must exit, and may be restarted.
    """
    api = await connect(
        settings=settings.api,
        before=lambda verb, resource: operator.before_call(verb, resource, before),
    )
    # Separate connections, so that a renewal never waits for other calls.
    lease_api = await connect(settings=settings.api, before=before)
    operator = Operator(api, settings, lease_api)
    try:
        await operator.run(stopping)
    finally:
        await api.close()
        await lease_api.close()


class Operator:
    """Wires the parts of an operator together.

    Args:
        api: access to the API.
        settings: settings of the operator.
        lease_api: access to the API for the Lease alone.
    """

    def __init__(self, api: KubeApi, settings: OperatorSettings, lease_api: KubeApi) -> None:
        self._settings = settings
        election = Election(settings.identity, settings.lease)
        self.lease = Lease(lease_api, election, namespace=settings.own_namespace, name=settings.lease_name)
        token_secrets = None
        if settings.token_key_file is not None:
            name = settings.pods.token_secret
            token_secrets = TokenSecrets(api, name, settings.token_key_file, settings.controller)
        self.manager = manager = ControllerManager(api, settings, token_secrets=token_secrets)
        lobbies = Watch(
            api,
            LOBBIES,
            manager.lobby_changed,
            namespace=settings.namespace,
            synced=manager.lobbies_listed,
            settings=settings.kopf,
        )
        self._pods = {
            namespace: Watch(
                api, PODS, manager.pod_changed, namespace=namespace, labels=LOBBY_SELECTOR, settings=settings.kopf
            )
            for namespace in settings.lobby_namespaces or (settings.namespace,)
        }
        greeters = Watch(
            api,
            PODS,
            manager.greeter_changed,
            name="greeters",
            namespace=settings.own_namespace,
            labels=settings.greeter_selector,
            settings=settings.kopf,
        )
        self._lobbies = lobbies
        self._admission: Admission | None = None
        if settings.admission.service:
            self._admission = Admission(
                api,
                manager.lobbies,
                namespace=settings.own_namespace,
                holds=self.lease.holds,
                settings=settings.admission,
                kopf_settings=settings.kopf,
            )
        self._watches = (lobbies, *self._pods.values(), greeters)
        # One of several namespaces may be gone, or not grant its rights: the Lobbies of the others don't wait for its pods.
        self._needed_watches = (lobbies, greeters) if settings.lobby_namespaces else self._watches
        admin = routes(manager, self.lease, (api, lease_api), self._watches, ready=self.ready, alive=self.alive)
        self._admin = AdminServer(admin, hosts=settings.admin_hosts)

    def before_call(self, verb: str, resource: Resource, then: Callable[[str, Resource], None]) -> None:
        """Refuses writes while this process does not hold the Lease, even by tasks that have not noticed yet.

        Raises:
            NotHolderError: this process does not hold the Lease.
        """
        if verb not in _READ_VERBS and not self.lease.holds():
            raise NotHolderError(f"{verb} {resource.plural}", message="this process does not hold the Lease")
        then(verb, resource)

    def ready(self) -> str:
        """Why this process could not act if it held the Lease; empty: it could."""
        for watch in self._needed_watches:
            if not watch.synced:
                return watch.problem or "not all objects are known yet"
        return ""

    def alive(self) -> str:
        """Why this process should be restarted; empty: it need not be."""
        return next((stuck for watch in self._watches if (stuck := watch.stuck())), "")

    async def run(self, stopping: Shutdown) -> None:
        """Runs until shutdown, or until it may no longer act."""
        settings = self._settings
        port = await self._admin.start(settings.admin_host, settings.admin_port)
        logger.info(
            "started", extra={"identity": settings.identity, "namespace": settings.namespace or "all", "admin": port}
        )
        tasks = self._spawn()
        shutdown = asyncio.create_task(stopping.wait(), name="shutdown")
        try:
            done, _ = await asyncio.wait([*tasks, shutdown], return_when=asyncio.FIRST_COMPLETED)
        finally:
            shutdown.cancel()
            await self._stop(tasks)
        for task in done - {shutdown}:  # none of them returns, so it failed
            task.result()
        logger.info("stopped", extra={"reason": stopping.reason})

    def _spawn(self) -> list[asyncio.Task[None]]:
        """All tasks except those of single Lobbies."""
        work: dict[str, Coroutine[Any, Any, None]] = {
            **{f"watch {number}": watch.run() for number, watch in enumerate(self._watches, 1)},
            "lease": self.lease.run(),
            "act": self._act(),
            "events": self.manager.recorder.run(),
            "loop lag": self.manager.lag.watch(),
        }
        if self._admission is not None:
            work["admission"] = self._admit(self._admission)
        file = self._settings.token_key_file
        if file is not None:
            read = partial(read_keys, file)
            work["token keys"] = watch_files("the token key file", [file], read, self.manager.token_keys_changed)
        return [asyncio.create_task(each, name=name) for name, each in work.items()]

    async def _admit(self, admission: Admission) -> None:
        """A standby answers, too."""
        await self._lobbies.wait_synced()
        await admission.run()

    async def _act(self) -> None:
        """Begins to act, on nothing older than the Lease: until then, another may have changed anything."""
        await self.lease.acquired.wait()
        later = [
            self.manager.spawn(self._list_pods(namespace, watch), f"pods of {namespace}")
            for namespace, watch in self._pods.items()
            if watch not in self._needed_watches
        ]
        try:
            await asyncio.gather(*(watch.catch_up() for watch in self._needed_watches))
            self.manager.start(self.lease.term)
            logger.info("active", extra=dict(self.manager.object_counts))
            await self.manager.wait_failed()
        finally:
            for task in later:
                task.cancel()

    async def _list_pods(self, namespace: str, watch: Watch) -> None:
        await watch.catch_up()
        self.manager.pods_listed(namespace)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        """Stops acting, then releases the Lease, then ends the rest."""
        try:
            async with asyncio.timeout(self._settings.stop_seconds):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.manager.close()
                await self.lease.release()
                await asyncio.gather(*(watch.close() for watch in self._watches))
                if self._admission is not None:
                    await self._admission.close()
        except TimeoutError:
            logger.warning("shutdown timed out", extra={"seconds": self._settings.stop_seconds})
        finally:
            await self._admin.close()


def routes(
    manager: ControllerManager,
    lease: Lease,
    apis: Sequence[KubeApi],
    watches: Sequence[Watch],
    *,
    ready: Callable[[], str],
    alive: Callable[[], str],
) -> Routes:
    """Routes of the admin port: health, metrics, and what the operator knows.

    Args:
        manager: source of Lobbies, greeters and metrics.
        lease: the Lease.
        apis: all clients of the API, for their metrics.
        watches: all watches, for theirs.
        ready: see `Operator.ready`.
        alive: see `Operator.alive`.
    """

    async def lobbies(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json(
            {
                "acts": manager.active,
                "holder": lease.holder,
                "greeters": manager.greeters(),
                "items": manager.items(),
            }
        )

    def read() -> Samples:
        calls: Counter[tuple[str, str, str]] = Counter()
        seconds: Counter[tuple[str, str]] = Counter()
        for api in apis:
            calls.update(api.calls)
            seconds.update(api.seconds)
        return {
            **metrics.read(
                manager.reconcilers, manager.greeters_serving, manager.lag, manager.statuses, leader=lease.holds()
            ),
            **read_calls(calls, seconds),
            **read_operator(manager.status_writes, manager.recorder.correlator.dropped, manager.object_counts, watches),
        }

    return {
        ("GET", "/lobbies"): lobbies,
        ("GET", "/metrics"): metrics_handler(registry((*metrics.LOBBY_HOST, *API_CALLS, *OPERATOR), read), large=True),
        **health_handlers(ready, alive),
    }
