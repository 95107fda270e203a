"""The operator's process, from start to end: follows the API, waits for the Lease, acts, and stops in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from lobby_gateway.http.admin import AdminServer
from lobby_gateway.process.lifecycle import Shutdown
from lobby_operator.kube import names
from lobby_operator.kube.admin import routes
from lobby_operator.kube.client import KubeApi, connect
from lobby_operator.kube.election import Election
from lobby_operator.kube.errors import NotHolderError
from lobby_operator.kube.informer import Informer
from lobby_operator.kube.lease import Lease
from lobby_operator.kube.manager import ControllerManager
from lobby_operator.kube.resources import LOBBIES, PODS, Resource
from lobby_operator.kube.token_secret import TokenSecret
from lobby_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

_READING = frozenset({"get", "list", "watch"})

LOBBY_SELECTOR = names.selector({names.NAME_LABEL: names.APP, names.COMPONENT_LABEL: names.LOBBY_COMPONENT})


async def serve(
    settings: OperatorSettings, stopping: Shutdown, *, before: Callable[[str, Resource], None] = lambda *_: None
) -> None:
    """Runs an operator until it is to stop.

    Args:
        settings: of it.
        stopping: tells when.
        before: is called with verb and resource before each call of the API: where tests end the process.

    Raises:
        UserError: it can't be started as it was asked to.
        LeaseLostError: it may not act any more. Its process is to end, and may be started again.
    """
    api = await connect(before=lambda verb, resource: operator.before(verb, resource, before))
    # Connections of its own: however many calls wait for one, a renewal does not.
    lease_api = await connect(before=before)
    operator = Operator(api, settings, lease_api)
    try:
        await operator.run(stopping)
    finally:
        await api.close()
        await lease_api.close()


class Operator:
    """The parts of an operator, wired together.

    Args:
        api: access to the API.
        settings: of it.
        lease_api: the same for the Lease alone.
    """

    def __init__(self, api: KubeApi, settings: OperatorSettings, lease_api: KubeApi) -> None:
        self._settings = settings
        election = Election(settings.identity, settings.lease)
        self.lease = Lease(lease_api, election, namespace=settings.own_namespace, name=settings.lease_name)
        token_secret = None
        if settings.token_key_file is not None:
            name, own = settings.pods.token_secret, settings.own_namespace
            token_secret = TokenSecret(api, name, settings.token_key_file, own)
        self.host = ControllerManager(
            api,
            settings.pods,
            settings.identity,
            token_secret=token_secret,
            admin_port=settings.lobby_admin_port,
            polling=settings.polling,
            planner=settings.planner,
            reconcile=settings.reconcile,
        )
        host, where = self.host, settings.namespace
        times = settings.informer
        self._informers = (
            Informer(api, LOBBIES, host.lobby_changed, namespace=where, listed=host.lobbies_listed, settings=times),
            Informer(api, PODS, host.pod_changed, namespace=where, labels=LOBBY_SELECTOR, settings=times),
            Informer(
                api,
                PODS,
                host.greeter_changed,
                namespace=settings.own_namespace,
                labels=settings.greeter_selector,
                settings=times,
            ),
        )
        self._admin = AdminServer(routes(host, self.lease, (api, lease_api), ready=self.ready, alive=self.alive))

    def before(self, verb: str, resource: Resource, then: Callable[[str, Resource], None]) -> None:
        """Keeps whoever does not hold the Lease from writing, also where a task has not heard of that yet.

        Raises:
            NotHolderError: it does not hold it.
        """
        if verb not in _READING and not self.lease.holds():
            raise NotHolderError(f"{verb} {resource.plural}", message="this process does not hold the Lease")
        then(verb, resource)

    def ready(self) -> str:
        """Why it could not act, if it had the Lease; empty: it could."""
        for informer in self._informers:
            if not informer.synced:
                return informer.problem or "not all objects are known yet"
        return ""

    def alive(self) -> str:
        """Why the process is to be started again; empty: it need not be."""
        return next((stuck for informer in self._informers if (stuck := informer.stuck())), "")

    async def run(self, stopping: Shutdown) -> None:
        """Runs until it is to stop, or may not act any more."""
        settings = self._settings
        port = await self._admin.start(settings.admin_host, settings.admin_port)
        logger.info(
            "started", extra={"identity": settings.identity, "namespace": settings.namespace or "all", "admin": port}
        )
        tasks = self._spawn()
        ending = asyncio.create_task(stopping.wait(), name="stopping")
        try:
            done, _ = await asyncio.wait([*tasks, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            await self._stop(tasks)
        for task in done - {ending}:  # none of them ends by itself
            task.result()
        logger.info("stopped", extra={"reason": stopping.reason})

    def _spawn(self) -> list[asyncio.Task[None]]:
        """All tasks there are, apart from those of each Lobby."""
        work: dict[str, Coroutine[Any, Any, None]] = {
            "lobbies": self._informers[0].run(),
            "pods": self._informers[1].run(),
            "greeters": self._informers[2].run(),
            "lease": self.lease.run(),
            "act": self._act(),
            "events": self.host.recorder.run(),
            "loop lag": self.host.lag.watch(),
        }
        return [asyncio.create_task(each, name=name) for name, each in work.items()]

    async def _act(self) -> None:
        await self.lease.acquired.wait()
        for informer in self._informers:
            await informer.wait_synced()
        host = self.host
        host.begin()
        logger.info("acts", extra=dict(host.known))
        await host.fault()

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        """Acts no more, then gives the Lease up, then ends the rest."""
        try:
            async with asyncio.timeout(self._settings.stop_seconds):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.host.close()
                await self.lease.release()
        except TimeoutError:
            logger.warning("an orderly stop takes too long", extra={"seconds": self._settings.stop_seconds})
        finally:
            await self._admin.close()
