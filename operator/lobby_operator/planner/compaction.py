"""Which lobbies could be spared, and when they are: the empty ones after a while, sparse ones by moving their clients.

A lobby can be spared when the free seats of those that stay hold its clients, everybody who waits or moves, and the spare
seats. The sparsest goes first: that moves the fewest clients, and every client moves to a lobby that is at least as full as
its own was. With lobbies of equal size ceil((clients + spare) / seats) of them stay, which is the fewest possible.

What is spared must have been superfluous all the time (`window.py`), and it is looked at again at the moment of acting. No
clients are moved while somebody waits, or while it is not settled which lobbies there will be.
"""

from __future__ import annotations

from collections.abc import Iterable

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.actions import Drain, Reason
from lobby_operator.planner.placement import Balance
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.stabilization_window import least, rises_at
from lobby_operator.planner.state import LobbyState, Phase
from lobby_operator.planner.timers import due


def spare_empty(spec: PlannerSpec, balanced: Balance) -> list[LobbyState]:
    """Empty lobbies that are not needed, the first to go first. Any part of the list can be spared, too."""
    empty = (lobby for lobby in _first_to_go(spec, balanced) if lobby.clients == 0)
    return _spare(spec, balanced, empty, all_empty=True)


def spare_sparse(spec: PlannerSpec, balanced: Balance) -> list[LobbyState]:
    """Lobbies that are not needed if clients move, empty ones among them, the first to go first."""
    return _spare(spec, balanced, _first_to_go(spec, balanced), all_empty=False)


def _first_to_go(spec: PlannerSpec, balanced: Balance) -> Iterable[LobbyState]:
    if spec.placement is Placement.PACKED:
        return reversed(balanced.taking)
    # Only into a fuller lobby here, too, or a client could be moved each time that a new lobby becomes the latest.
    most = max((lobby.clients for lobby in balanced.taking), default=0)
    older = (lobby for lobby in balanced.served_out if lobby.clients == 0 or lobby.clients < most)
    return (*older, *(lobby for lobby in reversed(balanced.taking) if lobby.clients == 0))


def _spare(
    spec: PlannerSpec, balanced: Balance, candidates: Iterable[LobbyState], *, all_empty: bool
) -> list[LobbyState]:
    if balanced.outdated:
        return []  # first all are of one revision, and then it is seen how many are needed
    spared: list[LobbyState] = []
    free, needed = balanced.free, balanced.needed
    takes = {lobby.name for lobby in balanced.taking} if balanced.served_out else None
    left = len(balanced.taking) + len(balanced.served_out)
    for lobby in candidates:
        if left <= spec.floor:
            break
        lost = balanced.free_in(lobby) if takes is None or lobby.name in takes else 0
        if free - lost < needed + lobby.clients:
            if all_empty:
                continue  # it is larger than others
            break  # a fuller one in its place would move its clients into this one
        free -= lost
        needed += lobby.clients
        left -= 1
        spared.append(lobby)
    return spared


def end_empty(draft: PlanBuilder) -> None:
    """Drains empty lobbies that were not needed for `emptySeconds`.

    They are drained first, though nobody is in them: a client may be on its way, and a lobby that drains is the only one
    of which it is certain that it takes no more.
    """
    spec, seen, now = draft.spec, draft.seen, draft.now
    if draft.resizes:
        return
    candidates = spare_empty(spec, draft.balance)
    if not candidates:
        return
    draft.wake(rises_at(seen.surplus, now, spec.empty_seconds))
    count = least(seen.surplus, now, spec.empty_seconds)
    for lobby in candidates:
        since = now if lobby.empty_since is None else lobby.empty_since
        if not due(since, spec.empty_seconds, now):
            draft.wake(since + spec.empty_seconds)
        elif count > 0:
            count -= 1
            draft.act(Drain(lobby.name, Reason(ActionReason.EMPTY, seconds=round(now - since, 1))))


def compact(draft: PlanBuilder) -> None:
    """Drains sparse lobbies into fuller ones when that was possible for `stabilizationSeconds`."""
    spec, seen, now = draft.spec, draft.seen, draft.now
    if not spec.compaction or draft.resizes or seen.waiting or seen.in_phase(Phase.STARTING, Phase.UNRESPONSIVE):
        return
    candidates = spare_sparse(spec, draft.balance)
    if not any(lobby.clients for lobby in candidates):
        return
    draft.wake(rises_at(seen.sparse, now, spec.stabilization_seconds))
    count = least(seen.sparse, now, spec.stabilization_seconds)
    clients = sum(lobby.clients for lobby in draft.balance.taking)
    clients += sum(lobby.clients for lobby in draft.balance.served_out)
    budget = max(draft.settings.move_share * clients, *(lobby.seats for lobby in candidates)) - draft.balance.moving
    for lobby in candidates[:count]:
        if lobby.clients == 0:
            continue  # end_empty's
        budget -= lobby.clients
        if budget < 0:
            break  # further ones when these are through
        reason = Reason(ActionReason.SPARSE, clients=lobby.clients, seconds=spec.stabilization_seconds)
        draft.act(Drain(lobby.name, reason))
