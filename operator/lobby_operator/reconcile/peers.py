"""Tells lobbies their peers, and whether they may connect to the origin, in the background: none waits for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from lobby_gateway.errors import internal_error
from lobby_gateway.process.peer_list import PeerList
from lobby_operator.planner.peer_lists import PeerLists
from lobby_operator.planner.timers import earliest
from lobby_operator.reconcile.runtime import Runtime, RuntimeFailedError
from lobby_operator.settings import PeerListSettings

logger = logging.getLogger(__name__)


class PeerTeller:
    """Sends the lists of `PeerLists` to the lobbies of one Lobby, one request to each at a time.

    Args:
        lists: which lists are due, and what was answered.
        runtime: runs the lobbies.
        changed: called when a lobby has answered.
        settings: timeouts.
    """

    def __init__(
        self, lists: PeerLists, runtime: Runtime, *, changed: Callable[[], None], settings: PeerListSettings
    ) -> None:
        self._lists = lists
        self._runtime = runtime
        self._changed = changed
        self._settings = settings
        self._clock = asyncio.get_running_loop().time
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        self._failing: set[str] = set()

    def send(self, due: Mapping[str, PeerList]) -> None:
        """Sends these lists to the lobbies that are not being told something already."""
        now = self._clock()
        self._not_before = {name: at for name, at in self._not_before.items() if name in due}
        self._failing &= due.keys()
        for name, told in due.items():
            if name not in self._under_way and self._not_before.get(name, now) <= now:
                self._not_before.pop(name, None)  # it is not due again before it has an answer
                task = asyncio.create_task(self._send(name, told), name=f"peers of {name}")
                self._under_way[name] = task

    def wake_at(self) -> float | None:
        """When the next lobby is to be told again."""
        return earliest(*self._not_before.values())

    async def close(self) -> None:
        """Stops sending."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _send(self, name: str, told: PeerList) -> None:
        try:
            await self._runtime.tell_peers(name, told)
            self._lists.answered(name, told)
            self._failing.discard(name)
        except Exception as error:  # any error: it is told again, and others are not affected
            self._not_before[name] = self._clock() + self._settings.retry_seconds
            if name not in self._failing:  # once, not with every retry
                self._failing.add(name)
                expected = isinstance(error, RuntimeFailedError)
                problem, trace = (str(error), None) if expected else (internal_error(error), error)
                level = logging.INFO if expected else logging.ERROR
                extra = {"child": name, "problem": problem}
                logger.log(level, "can't tell a lobby its peers", extra=extra, exc_info=trace)
        finally:
            del self._under_way[name]
            self._changed()
