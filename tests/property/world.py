"""A simulated world for the planner: real lobbies, greeters and clients, and an operator that sees them late.

The truth is in `World.lobbies`; the planner only gets `World.readings()`. Time is a number.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lobby_gateway.process.seat_reports import LobbyReport, OriginReport, OriginState
from lobby_operator.planner.actions import Action, Create, Delete, Drain, Preconnect
from lobby_operator.planner.history import observe
from lobby_operator.planner.plan import Plan, plan
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Held, LobbyReading, LobbyState, Observed, Phase
from lobby_operator.planner.timers import due, earliest
from lobby_operator.reconcile.pending_actions import Expectations
from lobby_operator.settings import PlannerSettings

START = 1000.0
STOP_SECONDS = 2.0
REACHABLE = 0.0
NEVER, NEVER_ANSWERS = float("-inf"), float("inf")
PRECONNECT_SECONDS = 60.0


@dataclass
class SimClient:
    """A client: how often it was moved to another lobby, and when it was last."""

    moves: int = 0
    moved_at: float | None = None


@dataclass
class SimLobby:
    """A lobby as it really is."""

    name: str
    created_at: float
    answers_at: float  # when it will listen; inf: never
    seats: int
    listed_at: float  # when the runtime's list will show it
    members: list[SimClient] = field(default_factory=list)
    revision: str = ""
    direct: int = 0  # clients that leave only when the lobby ends
    preconnected_at: float = NEVER  # when it was last asked to connect without clients
    draining: bool = False
    stopped: bool = False  # SIGSTOP, a cut network
    unheard: bool = False  # its admin port alone does not answer; for greeters and the platform it is in order
    unresponsive_since: float | None = None
    report: LobbyReport | None = None  # its latest answer to the operator that runs now
    was_up: bool = False  # when that operator started
    gone_at: float | None = None  # it was deleted and will be gone then
    dead: bool = False
    unlisted_at: float | None = None  # when the list will no longer show it

    @property
    def clients(self) -> int:
        return len(self.members)

    def answers(self, now: float) -> bool:
        return not self.dead and not self.stopped and self.answers_at <= now


@dataclass
class Step:
    """One pass of the operator, for the laws."""

    spec: PlannerSpec
    settings: PlannerSettings
    before: Observed | None
    readings: tuple[LobbyReading, ...]
    observed: Observed
    plan: Plan
    now: float
    world: World  # the truth


@dataclass
class World:
    """The simulation. Each law is called with each step, before its actions are executed."""

    spec: PlannerSpec
    settings: PlannerSettings = field(default_factory=PlannerSettings)
    now: float = START
    lobbies: dict[str, SimLobby] = field(default_factory=dict)
    newcomers: deque[SimClient] = field(default_factory=deque)  # wait for their first seat
    lost: deque[tuple[float, SimClient]] = field(default_factory=deque)  # wait since their lobby has gone
    longest_lost: float = 0.0  # the longest time that a client without its seat waited, in seconds
    start_seconds: float = 1.0
    start_fails: bool = False
    keeps_remains: bool = False  # ended lobbies stay listed until they are deleted, like pods
    lag: float = 0.0
    direct_share: float = 0.0
    drains_fail: bool = False  # drains get lost
    cut_off: bool = False  # the operator reaches no lobby; greeters and the platform do
    holds: Held | None = None  # what keeps the platform from starting lobbies
    taken: set[int] = field(default_factory=set)  # numbers of names that others have
    wrong: set[str] = field(default_factory=set)  # revisions whose origin can't be reached
    platform_tells: bool = False  # whether it calls lobbies healthy, as the kubelet does
    arriving: int = 0  # clients that arrive between observing and acting, at a greeter with old information
    stale: Plan | None = None  # the plan that this greeter knows
    observed: Observed | None = None
    expected: Expectations = field(default_factory=Expectations)
    planned: Plan | None = None
    moved: int = 0  # moves of all clients
    joined: int = 0  # clients that there have been
    shortest_stay: float = float("inf")  # the shortest time between two moves of one client, in seconds
    history: list[tuple[float, Action]] = field(default_factory=list)
    laws: list[Callable[[Step], None]] = field(default_factory=list)

    def populate(self, clients: Iterable[int]) -> None:
        """Adds lobbies that exist already, with these numbers of clients."""
        for index, count in enumerate(clients, 1):
            name, since = f"{self.spec.lobby}-{index}", self.now - 500.0
            members = [SimClient() for _ in range(count)]
            self.lobbies[name] = SimLobby(name, since, since, self.spec.seats, since, members, self.spec.revision)
            self.joined += count

    # Clients and failures

    @property
    def waiting(self) -> int:
        return len(self.newcomers) + len(self.lost)

    def join(self, count: int) -> None:
        self.newcomers.extend(SimClient() for _ in range(count))
        self.joined += count
        self._seat()

    def leave(self, count: int, rng: random.Random) -> None:
        for _ in range(count):
            occupied = [lobby for lobby in self.lobbies.values() if lobby.clients and not lobby.dead]
            if occupied:
                self.leave_from(rng.choice(occupied), 1)
            elif self.newcomers:
                self.newcomers.popleft()
            elif self.lost:
                self.lost.popleft()

    def leave_from(self, lobby: SimLobby, count: int) -> None:
        """Those that were moved last stay longest: the hardest case for what bounds the moves of a client."""
        lobby.members.sort(key=lambda client: client.moved_at or 0.0)
        del lobby.members[:count]
        lobby.direct = min(lobby.direct, lobby.clients)

    def kill(self, name: str) -> None:
        lobby = self.lobbies[name]
        lobby.dead = True
        self._lose_clients(lobby)
        if not self.keeps_remains:
            lobby.unlisted_at = self.now + self.lag

    def restart_operator(self) -> None:
        self.observed = None
        self.expected = Expectations()
        # Its list is fresh: everything written is listed at once.
        for lobby in self.lobbies.values():
            lobby.listed_at = min(lobby.listed_at, self.now)
            lobby.unresponsive_since, lobby.report = None, None
            lobby.was_up = lobby.answers_at <= self.now

    # What happens over time

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for name, lobby in list(self.lobbies.items()):
            if self._holds(lobby):
                lobby.answers_at = max(lobby.answers_at, self.now + self.start_seconds)
            if lobby.gone_at is not None and lobby.gone_at <= self.now and lobby.unlisted_at is None:
                if not lobby.dead:
                    self.kill(name)
                lobby.unlisted_at = self.now + self.lag
            if lobby.answers_at == float("inf") and not lobby.dead and lobby.created_at + 0.5 <= self.now:
                self.kill(name)
            if lobby.unlisted_at is not None and lobby.unlisted_at <= self.now:
                del self.lobbies[name]
        self._move()
        self._seat()

    def _move(self) -> None:
        """Greeters move clients of draining and stopped lobbies as far as seats allow."""
        for lobby in self.lobbies.values():
            if lobby.stopped and lobby.clients:  # missing heartbeats
                self._lose_clients(lobby)
            elif (lobby.draining or lobby.gone_at is not None) and lobby.answers(self.now):
                moving = lobby.members[lobby.direct :]
                seated = self._claim(len(moving))
                self._have_moved(moving[: len(seated)], seated)
                del lobby.members[lobby.direct : lobby.direct + len(seated)]

    def _lose_clients(self, lobby: SimLobby) -> None:
        self.lost.extend((self.now, client) for client in lobby.members)
        lobby.members, lobby.direct = [], 0

    def _seat(self) -> None:
        """Clients that had a seat come first; those that have waited longest, first of all."""
        if self.lost:
            self.longest_lost = max(self.longest_lost, self.now - self.lost[0][0])
        seats = self._claim(self.waiting)
        again = [self.lost.popleft()[1] for _ in range(min(len(seats), len(self.lost)))]
        self._have_moved(again, seats[: len(again)])
        for lobby in seats[len(again) :]:
            lobby.members.append(self.newcomers.popleft())

    def _have_moved(self, clients: Iterable[SimClient], lobbies: Iterable[SimLobby]) -> None:
        for client, lobby in zip(clients, lobbies, strict=True):
            if client.moved_at is not None:
                self.shortest_stay = min(self.shortest_stay, self.now - client.moved_at)
            client.moves, client.moved_at = client.moves + 1, self.now
            lobby.members.append(client)
            self.moved += 1

    def _claim(self, count: int) -> list[SimLobby]:
        """Claims seats; returns the lobby of each seat that was granted."""
        seats: list[SimLobby] = []
        for each in self.planned.open if self.planned is not None else ():
            lobby = self.lobbies.get(each.name)
            if lobby is not None and lobby.answers(self.now) and not lobby.draining and lobby.gone_at is None:
                taken = min(count - len(seats), max(0, lobby.seats - lobby.clients))
                lobby.direct += int(taken * self.direct_share)
                seats += [lobby] * taken
        return seats

    # The operator

    def readings(self) -> tuple[LobbyReading, ...]:
        return tuple(self._read(lobby) for lobby in self.lobbies.values() if lobby.listed_at <= self.now)

    def _read(self, lobby: SimLobby) -> LobbyReading:
        asked = lobby.created_at + REACHABLE <= self.now
        if lobby.answers(self.now) and not self.cut_off and not lobby.unheard:
            lobby.unresponsive_since = None
        elif asked and lobby.unresponsive_since is None:
            lobby.unresponsive_since = self.now
        if lobby.unresponsive_since is None and lobby.answers_at <= self.now:
            lobby.report = LobbyReport(
                name=lobby.name,
                lobby=self.spec.lobby,
                draining=lobby.draining,
                seats=lobby.seats,
                clients=lobby.clients,
                direct=lobby.direct,
                origin=self._origin(lobby),
                preconnected=self.now < lobby.preconnected_at + PRECONNECT_SECONDS / 2,
            )
        return LobbyReading(
            name=lobby.name,
            created_at=lobby.created_at,
            address=f"127.0.0.1:{40000 + hash(lobby.name) % 1000}" if lobby.answers_at <= self.now else "",
            report=lobby.report,
            unresponsive_since=lobby.unresponsive_since,
            alive=lobby.answers(self.now) if self.platform_tells else None,
            was_up=lobby.was_up,
            held=self.holds if self._holds(lobby) else None,
            ending=lobby.gone_at is not None,
            ended=lobby.dead and self.keeps_remains,
            revision=lobby.revision,
        )

    def _holds(self, lobby: SimLobby) -> bool:
        """Whether its process is not started yet, and cannot be."""
        return self.holds is not None and self.now < lobby.answers_at < NEVER_ANSWERS and not lobby.dead

    def _origin(self, lobby: SimLobby) -> OriginReport:
        if not lobby.clients and self.now >= lobby.preconnected_at + PRECONNECT_SECONDS:
            return OriginReport(state=OriginState.IDLE)
        if lobby.revision in self.wrong:
            return OriginReport(state=OriginState.WAITING, reason="connection refused")
        return OriginReport(state=OriginState.CONNECTED)

    def step(self) -> Plan:
        """Observes, plans, acts, and tells the greeters."""
        readings, self.expected = self.expected.overlay(self.readings(), self.now)
        before = self.observed
        observed, capacity = observe(
            before,
            readings,
            waiting=self.waiting,
            lost=self.lost_clients(),
            taken=frozenset(self.taken),
            spec=self.spec,
            now=self.now,
            settings=self.settings,
        )
        self.observed = observed
        planned = plan(self.spec, observed, self.now, self.settings, capacity=capacity)
        step = Step(self.spec, self.settings, before, readings, observed, planned, self.now, self)
        latest, self.planned = self.planned, self.stale
        self.join(self.arriving)
        self.arriving, self.stale = 0, latest
        for law in self.laws:
            law(step)
        self.planned = planned
        for action in planned.actions:
            self._do(action)
            self.history.append((self.now, action))
        self.expected = self.expected.expect(planned.actions, self.now)
        self._move()
        self._seat()
        return planned

    def _do(self, action: Action) -> None:
        lobby = self.lobbies.get(action.name)
        match action:
            case Create():
                if lobby is None:  # otherwise it exists already, as the API server would say
                    answers_at = float("inf") if self.start_fails else self.now + self.start_seconds
                    self.lobbies[action.name] = SimLobby(
                        action.name, self.now, answers_at, self.spec.seats, self.now + self.lag, [], self.spec.revision
                    )
            case Preconnect():
                if lobby is not None and lobby.answers(self.now) and not self.drains_fail and not self.cut_off:
                    lobby.preconnected_at = self.now
            case Drain():
                if lobby is not None and lobby.answers(self.now) and not self.drains_fail and not self.cut_off:
                    lobby.draining = True
            case Delete():
                if lobby is not None and lobby.dead:
                    assert lobby.unlisted_at is None or not self.keeps_remains or self.lag, "deleted twice"
                    lobby.unlisted_at = earliest(lobby.unlisted_at, self.now + self.lag)
                    lobby.gone_at = self.now
                elif lobby is not None and lobby.gone_at is None:
                    lobby.gone_at = self.now + STOP_SECONDS

    # Settling

    def calm(self) -> None:
        """Ends all failures; no client connects or leaves any more."""
        self.start_fails = self.drains_fail = self.cut_off = False
        self.wrong.clear()
        self.holds = None
        self.start_seconds = min(self.start_seconds, 5.0)
        for lobby in self.lobbies.values():
            lobby.stopped = lobby.unheard = False

    def settle(self, most_steps: int = 3000) -> int:
        """Runs until nothing is left to do; returns the number of steps."""
        for count in range(most_steps):
            observed = self._figures()
            planned = self.step()
            pending = [
                *(lobby.answers_at for lobby in self.lobbies.values() if not lobby.dead),
                *(lobby.listed_at for lobby in self.lobbies.values()),
                *(lobby.gone_at for lobby in self.lobbies.values() if not lobby.dead),
                *(lobby.unlisted_at for lobby in self.lobbies.values()),
                self.expected.wake_at(),
                planned.wake_at,
            ]
            times = [at for at in pending if at is not None and at > self.now]
            unquiet = any(lobby.draining or lobby.dead for lobby in self.lobbies.values())
            if planned.actions or unquiet or self._figures() != observed:
                times.append(self.now + 1.0)
            soonest = earliest(*times)
            if soonest is None:
                return count
            self.advance(soonest - self.now)
        raise AssertionError(f"not settled after {most_steps} steps: {self.history[-20:]}")

    def _figures(self) -> list[object]:
        return [self.waiting, *((lobby.name, lobby.clients) for lobby in self.lobbies.values())]

    # For laws

    def running(self) -> list[SimLobby]:
        return [lobby for lobby in self.lobbies.values() if not lobby.dead]

    def uniform(self) -> bool:
        """Whether all lobbies, and new ones, have the same number of seats."""
        return {lobby.seats for lobby in self.running()} <= {self.spec.seats}

    def lost_clients(self) -> int:
        return len(self.lost)

    def clients(self) -> int:
        return self.waiting + sum(lobby.clients for lobby in self.lobbies.values())


def states_by_name(observed: Observed) -> dict[str, LobbyState]:
    return {lobby.name: lobby for lobby in observed.lobbies}


__all__ = ["Phase", "SimLobby", "Step", "World", "due", "states_by_name"]
