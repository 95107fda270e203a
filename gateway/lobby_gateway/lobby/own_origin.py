"""A lobby's own connection to its origin, and for the time of a renewal, the next one beside it.

A renewal (`origin.renew`) opens the next session before the origin ends the current one by its own limit. With `overlap` both
are open until the place of the stream is found in the new one; without it, the current one is closed first, but not before
there is a permit to connect again (`origin.limits.connects`). A next session that the origin refuses is retried like any other
connection, while the current one goes on.

While it is suspended, because the stream of a peer does not go on in it (see `stream_source.py`), it has no connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from lobby_gateway.lobby.stream_source import Rank, Source
from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.connection import OriginConnection
from lobby_gateway.origin.secrets import ResolvedOrigin
from lobby_gateway.origin.states import Failure
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.resource.spec import OriginSpec
from lobby_gateway.settings import ORIGIN, OriginSettings
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch

logger = logging.getLogger(__name__)


_SUSPENDED = "its messages do not continue the stream that comes from another lobby; see origin.identity"


class OwnOriginListener(Protocol):
    """What the sessions are for: the stream of a lobby."""

    def own_began(self, source: Source) -> None:
        """The stream of a session begins."""

    def own_received(self, source: Source, batch: Batch) -> None:
        """Messages of it arrived."""

    def own_kept(self, source: Source, messages: Mapping[str, KeptFrame]) -> None:
        """Messages of it are to be kept for clients that join (see `OriginConnection`)."""

    def own_ended(self, source: Source) -> None:
        """It has ended."""

    def own_forgotten(self) -> None:
        """No client needs the stream any more, so that what was published must not be replayed later."""

    def own_starved(self) -> None:
        """A session begins or ceases to wait for a permit to connect."""

    def own_closed(self, code: int, round_trip: float) -> bool:
        """The origin closed the current session; returns whether a client's message was the reason."""


