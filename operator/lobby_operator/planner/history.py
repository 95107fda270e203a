"""Folds raw readings into what was observed: since when things are as they are.

All memory of the planner is here, in the `Observed` of the time before. Without it (the operator was restarted) every clock
starts anew: a silent lobby gets its patience again, a surplus one lives longer. What must not be lost, that a lobby drains,
is told by the lobby itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from lobby_operator.planner.compaction import spare_empty, spare_sparse
from lobby_operator.planner.placement import balance
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.stabilization_window import add, lowered
from lobby_operator.planner.state import Failures, LobbyReading, LobbyState, Observed, Phase, lobby_index
from lobby_operator.planner.timers import due, earliest
from lobby_operator.settings import PlannerSettings

_NOTHING = Observed()


def observe_fold(
    before: Observed | None,
    raw: Iterable[LobbyReading],
    *,
    waiting: int,
    spec: PlannerSpec,
    now: float,
    settings: PlannerSettings | None = None,
) -> Observed:
    """What is observed now.

    Args:
        before: what was observed before; None: nothing, the operator has just started.
        raw: all lobbies of the Lobby, in any order.
        waiting: clients that greeters hold without a seat.
        spec: of the Lobby.
        now: when the readings were taken.
        settings: of the planner.
    """
    settings = settings or PlannerSettings()
    before = before or _NOTHING
    known = {lobby.name: lobby for lobby in before.lobbies}
    # What nobody watched did not happen: after a pause of our own (a stopped process) nobody is called silent since before it.
    paused = now - before.at > 2 * settings.silent_seconds
    raw = list(raw)
    fold = _Fold(spec, settings, now, paused)
    lobbies = tuple(
        sorted((fold.one(known.get(each.name), each) for each in raw), key=lambda lobby: (lobby.index, lobby.name))
    )
    seen = Observed(
        lobbies=lobbies,
        waiting=waiting,
        at=now,
        generation=spec.generation,
        revision=spec.revision,
        complete=not any(_unasked(each) for each in raw),
        failures=_failures(before, lobbies, spec, settings, now),
    )
    return _add_windows(seen, before, spec, now)


class _Life(NamedTuple):
    """The part of a lobby that follows from whether it answers."""

    phase: Phase
    ready_at: float | None
    unresponsive_since: float | None
    recovered_at: float | None
    silences: int


class _Fold:
    """One lobby's part of `observe_fold`."""

    def __init__(self, spec: PlannerSpec, settings: PlannerSettings, now: float, paused: bool) -> None:
        self.spec = spec
        self.settings = settings
        self.now = now
        self.paused = paused

    def one(self, before: LobbyState | None, raw: LobbyReading) -> LobbyState:
        """The lobby as it is, knowing how it was."""
        not_seen_yet = raw.expected and not raw.revision  # just made
        outdated = bool(self.spec.revision) and raw.revision != self.spec.revision and not not_seen_yet
        if before is not None and before.outdated is outdated and _still_the_same(before, raw):
            return before
        if before is None or (before.phase in (Phase.ENDING, Phase.ENDED) and not raw.ending and not raw.ended):
            # New; or a name that was used before, or an end that did not come about.
            index = lobby_index(raw.name)
            before = LobbyState(name=raw.name, index=index, phase=Phase.STARTING, created_at=raw.created_at)
        answers = raw.report is not None and (raw.unresponsive_since is None or raw.alive is True)
        report = raw.report if answers and not raw.ended else None
        draining_since = before.draining_since
        if draining_since is None and (raw.draining or (report is not None and report.draining)):
            draining_since = self.now
        empty_since = None
        if report is not None and report.clients == 0:
            empty_since = self.now if before.empty_since is None else before.empty_since
        address = raw.address or before.address
        if report is None:
            life = self._silent(before, raw)
        else:
            life = self._answering(before, bool(address), draining_since is not None)
        told = Phase.ENDED if raw.ended else Phase.ENDING if raw.ending else None
        return LobbyState(
            name=raw.name,
            index=before.index,
            phase=told or life.phase,
            created_at=raw.created_at,
            address=address,
            seats=report.seats if report is not None else before.seats or self.spec.seats,
            clients=report.clients if report is not None else 0 if told else before.clients,
            origin=report.origin if report is not None else None if told else before.origin,
            ready_at=life.ready_at,
            unresponsive_since=life.unresponsive_since,
            recovered_at=life.recovered_at,
            unheard_since=raw.unresponsive_since if report is not None else None,
            silences=life.silences,
            empty_since=empty_since,
            draining_since=draining_since,
            refusing=report is not None and report.draining,
            told_to_end=raw.ending,
            expected=raw.expected,
            outdated=outdated,
        )

    def _answering(self, before: LobbyState, reachable: bool, draining: bool) -> _Life:
        recovered_at, silences = before.recovered_at, before.silences
        if not reachable:  # nobody could be sent there
            return _Life(Phase.STARTING, before.ready_at, None, recovered_at, silences)
        if before.ready_at is not None and before.phase is Phase.UNRESPONSIVE:
            # It has to prove itself; longer, if this was not the first silence lately.
            soon = recovered_at is not None and not due(recovered_at, self.settings.flap_seconds, self.now)
            silences = silences + 1 if soon else 1
            seconds = backoff(self.settings.settle_seconds, self.settings.max_settle_seconds, silences)
            recovered_at = self.now + seconds
        ready_at = self.now if before.ready_at is None else before.ready_at
        if draining:
            phase = Phase.DRAINING
        elif recovered_at is not None and not due(recovered_at, 0.0, self.now):
            phase = Phase.RECOVERING
        else:
            phase = Phase.READY
        return _Life(phase, ready_at, None, recovered_at, silences)

    def _silent(self, before: LobbyState, raw: LobbyReading) -> _Life:
        since, ready_at = before.unresponsive_since, before.ready_at
        if raw.report is None:
            if ready_at is None and raw.was_up and raw.unresponsive_since is not None:
                ready_at = raw.created_at  # it did not fail to start, it was lost later
            if raw.alive is True:
                # The platform finds it well, we can't reach it: how full it is we don't know. Leave it alone.
                return _Life(Phase.RECOVERING, ready_at, None, before.recovered_at, before.silences)
            late = since is not None or due(raw.created_at, self.settings.start_seconds, self.now)
            if ready_at is None and not late:
                return _Life(Phase.STARTING, None, None, before.recovered_at, before.silences)
        if since is None and raw.report is not None:
            since = raw.unresponsive_since
        if since is None or self.paused:
            since = self.now
        return _Life(Phase.UNRESPONSIVE, ready_at, since, before.recovered_at, before.silences)


