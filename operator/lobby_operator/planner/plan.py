"""What to do now: a pure function of the desired state, the observed state, and the time.

The passes run in order; each is a small function that adds actions to the plan:

1. `_delete_lost`: deletes lobbies that have ended, have been unresponsive for too long, or live but never answer.
2. `_end_drains`: deletes draining lobbies that are empty or overdue. No other responsive lobby is ever deleted: a lobby that
   takes clients is drained first, even an empty one, since a client may be on its way.
3. `_enforce_maximum`: drains the sparsest lobbies if `maxReplicas` was lowered.
4. `_scale_up`: creates the lobbies that `replicas` requires, and those whose seats are missing for waiting clients, moving
   clients and `spareSeats`. Seats of starting lobbies count as free, also if they live but have not answered yet
   (`placement.py`). In small batches, and with a back-off while starts fail.
5. `roll_out` (`rollout.py`): drains lobbies of an older revision once their clients have seats elsewhere, and the stream
   if they have it now.
6. `drain_empty`, `compact` (`compaction.py`): drain lobbies that are not needed, each only if the previous passes changed
   nothing.

Scale to zero: with `replicas` 0 and `spareSeats` above 0 one lobby stays, so that no client ever waits for a start. With
`spareSeats` 0 the last lobby is removed when it has been empty for `emptySeconds`, and the first client waits.

`maxReplicas` limits all lobbies that exist, including draining and ending ones: they are processes, and may have origin
connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count as numbers
from itertools import islice
from math import inf

from lobby_gateway.process.backoff import ceiling
from lobby_operator.planner.actions import Action, Create, Delete, Drain, Reason
from lobby_operator.planner.compaction import compact, drain_empty
from lobby_operator.planner.history import failures_over_at
from lobby_operator.planner.origin_stream import streaming_outdated
from lobby_operator.planner.placement import Capacity, late_seconds, measure_capacity, open_lobbies, unheard_patience
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import (
    SCALING_BACKOFF,
    SCALING_DOWN,
    SCALING_HELD,
    SCALING_LIMITED,
    SCALING_ROLLING,
    SCALING_ROLLOUT_STOPPED,
    SCALING_STEADY,
    SCALING_UNREACHABLE,
    SCALING_UP,
    STALLED,
    ActionReason,
    ConditionState,
)
from lobby_operator.planner.rollout import drain_is_pointless, next_batch, roll_out
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Held, LobbyState, Observed, Phase, lobby_name
from lobby_operator.planner.timers import due
from lobby_operator.settings import PlannerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, and where new clients go.

    Attributes:
        actions: in the order in which to do them.
        open: the lobbies that new clients should try, in order.
        wake_at: when to plan again even if nothing else changes; None: not before something changes.
        scaling: whether there are as many lobbies as needed.
        early: what `scaling` names is so recent that it may well pass by itself: nobody has to do anything yet.
        silent: lobbies that the platform considers healthy but that do not answer us.
        complete: planned from a complete observation. Otherwise there are no actions, and no status should be written.
    """

    actions: tuple[Action, ...] = ()
    open: tuple[LobbyState, ...] = ()
    wake_at: float | None = None
    scaling: ConditionState
    early: bool = False
    silent: tuple[LobbyState, ...] = ()
    complete: bool = True

    @property
    def latest(self) -> LobbyState | None:
        """The lobby that new clients are sent to now."""
        return self.open[0] if self.open else None


def plan(
    spec: PlannerSpec,
    observed: Observed,
    now: float,
    settings: PlannerSettings | None = None,
    *,
    capacity: Capacity | None = None,
) -> Plan:
    """Returns what to do now.

    Args:
        spec: desired state.
        observed: observed state, from `history.observe`.
        now: the time, on the clock of `observed`.
        settings: times and limits of the planner.
        capacity: as `history.observe` measured it for the same spec and settings; None: it is measured here.
    """
    settings = settings or PlannerSettings()
    capacity = capacity or measure_capacity(spec, observed, settings)
    builder = PlanBuilder(spec, settings, observed, capacity, now)
    if not observed.complete:
        return Plan(
            open=open_lobbies(builder.capacity),
            scaling=_scaling(builder),
            silent=builder.capacity.silent,
            complete=False,
        )
    _delete_lost(builder)
    _end_drains(builder)
    _enforce_maximum(builder)
    _scale_up(builder)
    roll_out(builder)
    drain_empty(builder)
    compact(builder)
    _wake_for_phases(builder)
    return Plan(
        actions=tuple(builder.actions),
        open=open_lobbies(builder.capacity, frozenset(builder.leaving)),
        wake_at=builder.wake_at,
        scaling=_scaling(builder),
        early=_early(builder),
        silent=builder.capacity.silent,
    )


