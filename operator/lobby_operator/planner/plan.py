"""What is to be done now: a pure function of what is wanted, what was observed, and the time.

The passes run in order, each a small function that adds actions to the draft:

1. `_take_away_lost`: lobbies that ended, or are silent for too long, are deleted.
2. `_finish_drains`: who drains and is empty, or overdue, is deleted. Nobody else who answers ever is: a lobby that takes
   clients is drained first, an empty one too, since a client may be on its way.
3. `_keep_maximum`: with `maxReplicas` lowered, the sparsest lobbies go.
4. `_make`: as many as `replicas` asks for, and as the free seats fall short of those who wait, those who move, and
   `spareSeats`. Seats of lobbies that start count as free. In small batches, and with back-off while starts fail.
5. `roll_out` (`rollout.py`): lobbies of an older revision go once their clients have seats elsewhere.
6. `end_empty`, `compact` (`compaction.py`): what is not needed goes; each only where the passes before
   it changed nothing.

Scale to zero: with `replicas` 0 and `spareSeats` above 0 a lobby stays, so that no client ever waits for one to start. With
`spareSeats` 0 the last lobby goes when it was empty for `emptySeconds`, and the first client waits.

`maxReplicas` bounds all lobbies there are, also those that drain or end: they are processes, and may have origin connections.
"""

from __future__ import annotations

from dataclasses import dataclass

