"""Writes Events about Lobbies, which `kubectl describe lobby` and `kubectl events` show.

Few and short: alike events within a second become one Event that names all lobbies; a repetition about the same lobbies
increases the count of a recent Event; and a Lobby with very many events gets only a few Events a minute (the log has
everything). An Event that can't be written is lost, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_operator import wall_clock
from lobby_operator.kube.client import ApiError, KubeApi, NotFoundError
from lobby_operator.kube.event_reasons import LobbyEvent, note_of
from lobby_operator.kube.names import EVENTS, LOBBIES, PODS, Object
from lobby_operator.settings import EventSettings

logger = logging.getLogger(__name__)

CONTROLLER = "lobby-gateway.io/operator"

_MAX_NOTE = 1024
"""Limit of the API, in characters."""

_MAX_INSTANCE = 128
"""Limit of the API, in characters."""


@dataclass(frozen=True, slots=True)
class Regarding:
    """The Lobby that an Event is about.

    Attributes:
        namespace: namespace of the Lobby.
        name: name of the Lobby.
        uid: uid of the Lobby.
    """

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An Event to write.

    Attributes:
        regarding: the Lobby.
        event: the first occurrence.
        name: name of the Event.
        at: when it first happened, on the monotonic clock.
        count: number of occurrences.
        written: the server has it already, with a lower count.
    """

    regarding: Regarding
    event: LobbyEvent
    name: str
    at: float
    count: int = 1
    written: bool = False


_Alike = tuple[str, str, str]
"""Type, reason and action."""


@dataclass(slots=True)
class _LobbyEvents:
    tokens: float
    at: float
    recent: dict[tuple[_Alike, frozenset[str]], PendingEvent] = field(
        default_factory=dict
    )  # also by what they are about


class EventCorrelator:
    """Collects events, combines similar ones and limits their rate per Lobby. Does no I/O.

    Args:
        settings: times and limits.

    Attributes:
        dropped: Events that exceeded the rate.
    """

    def __init__(self, settings: EventSettings | None = None) -> None:
        self.dropped = 0
        self._settings = settings or EventSettings()
        self._new: dict[tuple[Regarding, _Alike], list[LobbyEvent]] = {}
        self._lobbies: dict[Regarding, _LobbyEvents] = {}

    def __bool__(self) -> bool:
        return bool(self._new)

    def add(self, regarding: Regarding, event: LobbyEvent) -> None:
        """Adds an event."""
        self._new.setdefault((regarding, (event.type, event.reason, event.action)), []).append(event)

    def take(self, now: float) -> Iterator[PendingEvent]:
        """The Events to write for what was added since the last call."""
        settings = self._settings
        new, self._new = self._new, {}
        for (regarding, alike), events in new.items():
            lobby = self._lobbies.setdefault(regarding, _LobbyEvents(settings.burst, now))
            lobby.tokens = min(settings.burst, lobby.tokens + (now - lobby.at) / settings.refill_seconds)
            lobby.at = now
            if lobby.tokens < 1:
                self.dropped += 1
                continue
            lobby.tokens -= 1
            about = frozenset(event.lobby for event in events)
            pending = lobby.recent.get((alike, about))
            if pending is not None and now < pending.at + settings.series_seconds:
                pending = replace(pending, count=pending.count + len(events), written=True)
            else:
                only = events[0].lobby if len(about) == 1 else ""
                first = replace(events[0], note=note_of(events, _MAX_NOTE), lobby=only)
                name = f"{regarding.name}.{uuid.uuid4().hex[:16]}"
                pending = PendingEvent(regarding, first, name, now, len(events))
            lobby.recent[alike, about] = pending
            yield pending

    def forget(self, now: float) -> None:
        """Removes Lobbies and Events that are too old to matter."""
        settings = self._settings
        for lobby in self._lobbies.values():
            lobby.recent = {key: each for key, each in lobby.recent.items() if now < each.at + settings.series_seconds}
        seconds = max(settings.series_seconds, settings.burst * settings.refill_seconds)
        for regarding in [each for each, lobby in self._lobbies.items() if now > lobby.at + seconds]:
            del self._lobbies[regarding]


class Recorder:
    """Writes Events.

    Args:
        api: access to the API.
        instance: identity of this process.
        settings: times and limits.

    Attributes:
        correlator: collects what to write.
    """

    def __init__(self, api: KubeApi, instance: str, settings: EventSettings | None = None) -> None:
        self.correlator = EventCorrelator(settings)
        self._api = api
        self._instance = instance[:_MAX_INSTANCE]
        self._settings = settings or EventSettings()
        self._added = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._failures = RepeatedFailures(self._clock)

    def record(self, regarding: Regarding, event: LobbyEvent) -> None:
        """Records an event; returns at once."""
        self.correlator.add(regarding, event)
        self._added.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self._added.wait()
            await asyncio.sleep(self._settings.gather_seconds)
            self._added.clear()
            for pending in self.correlator.take(self._clock()):
                await self._write(pending)
            self.correlator.forget(self._clock())

    async def _write(self, pending: PendingEvent) -> None:
        namespace = pending.regarding.namespace
        try:
            if pending.written:
                series = {"count": pending.count, "lastObservedTime": wall_clock.now_micro()}
                try:
                    await self._api.patch(EVENTS, namespace, pending.name, {"series": series})
                except NotFoundError:
                    await self._api.create(EVENTS, namespace, self._manifest(pending))
            else:
                await self._api.create(EVENTS, namespace, self._manifest(pending))
        except ApiError as error:
            told = self._failures.failed(str(error))
            if told is None:
                return
            fields = {"lobby": pending.regarding.name, "reason": pending.event.reason, **told}
            logger.info("can't write an Event", extra=fields)
        else:
            if (told := self._failures.worked()) is not None:
                logger.info("Events can be written again", extra=told)

    def _manifest(self, pending: PendingEvent) -> Object:
        event, regarding = pending.event, pending.regarding
        manifest: dict[str, Any] = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": pending.name, "namespace": regarding.namespace},
            "eventTime": wall_clock.now_micro(),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": event.type,
            "reason": event.reason,
            "action": event.action,
            "note": event.note,
            "regarding": {
                "apiVersion": LOBBIES.api_version,
                "kind": LOBBIES.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
                "uid": regarding.uid,
            },
        }
        if event.lobby:
            pod = {"apiVersion": PODS.api_version, "kind": PODS.kind}
            manifest["related"] = {**pod, "namespace": regarding.namespace, "name": event.lobby}
        if pending.count > 1:
            manifest["series"] = {"count": pending.count, "lastObservedTime": manifest["eventTime"]}
        return manifest