def _delete_lost(builder: PlanBuilder) -> None:
    for lobby in builder.observed.lobbies:
        if lobby.phase is Phase.ENDED and not lobby.delete_requested:
            builder.act(Delete(lobby.name, Reason(ActionReason.ENDED)))
        elif lobby.phase is Phase.STARTING and lobby.outdated:
            builder.act(Delete(lobby.name, Reason(ActionReason.NEVER_NEEDED)))
        elif lobby.unheard_since is not None and due(_broken_at(builder, lobby), 0.0, builder.now):
            reason = Reason(ActionReason.NEVER_ANSWERED, seconds=round(builder.now - lobby.created_at, 1))
            builder.act(Delete(lobby.name, reason))
        elif lobby.phase is Phase.UNRESPONSIVE:
            since = builder.now if lobby.unresponsive_since is None else lobby.unresponsive_since
            if not due(since, builder.settings.unresponsive_seconds, builder.now):
                builder.wake(since + builder.settings.unresponsive_seconds)
            elif lobby.ready_at is None:
                reason = Reason(ActionReason.NEVER_ANSWERED, seconds=round(builder.now - lobby.created_at, 1))
                builder.act(Delete(lobby.name, reason))
            else:
                builder.act(
                    Delete(lobby.name, Reason(ActionReason.UNRESPONSIVE, seconds=round(builder.now - since, 1)))
                )


def _broken_at(builder: PlanBuilder, lobby: LobbyState) -> float:
    """When a lobby that lives but has never answered us is certainly broken; never, while it may be we that are cut off.

    It has no clients: no greeter was ever told about it. It is broken if other lobbies answer, and is deleted if no other
    can be created beside it, to see whether that one does.
    """
    observed, settings = builder.observed, builder.settings
    if lobby.phase is not Phase.STARTING or lobby.unheard_since is None:
        return inf
    since = lobby.created_at if lobby.starting_since is None else lobby.starting_since
    late = max(since + builder.spec.start_seconds, lobby.unheard_since + settings.unheard_seconds)
    if observed.heard_since is not None:
        return max(late, observed.heard_since + settings.unresponsive_seconds)
    existing = [each for each in observed.lobbies if each.phase is not Phase.ENDED]
    return late if existing == [lobby] and builder.spec.max_replicas == 1 else inf


def _end_drains(builder: PlanBuilder) -> None:
    for lobby in builder.observed.lobbies:
        since = lobby.draining_since
        if since is None or lobby.phase not in (Phase.DRAINING, Phase.UNRESPONSIVE) or lobby.name in builder.leaving:
            continue
        seconds = round(builder.now - since, 1)
        if lobby.phase is Phase.DRAINING and lobby.drain_confirmed and lobby.clients == 0:
            builder.act(Delete(lobby.name, Reason(ActionReason.DRAINED)))
        elif due(since, builder.spec.drain_seconds, builder.now):
            builder.act(Delete(lobby.name, Reason(ActionReason.DRAIN_OVERDUE, seconds=seconds, clients=lobby.clients)))
        elif drain_is_pointless(builder, lobby):
            maximum = builder.spec.max_replicas
            builder.act(
                Delete(lobby.name, Reason(ActionReason.DRAIN_POINTLESS, clients=lobby.clients, maximum=maximum))
            )
        else:
            builder.wake(since + builder.spec.drain_seconds)
            if lobby.phase is Phase.DRAINING and not lobby.drain_confirmed and not lobby.expected:
                builder.act(Drain(lobby.name, Reason(ActionReason.DRAIN_UNCONFIRMED, seconds=seconds)))


