"""Replaces lobbies that were created from an older revision: another image, origin or template.

Surge, drain, delete, in batches: first, lobbies are created with seats for the clients of the next few outdated ones
(`plan._scale_up`); then those drain, and greeters move their clients. New clients go to lobbies of the current
revision as soon as one has a seat. The sparsest goes first: it needs the fewest seats elsewhere.

Clients that have the origin's stream keep it. If an outdated lobby has the stream, the new ones that are to take its clients
are asked to connect to their origin first (`Preconnect`; with `connect: OnDemand` they would wait for a client), and nothing
drains before they are connected. If they never are, because the new URL is wrong, say, the rollout stops there and says why.
Outdated lobbies without the stream don't wait, so a corrected revision replaces a wrong one.

If `maxReplicas` leaves no room for a surge, the sparsest lobby drains all the same: its clients move to free seats
elsewhere. Clients that find none cannot find one before the lobby is gone, since it occupies the very slot that is
missing. So it is deleted at once (`drain_is_pointless`), and greeters hold those clients until its successor is up.
Otherwise a Lobby with `maxReplicas: 1` could never be changed. The successor then has to get the stream before the next one
drains.
"""

from __future__ import annotations

from math import ceil

from lobby_operator.planner.actions import Drain, Preconnect, Reason
from lobby_operator.planner.placement import open_lobbies
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import LobbyState, Phase
from lobby_operator.planner.timers import due


def next_batch(builder: PlanBuilder) -> tuple[LobbyState, ...]:
    """The outdated lobbies to replace next; at least one, once the previous batch is done."""
    capacity, share = builder.capacity, builder.settings.move_share
    outdated = _order(builder)
    if not outdated:
        return ()
    ready = (*capacity.accepting, *capacity.superseded, *outdated)
    clients = sum(lobby.clients for lobby in ready)
    budget = max(share * clients, *(lobby.seats for lobby in outdated)) - capacity.moving
    batch: list[LobbyState] = []
    for lobby in outdated[: max(1, ceil(share * len(ready)))]:
        budget -= lobby.clients
        if budget < 0:
            break
        batch.append(lobby)
    return tuple(batch)


def roll_out(builder: PlanBuilder) -> None:
    """Drains outdated lobbies for whose clients other lobbies have free seats, and the stream if they have it now."""
    capacity = builder.capacity
    if any(isinstance(action, Drain) for action in builder.actions):
        return  # the measured capacity no longer holds
    batch = next_batch(builder)
    _preconnect(builder, batch)
    reason = Reason(ActionReason.OUTDATED, outdated=len(capacity.outdated))
    free = capacity.free - capacity.needed
    streaming = _free_with_stream(builder) - capacity.waiting - capacity.moving
    left = len(capacity.accepting) + len(capacity.superseded) + len(capacity.outdated)
    for lobby in batch:
        free -= lobby.clients
        left -= 1
        if free < 0 or left < builder.spec.min_replicas:
            break
        if lobby.name in capacity.with_stream:
            streaming -= lobby.clients
            if not _may_end(builder, lobby) or (lobby.clients and streaming < 0):
                _stop(builder)
                break
        builder.act(Drain(lobby.name, reason))
    if capacity.outdated and not builder.actions and _stuck(builder):
        first = _order(builder)[0]
        if _may_end(builder, first) or not _current(builder):
            builder.act(Drain(first.name, reason))
        else:
            _stop(builder)


def drain_is_pointless(builder: PlanBuilder, lobby: LobbyState) -> bool:
    """Whether the remaining clients of a draining outdated lobby cannot get a seat before it is gone."""
    return (
        lobby.outdated
        and lobby.drain_confirmed
        and lobby.clients > 0
        and _at_maximum(builder)
        and all(each.phase in (Phase.READY, Phase.DRAINING, Phase.ENDED) for each in builder.observed.lobbies)
        and not builder.leaving
        and not open_lobbies(builder.capacity)
    )


def _order(builder: PlanBuilder) -> list[LobbyState]:
    """The outdated lobbies in the order of replacement: those without the stream first, since they need not wait for it."""
    return sorted(builder.capacity.outdated, key=lambda lobby: lobby.name in builder.capacity.with_stream)


def _current(builder: PlanBuilder) -> list[LobbyState]:
    """The lobbies of the current revision that are there to stay."""
    return [
        lobby
        for lobby in builder.observed.in_phase(Phase.STARTING, Phase.READY, Phase.RECOVERING, Phase.UNRESPONSIVE)
        if not lobby.outdated and lobby.name not in builder.leaving
    ]


def _may_end(builder: PlanBuilder, lobby: LobbyState) -> bool:
    """Whether a lobby of the current revision gets the stream that this one has.

    A lobby without clients that nothing replaces takes it from nobody.
    """
    streaming = builder.capacity.with_stream
    current = _current(builder)
    return (
        lobby.name not in streaming or any(each.name in streaming for each in current) or not (lobby.clients or current)
    )


def _free_with_stream(builder: PlanBuilder) -> int:
    capacity = builder.capacity
    return sum(capacity.free_in(lobby) for lobby in capacity.accepting if lobby.name in capacity.with_stream)


def _preconnect(builder: PlanBuilder, batch: tuple[LobbyState, ...]) -> None:
    """Asks as many new lobbies to connect as the clients of the batch need, and asks again before they give up."""
    capacity = builder.capacity
    moving = sum(lobby.clients for lobby in batch if lobby.name in capacity.with_stream)
    if not any(lobby.name in capacity.with_stream for lobby in batch):
        return
    seats = 0
    for lobby in capacity.accepting:
        if seats and seats >= capacity.waiting + capacity.moving + moving:
            break
        seats += capacity.free_in(lobby)
        if lobby.clients == 0 and not lobby.preconnected:
            builder.act(Preconnect(lobby.name, Reason(ActionReason.BEFORE_MOVES, clients=moving)))


def _stop(builder: PlanBuilder) -> None:
    """Notes the new lobby that the rollout waits for, if that has taken long."""
    for lobby in builder.capacity.accepting:
        fails = lobby.origin is not None and lobby.origin.reason  # also during the next attempt
        if not fails or lobby.ready_at is None or lobby.name in builder.capacity.with_stream:
            continue
        if due(lobby.ready_at, builder.settings.rollout_stalled_seconds, builder.now):
            builder.without_stream = lobby
            return
        builder.wake(lobby.ready_at + builder.settings.rollout_stalled_seconds)


def _stuck(builder: PlanBuilder) -> bool:
    """Whether nothing will make room for another lobby: `maxReplicas` exist, and all of them are ready."""
    return _at_maximum(builder) and all(each.phase in (Phase.READY, Phase.ENDED) for each in builder.observed.lobbies)


def _at_maximum(builder: PlanBuilder) -> bool:
    return sum(each.phase is not Phase.ENDED for each in builder.observed.lobbies) >= builder.spec.max_replicas
