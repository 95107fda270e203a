"""Writes what happened to Lobbies as Events, so that `kubectl describe lobby` and `kubectl events` tell it.

Few and short: what happens several times within a second is one Event; what happens again while its Event is young counts that
one up; and a Lobby to which very much happens gets no more than a few a minute (the log has them all). An Event that can't be
written is lost, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lobby_operator import wall_clock
from lobby_operator.kube.client import KubeApi, Object
from lobby_operator.kube.errors import ApiError, NotFoundError
from lobby_operator.kube.event_reasons import Happening
from lobby_operator.kube.resources import EVENTS, LOBBIES

logger = logging.getLogger(__name__)

CONTROLLER = "lobby-gateway.io/operator"

GATHER_SECONDS = 1.0
"""What happens within it is written together."""

SERIES_SECONDS = 300.0
"""An Event this young is counted up. Servers delete Events after an hour."""

BURST = 20
"""Events of one Lobby at a time; then `REFILL_SECONDS` for each further one."""

REFILL_SECONDS = 15.0

_MAX_NOTE = 1024
"""The API takes no more."""


@dataclass(frozen=True, slots=True)
class Regarding:
    """The Lobby that an Event is about.

    Attributes:
        namespace: of the Lobby.
        name: of the Lobby.
        uid: of the Lobby.
    """

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An Event to be written.

    Attributes:
        regarding: the Lobby.
        happening: what happened, the first time.
        name: of the Event.
        at: when it happened first, on the own clock.
        count: how often it happened.
        written: it is on the server already, with a smaller count.
    """

    regarding: Regarding
    happening: Happening
    name: str
    at: float
    count: int = 1
    written: bool = False


@dataclass(slots=True)
class _OfLobby:
    tokens: float = BURST
    at: float = 0.0
    young: dict[tuple[str, str, str], PendingEvent] = field(default_factory=dict)


class Gathering:
    """What is to be written, and what was lately. Pure.

    Attributes:
        dropped: Events that were one too many.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._new: dict[tuple[Regarding, tuple[str, str, str]], list[Happening]] = {}
        self._lobbies: dict[Regarding, _OfLobby] = {}

    def __bool__(self) -> bool:
        return bool(self._new)

    def add(self, regarding: Regarding, happening: Happening) -> None:
        """Something happened."""
        what = (happening.kind, happening.reason, happening.action)
        self._new.setdefault((regarding, what), []).append(happening)

    def take(self, now: float) -> Iterator[PendingEvent]:
        """What is to be written now, of all that was added since the last time."""
        new, self._new = self._new, {}
        for (regarding, what), happenings in new.items():
            of_lobby = self._lobbies.setdefault(regarding, _OfLobby(at=now))
            of_lobby.tokens = min(BURST, of_lobby.tokens + (now - of_lobby.at) / REFILL_SECONDS)
            of_lobby.at = now
            if of_lobby.tokens < 1:
                self.dropped += 1
                continue
            of_lobby.tokens -= 1
            entry = of_lobby.young.get(what)
            if entry is not None and now < entry.at + SERIES_SECONDS:
                entry = replace(entry, count=entry.count + len(happenings), written=True)
            else:
                first, more = happenings[0], len(happenings) - 1
                if more:
                    first = replace(first, note=f"{first.note[: _MAX_NOTE - 30]} (and {more} more like it)")
                name = f"{regarding.name}.{uuid.uuid4().hex[:16]}"
                entry = PendingEvent(regarding, replace(first, note=first.note[:_MAX_NOTE]), name, now, len(happenings))
            of_lobby.young[what] = entry
            yield entry

    def forget(self, now: float) -> None:
        """Lets go what is too old to matter."""
        old = [each for each, of in self._lobbies.items() if now > of.at + max(SERIES_SECONDS, BURST * REFILL_SECONDS)]
        for regarding in old:
            del self._lobbies[regarding]


class Recorder:
    """Writes Events.

    Args:
        api: access to the API.
        instance: who writes.

    Attributes:
        gathering: what is to be written.
    """

    def __init__(self, api: KubeApi, instance: str) -> None:
        self.gathering = Gathering()
        self._api = api
        self._instance = instance[:128]
        self._news = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    def tell(self, regarding: Regarding, happening: Happening) -> None:
        """Something happened; returns at once."""
        self.gathering.add(regarding, happening)
        self._news.set()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._news.clear()
            for entry in self.gathering.take(self._clock()):
                await self._write(entry)
            self.gathering.forget(self._clock())

    async def _write(self, entry: PendingEvent) -> None:
        namespace = entry.regarding.namespace
        try:
            if entry.written:
                series = {"count": entry.count, "lastObservedTime": wall_clock.now_micro()}
                try:
                    await self._api.patch(EVENTS, namespace, entry.name, {"series": series})
                except NotFoundError:
                    await self._api.create(EVENTS, namespace, self._event(entry))
            else:
                await self._api.create(EVENTS, namespace, self._event(entry))
        except ApiError as error:
            fields = {"lobby": entry.regarding.name, "reason": entry.happening.reason, "problem": str(error)}
            logger.info("an Event is lost", extra=fields)

    def _event(self, entry: PendingEvent) -> Object:
        happening, regarding = entry.happening, entry.regarding
        made: dict[str, Any] = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": entry.name, "namespace": regarding.namespace},
            "eventTime": wall_clock.now_micro(),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": happening.kind,
            "reason": happening.reason,
            "action": happening.action,
            "note": happening.note,
            "regarding": {
                "apiVersion": LOBBIES.api_version,
                "kind": LOBBIES.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
                "uid": regarding.uid,
            },
        }
        if entry.count > 1:
            made["series"] = {"count": entry.count, "lastObservedTime": made["eventTime"]}
        return made