def _enforce_maximum(builder: PlanBuilder) -> None:
    """Drains the sparsest lobbies.

    Starting and unresponsive lobbies are left alone, because they may have clients. Once they answer, they count, and the
    sparsest lobbies are drained then; if they don't, they are soon deleted.
    """
    running = builder.observed.in_phase(Phase.READY, Phase.RECOVERING)
    excess = len(running) - builder.spec.max_replicas
    if excess > 0:
        # While older lobbies have the stream, new ones without it go first; otherwise the older ones do.
        kept = builder.capacity.with_stream if builder.capacity.guarded else frozenset()
        running.sort(key=lambda lobby: (lobby.name in kept, not lobby.outdated, lobby.clients, -lobby.index))
        reason = Reason(ActionReason.OVER_MAXIMUM, running=len(running), maximum=builder.spec.max_replicas)
        for lobby in running[:excess]:
            builder.act(Drain(lobby.name, reason))


def _scale_up(builder: PlanBuilder) -> None:
    spec, observed, capacity = builder.spec, builder.observed, builder.capacity
    running = sum(
        lobby.phase in (Phase.STARTING, Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE)
        and lobby.name not in builder.leaving
        for lobby in observed.lobbies
    )
    batch = next_batch(builder)
    rolling = sum(lobby.clients for lobby in batch)
    free = capacity.free + capacity.starting * spec.seats
    for_replicas = max(0, spec.min_replicas - (running - len(batch)))
    for_seats = max(0, -((free - capacity.needed - rolling) // spec.seats))
    needed = max(for_replicas, for_seats)
    if needed == 0:
        return
    existing = sum(lobby.phase is not Phase.ENDED for lobby in observed.lobbies)
    room = max(0, spec.max_replicas - existing)
    builder.missing = max(0, needed - room)
    count = min(needed, room, _startable(builder))
    if for_seats and capacity.waiting:
        reason = Reason(
            ActionReason.CLIENTS_WAIT, waiting=capacity.waiting, moving=capacity.moving + rolling, free=free
        )
    elif for_seats:
        reason = Reason(ActionReason.SPARE_SEATS_LOW, free=free, spare=spec.spare, moving=capacity.moving + rolling)
    else:
        reason = Reason(ActionReason.BELOW_REPLICAS, running=running - len(batch), replicas=spec.min_replicas)
    # The next free index: another operator, or this one after a restart, chooses the same names, so nothing is created
    # twice.
    first = max((lobby.index for lobby in observed.lobbies), default=0) + 1
    for index in islice((each for each in numbers(first) if each not in observed.taken), count):
        builder.act(Create(lobby_name(spec.lobby, index), reason))


def _startable(builder: PlanBuilder) -> int:
    """How many lobbies may be created now: after a failed start very few at a time, until one lasts."""
    failures, settings = builder.observed.failures, builder.settings
    waited_for = {*builder.capacity.late, *(lobby.name for lobby in builder.capacity.silent)}
    starting = sum(lobby.name not in waited_for for lobby in builder.observed.in_phase(Phase.STARTING))
    if failures.count == 0:
        return max(0, settings.max_starting - starting)
    # One failure may be chance (someone killed the lobby), and clients may be waiting: the second try is immediate.
    first, longest, most = settings.min_backoff_seconds, settings.max_backoff_seconds, 1
    if builder.observed.lost:
        longest = min(longest, settings.lost_backoff_share * builder.spec.lost_seconds)
        most = settings.lost_starting
    seconds = ceiling(first, longest, failures.count - 2) if failures.count > 1 else 0.0
    if starting < most and due(failures.last_at, seconds, builder.now):
        return most - starting
    builder.wake(failures_over_at(failures, builder.observed.lobbies, settings))
    if starting < most:
        builder.backing_off = True
        builder.wake(failures.last_at + seconds)
    return 0


def _wake_for_phases(builder: PlanBuilder) -> None:
    """Wakes when the next phase, or the number of countable seats, changes with time alone."""
    for lobby in builder.observed.lobbies:
        if lobby.unheard_since is not None:
            _wake_for_unheard(builder, lobby, lobby.unheard_since)
        elif lobby.phase is Phase.STARTING:
            if lobby.starting_since is not None:
                builder.wake(lobby.starting_since + builder.spec.start_seconds)
            elif lobby.held is not None and SCALING_HELD.get(lobby.held.hold) in STALLED:
                builder.wake_later(lobby.created_at + builder.settings.held_stalled_seconds)  # then it is stalled
            if builder.observed.lost and lobby.name not in builder.capacity.late:
                builder.wake_later(lobby.created_at + late_seconds(builder.spec, builder.settings))
        elif lobby.phase is Phase.RECOVERING:
            builder.wake(lobby.recovered_at)
        elif (
            builder.observed.waiting
            and lobby.unreachable_since is not None
            and lobby.name not in builder.capacity.unreachable
        ):
            builder.wake(lobby.unreachable_since + builder.settings.unreachable_seconds)
        if lobby.stream_lost_at is not None and lobby.outdated:
            builder.wake_later(lobby.stream_lost_at + builder.settings.stream_memory_seconds)
        if lobby.unreachable_since is not None and lobby not in builder.capacity.silent:
            builder.wake(lobby.unreachable_since + builder.settings.unheard_seconds)  # then the condition names it


def _wake_for_unheard(builder: PlanBuilder, lobby: LobbyState, since: float) -> None:
    settings = builder.settings
    for at in (
        since + unheard_patience(lobby, settings),
        since + settings.unheard_seconds,
        _broken_at(builder, lobby),
    ):
        builder.wake_later(at)


def _held(observed: Observed) -> list[tuple[LobbyState, Held]]:
    """The lobbies that something keeps from starting, and what; the one that has waited longest comes first."""
    starting = sorted(observed.in_phase(Phase.STARTING), key=lambda lobby: lobby.created_at)
    return [(lobby, lobby.held) for lobby in starting if lobby.held is not None and lobby.held.hold in SCALING_HELD]


def _early(builder: PlanBuilder) -> bool:
    """Whether the lobby that has been held longest has been so only for a short time."""
    return any(
        not due(lobby.created_at, builder.settings.held_stalled_seconds, builder.now)
        for lobby, _ in _held(builder.observed)[:1]
    )


def _starts_fail(builder: PlanBuilder, created: int) -> bool:
    """Whether starts failed repeatedly and none has lasted since: also during the next attempt, which may fail like them."""
    trying = created or builder.missing or builder.observed.in_phase(Phase.STARTING)
    return builder.backing_off or (builder.observed.failures.count > 1 and bool(trying))


def _scaling(builder: PlanBuilder) -> ConditionState:
    observed = builder.observed
    created = sum(isinstance(action, Create) for action in builder.actions)
    draining = observed.in_phase(Phase.DRAINING)
    leaving = [
        lobby for lobby in builder.observed.lobbies if lobby.name in builder.leaving and lobby.phase is Phase.READY
    ]
    silent = builder.capacity.silent
    if silent:
        return ConditionState(SCALING_UNREACHABLE, {"count": len(silent), "lobby": silent[0].name})
    for lobby, held in _held(observed):
        return ConditionState(SCALING_HELD[held.hold], {"lobby": lobby.name, "problem": held.problem})
    if _starts_fail(builder, created):
        return ConditionState(SCALING_BACKOFF, {"failures": observed.failures.count})
    if builder.without_stream is not None:
        lobby, count = builder.without_stream, len(streaming_outdated(observed, builder.settings))
        problem = lobby.origin.reason if lobby.origin is not None else ""
        return ConditionState(SCALING_ROLLOUT_STOPPED, {"lobby": lobby.name, "problem": problem, "count": count})
    if builder.missing:
        return ConditionState(SCALING_LIMITED, {"missing": builder.missing, "maximum": builder.spec.max_replicas})
    outdated = sum(
        lobby.outdated for lobby in observed.in_phase(Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE, Phase.DRAINING)
    )
    if outdated:
        return ConditionState(SCALING_ROLLING, {"count": outdated})
    if created or builder.capacity.starting:
        return ConditionState(SCALING_UP, {"count": created + builder.capacity.starting})
    if draining or leaving:
        drained = [*draining, *leaving]
        clients = sum(lobby.clients for lobby in drained)
        return ConditionState(SCALING_DOWN, {"count": len(drained), "clients": clients})
    running = len(observed.in_phase(Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE))
    return ConditionState(SCALING_STEADY, {"lobbies": running})