from lobby_operator.planner.actions import Action, Create, Delete, Drain, Reason
from lobby_operator.planner.compaction import compact, end_empty
from lobby_operator.planner.history import backoff, failures_over_at
from lobby_operator.planner.placement import UNHEARD_SECONDS, balance, open_lobbies
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import (
    SCALING_BACKOFF,
    SCALING_DOWN,
    SCALING_LIMITED,
    SCALING_ROLLING,
    SCALING_STEADY,
    SCALING_UP,
    ActionReason,
    Finding,
)
from lobby_operator.planner.rollout import drain_is_pointless, next_batch, roll_out
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase, lobby_name
from lobby_operator.planner.timers import due
from lobby_operator.settings import PlannerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done, and where new clients go.

    Attributes:
        actions: in the order in which they are to be done.
        open: the lobbies that new clients are to try, in order.
        wake_at: when the clock alone will make a difference; None: plan again when something is observed.
        scaling: whether there are as many lobbies as are needed.
        complete: it was planned from a complete observation. Otherwise there is no action, and no status to be written.
    """

    actions: tuple[Action, ...] = ()
    open: tuple[LobbyState, ...] = ()
    wake_at: float | None = None
    scaling: Finding
    complete: bool = True

    @property
    def latest(self) -> LobbyState | None:
        """The lobby that new clients are sent to now."""
        return self.open[0] if self.open else None


def plan(spec: PlannerSpec, seen: Observed, now: float, settings: PlannerSettings | None = None) -> Plan:
    """Decides.

    Args:
        spec: what is wanted.
        seen: what was observed, by `tracker.observe_fold`.
        now: the time, on the clock of `seen`.
        settings: the planner's own times and limits.
    """
    draft = PlanBuilder(spec, settings or PlannerSettings(), seen, balance(spec, seen), now)
    if not seen.complete:
        return Plan(open=open_lobbies(draft.balance), scaling=_scaling(draft), complete=False)
    _take_away_lost(draft)
    _finish_drains(draft)
    _keep_maximum(draft)
    _make(draft)
    roll_out(draft)
    end_empty(draft)
    compact(draft)
    _wake_for_phases(draft)
    return Plan(
        actions=tuple(draft.actions),
        open=open_lobbies(draft.balance, frozenset(draft.leaving)),
        wake_at=draft.wake_at,
        scaling=_scaling(draft),
    )


def _take_away_lost(draft: PlanBuilder) -> None:
    for lobby in draft.seen.lobbies:
        if lobby.phase is Phase.ENDED and not lobby.told_to_end:
            draft.act(Delete(lobby.name, Reason(ActionReason.ENDED)))
        elif lobby.phase is Phase.STARTING and lobby.outdated:
            draft.act(Delete(lobby.name, Reason(ActionReason.NEVER_NEEDED)))
        elif lobby.phase is Phase.UNRESPONSIVE:
            since = draft.now if lobby.unresponsive_since is None else lobby.unresponsive_since
            if not due(since, draft.settings.silent_seconds, draft.now):
                draft.wake(since + draft.settings.silent_seconds)
            elif lobby.ready_at is None:
                reason = Reason(ActionReason.NEVER_ANSWERED, seconds=round(draft.now - lobby.created_at, 1))
                draft.act(Delete(lobby.name, reason))
            else:
                draft.act(Delete(lobby.name, Reason(ActionReason.UNRESPONSIVE, seconds=round(draft.now - since, 1))))


def _finish_drains(draft: PlanBuilder) -> None:
    for lobby in draft.seen.lobbies:
        since = lobby.draining_since
        if since is None or lobby.phase not in (Phase.DRAINING, Phase.UNRESPONSIVE) or lobby.name in draft.leaving:
            continue
        seconds = round(draft.now - since, 1)
        if lobby.phase is Phase.DRAINING and lobby.refusing and lobby.clients == 0:
            draft.act(Delete(lobby.name, Reason(ActionReason.DRAINED)))
        elif due(since, draft.spec.drain_seconds, draft.now):
            draft.act(Delete(lobby.name, Reason(ActionReason.DRAIN_OVERDUE, seconds=seconds, clients=lobby.clients)))
        elif drain_is_pointless(draft, lobby):
            maximum = draft.spec.max_replicas
            draft.act(Delete(lobby.name, Reason(ActionReason.DRAIN_POINTLESS, clients=lobby.clients, maximum=maximum)))
        else:
            draft.wake(since + draft.spec.drain_seconds)
            if lobby.phase is Phase.DRAINING and not lobby.refusing and not lobby.expected:
                draft.act(Drain(lobby.name, Reason(ActionReason.DRAIN_UNHEARD, seconds=seconds)))


def _keep_maximum(draft: PlanBuilder) -> None:
    """The sparsest lobbies go.

    Those that start or are silent are left alone, we can't tell whether somebody is in there. When they answer they are
    counted, and the emptiest go then; otherwise they are given up soon.
    """
    running = draft.seen.in_phase(Phase.READY, Phase.RECOVERING)
    excess = len(running) - draft.spec.max_replicas
    if excess > 0:
        running.sort(key=lambda lobby: (not lobby.outdated, lobby.clients, -lobby.index))
        reason = Reason(ActionReason.OVER_MAXIMUM, running=len(running), maximum=draft.spec.max_replicas)
        for lobby in running[:excess]:
            draft.act(Drain(lobby.name, reason))


def _make(draft: PlanBuilder) -> None:
    spec, seen, seats = draft.spec, draft.seen, draft.balance
    running = sum(
        lobby.phase in (Phase.STARTING, Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE)
        and lobby.name not in draft.leaving
        for lobby in seen.lobbies
    )
    replaced = next_batch(draft)
    rolling = sum(lobby.clients for lobby in replaced)
    free = seats.free + seats.starting * spec.seats
    for_floor = max(0, spec.floor - (running - len(replaced)))
    for_seats = max(0, -((free - seats.needed - rolling) // spec.seats))
    wanted = max(for_floor, for_seats)
    if wanted == 0:
        return
    existing = sum(lobby.phase is not Phase.ENDED for lobby in seen.lobbies)
    room = max(0, spec.max_replicas - existing)
    draft.missing = max(0, wanted - room)
    count = min(wanted, room, _may_start(draft))
    if for_seats and seats.waiting:
        reason = Reason(ActionReason.CLIENTS_WAIT, waiting=seats.waiting, moving=seats.moving + rolling, free=free)
    elif for_seats:
        reason = Reason(ActionReason.SPARE_SEATS_LOW, free=free, spare=spec.spare, moving=seats.moving + rolling)
    else:
        reason = Reason(ActionReason.BELOW_REPLICAS, running=running - len(replaced), replicas=spec.floor)
    # The next index after those that exist: a second operator, or this one after a restart, comes to the same names, and
    # what was made once can't be made twice.
    first = max((lobby.index for lobby in seen.lobbies), default=0) + 1
    for index in range(first, first + count):
        draft.act(Create(lobby_name(spec.lobby, index), reason))


def _may_start(draft: PlanBuilder) -> int:
    """How many lobbies may be made now. After a failed start, one at a time until one lasts."""
    failures = draft.seen.failures
    starting = len(draft.seen.in_phase(Phase.STARTING))
    if failures.count == 0:
        return max(0, draft.settings.max_starting - starting)
    # Once is chance (somebody kills a lobby), and clients may wait: the second try is at once.
    least, most = draft.settings.min_backoff_seconds, draft.settings.max_backoff_seconds
    seconds = backoff(least, most, failures.count - 1) if failures.count > 1 else 0.0
    if starting:
        draft.wake(failures_over_at(failures, draft.seen.lobbies, draft.settings))
        return 0
    if not due(failures.last_at, seconds, draft.now):
        draft.backing_off = True
        draft.wake(failures.last_at + seconds)
        return 0
    return 1


def _wake_for_phases(draft: PlanBuilder) -> None:
    """Phases, and seats that count, which the clock alone changes when readings are folded again."""
    for lobby in draft.seen.lobbies:
        if lobby.phase is Phase.STARTING:
            draft.wake(lobby.created_at + draft.settings.start_seconds)
        elif lobby.phase is Phase.RECOVERING:
            draft.wake(lobby.recovered_at)
        elif draft.seen.waiting and lobby.unheard_since is not None and lobby.name not in draft.balance.useless:
            draft.wake(lobby.unheard_since + UNHEARD_SECONDS)


def _scaling(draft: PlanBuilder) -> Finding:
    seen = draft.seen
    created = sum(isinstance(action, Create) for action in draft.actions)
    draining = seen.in_phase(Phase.DRAINING)
    leaving = [lobby for lobby in draft.seen.lobbies if lobby.name in draft.leaving and lobby.phase is Phase.READY]
    if draft.backing_off:
        return Finding(SCALING_BACKOFF, {"failures": seen.failures.count})
    if draft.missing:
        return Finding(SCALING_LIMITED, {"missing": draft.missing, "maximum": draft.spec.max_replicas})
    outdated = sum(
        lobby.outdated for lobby in seen.in_phase(Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE, Phase.DRAINING)
    )
    if outdated:
        return Finding(SCALING_ROLLING, {"count": outdated})
    if created or draft.balance.starting:
        return Finding(SCALING_UP, {"count": created + draft.balance.starting})
    if draining or leaving:
        drained = [*draining, *leaving]
        clients = sum(lobby.clients for lobby in drained)
        return Finding(SCALING_DOWN, {"count": len(drained), "clients": clients})
    running = len(seen.in_phase(Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE))
    return Finding(SCALING_STEADY, {"lobbies": running})
