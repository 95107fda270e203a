"""Follows the objects of one kind: lists them, watches what happens to them, and does so for ever.

Why no framework does it: see "The operator" in docs/architecture.md. A watch that breaks or falls silent is begun again where
it was; one that the server can't go on with begins with a list, and `ListWatch` finds what was deleted in between. While the
server is away, what is known stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.resource.list_watch import Change, ListWatch, WatchEndedError
from lobby_operator.kube.client import KubeApi, Object
from lobby_operator.kube.errors import ApiError, GoneError
from lobby_operator.kube.resources import Resource
from lobby_operator.settings import InformerSettings

logger = logging.getLogger(__name__)


class Informer:
    """Follows one kind.

    Args:
        api: access to the API.
        resource: the kind.
        changed: is called with each change, and must bear any object that the server lets pass.
        namespace: empty: all.
        labels: only those that this label selector fits.
        listed: is called after each list, when its changes are told.
        settings: times.

    Attributes:
        heard_at: when the server last said something.
        problem: why it can't be listed or watched now; empty: it can.
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
        self.heard_at = self._clock()
        self._turned_at = self._clock()

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def synced(self) -> bool:
        """It was listed at least once: what is known is all there is, or was a moment ago."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Waits until it was listed."""
        await self._synced.wait()

    def stuck(self) -> str:
        """Why it no longer works, although it should by its own times: a fault of ours. Empty: it works.

        A server that does not answer is no such fault: then it goes on trying.
        """
        most = self._settings.watch_seconds + 2 * self._settings.idle_seconds
        seconds = self._clock() - self._turned_at
        return f"{self._resource.plural} were not looked at for {seconds:.0f} s" if seconds > most else ""

    async def run(self) -> None:
        """Follows until it is cancelled."""
        least, most = self._settings.min_backoff_seconds, self._settings.max_backoff_seconds
        backoff = Backoff(base=least, cap=most, fraction=random.random)
        while True:
            self._turned_at = self._clock()
            try:
                if not self._objects.version:
                    await self._list()
                await self._watch()
            except GoneError:
                self._objects.expired()
            except WatchEndedError as error:
                logger.info("a watch ended", extra={"resource": self._resource.plural, "problem": str(error)})
            except ApiError as error:
                self._fails(str(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            # A server that ends each watch at once is not to be asked without a pause.
            await asyncio.sleep(least * random.random())  # noqa: S311  # nothing secret

    async def _list(self) -> None:
        items: list[Object] = []
        after = ""
        while True:
            part = await self._api.list(
                self._resource, self._namespace, labels=self._labels, limit=self._settings.page, after=after
            )
            items += part["items"]
            after = part["metadata"].get("continue") or ""
            if not after:
                break
        self._heard()
        for change in self._objects.listed(items, part["metadata"]["resourceVersion"]):
            self._tell(change)
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
            self._heard()
            async for event in events:
                self._heard()
                for change in self._objects.event(event):
                    self._tell(change)

    def _tell(self, change: Change) -> None:
        try:
            self._changed(change)
        except Exception:  # whatever is wrong with one object, the others are followed; it is logged with its traceback
            logger.exception("an object can't be taken", extra={"resource": self._resource.plural, "key": change.key})

    def _heard(self) -> None:
        self.heard_at = self._turned_at = self._clock()
        if self.problem:
            logger.warning("the API server answers again", extra={"resource": self._resource.plural})
            self.problem = ""

    def _fails(self, problem: str) -> None:
        if not self.problem:
            fields = {"resource": self._resource.plural, "problem": problem}
            logger.warning("can't follow the API: what is known stays as it is", extra=fields)
        self.problem = problem
