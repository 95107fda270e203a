"""Writes the status of one Lobby: at most once a second, only what changed, and never over a version that it does not know."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from typing import Any

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_operator.kube.client import ApiError, ConflictError, KubeApi, NotFoundError
from lobby_operator.kube.lobby_registry import LobbyRegistry
from lobby_operator.kube.names import LOBBIES, Object
from lobby_operator.settings import StatusWriterSettings

logger = logging.getLogger(__name__)


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that turns `before` into `after` (RFC 7396); empty: they are equal."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := merge_patch(old, value):
                patch[name] = inner
        elif name not in before or old != value:
            patch[name] = value
    return patch


class StatusWriter:
    """Writes the status of one Lobby.

    Args:
        api: access to the API.
        key: key of the Lobby.
        lobbies: provides the stored status, and records what was written.
        settings: intervals and retries.

    Attributes:
        desired: the status to write; None: not known yet.
        writes: number of writes.
    """

    def __init__(
        self, api: KubeApi, key: str, lobbies: LobbyRegistry, settings: StatusWriterSettings | None = None
    ) -> None:
        self.desired: Mapping[str, Any] | None = None
        self.writes = 0
        self._api = api
        self._key = key
        self._lobbies = lobbies
        self._settings = settings or StatusWriterSettings()
        self._changed = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    def set(self, status: Mapping[str, Any]) -> None:
        """Sets the desired status, which is written as soon as possible."""
        if status != self.desired:
            self.desired = status
            self._changed.set()

    def wake(self) -> None:
        """The stored status may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        settings = self._settings
        backoff = Backoff(base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds, fraction=random.random)
        failures = RepeatedFailures(self._clock)
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._patch():
                continue
            started = self._clock()
            try:
                await self._write()
                backoff.reset()
                if (told := failures.worked()) is not None:
                    logger.warning("the status can be written again", extra={"lobby": self._key, **told})
            except NotFoundError:
                pass  # the Lobby is gone; the watch will report it
            except ConflictError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.conflict_seconds):
                        await self._changed.wait()
                self._changed.set()
            except Exception as error:  # any error: it is retried, and other Lobbies are not affected
                pause = backoff.next(floor=settings.min_backoff_seconds)
                if (told := failures.failed(str(error))) is not None:
                    fields = {"lobby": self._key, "again_in_seconds": round(pause, 1), **told}
                    expected = isinstance(error, ApiError)
                    logger.warning("can't write the status", extra=fields, exc_info=None if expected else error)
                await asyncio.sleep(pause)
                self._changed.set()
            await asyncio.sleep(max(0.0, started + settings.min_interval_seconds - self._clock()))

    def _patch(self) -> dict[str, Any]:
        record = self._lobbies.get(self._key)
        return {} if record is None or self.desired is None else merge_patch(record.status, self.desired)

    async def _write(self) -> None:
        record = self._lobbies.get(self._key)
        if record is None:
            return
        body: Object = {"metadata": {"resourceVersion": record.version}, "status": self._patch()}
        written = await self._api.patch(LOBBIES, record.namespace, record.name, body, subresource="status")
        self.writes += 1
        self._lobbies.status_written(written)
