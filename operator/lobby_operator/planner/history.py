"""Combines readings with the previous observation, so that the planner knows how long each state has lasted.

The `Observed` of the previous pass is the planner's only memory. Without it (after a restart of the operator) every timer
starts over: an unresponsive lobby gets its full time again, a surplus one lives longer. The one thing that must not be lost,
that a lobby is draining, the lobby reports itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from lobby_gateway.process.backoff import ceiling
from lobby_operator.planner.compaction import removable_empty, removable_sparse
from lobby_operator.planner.origin_stream import stream_lost_at
from lobby_operator.planner.placement import Capacity, measure_capacity
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.stabilization_window import add, lowered
from lobby_operator.planner.state import Failures, LobbyReading, LobbyState, Observed, Phase, StreamState, lobby_index
from lobby_operator.planner.timers import due, earliest
from lobby_operator.settings import PlannerSettings

_NOTHING = Observed()
_MOVING = (Phase.DRAINING, Phase.ENDING)
"""A lobby's phases in which its clients go elsewhere."""


def observe(
    before: Observed | None,
    readings: Iterable[LobbyReading],
    *,
    waiting: int,
    lost: int = 0,
    taken: frozenset[int] = frozenset(),
    spec: PlannerSpec,
    now: float,
    settings: PlannerSettings | None = None,
) -> tuple[Observed, Capacity]:
    """Returns the observation at this moment, and the capacity that was measured from it.

    Args:
        before: the previous observation; None if the operator has just started.
        readings: all lobbies of the Lobby, in any order.
        waiting: clients that greeters hold without a seat.
        lost: those of them that had a seat in a lobby that is gone.
        taken: the n of names that no lobby can have.
        spec: spec of the Lobby.
        now: when the readings were taken.
        settings: settings of the planner.
    """
    settings = settings or PlannerSettings()
    before = before or _NOTHING
    known = {lobby.name: lobby for lobby in before.lobbies}
    # If this process itself was paused (SIGSTOP, suspend), that time counts against no lobby.
    paused = now - before.at > 2 * settings.unresponsive_seconds
    readings = list(readings)
    observer = _Observer(spec, settings, now, paused=paused, lost=lost)
    lobbies = tuple(
        sorted(
            (observer.lobby(known.get(each.name), each) for each in readings),
            key=lambda lobby: (lobby.index, lobby.name),
        )
    )
    observed = Observed(
        lobbies=lobbies,
        waiting=waiting,
        lost=lost,
        at=now,
        generation=spec.generation,
        revision=spec.revision,
        complete=not any(_unpolled(each) for each in readings),
        taken=taken,
        heard_since=_heard_since(None if paused else before.heard_since, readings, now),
        failures=_failures(before, lobbies, spec, settings, now),
        moved_at=now if _moving(before, lobbies, lost) else before.moved_at,
    )
    capacity = measure_capacity(spec, observed, settings)
    return _with_windows(observed, before, capacity, spec, now), capacity


class _Liveness(NamedTuple):
    """The part of a lobby's state that follows from whether it answers."""

    phase: Phase
    ready_at: float | None
    unresponsive_since: float | None
    recovered_at: float | None
    outages: int


