"""Which lobbies take new clients, in which order, and how many seats that leaves.

Packed: the fullest first. New clients fill one lobby after the other, and sparse ones empty by themselves.

Latest: of the lobbies with clients only the newest takes new ones, then the empty lobbies that are newer still, oldest
first; older lobbies keep the clients they have. So new clients always meet in one lobby, and a burst that needs several fills
one after the other. Only the order of the lobbies decides; the previous latest lobby is not remembered. If none of these has
a free seat, a seat in an older lobby is better than none: those are then open, newest first.

During a rollout, clients are sent to lobbies of the current revision as soon as one has a seat; but as long as lobbies of an
older revision have the origin's stream, only where it is: a new revision may have the wrong URL.
"""

from __future__ import annotations

from dataclasses import dataclass

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.origin_stream import is_connected, streaming_outdated
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Hold, LobbyState, Observed, Phase
from lobby_operator.planner.timers import due
from lobby_operator.settings import PlannerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The seats that lobbies offer, and the seats that are needed.

    Attributes:
        accepting: lobbies that take new clients, full ones included, in the order in which they are filled.
        superseded: ready lobbies that take no new clients, sparsest first; only with placement Latest.
        outdated: ready lobbies of an older revision, sparsest first. They take clients only if no other lobby has a seat.
        free: free seats of the accepting lobbies, unreachable ones excluded.
        unreachable: names of lobbies whose free seats do not count while clients wait: we have had no answer for
            `unreachable_seconds`, and greeters can't reach them either, or nobody would wait.
        with_stream: names of ready lobbies that have the origin's stream, and of outdated ones where a client would get it.
        guarded: lobbies of an older revision have the stream, so that clients are sent only where it is, too.
        starting: starting lobbies of the current revision, without late ones and without the one that is presumed broken
            (`_count_unheard`).
        late: names of starting lobbies that take so long that clients whose lobby is gone would be closed first.
        silent: healthy lobbies, according to the platform, that have not answered us for `unheard_seconds`.
        waiting: clients without a seat.
        moving: clients in lobbies that are draining or ending, which need a seat elsewhere.
        needed: seats that should be free: for waiting clients, moving clients and `spareSeats`.
    """

    accepting: tuple[LobbyState, ...]
    superseded: tuple[LobbyState, ...]
    outdated: tuple[LobbyState, ...]
    free: int
    unreachable: frozenset[str]
    with_stream: frozenset[str]
    guarded: bool
    starting: int
    late: frozenset[str]
    silent: tuple[LobbyState, ...]
    waiting: int
    moving: int
    needed: int

    def free_in(self, lobby: LobbyState) -> int:
        """Free seats of a lobby that count."""
        return 0 if lobby.name in self.unreachable else lobby.free


def measure_capacity(spec: PlannerSpec, observed: Observed, settings: PlannerSettings | None = None) -> Capacity:
    """Counts seats and clients.

    Args:
        spec: spec of the Lobby.
        observed: its lobbies.
        settings: settings of the planner.
    """
    settings = settings or PlannerSettings()
    late = frozenset(
        lobby.name
        for lobby in observed.in_phase(Phase.STARTING)
        if observed.lost
        and lobby.unheard_since is None
        and (lobby.held is None or lobby.held.hold is Hold.IMAGE_PULL)
        and due(lobby.created_at, late_seconds(spec, settings), observed.at)
    )
    ready: list[LobbyState] = []
    outdated: list[LobbyState] = []
    starting = moving = 0
    for lobby in observed.lobbies:
        if lobby.phase is Phase.READY:
            (outdated if lobby.outdated else ready).append(lobby)
        elif lobby.phase is Phase.STARTING and lobby.unheard_since is None:
            starting += not lobby.outdated and lobby.name not in late
        elif lobby.phase in (Phase.DRAINING, Phase.ENDING):
            moving += lobby.clients
    accepting, superseded = _divide(spec, ready)
    streaming = streaming_outdated(observed, settings)
    unreachable = frozenset(
        lobby.name
        for lobby in observed.lobbies
        if observed.waiting and _is_unreachable(lobby, settings.unreachable_seconds, observed.at)
    )
    return Capacity(
        accepting=accepting,
        superseded=superseded,
        outdated=tuple(sorted(outdated, key=_fullest, reverse=True)),
        free=sum(lobby.free for lobby in accepting if lobby.name not in unreachable),
        unreachable=unreachable,
        with_stream=frozenset(
            [lobby.name for lobby in ready if is_connected(lobby)] + [lobby.name for lobby in streaming]
        ),
        guarded=bool(streaming),
        starting=starting + _count_unheard(observed, settings),
        late=late,
        silent=tuple(lobby for lobby in observed.lobbies if _is_silent(lobby, settings.unheard_seconds, observed.at)),
        waiting=observed.waiting,
        moving=moving,
        needed=observed.waiting + moving + spec.spare,
    )


def _count_unheard(observed: Observed, settings: PlannerSettings) -> int:
    """How many of the lobbies that live but have never answered us count as starting.

    One of them that has been silent for long may be broken, so all but one count, and another is created. Two at once mean
    that we are cut off, rather than that both are broken, and so does an older lobby that does not answer any more: then no
    further lobby would answer, either. Otherwise there would be more and more of them, for as long as it lasts.

    A lobby that was up before this process is full, perhaps. If others answer, it is lost, not out of our reach.
    """
    counted, presumed_broken = 0, 0
    for lobby in observed.lobbies:
        if lobby.unheard_since is None or lobby.outdated or lobby.phase not in (Phase.STARTING, Phase.RECOVERING):
            continue
        silent = due(lobby.unheard_since, unheard_patience(lobby, settings), observed.at)
        if lobby.phase is Phase.RECOVERING and silent and observed.heard_since is not None:
            continue
        counted += 1
        presumed_broken |= silent
    cut_off = any(lobby.unreachable_since is not None for lobby in observed.lobbies)
    return counted if cut_off else counted - presumed_broken


def unheard_patience(lobby: LobbyState, settings: PlannerSettings) -> float:
    """How long a lobby that lives may leave us without a first answer; less if it was up before this process."""
    return settings.unreachable_seconds if lobby.phase is Phase.RECOVERING else settings.unheard_seconds


def _is_silent(lobby: LobbyState, seconds: float, now: float) -> bool:
    since = lobby.unheard_since if lobby.unheard_since is not None else lobby.unreachable_since
    return since is not None and due(since, seconds, now)


def late_seconds(spec: PlannerSpec, settings: PlannerSettings) -> float:
    """How long a lobby may start while clients wait whose lobby is gone."""
    return settings.lost_start_share * spec.lost_seconds


def open_lobbies(capacity: Capacity, leaving: frozenset[str] = frozenset()) -> tuple[LobbyState, ...]:
    """The lobbies with a free seat, in the order in which clients should try them.

    Args:
        capacity: as measured.
        leaving: names of lobbies that are about to be drained or deleted.
    """
    if capacity.guarded:
        for tier in (capacity.accepting, tuple(reversed(capacity.outdated))):
            streaming = tuple(
                lobby
                for lobby in tier
                if lobby.free and lobby.name in capacity.with_stream and lobby.name not in leaving
            )
            if streaming:
                return streaming
    accepting = tuple(lobby for lobby in capacity.accepting if lobby.free and lobby.name not in leaving)
    if accepting:
        return accepting
    older = [lobby for lobby in capacity.superseded if lobby.free and lobby.name not in leaving]
    if older:
        return tuple(sorted(older, key=_age, reverse=True))
    # Fullest first, so that the next one to drain gets the fewest new clients.
    return tuple(lobby for lobby in reversed(capacity.outdated) if lobby.free and lobby.name not in leaving)


def _is_unreachable(lobby: LobbyState, after: float, now: float) -> bool:
    return lobby.unreachable_since is not None and due(lobby.unreachable_since, after, now)


def _divide(spec: PlannerSpec, ready: list[LobbyState]) -> tuple[tuple[LobbyState, ...], tuple[LobbyState, ...]]:
    """Accepting and superseded lobbies."""
    if spec.placement is Placement.PACKED:
        return tuple(sorted(ready, key=_fullest)), ()
    by_age = sorted(ready, key=_age)
    front = max((position for position, lobby in enumerate(by_age) if lobby.clients), default=0)
    return tuple(by_age[front:]), tuple(sorted(by_age[:front], key=_fullest, reverse=True))


def _fullest(lobby: LobbyState) -> tuple[int, int]:
    """Fullest first; among equals the oldest, so that their order is stable."""
    return -lobby.clients, lobby.index


def _age(lobby: LobbyState) -> tuple[float, int]:
    """Oldest first, by when they could take clients: of several created for a burst, the first that was ready.

    The index decides among lobbies that were up before the operator started.
    """
    return lobby.ready_at or 0.0, lobby.index
