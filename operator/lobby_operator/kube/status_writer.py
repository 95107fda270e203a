"""Writes the status of one Lobby: at most once a second, only what changed, and never over something that was not seen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from typing import Any

from lobby_gateway.process.backoff import Backoff
from lobby_operator.kube.client import KubeApi, Object
from lobby_operator.kube.errors import ApiError, ConflictError, NotFoundError
from lobby_operator.kube.lobbies import Lobbies
from lobby_operator.kube.resources import LOBBIES

logger = logging.getLogger(__name__)

MIN_SECONDS = 1.0
"""Between two writes: each goes to all greeters, and counts change all the time."""

CONFLICT_SECONDS = 1.0
"""After a conflict the watch tells what was not seen; if it takes longer than that, what is known is tried again."""

MIN_RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 5.0


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What makes `before` into `after` when it is merged into it (RFC 7396); empty: they are the same."""
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
    """Writes for one Lobby.

    Args:
        api: access to the API.
        key: of the Lobby.
        lobbies: knows what is stored, and is told what was written.

    Attributes:
        wanted: the status as it should be; None: nothing is known yet.
        writes: how many there were.
    """

    def __init__(self, api: KubeApi, key: str, lobbies: Lobbies) -> None:
        self.wanted: Mapping[str, Any] | None = None
        self.writes = 0
        self._api = api
        self._key = key
        self._lobbies = lobbies
        self._changed = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    def want(self, status: Mapping[str, Any]) -> None:
        """The status is to be this, as soon as may be."""
        if status != self.wanted:
            self.wanted = status
            self._changed.set()

    def wake(self) -> None:
        """What is stored may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        backoff = Backoff(base=MIN_RETRY_SECONDS, cap=MAX_RETRY_SECONDS, fraction=random.random)
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._patch():
                continue
            started = self._clock()
            try:
                await self._write()
                backoff.reset()
            except NotFoundError:
                pass  # it is gone, and the watch will say so; then nobody wants anything of it
            except ConflictError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CONFLICT_SECONDS):
                        await self._changed.wait()
                self._changed.set()
            except Exception as error:  # whatever it is: it is written later, and the others are written all the time
                pause = backoff.next(floor=MIN_RETRY_SECONDS)
                fields = {"lobby": self._key, "problem": str(error), "again_in_seconds": round(pause, 1)}
                expected = isinstance(error, ApiError)
                logger.warning("a status can't be written", extra=fields, exc_info=None if expected else error)
                await asyncio.sleep(pause)
                self._changed.set()
            await asyncio.sleep(max(0.0, started + MIN_SECONDS - self._clock()))

    def _patch(self) -> dict[str, Any]:
        known = self._lobbies.get(self._key)
        return {} if known is None or self.wanted is None else merge_patch(known.status, self.wanted)

    async def _write(self) -> None:
        known = self._lobbies.get(self._key)
        if known is None:
            return
        body: Object = {"metadata": {"resourceVersion": known.version}, "status": self._patch()}
        written = await self._api.patch(LOBBIES, known.namespace, known.name, body, subresource="status")
        self.writes += 1
        self._lobbies.wrote(written)