class _Observer:
    """Derives the state of single lobbies."""

    def __init__(self, spec: PlannerSpec, settings: PlannerSettings, now: float, *, paused: bool, lost: int) -> None:
        self.spec = spec
        self.settings = settings
        self.now = now
        self.paused = paused
        self.lost = lost

    def lobby(self, before: LobbyState | None, reading: LobbyReading) -> LobbyState:
        """The state of a lobby, given its state before."""
        unlisted = reading.expected and not reading.revision  # just created
        outdated = bool(self.spec.revision) and reading.revision != self.spec.revision and not unlisted
        if before is not None and before.outdated is outdated and _unchanged(before, reading):
            return before
        if before is None or (before.phase in (Phase.ENDING, Phase.ENDED) and not reading.ending and not reading.ended):
            # New; or the name is reused, or the deletion failed.
            index = lobby_index(reading.name)
            before = LobbyState(
                name=reading.name,
                index=index,
                phase=Phase.STARTING,
                created_at=reading.created_at,
                starting_since=reading.created_at,
            )
        answers = reading.report is not None and (reading.unresponsive_since is None or reading.alive is True)
        report = reading.report if answers and not reading.ended else None
        draining_since = before.draining_since
        if draining_since is None and (reading.draining or (report is not None and report.draining)):
            draining_since = self.now if reading.draining_since is None else min(self.now, reading.draining_since)
        empty_since = None
        if report is not None and report.clients == 0:
            empty_since = self.now if before.empty_since is None else before.empty_since
        address = reading.address or before.address
        starting_since = self._starting_since(before, reading)
        if report is None:
            liveness = self._unresponsive(before, reading, starting_since)
        else:
            liveness = self._responding(before, bool(address), draining_since is not None)
        ending = Phase.ENDED if reading.ended else Phase.ENDING if reading.ending else None
        unheard_since = None
        if reading.report is None and reading.alive is True and not (ending or draining_since is not None):
            unheard_since = self.now if before.unheard_since is None or self.paused else before.unheard_since
        return LobbyState(
            name=reading.name,
            index=before.index,
            phase=ending or liveness.phase,
            created_at=reading.created_at,
            starting_since=starting_since,
            held=reading.held,
            running=reading.running,
            address=address,
            seats=report.seats if report is not None else before.seats or self.spec.seats,
            clients=report.clients if report is not None else 0 if ending else before.clients,
            origin=report.origin if report is not None else None if ending else before.origin,
            stream=StreamState.of(reading.report) if reading.report is not None else before.stream,
            ready_at=liveness.ready_at,
            unresponsive_since=liveness.unresponsive_since,
            recovered_at=liveness.recovered_at,
            unreachable_since=reading.unresponsive_since if report is not None else None,
            unheard_since=unheard_since,
            outages=liveness.outages,
            stream_lost_at=None if ending else stream_lost_at(before, report, self.now),
            preconnected=report is not None and report.preconnected,
            empty_since=empty_since,
            draining_since=draining_since,
            drain_confirmed=report is not None and report.draining,
            delete_requested=reading.ending,
            expected=reading.expected,
            revision=reading.revision,
            outdated=outdated,
        )

    def _responding(self, before: LobbyState, reachable: bool, draining: bool) -> _Liveness:
        recovered_at, outages = before.recovered_at, before.outages
        if not reachable:  # no client could be sent there
            return _Liveness(Phase.STARTING, before.ready_at, None, recovered_at, outages)
        if before.ready_at is not None and before.phase is Phase.UNRESPONSIVE:
            # It has to answer for a while first; longer, if it had another outage recently.
            soon = recovered_at is not None and not due(recovered_at, self.settings.flap_seconds, self.now)
            outages = outages + 1 if soon else 1
            seconds = ceiling(self.settings.recovery_seconds, self.settings.max_recovery_seconds, outages - 1)
            recovered_at = self.now + seconds
        if recovered_at is not None and self.lost:
            # Clients whose lobby is gone may have no other lobby, and are closed if they wait too long.
            recovered_at = min(recovered_at, self.now + self.settings.recovery_seconds)
        ready_at = self.now if before.ready_at is None else before.ready_at
        if draining:
            phase = Phase.DRAINING
        elif recovered_at is not None and not due(recovered_at, 0.0, self.now):
            phase = Phase.RECOVERING
        else:
            phase = Phase.READY
        return _Liveness(phase, ready_at, None, recovered_at, outages)

    def _starting_since(self, before: LobbyState, reading: LobbyReading) -> float | None:
        if reading.held is not None:
            return None
        started = reading.running and not before.running
        return self.now if before.starting_since is None or started else before.starting_since

    def _unresponsive(self, before: LobbyState, reading: LobbyReading, starting_since: float | None) -> _Liveness:
        since, ready_at = before.unresponsive_since, before.ready_at
        if reading.report is None:
            if ready_at is None and reading.was_up and reading.unresponsive_since is not None:
                ready_at = reading.created_at  # it did not fail to start; it was lost later
            if reading.alive is True:
                # The platform considers it healthy. Perhaps its first answer is on its way, or we can't reach it. If it was
                # up before us, we don't know how full it is. Leave it alone.
                starts = ready_at is None and before.draining_since is None and not reading.draining
                phase = Phase.STARTING if starts else Phase.RECOVERING
                return _Liveness(phase, ready_at, None, before.recovered_at, before.outages)
            overdue = starting_since is not None and due(starting_since, self.spec.start_seconds, self.now)
            late = since is not None or overdue
            if ready_at is None and not late:
                return _Liveness(Phase.STARTING, None, None, before.recovered_at, before.outages)
        if since is None and reading.report is not None:
            since = reading.unresponsive_since
        if since is None or self.paused:
            since = self.now
        return _Liveness(Phase.UNRESPONSIVE, ready_at, since, before.recovered_at, before.outages)


