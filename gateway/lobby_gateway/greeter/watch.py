"""The directory from Kubernetes: every Lobby of one namespace, or of all, by list and watch.

Whatever goes wrong on the way, the directory keeps what it knows: only what the API server says is gone is taken out of it.
Where a watch ends, breaks or falls silent it goes on from the last version; where the server knows that version no more, all
is listed anew (`core/list_watch.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from lobby_gateway.greeter.directory import Directory
from lobby_gateway.http.api_server import ApiServer, ApiServerError
from lobby_gateway.process.backoff import Backoff
from lobby_gateway.resource.list_watch import Change, ListWatch, WatchEndedError

logger = logging.getLogger(__name__)

_ROOT = "/apis/lobby-gateway.io/v1alpha1"
_NO_EVENT = (KeyError, TypeError, AttributeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchTimes:
    """How long what is waited for, in seconds.

    Attributes:
        first: at the start, for the first list; then clients are taken without it, and refused until it is there.
        watch: after so long the server ends a watch, less up to a tenth, so that not all greeters come at once.
        idle: a watch on which nothing comes for so long is lost. A server sends a bookmark about once a minute.
        min_backoff: the first wait for a server that does not answer is at most so long; it doubles.
        max_backoff: the longest.
    """

    first: float = 3.0
    watch: float = 300.0
    idle: float = 90.0
    min_backoff: float = 0.2
    max_backoff: float = 5.0


class KubernetesSource:
    """Feeds a directory from the API server (`DirectorySource`).

    Args:
        server: where it is.
        namespace: whose Lobbies; empty: all.
        times: see `WatchTimes`.
        page: Lobbies that are listed at a time: it bounds what an answer takes.
    """

    def __init__(
        self, server: ApiServer, namespace: str = "", *, times: WatchTimes | None = None, page: int = 100
    ) -> None:
        self._server = server
        where = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        self._path = f"{_ROOT}{where}/lobbies"
        self._times = times or WatchTimes()
        self._page = page
        self._objects = ListWatch()
        self._task: asyncio.Task[None] | None = None

    async def start(self, directory: Directory, ended: Callable[[str], None]) -> None:
        """Begins to watch; returns when all is known, or after a moment, if the server is away."""
        listed = asyncio.Event()

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.critical("the watch of Lobbies failed", exc_info=error)
                ended("the watch of Lobbies failed")

        self._task = asyncio.create_task(self._run(directory, listed), name="watch Lobbies")
        self._task.add_done_callback(done)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._times.first):
                await listed.wait()

    async def close(self) -> None:
        """Watches no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, directory: Directory, listed: asyncio.Event) -> None:
        times = self._times
        backoff = Backoff(base=times.min_backoff, cap=times.max_backoff, fraction=random.random)
        while True:
            tried_at = time.monotonic()
            try:
                if not self._objects.version:
                    await self._list(directory)
                    listed.set()
                async with contextlib.aclosing(self._events(directory)) as events:
                    async for event in events:
                        for change in self._objects.event(event):
                            _take(directory, change)
                        backoff.reset()
            except ApiServerError as error:
                if error.gone:
                    self._expired(error)
                else:
                    _failed(directory, str(error))
            except WatchEndedError as error:
                if self._objects.version:
                    _failed(directory, str(error))
                else:
                    self._expired(error)
            except _NO_EVENT as error:
                self._objects.expired()
                _failed(directory, f"what came is no event: {error!r}"[:200])
            else:
                backoff.reset()
                # A server that ends each watch at once is not to be asked without a pause.
                await asyncio.sleep(times.min_backoff * random.random())  # noqa: S311  # no secret
                continue
            if time.monotonic() - tried_at > times.max_backoff:
                backoff.reset()  # it went well for a while
            await asyncio.sleep(backoff.next())

    def _expired(self, error: Exception) -> None:
        self._objects.expired()
        logger.info("Lobbies are listed anew", extra={"reason": str(error)})

    async def _list(self, directory: Directory) -> None:
        items: list[Mapping[str, Any]] = []
        after = ""
        while True:
            part = await self._server.document(self._path, {"limit": str(self._page), "continue": after})
            items += map(_needed, part["items"])
            after = part["metadata"].get("continue") or ""
            if not after:
                break
        _heard(directory)
        for change in self._objects.listed(items, part["metadata"]["resourceVersion"]):
            _take(directory, change)
        directory.known = True

    async def _events(self, directory: Directory) -> AsyncGenerator[Mapping[str, Any], None]:
        times = self._times
        seconds = times.watch * (1 - 0.1 * random.random())  # noqa: S311  # no secret
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._objects.version,
            "timeoutSeconds": f"{seconds:.0f}",
        }
        # The server ends it in time; the timeout is for one that keeps the connection and forgets to.
        async with self._server.lines(self._path, query, idle=times.idle) as lines:
            _heard(directory)
            async for line in lines:
                if line.strip():
                    yield json.loads(line)


def _heard(directory: Directory) -> None:
    if directory.problem:
        logger.info("the API server answers again")
        directory.problem = ""


def _failed(directory: Directory, problem: str) -> None:
    if not directory.problem:
        logger.warning("Lobbies can't be watched: what is known stays as it is", extra={"problem": problem})
    directory.problem = problem


def _needed(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a Lobby that is kept, and what tells one version from another."""
    metadata = {name: value for name, value in item["metadata"].items() if name in _METADATA}
    return {"metadata": metadata, "spec": item.get("spec"), "status": item.get("status") or {}}


_METADATA = frozenset(
    {"name", "namespace", "uid", "generation", "creationTimestamp", "deletionTimestamp", "resourceVersion"}
)


def _take(directory: Directory, change: Change) -> None:
    # One that is being deleted gives its path up at once: the lobby host sees it so, too.
    if change.object is None or change.object["metadata"].get("deletionTimestamp"):
        directory.remove(change.key)
    else:
        directory.put(_needed(change.object))
