"""Which lobbies can be removed, and when: empty ones after a while, sparse ones by moving their clients.

A lobby can be removed if the free seats of the others suffice for its clients, for all waiting and moving clients, and for
the spare seats. The sparsest goes first: that moves the fewest clients, and each of them moves to a lobby at least as full
as its own. With lobbies of equal size, ceil((clients + spare) / seats) of them stay, which is the minimum.

A lobby is removed only if it was superfluous throughout a window (`stabilization_window.py`), and is checked again at that
moment. No clients are moved while others wait, or while lobbies are starting or unresponsive.

Nobody knows which lobby a moved client went to, and its new lobby may soon be the sparsest, because others left it. So after
clients of a draining lobby were moved, none are for `stabilizationSeconds`: compaction moves no client twice within that time.
"""

from __future__ import annotations

from collections.abc import Iterable

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.actions import Drain, Reason
from lobby_operator.planner.placement import Capacity
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.stabilization_window import least, rises_at
from lobby_operator.planner.state import LobbyState, Phase
from lobby_operator.planner.timers import due


def removable_empty(spec: PlannerSpec, capacity: Capacity) -> list[LobbyState]:
    """Empty lobbies that are not needed, in the order of removal. Any subset of them can be removed, too."""
    empty = (lobby for lobby in _removal_order(spec, capacity) if lobby.clients == 0)
    return _removable(spec, capacity, empty, all_empty=True)


def removable_sparse(spec: PlannerSpec, capacity: Capacity) -> list[LobbyState]:
    """Lobbies that are not needed if clients move, empty ones included, in the order of removal."""
    return _removable(spec, capacity, _removal_order(spec, capacity), all_empty=False)


def _removal_order(spec: PlannerSpec, capacity: Capacity) -> Iterable[LobbyState]:
    if spec.placement is Placement.PACKED:
        return reversed(capacity.accepting)
    # Here, too, clients move only to a fuller lobby; otherwise they could move each time another becomes the latest.
    most = max((lobby.clients for lobby in capacity.accepting), default=0)
    older = (lobby for lobby in capacity.superseded if lobby.clients == 0 or lobby.clients < most)
    return (*older, *(lobby for lobby in reversed(capacity.accepting) if lobby.clients == 0))


def _removable(
    spec: PlannerSpec, capacity: Capacity, candidates: Iterable[LobbyState], *, all_empty: bool
) -> list[LobbyState]:
    if capacity.outdated:
        return []  # the rollout comes first; only then is it clear how many are needed
    removable: list[LobbyState] = []
    free, needed = capacity.free, capacity.needed
    accepting = {lobby.name for lobby in capacity.accepting} if capacity.superseded else None
    left = len(capacity.accepting) + len(capacity.superseded)
    for lobby in candidates:
        if left <= spec.min_replicas:
            break
        lost = capacity.free_in(lobby) if accepting is None or lobby.name in accepting else 0
        if free - lost < needed + lobby.clients:
            if all_empty:
                continue  # it is larger than the others, so a later one may still be removable
            break  # removing a fuller one instead would move its clients into this one
        free -= lost
        needed += lobby.clients
        left -= 1
        removable.append(lobby)
    return removable


def drain_empty(builder: PlanBuilder) -> None:
    """Drains empty lobbies that were not needed for `emptySeconds`.

    They are drained before they are deleted, although empty: a client may be on its way, and only a draining lobby
    certainly takes no more.
    """
    spec, observed, now = builder.spec, builder.observed, builder.now
    if builder.resizes:
        return
    candidates = removable_empty(spec, builder.capacity)
    if not candidates:
        return
    builder.wake(rises_at(observed.surplus, now, spec.empty_seconds))
    count = least(observed.surplus, now, spec.empty_seconds)
    for lobby in candidates:
        since = now if lobby.empty_since is None else lobby.empty_since
        if not due(since, spec.empty_seconds, now):
            builder.wake(since + spec.empty_seconds)
        elif count > 0:
            count -= 1
            builder.act(Drain(lobby.name, Reason(ActionReason.EMPTY, seconds=round(now - since, 1))))


def compact(builder: PlanBuilder) -> None:
    """Drains sparse lobbies into fuller ones if that has been possible for `stabilizationSeconds`."""
    spec, observed, now = builder.spec, builder.observed, builder.now
    if (
        not spec.compaction
        or builder.resizes
        or observed.waiting
        or observed.in_phase(Phase.STARTING, Phase.UNRESPONSIVE)
    ):
        return
    candidates = removable_sparse(spec, builder.capacity)
    if not any(lobby.clients for lobby in candidates):
        return
    if observed.moved_at is not None and not due(observed.moved_at, spec.stabilization_seconds, now):
        builder.wake(observed.moved_at + spec.stabilization_seconds)
        return
    builder.wake(rises_at(observed.sparse, now, spec.stabilization_seconds))
    count = least(observed.sparse, now, spec.stabilization_seconds)
    clients = sum(lobby.clients for lobby in builder.capacity.accepting)
    clients += sum(lobby.clients for lobby in builder.capacity.superseded)
    budget = (
        max(builder.settings.move_share * clients, *(lobby.seats for lobby in candidates)) - builder.capacity.moving
    )
    for lobby in candidates[:count]:
        if lobby.clients == 0:
            continue  # left to `drain_empty`
        budget -= lobby.clients
        if budget < 0:
            break  # the rest follow when these are done
        reason = Reason(ActionReason.SPARSE, clients=lobby.clients, seconds=spec.stabilization_seconds)
        builder.act(Drain(lobby.name, reason))
