"""Replacing lobbies that were made from an older revision: another image, origin or template.

Surge, drain, delete, in batches: seats for the clients of the next few outdated lobbies are made first
(`planner._make`), then those lobbies drain, and greeters take their clients over. New clients go to lobbies of the
wanted revision as soon as one has a seat. The sparsest goes first: it needs the fewest seats elsewhere.

Where `maxReplicas` leaves no room for a surge, one lobby drains all the same, the sparsest: its clients go to free
seats elsewhere. Those who find none can't find one before it is gone, since its place is what is missing. So it is
deleted at once (`drain_is_pointless`), and their greeters hold them until its successor is up. Otherwise a Lobby with
one lobby at the most could never be changed.
"""

from __future__ import annotations

from math import ceil

from lobby_operator.planner.actions import Drain, Reason
from lobby_operator.planner.placement import open_lobbies
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import LobbyState, Phase


def next_batch(draft: PlanBuilder) -> tuple[LobbyState, ...]:
    """The outdated lobbies that are to be replaced next; at least one, once those before are through."""
    balanced, share = draft.balance, draft.settings.move_share
    outdated = balanced.outdated
    if not outdated:
        return ()
    ready = (*balanced.taking, *balanced.served_out, *outdated)
    clients = sum(lobby.clients for lobby in ready)
    budget = max(share * clients, *(lobby.seats for lobby in outdated)) - balanced.moving
    batch: list[LobbyState] = []
    for lobby in outdated[: max(1, ceil(share * len(ready)))]:
        budget -= lobby.clients
        if budget < 0:
            break
        batch.append(lobby)
    return tuple(batch)


def roll_out(draft: PlanBuilder) -> None:
    """Drains outdated lobbies whose clients have seats in others by now."""
    balanced = draft.balance
    if any(isinstance(action, Drain) for action in draft.actions):
        return  # `balance` no longer holds
    reason = Reason(ActionReason.OUTDATED, outdated=len(balanced.outdated))
    free = balanced.free - balanced.needed
    left = len(balanced.taking) + len(balanced.served_out) + len(balanced.outdated)
    for lobby in next_batch(draft):
        free -= lobby.clients
        left -= 1
        if free < 0 or left < draft.spec.floor:
            break
        draft.act(Drain(lobby.name, reason))
    if balanced.outdated and not draft.actions and _stuck(draft):
        draft.act(Drain(balanced.outdated[0].name, reason))


def drain_is_pointless(draft: PlanBuilder, lobby: LobbyState) -> bool:
    """Whether the clients that a draining outdated lobby has left can't have a seat before it is gone."""
    return (
        lobby.outdated
        and lobby.refusing
        and lobby.clients > 0
        and _at_maximum(draft)
        and all(each.phase in (Phase.READY, Phase.DRAINING, Phase.ENDED) for each in draft.seen.lobbies)
        and not draft.leaving
        and not open_lobbies(draft.balance)
    )


def _stuck(draft: PlanBuilder) -> bool:
    """Whether nothing will give a further lobby room: there are as many as may be, and all are ready."""
    return _at_maximum(draft) and all(each.phase in (Phase.READY, Phase.ENDED) for each in draft.seen.lobbies)


def _at_maximum(draft: PlanBuilder) -> bool:
    return sum(each.phase is not Phase.ENDED for each in draft.seen.lobbies) >= draft.spec.max_replicas
