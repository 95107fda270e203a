"""Tasks that run beside their owner, which learns when one of them fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from lobby_gateway.errors import internal_error

logger = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]]
"""Creates a task of this name; what it raises is its owner's (see `BackgroundTasks`)."""


class BackgroundTasks:
    """The tasks of one owner.

    Without an owner, asyncio would only log what a task raised, once nobody refers to it any more, and its work would just
    not be done.
    """

    def __init__(self) -> None:
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Creates a task; if it fails, so does `wait_failed`. Whoever needs its end cancels and awaits it."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    async def wait_failed(self) -> None:
        """Waits until a task fails, and raises its exception; that of the first one, if several do."""
        self._awaited = True
        try:
            await asyncio.shield(self._failed)
        finally:
            self._awaited = False

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if self._failed.done() or not self._awaited:  # otherwise the owner, which gets it, says so
            extra = {"task": task.get_name()}
            logger.critical("a task failed: %s", internal_error(error), exc_info=error, extra=extra)
        if not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # marks it as retrieved, in case nobody waits for it
