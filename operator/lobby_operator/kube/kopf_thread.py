"""One life of kopf: it watches one kind, in a thread and an event loop of its own, until it ends.

Kopf ends on much that an API server says while it starts or stops (an event of type ERROR, 400, 401, 404, 410, HTML), and is
then started again (`watch.py`). In our own loop it would cancel our tasks and take our signals. Its own end takes 5 s, and at
times never comes; here all its tasks are cancelled as soon as the first one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import kopf

from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.handlers import REGISTRIES
from lobby_operator.kube.names import Resource
from lobby_operator.settings import KopfSettings

_MAX_REASON = 200
"""Characters of the reason of an end, which goes to the log."""


class KopfThread:
    """Runs kopf. It is the `memo` of its handlers.

    Args:
        api: access to the API, for its credentials.
        resource: the kind.
        namespace: namespace of the objects; empty: all.
        labels: a label selector that the objects must match; empty: all.
        told: called with type and object of each event.
        listing: called when kopf begins a list.
        ended: called once it has ended.
        settings: settings of kopf.
        registry: its handlers; None: those that watch the kind.

    Attributes:
        reason: why it ended, or was stopped; empty: it runs.
        alive: its thread runs.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        *,
        namespace: str,
        labels: str,
        told: Callable[[str | None, Mapping[str, Any]], None],
        listing: Callable[[], None],
        ended: Callable[[], None],
        settings: KopfSettings,
        registry: kopf.OperatorRegistry | None = None,
    ) -> None:
        self._registry = registry or REGISTRIES[resource]
        self.settings = settings
        self.labels = labels
        self.reason = ""
        self.alive = True
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._told = told
        self._listing = listing
        self._ended = ended
        self._ours = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._finished = asyncio.Event()
        self._kopfs = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._sessions: list[aiohttp.ClientSession] = []
        self._next_watch_at = 0.0

    def __copy__(self) -> KopfThread:
        return self  # kopf copies the memo for each object

    def start(self) -> None:
        """Starts the thread. It does not keep the process from exiting, even if it hangs."""
        # What matters of kopf's own lines is said by `watch.py`, once; kopf logs every attempt. Errors of handlers are bugs.
        logging.getLogger("kopf").setLevel(logging.CRITICAL)
        logging.getLogger("kopf.objects").setLevel(logging.ERROR)
        # Ended while it is about to start the worker of an object, kopf forgets that, which has done nothing.
        warnings.filterwarnings("ignore", "coroutine 'worker' was never awaited", RuntimeWarning)
        threading.Thread(target=self._run, name=f"kopf {self._resource.plural}", daemon=True).start()

    def stop(self, reason: str) -> None:
        """Makes kopf end; from now on it tells nothing."""
        self.reason = self.reason or reason
        with contextlib.suppress(RuntimeError):  # it has ended already, and closed its loop
            self._kopfs.call_soon_threadsafe(self._over.set)

    async def wait_ended(self) -> None:
        """Waits until the thread has ended."""
        await self._finished.wait()

    # In kopf's thread

    async def log_in(self) -> kopf.AiohttpSession:
        """Opens a session that always has the current token: if kopf asks for another, the server refuses ours."""
        if self._sessions:
            self._call(self.stop, "the API server does not accept the credentials")
            raise kopf.LoginError("no other credentials")
        session = self._api.open_session(self._paced)
        self._sessions.append(session)
        return kopf.AiohttpSession(server=self._api.server, aiohttp_session=session)

    def tell(self, kind: str | None, item: Mapping[str, Any]) -> None:
        """Passes an event on, in our loop."""
        self._call(self._pass_on, kind, item)

    async def _paced(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Keeps a pause between watches: kopf begins one that ends at once up to 1,200 times a second."""
        watch, listing = "watch" in request.url.query, request.url.path == self._resource.path(self._namespace)
        if watch:
            await asyncio.sleep(self._next_watch_at - self._kopfs.time())
            self._next_watch_at = self._kopfs.time() + self.settings.watch_interval_seconds
        elif listing:
            self._call(self._listing)
        begun, status = self._kopfs.time(), 0
        try:
            response = await handler(request)
            status = response.status
        finally:
            verb, what = ("watch" if watch else "list", self._resource.plural) if listing else ("get", "discovery")
            self._call(self._api.count, verb, what, status, self._kopfs.time() - begun)
        return response

    def _run(self) -> None:
        reason = ""
        try:
            reason = self._kopfs.run_until_complete(self._live())
            self._kopfs.run_until_complete(self._kopfs.shutdown_asyncgens())
        except Exception as error:  # noqa: BLE001  # kopf's, whatever it is: it is logged, and the next life is another chance
            reason = _line(error)
        finally:
            self._kopfs.set_exception_handler(
                lambda _loop, _context: None
            )  # what was cancelled in vain dies with the loop
            self._kopfs.close()
            self._call(self._finish, reason)

    async def _live(self) -> str:
        """Runs kopf until its first task ends; returns why."""
        scope: dict[str, Any] = {"namespaces": [self._namespace]} if self._namespace else {"clusterwide": True}
        # Among kopf's peers, of which there are none: without one, kopf asks for the user's name, which a pod's user has not.
        scope["identity"] = "lobby-operator"
        try:
            tasks = [
                *await kopf.spawn_tasks(registry=self._registry, memo=self, standalone=True, **scope),
                asyncio.create_task(self._over.wait(), name="stopped"),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._cancel_all()
            for session in self._sessions:
                await session.close()
        errors = [error for task in done if not task.cancelled() and (error := task.exception()) is not None]
        return _line(errors[0]) if errors else "a task of it ended"

    async def _cancel_all(self) -> None:
        """Cancels all tasks, again and again: some of kopf's end their work first when they are cancelled once."""
        deadline = self._kopfs.time() + self.settings.end_seconds
        while (rest := asyncio.all_tasks() - {asyncio.current_task()}) and self._kopfs.time() < deadline:
            for task in rest:
                task.cancel()
            await asyncio.wait(rest, timeout=self.settings.end_seconds / 10)

    def _call(self, call: Callable[..., None], *arguments: object) -> None:
        """Calls something in our loop.

        In a context of ours: in that of kopf's task is the whole object, which every task that the call starts would keep.
        """
        with contextlib.suppress(RuntimeError):  # our loop is closed: the process exits
            self._ours.call_soon_threadsafe(call, *arguments, context=self._context)

    # In our loop

    def _pass_on(self, kind: str | None, item: Mapping[str, Any]) -> None:
        if not self.reason:
            self._told(kind, item)

    def _finish(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.alive = False
        self._finished.set()
        self._ended()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_MAX_REASON]