class _Session:
    """A connection and its source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.connection: OriginConnection


class OwnOrigin:
    """The connections of one lobby to its origin: one, and during a renewal two."""

    def __init__(
        self,
        spec: OriginSpec,
        resolved: ResolvedOrigin | None,
        *,
        read_secrets: Callable[[], ResolvedOrigin],
        listener: OwnOriginListener,
        permitted: bool = True,
        fraction: Callable[[], float] = random.random,
        settings: OriginSettings = ORIGIN,
    ) -> None:
        """Prepares the connection.

        Args:
            spec: the origin of a checked Lobby.
            resolved: its values with the current secrets filled in; None: a secret is missing or unusable.
            read_secrets: see `OriginConnection`.
            listener: is called with what the sessions bring.
            permitted: whether it may connect; see `set_permitted`.
            fraction: returns random numbers from 0 to 1, for jitter.
            settings: timeouts and limits.
        """
        self._spec = spec
        self._resolved = resolved
        self._read_secrets = read_secrets
        self._listener = listener
        self._permitted = permitted
        self._suspended_until: float | None = None  # set while it is suspended
        limit = spec.limits.connects
        self._allowance = (
            ConnectAllowance() if limit is None else ConnectAllowance(0, count=limit.count, seconds=limit.seconds)
        )
        self._needed = False
        self._fraction = fraction
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._tasks: asyncio.TaskGroup | None = None
        self._closing = False
        self._current = self._make(Rank.OWN)
        self._next: _Session | None = None
        self._retiring: set[_Session] = set()
        self._renew_timer: asyncio.TimerHandle | None = None
        self._began_at = 0.0  # when the current stream began
        self._refused_until = 0.0  # when a renewal that was given up would have been tried again
        self._past_connections = 0
        self._past_attempts = 0
        self._past_failures: Counter[Failure] = Counter()

    async def run(self) -> None:
        """Maintains the connections until `close`.

        Raises:
            Exception: a bug in a session; never for what the origin does or a setting says.
        """
        async with asyncio.TaskGroup() as self._tasks:
            self._start(self._current)

    async def close(self) -> None:
        """Closes all of them cleanly (1000) for good."""
        self._closing = True
        self._cancel_renewal()
        await asyncio.gather(*(each.connection.close() for each in self._sessions()))

    def set_needed(self, needed: bool) -> None:
        """Sets whether anybody needs the stream."""
        self._needed = needed
        self._current.connection.set_needed(needed)

    def set_permitted(self, permitted: bool) -> None:
        """Sets whether it may connect; if not, open connections are closed at once."""
        if permitted == self._permitted:
            return
        self._permitted = permitted
        self._permit()

    def suspend(self, seconds: float) -> None:
        """Closes all of them, since they do not continue the stream, and opens none before `resume`.

        Args:
            seconds: when that is expected.
        """
        logger.info("origin: the connection does not continue the stream, and is closed", extra={"retry_in": seconds})
        self._suspended_until = self._loop.time() + seconds
        self._permit()

    def resume(self) -> None:
        """Connects again, if it may."""
        self._suspended_until = None
        self._permit()

    def _permit(self) -> None:
        permitted = self._permitted and self._suspended_until is None
        if not permitted:
            self._cancel_renewal()
            if self._next is not None:
                self._retire(self._next)
                self._next = None
        self._current.connection.set_permitted(permitted)

    def set_allowed(self, connects: int | None) -> None:
        """Sets how many attempts to connect it may have made in all; None: any number."""
        self._allowance.allowed = connects
        if not self._allowance.exhausted:
            for each in self._sessions():
                each.connection.permits_came()

    @property
    def starved(self) -> bool:
        """Its current session waits for a permit to connect."""
        return self._current.connection.starved

    @property
    def wants_permit(self) -> bool:
        """Whether it needs a permit for an attempt, now or soon."""
        return any(each.connection.wants_permit for each in self._sessions())

    @property
    def recent_attempts(self) -> int:
        """Attempts that `origin.limits.connects` still counts."""
        return self._allowance.recent(self._loop.time())

    @property
    def permitted(self) -> bool:
        """Whether it may connect."""
        return self._permitted

    @property
    def idle(self) -> bool:
        """There is no connection, no attempt, and no scheduled attempt."""
        return all(each.connection.idle for each in self._sessions())

    def update_secrets(self, resolved: ResolvedOrigin) -> None:
        """Takes the current secrets."""
        self._resolved = resolved
        for each in self._sessions():
            each.connection.update_secrets(resolved)

    @property
    def subprotocol(self) -> str | None:
        """What the origin chose on its latest connection; empty if it chose none; None before the first."""
        return self._current.connection.subprotocol

    @property
    def streaming(self) -> bool:
        """Whether the current stream has started, and has not ended."""
        return self._current.connection.streaming

    def send_to_origin(self, opcode: int, payload: bytes) -> bool:
        """Sends a client's message; see `OriginConnection`."""
        return self._current.connection.send_to_origin(opcode, payload)

    def report(self) -> OriginReport:
        """The origin's part of `/seats`. While the current connection works, its reason says why a renewal fails."""
        report = self._current.connection.report()
        if self._suspended_until is not None and self._permitted:
            retry = max(0.0, self._suspended_until - self._loop.time())
            report = replace(report, state=OriginState.WAITING, reason=_SUSPENDED, retry_in_seconds=retry)
        if self._next is not None and not report.reason and (problem := self._next.connection.report().reason):
            report = replace(report, reason=f"renewal: {problem}")
        return replace(report, connections=self._past_connections + sum(each.connections for each in self._reports()))

    @property
    def failures(self) -> Mapping[Failure, int]:
        """Failures since the start by kind, for metrics."""
        return sum((Counter(each.connection.failures) for each in self._sessions()), self._past_failures)

    @property
    def attempts(self) -> int:
        """Attempts to connect since the start, for metrics."""
        return self._past_attempts + sum(each.connection.attempts for each in self._sessions())

    def taken(self, source: Source) -> None:
        """A source took over; if it is a renewed session, it is the current one from now on."""
        if self._next is not None and source is self._next.source:
            self._promote()

    def give_up(self, source: Source) -> None:
        """A source is not used any more."""
        for each in self._sessions():
            if each.source is source and each is not self._current:
                self._retire(each)

    # Sessions

    def _sessions(self) -> list[_Session]:
        return [self._current, *([self._next] if self._next is not None else []), *self._retiring]

    def _reports(self) -> list[OriginReport]:
        return [each.connection.report() for each in self._sessions()]

    def _make(self, rank: Rank) -> _Session:
        session = _Session(Source(rank))
        source, listener = session.source, self._listener
        session.connection = OriginConnection(
            self._spec,
            self._resolved,
            read_secrets=self._read_secrets,
            publish=lambda batch: listener.own_received(source, batch),
            begin_epoch=lambda: self._began(session),
            ended=lambda: self._ended(session),
            closed=lambda code, round_trip: session is self._current and listener.own_closed(code, round_trip),
            forget=self._forgotten,
            renew=lambda: self._renew_asked() if session is self._current else None,
            keep=lambda messages: listener.own_kept(source, messages),
            starved=listener.own_starved,
            permitted=self._permitted,
            allowance=self._allowance,
            fraction=self._fraction,
            settings=self._settings,
        )
        return session

    def _start(self, session: _Session) -> None:
        if self._tasks is not None:
            self._tasks.create_task(session.connection.run(), name="origin")

    def _began(self, session: _Session) -> None:
        if session is self._current:
            self._stream_began()
        self._listener.own_began(session.source)

    def _ended(self, session: _Session) -> None:
        if session is self._current:
            self._cancel_renewal()
            if self._next is not None:
                self._succeed(self._next)
        self._listener.own_ended(session.source)

    def _forgotten(self) -> None:
        self._listener.own_forgotten()

    def _promote(self) -> None:
        """The next session becomes the current one, whether its stream has begun or not."""
        before, session = self._current, self._next
        if session is None:
            return
        self._current, self._next = session, None
        session.source.rank = Rank.OWN
        session.connection.set_needed(self._needed)
        self._retire(before)
        if session.connection.streaming:
            self._stream_began()

    def _succeed(self, renewed: _Session) -> None:
        """The current stream has ended during its renewal, which becomes its successor; but not one that waits.

        An origin that refuses a second connection may ask for a long wait. The first one need not keep it, but the next
        renewal does.
        """
        report = renewed.connection.report()
        if report.state in (OriginState.WAITING, OriginState.REFUSED):
            self._refused_until = self._loop.time() + report.retry_in_seconds
            self._next = None
            self._retire(renewed)
        else:
            self._promote()

    def _retire(self, session: _Session) -> None:
        if session in self._retiring:
            return
        self._retiring.add(session)
        if self._tasks is not None:
            self._tasks.create_task(self._close(session), name="close of an origin connection")

    async def _close(self, session: _Session) -> None:
        await session.connection.close()
        self._retiring.discard(session)
        self._past_connections += session.connection.report().connections
        self._past_attempts += session.connection.attempts
        self._past_failures.update(session.connection.failures)

    # Renewal

    def _stream_began(self) -> None:
        self._began_at = self._loop.time()
        self._cancel_renewal()
        seconds = self._spec.renew.every_seconds
        if seconds and not self._closing:
            early = self._fraction() * self._settings.renew_jitter
            self._renew_at(self._began_at + seconds * (1 - early))

    def _renew_at(self, at: float) -> None:
        self._cancel_renewal()
        self._renew_timer = self._loop.call_at(max(at, self._refused_until), self._renew)

    def _renew_asked(self) -> None:
        """The origin asks for a new connection. One that asks as soon as it is connected is not hammered."""
        earliest = max(self._began_at + self._settings.stable_seconds, self._refused_until)
        if self._loop.time() >= earliest:
            self._renew()
        elif not self._closing:
            self._renew_at(earliest)

    def _cancel_renewal(self) -> None:
        if self._renew_timer is not None:
            self._renew_timer.cancel()
            self._renew_timer = None

    def _renew(self) -> None:
        """Opens the next session."""
        self._cancel_renewal()
        if self._closing or self._next is not None or not self._permitted or not self.streaming:
            return
        if self._current.connection.reconnecting:
            return  # it waits for a permit
        logger.info("origin: renewing the connection", extra={"overlap": self._spec.renew.overlap})
        if not self._spec.renew.overlap:
            self._current.connection.reconnect()
            return
        self._next = self._make(Rank.RENEWED)
        self._next.connection.inherit(self._current.connection)
        self._start(self._next)
        self._next.connection.set_needed(True)
