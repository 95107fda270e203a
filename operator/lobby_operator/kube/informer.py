"""Keeps track of the objects of one kind by listing and watching them.

A watch that breaks or receives nothing for too long resumes at its last version; if the server no longer has that version,
the informer lists again, and `ListWatch` finds what was deleted in between. While the server is unreachable, the known objects
are kept. "The operator" in docs/architecture.md says why this uses no framework.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.resource.list_watch import Change, ListWatch, WatchEndedError
from lobby_operator.kube.client import ApiError, GoneError, KubeApi
from lobby_operator.kube.names import Object, Resource
from lobby_operator.settings import InformerSettings

logger = logging.getLogger(__name__)


class Informer:
    """Lists and watches one kind.

    Args:
        api: access to the API.
        resource: the kind.
        changed: called with each change; must accept any object that the server accepts.
        namespace: namespace of the objects; empty: all.
        labels: a label selector that the objects must match.
        listed: called after each list, after `changed` was called for all its changes.
        settings: times and page size.

    Attributes:
        problem: why the objects can't be listed or watched now; empty if they can.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        changed: Callable[[Change], None],
        *,
        namespace: str = "",
        labels: str = "",
        listed: Callable[[], None] = lambda: None,
        settings: InformerSettings | None = None,
    ) -> None:
        self._synced = asyncio.Event()
        self.problem = ""
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._labels = labels
        self._changed = changed
        self._listed = listed
        self._settings = settings or InformerSettings()
        self._objects = ListWatch()
        self._clock = asyncio.get_running_loop().time
        self._progress_at = self._clock()

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def synced(self) -> bool:
        """The objects were listed at least once, so all of them are known."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Waits for the first list."""
        await self._synced.wait()

    def stuck(self) -> str:
        """Why it counts as stuck: it made no progress for longer than its timeouts allow, which is a bug. Empty: it works.

        An unreachable server does not count: the informer keeps trying.
        """
        limit = self._settings.watch_seconds + 2 * self._settings.idle_seconds
        seconds = self._clock() - self._progress_at
        return f"no list or watch of {self._resource.plural} for {seconds:.0f} s" if seconds > limit else ""

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        shortest, longest = self._settings.min_backoff_seconds, self._settings.max_backoff_seconds
        backoff = Backoff(base=shortest, cap=longest, fraction=random.random)
        while True:
            self._progress_at = self._clock()
            try:
                if not self._objects.version:
                    await self._list()
                await self._watch()
            except GoneError:
                self._objects.expired()
            except WatchEndedError as error:
                logger.info("a watch ended", extra={"resource": self._resource.plural, "problem": str(error)})
            except ApiError as error:
                self._set_unreachable(str(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            # A server that ends each watch at once must not be flooded.
            await asyncio.sleep(shortest * random.random())  # noqa: S311  # nothing secret

    async def _list(self) -> None:
        items: list[Object] = []
        after = ""
        while True:
            page = await self._api.list(
                self._resource, self._namespace, labels=self._labels, limit=self._settings.page_size, after=after
            )
            items += page["items"]
            after = page["metadata"].get("continue") or ""
            if not after:
                break
        self._set_reachable()
        for change in self._objects.listed(items, page["metadata"]["resourceVersion"]):
            self._notify(change)
        self._synced.set()
        self._listed()

    async def _watch(self) -> None:
        settings = self._settings
        watch = self._api.watch(
            self._resource,
            self._namespace,
            self._objects.version,
            labels=self._labels,
            seconds=settings.watch_seconds * (1 - 0.1 * random.random()),  # noqa: S311  # nothing secret
            idle=settings.idle_seconds,
        )
        async with watch as events:
            self._set_reachable()
            async for event in events:
                self._set_reachable()
                for change in self._objects.event(event):
                    self._notify(change)

    def _notify(self, change: Change) -> None:
        try:
            self._changed(change)
        except Exception:  # one bad object must not stop the others; it is logged with its traceback
            logger.exception("can't handle an object", extra={"resource": self._resource.plural, "key": change.key})

    def _set_reachable(self) -> None:
        self._progress_at = self._clock()
        if self.problem:
            logger.warning("the API server answers again", extra={"resource": self._resource.plural})
            self.problem = ""

    def _set_unreachable(self, problem: str) -> None:
        if not self.problem:
            fields = {"resource": self._resource.plural, "problem": problem}
            logger.warning("can't list or watch; keeping what is known", extra=fields)
        self.problem = problem