def _unchanged(before: LobbyState, reading: LobbyReading) -> bool:
    """Whether a ready lobby is unchanged. Of thousands, nearly all are in nearly every pass."""
    report = reading.report
    return (
        before.phase is Phase.READY
        and report is not None
        and reading.unresponsive_since is None
        and not (reading.draining or report.draining or reading.ending or reading.ended or reading.expected)
        and before.unreachable_since is None
        and not before.expected
        and report.clients == before.clients
        and report.seats == before.seats
        and report.origin == before.origin
        and report.preconnected == before.preconnected
        and before.stream is not None
        and before.stream.is_of(report)
        and reading.address == before.address
        and reading.created_at == before.created_at
        and reading.revision == before.revision
    )


def _unpolled(reading: LobbyReading) -> bool:
    """Whether it can be polled but has not been yet: the operator has just started."""
    return (
        bool(reading.address)
        and reading.report is None
        and reading.unresponsive_since is None
        and not (reading.ending or reading.ended)
    )


def _heard_since(before: float | None, readings: Iterable[LobbyReading], now: float) -> float | None:
    if not any(each.report is not None and each.unresponsive_since is None and not each.ended for each in readings):
        return None
    return now if before is None else before


def _moving(before: Observed, lobbies: Iterable[LobbyState], lost: int) -> bool:
    """Whether clients are on their way to another lobby, or may have arrived there since the previous observation.

    Clients of a lobby that died alone usually have another seat before we know; they do not count, or in a large Lobby, where
    one dies every few minutes, clients would always be on their way.
    """
    leaving = {lobby.name: lobby.clients for lobby in lobbies if lobby.phase in _MOVING}
    return (
        bool(lost or before.lost)
        or any(leaving.values())
        or any(lobby.clients and (lobby.name in leaving or lobby.phase in _MOVING) for lobby in before.lobbies)
    )


def _failures(
    before: Observed, lobbies: tuple[LobbyState, ...], spec: PlannerSpec, settings: PlannerSettings, now: float
) -> Failures:
    """Counts failed starts, once per pass: lobbies that fail at the same time have one cause."""
    same = (before.generation, before.revision) == (spec.generation, spec.revision)
    failures = before.failures if same else Failures()
    by_name = {lobby.name: lobby for lobby in lobbies}
    known = {lobby.name for lobby in before.lobbies}
    failed = any(_start_failed(lobby, by_name.get(lobby.name), settings, now) for lobby in before.lobbies) or any(
        lobby.phase is Phase.ENDED and lobby.name not in known and not due(lobby.created_at, spec.start_seconds, now)
        for lobby in lobbies
    )
    if failed:
        return Failures(failures.count + 1, now)
    if failures.count == 0:
        return failures
    over_at = failures_over_at(failures, lobbies, settings)
    lasted = over_at is not None and over_at <= now
    retrying = any(lobby.ready_at is None for lobby in lobbies)
    forgotten = not retrying and due(failures.last_at, 2 * settings.max_backoff_seconds, now)
    return Failures() if lasted or forgotten else failures


def failures_over_at(failures: Failures, lobbies: Iterable[LobbyState], settings: PlannerSettings) -> float | None:
    """When a lobby created after the latest failure will have lasted; None if there is no such lobby yet."""
    return earliest(
        *(
            lobby.ready_at + settings.min_ready_seconds
            for lobby in lobbies
            if lobby.phase is Phase.READY and lobby.ready_at is not None and lobby.created_at >= failures.last_at
        )
    )


def _start_failed(before: LobbyState, after: LobbyState | None, settings: PlannerSettings, now: float) -> bool:
    """Whether a lobby has just ended, or was given up, before it had lasted."""
    if before.draining_since is not None or before.phase in (Phase.ENDING, Phase.ENDED):
        return False  # it was supposed to end
    over = after is None or after.phase is Phase.ENDED
    silent = before.phase is Phase.UNRESPONSIVE or (
        before.phase is Phase.STARTING and before.unheard_since is not None and not before.outdated
    )
    given_up = silent and after is not None and after.phase is Phase.ENDING
    if not over and not given_up:
        return False
    until = now if before.unresponsive_since is None else before.unresponsive_since
    return before.ready_at is None or not due(before.ready_at, settings.min_ready_seconds, until)


def _with_windows(observed: Observed, before: Observed, capacity: Capacity, spec: PlannerSpec, now: float) -> Observed:
    """Adds how many lobbies could be removed, without those that have begun to drain since."""
    gone = {lobby.name for lobby in observed.in_phase(Phase.DRAINING, Phase.ENDING)}
    drained = [lobby for lobby in before.in_phase(Phase.READY) if lobby.name in gone]
    empty = sum(lobby.clients == 0 for lobby in drained)
    return replace(
        observed,
        surplus=add(lowered(before.surplus, empty), now, len(removable_empty(spec, capacity)), spec.empty_seconds),
        sparse=add(
            lowered(before.sparse, len(drained)), now, len(removable_sparse(spec, capacity)), spec.stabilization_seconds
        ),
    )