def _still_the_same(before: LobbyState, raw: LobbyReading) -> bool:
    """Whether a lobby that takes clients does so unchanged. Of thousands nearly all do in nearly every pass."""
    report = raw.report
    return (
        before.phase is Phase.READY
        and report is not None
        and raw.unresponsive_since is None
        and not (raw.draining or report.draining or raw.ending or raw.ended or raw.expected)
        and before.unheard_since is None
        and not before.expected
        and report.clients == before.clients
        and report.seats == before.seats
        and report.origin == before.origin
        and raw.address == before.address
        and raw.created_at == before.created_at
    )


def backoff(least: float, most: float, count: int) -> float:
    """`least` for the first time, twice as much with each that follows, `most` at most."""
    return min(most, least * 2.0 ** min(count - 1, 60))


def _unasked(raw: LobbyReading) -> bool:
    """Whether it could be asked but was not: after a start of the operator, before all have had their turn."""
    return bool(raw.address) and raw.report is None and raw.unresponsive_since is None and not (raw.ending or raw.ended)


def _failures(
    before: Observed, lobbies: tuple[LobbyState, ...], spec: PlannerSpec, settings: PlannerSettings, now: float
) -> Failures:
    """Counts rounds of failed starts: several lobbies that fail at the same time have one cause."""
    same = (before.generation, before.revision) == (spec.generation, spec.revision)
    failures = before.failures if same else Failures()
    by_name = {lobby.name: lobby for lobby in lobbies}
    known = {lobby.name for lobby in before.lobbies}
    failed = any(_start_failed(lobby, by_name.get(lobby.name), settings, now) for lobby in before.lobbies) or any(
        lobby.phase is Phase.ENDED
        and lobby.name not in known
        and not due(lobby.created_at, settings.start_seconds, now)
        for lobby in lobbies
    )
    if failed:
        return Failures(failures.count + 1, now)
    if failures.count == 0:
        return failures
    over_at = failures_over_at(failures, lobbies, settings)
    lasts = over_at is not None and over_at <= now
    tries = any(lobby.ready_at is None for lobby in lobbies)
    forgotten = not tries and due(failures.last_at, 2 * settings.max_backoff_seconds, now)
    return Failures() if lasts or forgotten else failures


def failures_over_at(failures: Failures, lobbies: Iterable[LobbyState], settings: PlannerSettings) -> float | None:
    """When a lobby that was made after the last failure will have lasted; None if there is none yet."""
    return earliest(
        *(
            lobby.ready_at + settings.steady_seconds
            for lobby in lobbies
            if lobby.phase is Phase.READY and lobby.ready_at is not None and lobby.created_at >= failures.last_at
        )
    )


def _start_failed(before: LobbyState, after: LobbyState | None, settings: PlannerSettings, now: float) -> bool:
    """Whether a lobby has just ended, or was given up, before it had lasted."""
    if before.draining_since is not None or before.phase in (Phase.ENDING, Phase.ENDED):
        return False  # it was meant to end
    over = after is None or after.phase is Phase.ENDED
    given_up = before.phase is Phase.UNRESPONSIVE and after is not None and after.phase is Phase.ENDING
    if not over and not given_up:
        return False
    until = now if before.unresponsive_since is None else before.unresponsive_since
    return before.ready_at is None or not due(before.ready_at, settings.steady_seconds, until)


def _add_windows(seen: Observed, before: Observed, spec: PlannerSpec, now: float) -> Observed:
    """Adds how many lobbies could be spared. Those that are drained since are no longer among them."""
    gone = {lobby.name for lobby in seen.in_phase(Phase.DRAINING, Phase.ENDING)}
    drained = [lobby for lobby in before.in_phase(Phase.READY) if lobby.name in gone]
    empty = sum(lobby.clients == 0 for lobby in drained)
    balanced = balance(spec, seen)
    return replace(
        seen,
        surplus=add(lowered(before.surplus, empty), now, len(spare_empty(spec, balanced)), spec.empty_seconds),
        sparse=add(
            lowered(before.sparse, len(drained)), now, len(spare_sparse(spec, balanced)), spec.stabilization_seconds
        ),
    )
