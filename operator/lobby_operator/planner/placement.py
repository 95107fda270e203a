"""Which lobbies take new clients, in which order, and how many seats that leaves.

Packed: the fullest first. New clients fill one lobby after the other, sparse ones run empty by themselves.

Latest: of the lobbies that have clients only the newest takes new ones, then the empty ones that are newer still, oldest
first; those before it are served out. So clients always meet in one lobby, and a burst that needs several fills one after
the other. The order of the lobbies alone decides, no memory of which one was the latest before. Where none of these has a
seat and no further lobby can be had at once, a seat in an older one is better than none: then those are open, newest first.
"""

from __future__ import annotations

from dataclasses import dataclass

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.planner.timers import due

UNHEARD_SECONDS = 2.0
"""More than one answer is missing. A greeter takes as long to notice that a lobby is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Seats on one side, clients without one on the other.

    Attributes:
        taking: the lobbies that take new clients, full ones too, in the order in which they are filled.
        served_out: ready lobbies that take none, sparsest first; only with the placement Latest.
        outdated: ready lobbies of an older revision, sparsest first. They take clients only where no other has a seat.
        free: free seats of those that take clients, without `useless` ones.
        useless: names of lobbies whose free seats do not count while clients wait, since they have not answered us for
            `UNHEARD_SECONDS`: greeters reach them no better, or nobody would wait.
        starting: lobbies that start, of the revision that is wanted.
        waiting: clients without a seat.
        moving: clients in lobbies that drain or end. They will need a seat elsewhere.
        needed: seats that are to be free: for those who wait, those who move, and to spare.
    """

    taking: tuple[LobbyState, ...]
    served_out: tuple[LobbyState, ...]
    outdated: tuple[LobbyState, ...]
    free: int
    useless: frozenset[str]
    starting: int
    waiting: int
    moving: int
    needed: int

    def free_in(self, lobby: LobbyState) -> int:
        """Free seats of a lobby that count."""
        return 0 if lobby.name in self.useless else lobby.free


def balance(spec: PlannerSpec, seen: Observed) -> Balance:
    """Counts seats and clients."""
    ready: list[LobbyState] = []
    outdated: list[LobbyState] = []
    starting = moving = 0
    for lobby in seen.lobbies:
        if lobby.phase is Phase.READY:
            (outdated if lobby.outdated else ready).append(lobby)
        elif lobby.phase is Phase.STARTING:
            starting += not lobby.outdated
        elif lobby.phase in (Phase.DRAINING, Phase.ENDING):
            moving += lobby.clients
    taking, served_out = _divide(spec, ready)
    useless = frozenset(lobby.name for lobby in seen.lobbies if seen.waiting and _is_long_unheard(lobby, seen.at))
    return Balance(
        taking=taking,
        served_out=served_out,
        outdated=tuple(sorted(outdated, key=_fullest, reverse=True)),
        free=sum(lobby.free for lobby in taking if lobby.name not in useless),
        useless=useless,
        starting=starting,
        waiting=seen.waiting,
        moving=moving,
        needed=seen.waiting + moving + spec.spare,
    )


def open_lobbies(balanced: Balance, leaving: frozenset[str] = frozenset()) -> tuple[LobbyState, ...]:
    """The lobbies with a free seat, in the order in which clients are to try them.

    Args:
        balanced: what `balance` says.
        leaving: names of lobbies that are about to be drained or deleted.
    """
    taking = tuple(lobby for lobby in balanced.taking if lobby.free and lobby.name not in leaving)
    if taking:
        return taking
    older = [lobby for lobby in balanced.served_out if lobby.free and lobby.name not in leaving]
    if older:
        return tuple(sorted(older, key=_age, reverse=True))
    # Fullest first, so that the next one to go gets the fewest.
    return tuple(lobby for lobby in reversed(balanced.outdated) if lobby.free and lobby.name not in leaving)


def _is_long_unheard(lobby: LobbyState, now: float) -> bool:
    return lobby.unheard_since is not None and due(lobby.unheard_since, UNHEARD_SECONDS, now)


def _divide(spec: PlannerSpec, ready: list[LobbyState]) -> tuple[tuple[LobbyState, ...], tuple[LobbyState, ...]]:
    """Those that take clients and those that are served out."""
    if spec.placement is Placement.PACKED:
        return tuple(sorted(ready, key=_fullest)), ()
    by_age = sorted(ready, key=_age)
    front = max((place for place, lobby in enumerate(by_age) if lobby.clients), default=0)
    return tuple(by_age[front:]), tuple(sorted(by_age[:front], key=_fullest, reverse=True))


def _fullest(lobby: LobbyState) -> tuple[int, int]:
    """Fullest first; of equals the oldest, so that the order of equals does not change."""
    return -lobby.clients, lobby.index


def _age(lobby: LobbyState) -> tuple[float, int]:
    """Oldest first, by when they could take clients: of several that were made for a burst, the first that was up.

    The index decides among those that were up already when the operator started.
    """
    return lobby.ready_at or 0.0, lobby.index
