"""Runs a scenario: the planner decides, and simulated lobbies, greeters and clients do what real ones would.

The operator's part is its own code: `observe`, `plan`, `measure_demand` and `Expectations`. What surrounds it is simulated,
with the delays of `SimulationSettings`: the operator learns of lobbies by polls that take longer the more there are, pods take
seconds to start, and greeters fill the open lobbies that they were last told of. Nothing has a CPU or a network that could be
too slow, so the result shows what is decided, not what a cluster can do.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil, exp, sqrt

from lobby_gateway.process.seat_reports import GreeterReport, LobbyReport, OriginReport, OriginState
from lobby_gateway.settings import LobbySettings
from lobby_operator.planner.actions import Action, Create, Delete, Drain, Preconnect
from lobby_operator.planner.demand import measure_demand
from lobby_operator.planner.history import observe
from lobby_operator.planner.plan import Plan, plan
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyReading, Observed, Phase, PollResult
from lobby_operator.reconcile.pending_actions import Expectations
from lobby_operator.settings import PlannerSettings, PollSettings, SimulationSettings
from lobby_operator.simulate.fleet import NEW, Group, Past, SimulatedLobby, spread
from lobby_operator.simulate.scenarios import Incident, Scenario
from lobby_operator.simulate.tally import COMPACTION, LOST, ROLLOUT, Report, Sample, Tally, quantiles

_CONNECTED, _WAITING = OriginReport(state=OriginState.CONNECTED), OriginReport(state=OriginState.WAITING)
_IDLE = OriginReport(state=OriginState.IDLE)
_PRECONNECT_SECONDS = LobbySettings().preconnect_seconds


@dataclass(slots=True)
class _Waiting:
    """Clients without a seat that came together.

    Attributes:
        since: since when a greeter has held them.
        first_at: when they first connected.
        past: their past.
        count: number of them.
    """

    since: float
    first_at: float
    past: Past
    count: int


class Simulation:
    """One run.

    Args:
        scenario: what happens.
        spec: the Lobby.
        clients: number of clients.
        wait_seconds: how long a client without a seat waits before it is refused.
        seed: the same seed gives the same result.
        settings: delays of what surrounds the planner.
    """

    def __init__(
        self,
        scenario: Scenario,
        spec: PlannerSpec,
        clients: int,
        *,
        wait_seconds: float = 15.0,
        seed: int = 1,
        settings: SimulationSettings | None = None,
    ) -> None:
        self.scenario = scenario
        self.spec = replace(spec, revision="1")
        self.clients = clients
        self.seed = seed
        self.now = 0.0
        self.lobbies: dict[str, SimulatedLobby] = {}
        self.tally = Tally()
        self._settings = settings or SimulationSettings()
        self._planner, self._polls = PlannerSettings(), PollSettings()
        self._wait_seconds = wait_seconds
        self._rng = random.Random(seed)  # noqa: S311  # a simulation, no secret
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._newcomers: deque[_Waiting] = deque()
        self._lost: deque[_Waiting] = deque()
        self._open: list[SimulatedLobby] = []
        self._first_open = 0  # those before are full
        self._observed: Observed | None = None
        self._expected = Expectations()
        self._readings: dict[str, LobbyReading] = {}
        self._to_poll: deque[str] = deque()
        self._urgent: set[str] = set()  # starting or draining: they are polled first
        self._passed_at = 0.0
        self._causes: dict[str, str] = {}  # why a lobby drains

    def run(self, progress: Callable[[float], None] | None = None) -> Report:
        """Runs to the end of the scenario.

        Args:
            progress: called now and then with the share that is done.
        """
        seconds, shown = self.scenario.seconds, 0
        self._populate(round(self.scenario.start * self.clients))
        self._at(0.0, self._pass)
        self._at(0.0, self._tick)
        self._at(0.0, self._sample)
        for at, incident in self.scenario.incidents:
            self._at(at, lambda incident=incident: self._happens(incident))  # type: ignore[misc]
        while self._events and self._events[0][0] <= seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()
            if progress is not None and len(self.tally.samples) > shown:
                shown = len(self.tally.samples)
                progress(self.now / seconds)
        return self._report()

    def _at(self, at: float, event: Callable[[], None]) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (at, self._scheduled, event))

    def _in(self, seconds: float, event: Callable[[], None]) -> None:
        self._at(self.now + seconds, event)

    def _populate(self, clients: int) -> None:
        count = max(self.spec.min_replicas, ceil((clients + self.spec.spare) / self.spec.seats))
        left = clients
        for index in range(1, min(count, self.spec.max_replicas) + 1):
            lobby = SimulatedLobby(f"{self.spec.lobby}-{index}", -600.0, -600.0, self.spec.seats, self.spec.revision)
            seated = min(left, lobby.seats)
            lobby.add(NEW, seated) if seated else None
            left -= seated
            self._add(lobby)
            self._read(lobby)
        self.tally.joined += clients
        if left:
            self._newcomers.append(_Waiting(0.0, 0.0, NEW, left))

    def _add(self, lobby: SimulatedLobby) -> None:
        self.lobbies[lobby.name] = lobby
        self._to_poll.append(lobby.name)
        self._urgent.add(lobby.name)
        if self.scenario.origin_fails_every:
            self._in(self._rng.expovariate(1 / self.scenario.origin_fails_every), lambda: self._origin_fails(lobby))

    # Clients

    def _tick(self) -> None:
        """Clients come and go."""
        flow, seconds = self.scenario.flow(self.now, self.clients), self._settings.tick_seconds
        joins, leaves = self._number(flow.join * seconds), self._number(flow.leave * seconds)
        if leaves:
            self._leave(leaves)
        if joins:
            self.tally.joined += joins
            self._newcomers.append(self._wait(joins, NEW, self.now))
        self._seat()
        self._in(seconds, self._tick)

    def _number(self, mean: float) -> int:
        """A random number of independent events with this mean (Poisson; by its normal approximation if it is large)."""
        if mean > 50:
            return max(0, round(self._rng.gauss(mean, sqrt(mean))))
        number, chance, least = 0, self._rng.random(), exp(-mean)
        while chance > least:
            number, chance = number + 1, chance * self._rng.random()
        return number

    def _wait(self, count: int, past: Past, first_at: float) -> _Waiting:
        waiting = _Waiting(self.now, first_at, past, count)
        self._in(self._wait_seconds, lambda: self._refuse(waiting))
        return waiting

    def _refuse(self, waiting: _Waiting) -> None:
        """They get 503 and try again."""
        if waiting.count:
            count, waiting.count = waiting.count, 0
            self.tally.refusals += count
            wait = self._settings.retry_seconds * self._rng.uniform(1.0, 2.0)
            self._in(wait, lambda: self._come_again(count, waiting.past, waiting.first_at))

    def _close(self, waiting: _Waiting) -> None:
        """Their lobby is gone, and there is no seat: they are closed, and connect again."""
        if waiting.count:
            count, waiting.count = waiting.count, 0
            self.tally.closed += count
            wait = self._settings.retry_seconds * self._rng.uniform(1.0, 2.0)
            self._in(wait, lambda: self._come_again(count, waiting.past, self.now))

    def _come_again(self, count: int, past: Past, first_at: float) -> None:
        self._newcomers.append(self._wait(count, past, first_at))
        self._seat()

    def _leave(self, count: int) -> None:
        for lobby, number in spread([each for each in self.lobbies.values() if each.clients], count, self._rng):
            for past, gone in lobby.take(number, self._rng):
                self.tally.left[past.moves] += gone
            self._first_open = min(self._first_open, lobby.place)

    def _seat(self) -> None:
        """Greeters seat those first whose lobby is gone, then those that have waited longest."""
        for queue in (self._lost, self._newcomers):
            while queue:
                waiting = queue[0]
                for lobby, seats in self._claim(waiting.count):
                    waiting.count -= seats
                    if queue is self._lost:
                        lobby.add(self.tally.moved(waiting.past, seats, LOST, self.now), seats)
                    else:
                        lobby.add(waiting.past, seats)
                        if waited := round(self.now - waiting.first_at, 1):
                            self.tally.waits[waited] += seats
                if waiting.count:
                    return
                queue.popleft()

    def _claim(self, count: int) -> Iterable[tuple[SimulatedLobby, int]]:
        """Seats for so many clients, lobby by lobby; each is taken before the next is asked for."""
        while count and self._first_open < len(self._open):
            lobby = self._open[self._first_open]
            seats = min(count, lobby.free(self.now))
            if seats:
                count -= seats
                yield lobby, seats
            if count:
                self._first_open += 1

    def _move(self, lobby: SimulatedLobby) -> None:
        """Greeters move the clients of a draining lobby, as far as there are seats."""
        if lobby.gone or lobby.lost or not lobby.clients:
            return
        cause = self._causes.get(lobby.name, COMPACTION)
        for target, seats in self._claim(lobby.clients):
            for past, count in lobby.take(seats, self._rng):
                target.add(self.tally.moved(past, count, cause, self.now), count)
        if lobby.clients:
            self._in(self._settings.move_seconds, lambda: self._move(lobby))

    def _lose(self, lobby: SimulatedLobby) -> None:
        """Its clients look for another seat."""
        lost_seconds = self.spec.lost_seconds
        for past, count in lobby.take(lobby.clients, self._rng):
            waiting = _Waiting(self.now, self.now, past, count)
            self._lost.append(waiting)
            self._in(lost_seconds, lambda waiting=waiting: self._close(waiting))  # type: ignore[misc]
        self._seat()

    # Incidents

    def _happens(self, incident: Incident) -> None:
        match incident:
            case Incident.NODE_LOST:
                there = [lobby for lobby in self.lobbies.values() if not lobby.lost]
                for lobby in self._rng.sample(there, ceil(self.scenario.node_share * len(there))):
                    lobby.lost = True
                    self._in(self._settings.notice_seconds, lambda lobby=lobby: self._lose(lobby))  # type: ignore[misc]
            case Incident.NEW_REVISION:
                self.spec = replace(self.spec, revision="2", generation=self.spec.generation + 1)

    def _origin_fails(self, lobby: SimulatedLobby) -> None:
        if not lobby.gone:
            lobby.origin_back_at = self.now + self.scenario.origin_seconds
            wait = self.scenario.origin_seconds + self._rng.expovariate(1 / self.scenario.origin_fails_every)
            self._in(wait, lambda: self._origin_fails(lobby))

    # The operator

    def _pass(self) -> None:
        """One pass: polls what its budget allows, observes, plans, and acts."""
        self._poll()
        taken = sum(each.report.clients for each in self._readings.values() if each.report is not None)
        demand = measure_demand({"greeters": PollResult(self._greeter_report(), self.now)}, "all", taken, self.now)
        readings, self._expected = self._expected.overlay(self._readings.values(), self.now)
        self._observed, capacity = observe(
            self._observed,
            readings,
            waiting=demand.waiting,
            lost=demand.lost,
            spec=self.spec,
            now=self.now,
            settings=self._planner,
        )
        planned = plan(self.spec, self._observed, self.now, self._planner, capacity=capacity)
        self._expected = self._expected.expect(planned.actions, self.now)
        for action in planned.actions:
            self._in(self._settings.api_seconds, lambda action=action: self._act(action))  # type: ignore[misc]
        self._in(self._settings.directory_seconds, lambda: self._publish(planned))
        self._passed_at = self.now
        self._in(self._until_next_pass(planned), self._pass)

    def _until_next_pass(self, planned: Plan) -> float:
        """A second while something changes; otherwise every lobby is polled once in between."""
        polls, observed = self._polls, self._observed
        if planned.actions or (
            observed and (observed.waiting or any(x.phase is not Phase.READY for x in observed.lobbies))
        ):
            return polls.interval_seconds
        return max(polls.interval_seconds, len(self.lobbies) / polls.max_polls_per_second)

    def _poll(self) -> None:
        budget = ceil(self._polls.max_polls_per_second * max(self.now - self._passed_at, self._polls.interval_seconds))
        for _ in range(min(budget, len(self._to_poll))):
            name = self._to_poll.popleft()
            if name in self.lobbies:
                self._read(self.lobbies[name])
                self._to_poll.append(name)
        for name in list(self._urgent):
            self._read(self.lobbies[name])

    def _read(self, lobby: SimulatedLobby) -> None:
        before = self._readings.get(lobby.name)
        starts = lobby.answers_at > self.now
        report = before.report if before is not None else None
        since = None
        if lobby.lost:
            since = (
                before.unresponsive_since if before is not None and before.unresponsive_since is not None else self.now
            )
        elif not starts:
            preconnected_until = lobby.preconnected_at + _PRECONNECT_SECONDS
            preconnected = self.now < preconnected_until - _PRECONNECT_SECONDS / 2  # as a lobby reports it
            connects = lobby.clients or self.now < preconnected_until
            origin = _WAITING if lobby.origin_back_at > self.now else _CONNECTED if connects else _IDLE
            state = (lobby.clients, lobby.draining, origin, preconnected)
            if report is not None and state == (report.clients, report.draining, report.origin, report.preconnected):
                return
            report = LobbyReport(
                name=lobby.name,
                lobby=self.spec.lobby,
                draining=lobby.draining,
                seats=lobby.seats,
                clients=lobby.clients,
                origin=origin,
                preconnected=preconnected,
            )
            if not lobby.draining:
                self._urgent.discard(lobby.name)
        self._readings[lobby.name] = LobbyReading(
            name=lobby.name,
            created_at=lobby.created_at,
            address="" if starts else "192.0.2.1:8000",
            report=report,
            unresponsive_since=since,
            ending=before is not None and before.ending,
            revision=lobby.revision,
        )

    def _greeter_report(self) -> GreeterReport:
        lost = sum(waiting.count for waiting in self._lost)
        return GreeterReport(
            clients={"all": sum(lobby.clients for lobby in self.lobbies.values())},
            waiting={"all": lost + sum(waiting.count for waiting in self._newcomers)},
            lost={"all": lost},
        )

    def _publish(self, planned: Plan) -> None:
        """Greeters learn which lobbies are open."""
        for lobby in self._open:
            lobby.place = len(self.lobbies)  # no longer open
        self._open = [self.lobbies[each.name] for each in planned.open if each.name in self.lobbies]
        for place, lobby in enumerate(self._open):
            lobby.place = place
        self._first_open = 0
        self._seat()

    def _act(self, action: Action) -> None:
        lobby = self.lobbies.get(action.name)
        match action:
            case Create() if lobby is None:
                self.tally.created += 1
                starts = self._settings.start_seconds * self._rng.uniform(0.5, 1.5)
                made = SimulatedLobby(action.name, self.now, self.now + starts, self.spec.seats, self.spec.revision)
                self._add(made)
            case Preconnect():
                if lobby is not None and not lobby.lost:
                    lobby.preconnected_at = self.now
                    self._urgent.add(lobby.name)
            case Drain() if lobby is not None and not lobby.lost:
                lobby.draining = True
                self._urgent.add(lobby.name)
                self._causes.setdefault(
                    lobby.name, ROLLOUT if action.reason.code is ActionReason.OUTDATED else COMPACTION
                )
                self._in(self._settings.move_seconds, lambda: self._move(lobby))
            case Delete() if lobby is not None and not lobby.gone:
                if lobby.name in self._readings:
                    self._readings[lobby.name] = replace(self._readings[lobby.name], ending=True)
                lobby.draining = True
                self._in(self._settings.stop_seconds, lambda: self._end(lobby))
            case Create() | Drain() | Delete():
                pass  # it exists already, or is gone

    def _end(self, lobby: SimulatedLobby) -> None:
        if not lobby.gone:
            lobby.gone = True
            self.tally.removed += 1
            del self.lobbies[lobby.name]
            self._urgent.discard(lobby.name)
            self._readings.pop(lobby.name, None)
            self._lose(lobby)

    # The result

    def _sample(self) -> None:
        waiting = sum(each.count for queue in (self._lost, self._newcomers) for each in queue)
        clients = sum(lobby.clients for lobby in self.lobbies.values())
        needed = max(self.spec.min_replicas, ceil((clients + waiting + self.spec.spare) / self.spec.seats))
        sample = Sample(
            round(self.now, 1),
            clients,
            waiting,
            len(self.lobbies),
            needed,
            self.tally.moves.total(),
            self.tally.refusals,
        )
        self.tally.samples.append(sample)
        seconds = self.scenario.seconds / self._settings.samples
        self.tally.lobby_seconds += seconds * sample.lobbies
        self.tally.needed_seconds += seconds * sample.needed
        self._in(seconds, self._sample)

    def _report(self) -> Report:
        tally = self.tally
        by_moves: Counter[int] = Counter(tally.left)
        here: list[Group] = [group for lobby in self.lobbies.values() for group in lobby.groups.items()]
        for past, count in here:
            by_moves[past.moves] += count
        waiting = [each for queue in (self._lost, self._newcomers) for each in queue]
        for each in waiting:
            by_moves[each.past.moves] += each.count
        shortest = (tally.shortest_stay, tally.shortest_compaction_stay)
        return Report(
            scenario=self.scenario.name,
            clients=self.clients,
            seed=self.seed,
            seconds=self.scenario.seconds,
            joined=tally.joined,
            lobbies_most=max(sample.lobbies for sample in tally.samples),
            lobbies_needed_most=max(sample.needed for sample in tally.samples),
            lobbies_used_over_needed=round(tally.lobby_seconds / max(1.0, tally.needed_seconds), 3),
            refusals=tally.refusals,
            closed=tally.closed,
            waited=tally.waits.total(),
            wait_seconds=quantiles(tally.waits),
            moves=dict(sorted(tally.moves.items())),
            moves_per_client=round(tally.moves.total() / max(1, tally.joined), 4),
            clients_by_moves={moves: count for moves, count in sorted(by_moves.items()) if count},
            shortest_seconds_between_moves=None if shortest[0] is None else round(shortest[0], 2),
            shortest_seconds_before_compaction=None if shortest[1] is None else round(shortest[1], 2),
            created=tally.created,
            removed=tally.removed,
            samples=tuple(tally.samples),
        )
