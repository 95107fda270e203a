"""Keeps track of the objects of one kind: kopf watches them, and lists find what it does not tell.

What kopf has told is compared with lists of metadata (`exact_view.py`): at the start, after each list that kopf makes, and
periodically. While the server is unreachable, the known objects are kept. Kopf is started once the objects can be listed, and
again when it has ended or is blind. Before a process begins to act, it catches up: what it knows may be old, if kopf is blind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.client import ApiError, KubeApi, versions_of
from lobby_operator.kube.exact_view import ExactView
from lobby_operator.kube.kopf_thread import KopfThread
from lobby_operator.kube.names import Resource
from lobby_operator.settings import KopfSettings

logger = logging.getLogger(__name__)


class Watch:
    """Keeps track of one kind.

    Args:
        api: access to the API.
        resource: the kind.
        changed: called with each change; must accept any object that the server accepts.
        name: name of the objects in logs and metrics; empty: that of the kind.
        namespace: namespace of the objects; empty: all.
        labels: a label selector that the objects must match.
        synced: called once all objects are known, after `changed` was called for all of them.
        settings: times and page size.

    Attributes:
        name: name of the objects in logs and metrics.
        problem: why the objects can't be listed now; empty if they can.
        restarts: how often kopf was started again.
        ghosts: number of objects that were dropped since a list no longer had them.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        changed: Callable[[Change], None],
        *,
        name: str = "",
        namespace: str = "",
        labels: str = "",
        synced: Callable[[], None] = lambda: None,
        settings: KopfSettings | None = None,
    ) -> None:
        self.name = name or resource.plural
        self._resource = resource
        self.problem = ""
        self.restarts = 0
        self.ghosts = 0
        self._api = api
        self._namespace = namespace
        self._labels = labels
        self._changed = changed
        self._on_synced = synced
        self._settings = settings or KopfSettings()
        self._view = ExactView()
        self._synced = asyncio.Event()
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._failures = RepeatedFailures(self._clock)
        self._audit_at = self._audited_at = self._told_at = self._started_at = self._clock()
        self._audit_backoff = self._new_backoff()
        self._life_backoff = self._new_backoff()
        self._kopf: KopfThread | None = None
        self._blind: KopfThread | None = None  # found to be so before it was restarted
        self._ending: set[asyncio.Task[None]] = set()
        self._listed = False  # since kopf ended
        self._ends = RepeatedFailures(self._clock, lapses=True)

    def __len__(self) -> int:
        return len(self._view)

    @property
    def synced(self) -> bool:
        """All objects are known: once, kopf had told everything that a list had."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Waits until all objects are known."""
        await self._synced.wait()

    async def catch_up(self) -> None:
        """Returns once everything is known that the server had when this was called; tries until the server answers."""
        await self.wait_synced()
        backoff = self._new_backoff()
        while True:
            try:
                await self._catch_up()
            except ApiError as error:
                self._set_problem(str(error))
                await asyncio.sleep(backoff.next(floor=self._settings.min_backoff_seconds / 2))
            else:
                self._set_problem("")
                return

    @property
    def lag_seconds(self) -> float:
        """How long the server has had an object, or a version of one, that kopf has not told; 0: kopf has told all."""
        since = self._view.behind_since
        return 0.0 if since is None else self._clock() - since

    def stuck(self) -> str:
        """Why the process should be restarted; empty: it works. An unreachable server does not count."""
        settings = self._settings
        limit = settings.audit_seconds + 2 * settings.request_seconds
        seconds = self._clock() - self._audited_at
        if seconds > limit:
            return f"no list of {self.name} for {seconds:.0f} s"
        if not self.problem and self.lag_seconds > settings.blind_seconds:
            untold = f"{self._view.untold} of the {self.name}"
            return f"kopf has not reported changes to {untold} for {self.lag_seconds:.0f} s"
        return ""

    async def run(self) -> None:
        """Watches and lists until cancelled."""
        try:
            while True:
                if self._clock() >= self._audit_at:
                    await self._audit()
                self._tend_kopf()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(self._audit_at, self._restart_at())):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            if self._kopf is not None:
                self._end_kopf(self._kopf, "the operator stops")

    async def close(self) -> None:
        """Waits until kopf has ended; call it after `run` has."""
        await asyncio.gather(*self._ending)

    # Lists

    async def _audit(self) -> None:
        try:
            await self._compare()
        except ApiError as error:
            self._set_problem(str(error))
            self._audit_at = self._clock() + self._audit_backoff.next()
        else:
            self._set_problem("")
            self._audit_at = self._clock() + self._settings.audit_seconds
            self._audit_backoff.reset()
            self._listed = True
        self._audited_at = self._clock()

    async def _compare(self) -> None:
        before = self._view.uids
        listed, _ = await self._api.list_versions(self._resource, self._namespace, labels=self._labels, cached=True)
        suspects = self._view.compare(before, listed, self._clock())
        if suspects:
            # Confirmed by one list that is not from a cache, however many they are.
            listed, version = await self._api.list_versions(self._resource, self._namespace, labels=self._labels)
            self._drop(suspects - listed.keys(), version)
        self._check_synced()

    def _drop(self, gone: AbstractSet[str], version: str) -> None:
        changes = self._view.drop(gone, version)
        self.ghosts += len(changes)
        self._notify(changes)

    async def _catch_up(self) -> None:
        before = self._view.uids
        listed, version = await self._api.list_versions(self._resource, self._namespace, labels=self._labels)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.late_seconds):
                while self._view.lacks(listed):
                    self._news.clear()
                    await self._news.wait()
        if self._view.lacks(listed):
            self._blind = self._kopf
            self._wake.set()
            listed, version = await self._read_all()
        self._drop(before - listed.keys(), version)

    async def _read_all(self) -> tuple[dict[str, str], str]:
        """Takes all objects from a list, in pages; returns their versions by uid, and that of the list."""
        listed: dict[str, str] = {}
        kind = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}  # a list's items lack them
        after = ""
        while True:
            page = await self._api.list(
                self._resource, self._namespace, labels=self._labels, limit=self._settings.page_size, after=after
            )
            versions, version = versions_of(page, f"list {self._resource.plural}")
            listed |= versions
            for item in page["items"] or ():
                self._take(None, {**kind, **item})
            after = page["metadata"].get("continue") or ""
            if not after:
                return listed, version

    def _new_backoff(self) -> Backoff:
        settings = self._settings
        return Backoff(base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds, fraction=random.random)

    def _set_problem(self, problem: str) -> None:
        fields = {"resource": self.name, "namespace": self._namespace or "all"}
        told = self._failures.failed(problem) if problem else self._failures.worked()
        if told is not None:
            text = "can't list or watch; keeping what is known" if problem else "the API server answers again"
            logger.warning(text, extra={**fields, **told})
        self.problem = problem

    # Kopf

    def _tend_kopf(self) -> None:
        """Starts kopf, or makes it end if it is blind."""
        now = self._clock()
        if self._kopf is not None and not self._kopf.alive:
            self._after_life(self._kopf)
            self._kopf = None
        if self._kopf is None:
            if self._listed and now >= self._started_at:
                self._start_kopf()
        elif now >= self._restart_at():
            reason = f"it reports nothing of {self._view.untold} {self.name}"
            if self._kopf is self._blind:
                reason = f"it did not report all {self.name} in time"
            self._end_kopf(self._kopf, reason)
            self._after_life(self._kopf)
            self._kopf = None

    def _restart_at(self) -> float:
        """When to start kopf, or to give up on it."""
        since, settings = self._view.behind_since, self._settings
        if self._kopf is None:
            return self._started_at if self._listed else float("inf")
        if self._kopf is self._blind:
            return self._started_at
        if since is None:
            return float("inf")
        silent_at = max(since, self._told_at, self._started_at) + settings.silent_seconds
        return min(silent_at, max(since, self._started_at) + settings.behind_seconds)

    def _start_kopf(self) -> None:
        self._kopf = KopfThread(
            self._api,
            self._resource,
            namespace=self._namespace,
            labels=self._labels,
            told=self._told,
            listing=self._relisted,
            ended=self._wake.set,
            settings=self._settings,
        )
        self._kopf.start()
        self._started_at = self._clock()

    def _end_kopf(self, kopf: KopfThread, reason: str) -> None:
        kopf.stop(reason)
        task = asyncio.create_task(self._wait_ended(kopf), name=f"end of kopf for {self.name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _wait_ended(self, kopf: KopfThread) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._settings.end_seconds):
                await kopf.wait_ended()
                return
        logger.error("kopf does not end; leaving it behind", extra={"resource": self.name})

    def _after_life(self, kopf: KopfThread) -> None:
        """Kopf ended: it starts again once the objects can be listed."""
        now = self._clock()
        self.restarts += 1
        if now - self._started_at > self._settings.behind_seconds:
            self._life_backoff.reset()
        self._listed = False
        self._blind = None
        self._audit_at = self._started_at = now + self._life_backoff.next()
        if (told := self._ends.failed(kopf.reason)) is not None:
            fields = {"resource": self.name, "namespace": self._namespace or "all", "restarts": self.restarts}
            logger.warning("kopf ended; starting it again", extra={**fields, **told})

    def _relisted(self) -> None:
        """Kopf lists anew: what was deleted before that, it does not tell."""
        self._audit_at = min(self._audit_at, self._clock() + self._settings.relisted_seconds)
        self._wake.set()

    def _told(self, kind: str | None, item: Mapping[str, Any]) -> None:
        self._told_at = self._clock()
        self._take(kind, item)

    def _take(self, kind: str | None, item: Mapping[str, Any]) -> None:
        try:
            changes = self._view.told(kind, item)
        except (KeyError, TypeError, AttributeError):
            logger.exception("can't read an object", extra={"resource": self.name})
            return
        self._notify(changes)
        self._news.set()
        self._check_synced()

    def _notify(self, changes: list[Change]) -> None:
        for change in changes:
            try:
                self._changed(change)
            except Exception:  # one bad object must not stop the others; it is logged with its traceback
                logger.exception("can't handle an object", extra={"resource": self.name, "key": change.key})

    def _check_synced(self) -> None:
        if self._view.complete and not self._synced.is_set():
            self._synced.set()
            self._on_synced()
