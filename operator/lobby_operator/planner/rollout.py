"""Replaces lobbies that were created from an older revision: another image, origin or template.

Surge, drain, delete, in batches: first, lobbies are created with seats for the clients of the next few outdated ones
(`plan._scale_up`); then those drain, and greeters move their clients. New clients go to lobbies of the current
revision as soon as one has a seat. The sparsest goes first: it needs the fewest seats elsewhere.

If `maxReplicas` leaves no room for a surge, the sparsest lobby drains all the same: its clients move to free seats
elsewhere. Clients that find none cannot find one before the lobby is gone, since it occupies the very slot that is
missing. So it is deleted at once (`drain_is_pointless`), and greeters hold those clients until its successor is up.
Otherwise a Lobby with `maxReplicas: 1` could never be changed.
"""

from __future__ import annotations

from math import ceil

from lobby_operator.planner.actions import Drain, Reason
from lobby_operator.planner.placement import open_lobbies
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import LobbyState, Phase


def next_batch(builder: PlanBuilder) -> tuple[LobbyState, ...]:
    """The outdated lobbies to replace next; at least one, once the previous batch is done."""
    capacity, share = builder.capacity, builder.settings.move_share
    outdated = capacity.outdated
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
    """Drains outdated lobbies for whose clients other lobbies have free seats."""
    capacity = builder.capacity
    if any(isinstance(action, Drain) for action in builder.actions):
        return  # the measured capacity no longer holds
    reason = Reason(ActionReason.OUTDATED, outdated=len(capacity.outdated))
    free = capacity.free - capacity.needed
    left = len(capacity.accepting) + len(capacity.superseded) + len(capacity.outdated)
    for lobby in next_batch(builder):
        free -= lobby.clients
        left -= 1
        if free < 0 or left < builder.spec.min_replicas:
            break
        builder.act(Drain(lobby.name, reason))
    if capacity.outdated and not builder.actions and _stuck(builder):
        builder.act(Drain(capacity.outdated[0].name, reason))


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


def _stuck(builder: PlanBuilder) -> bool:
    """Whether nothing will make room for another lobby: `maxReplicas` exist, and all of them are ready."""
    return _at_maximum(builder) and all(each.phase in (Phase.READY, Phase.ENDED) for each in builder.observed.lobbies)


def _at_maximum(builder: PlanBuilder) -> bool:
    return sum(each.phase is not Phase.ENDED for each in builder.observed.lobbies) >= builder.spec.max_replicas
