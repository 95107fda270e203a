"""The laws of the planner, in a world where everything that can happen does."""

from __future__ import annotations

import random
from dataclasses import replace
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.property import invariants
from tests.property.strategies import CLIENTS, PAUSES, PLANNER_SETTINGS, SPEC_FIELDS, specs
from tests.property.world import World

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.reasons import SCALING_ROLLOUT_STOPPED, SCALING_UNREACHABLE, SCALING_UP
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Held, Hold, lobby_index
from lobby_operator.settings import PlannerSettings


def settle(world: World) -> None:
    """When nothing changes any more, the laws of the settled state hold, and are reached without needless moves."""
    moved = world.moved
    world.settle()
    assert world.moved - moved <= 2 * world.clients()
    invariants.waiting_clients_are_served_unless_all_lobbies_are_full(world)
    invariants.there_are_as_many_lobbies_as_needed(world)
    invariants.every_lobby_has_the_current_revision(world)
    invariants.the_settled_state_is_stable(world)


class PlannerMachine(RuleBasedStateMachine):
    """Clients, failures and operators act in any order; then nothing changes any more, and everything must settle."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(PlannerSpec(lobby="prices"))
        self.rng = random.Random(1)

    @initialize(
        spec=specs(),
        clients=CLIENTS,
        planner=PLANNER_SETTINGS,
        remains=st.booleans(),
        direct=st.sampled_from([0.0, 0.5]),
        tells=st.booleans(),
    )
    def begin(
        self,
        *,
        spec: PlannerSpec,
        clients: list[int],
        planner: PlannerSettings,
        remains: bool,
        direct: float,
        tells: bool,
    ) -> None:
        self.world = World(spec, planner, keeps_remains=remains, direct_share=direct, laws=list(invariants.STEP_LAWS))
        self.world.platform_tells = tells
        self.world.populate(min(count, spec.seats) for count in clients[: spec.max_replicas])
        self.world.step()

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)
        self.world.step()

    @rule(seconds=PAUSES, looks=st.integers(2, 8))
    def more_time_passes(self, seconds: float, looks: int) -> None:
        for _ in range(looks):
            self.time_passes(seconds)

    # Clients

    @rule(count=st.sampled_from([1, 1, 2, 7, 40]))
    def clients_come(self, count: int) -> None:
        self.world.join(count)

    @rule(count=st.sampled_from([1, 7]))
    def clients_come_while_the_operator_plans(self, count: int) -> None:
        self.world.arriving = count
        self.world.step()

    @rule(count=st.sampled_from([1, 1, 3, 20]), seed=st.integers(0, 5))
    def clients_leave(self, count: int, seed: int) -> None:
        self.world.leave(count, random.Random(seed))

    @rule(seed=st.integers(0, 5))
    def most_clients_leave(self, seed: int) -> None:
        self.world.leave(self.world.clients() * 2 // 3, random.Random(seed))

    # Failures

    @precondition(lambda self: self.world.running())
    @rule(data=st.data())
    def a_lobby_dies(self, data: st.DataObject) -> None:
        self.world.kill(data.draw(st.sampled_from(sorted(lobby.name for lobby in self.world.running()))))

    @precondition(lambda self: self.world.running())
    @rule(data=st.data())
    def a_lobby_becomes_unresponsive(self, data: st.DataObject) -> None:
        self.world.lobbies[
            data.draw(st.sampled_from(sorted(lobby.name for lobby in self.world.running())))
        ].stopped = True

    @rule()
    def unresponsive_lobbies_recover(self) -> None:
        for lobby in self.world.lobbies.values():
            lobby.stopped = False

    @precondition(lambda self: self.world.platform_tells)
    @rule(cut=st.booleans())
    def the_operator_is_cut_off_from_its_lobbies(self, cut: bool) -> None:
        self.world.cut_off = cut

    @precondition(lambda self: self.world.platform_tells and self.world.running())
    @rule(data=st.data())
    def only_the_operator_does_not_reach_a_lobby(self, data: st.DataObject) -> None:
        self.world.lobbies[
            data.draw(st.sampled_from(sorted(lobby.name for lobby in self.world.running())))
        ].unheard = True

    @rule(fails=st.booleans(), seconds=st.sampled_from([0.0, 0.7, 5.0, 100.0]))
    def starts_change(self, fails: bool, seconds: float) -> None:
        self.world.start_fails = fails
        self.world.start_seconds = seconds

    @rule(fail=st.booleans())
    def drains_get_lost(self, fail: bool) -> None:
        self.world.drains_fail = fail

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.4, 6.0]))
    def the_watch_lags(self, seconds: float) -> None:
        self.world.lag = seconds

    @rule(hold=st.sampled_from([None, None, *Hold]))
    def the_platform_starts_no_lobby(self, hold: Hold | None) -> None:
        self.world.holds = None if hold is None else Held(hold, "why")

    @rule(taken=st.sets(st.integers(1, 15), max_size=5))
    def others_have_names(self, taken: set[int]) -> None:
        there = {lobby_index(lobby.name) for lobby in self.world.lobbies.values()}
        self.world.taken = taken - there

    @rule()
    def the_operator_restarts(self) -> None:
        self.world.restart_operator()

    # Spec changes

    @rule(spec=specs(), name=st.sampled_from(SPEC_FIELDS))
    def the_spec_changes(self, spec: PlannerSpec, name: str) -> None:
        before = self.world.spec
        changed = replace(before, generation=before.generation + 1, **{name: getattr(spec, name)})
        self.world.spec = replace(changed, replicas=min(changed.replicas, changed.max_replicas))

    @rule(revision=st.sampled_from(["a", "b", "c"]))
    def the_revision_changes(self, revision: str) -> None:
        self.world.spec = replace(self.world.spec, revision=revision)

    @rule(wrong=st.sets(st.sampled_from(["a", "b", "c"])))
    def the_origins_of_some_revisions_cannot_be_reached(self, wrong: set[str]) -> None:
        self.world.wrong = wrong

    # Settling

    def teardown(self) -> None:
        self.world.calm()
        settle(self.world)
        self.settle_after_a_burst()

    def settle_after_a_burst(self) -> None:
        """In a settled state, more clients arrive: what is created for them stays."""
        world = self.world
        done, moved, uniform = len(world.history), world.moved, world.uniform()
        world.join(self.rng.choice((1, 5, 30)))
        world.settle()
        invariants.no_lobby_is_created_and_removed_again(world, done)
        invariants.waiting_clients_are_served_unless_all_lobbies_are_full(world)
        invariants.new_clients_alone_move_no_one(world, world.moved - moved, uniform=uniform)


@given(
    spec=specs(),
    planner=PLANNER_SETTINGS,
    clients=CLIENTS,
    join=st.sampled_from([0, 0, 1, 30]),
    seed=st.integers(0, 99),
)
def test_settles_from_any_population_and_again_after_most_clients_left(
    spec: PlannerSpec, planner: PlannerSettings, clients: list[int], join: int, seed: int
) -> None:
    """Without failures, so that more examples concern compaction."""
    world = World(spec, planner, laws=list(invariants.STEP_LAWS))
    world.populate(min(count, spec.seats) for count in clients[: spec.max_replicas])
    world.join(join)
    settle(world)
    world.leave(world.clients() * 2 // 3, random.Random(seed))
    settle(world)


@given(
    spec=specs(),
    planner=PLANNER_SETTINGS,
    clients=CLIENTS,
    join=st.sampled_from([0, 0, 1, 30]),
    direct=st.sampled_from([0.0, 0.5]),
)
def test_rolls_out_another_revision_from_any_population(
    spec: PlannerSpec, planner: PlannerSettings, clients: list[int], join: int, direct: float
) -> None:
    # A drain of minutes differs from one of seconds only in the number of passes.
    spec = replace(spec, drain_seconds=min(spec.drain_seconds, 10.0))
    world = World(replace(spec, revision="old"), planner, direct_share=direct, laws=list(invariants.STEP_LAWS))
    world.populate(min(count, spec.seats) for count in clients[: spec.max_replicas])
    world.join(join)
    settle(world)
    world.spec = replace(spec, revision="new")
    settle(world)


@given(
    spec=specs(),
    planner=PLANNER_SETTINGS,
    clients=CLIENTS,
    looks=st.lists(st.tuples(PAUSES, st.sampled_from([0, 0, 1, 7])), max_size=30),
    connects=st.booleans(),
)
def test_a_revision_without_the_stream_stops_and_a_corrected_one_goes_on(
    spec: PlannerSpec,
    planner: PlannerSettings,
    clients: list[int],
    looks: list[tuple[float, int]],
    connects: bool,
) -> None:
    spec = replace(spec, drain_seconds=min(spec.drain_seconds, 10.0))
    world = World(replace(spec, revision="old"), planner, laws=list(invariants.STEP_LAWS))
    world.populate(min(count, spec.seats) for count in clients[: spec.max_replicas])
    settle(world)
    served = {lobby.name: lobby.clients for lobby in world.running() if lobby.clients}
    lobbies, moved, count = len(world.running()), world.moved, world.clients()
    room = lobbies < spec.max_replicas
    world.wrong, world.spec = {"wrong"}, replace(spec, revision="wrong")
    for seconds, coming in [*looks, *[(5.0, 0)] * 20]:
        world.join(coming)
        world.advance(seconds)
        world.step()
        if served and room:
            assert world.moved == moved
            assert all(world.lobbies[name].clients >= count for name, count in served.items())
            assert not any(world.lobbies[name].draining for name in served)
            needed = -(-(world.clients() + spec.spare) // spec.seats)
            # As many new ones as the next batch needs, seats to spare, and one for the rounding of each.
            assert len(world.running()) <= lobbies + max(needed, spec.min_replicas) + 2
    if served and room and world.clients() == count:
        assert world.step().scaling.reason in (SCALING_ROLLOUT_STOPPED, SCALING_UP)
    world.wrong = {"wrong"} if connects else set()
    world.spec = replace(spec, revision="corrected" if connects else "wrong")
    settle(world)


@given(
    spec=specs(),
    planner=PLANNER_SETTINGS,
    looks=st.lists(st.tuples(PAUSES, st.sampled_from([0, 0, 0, 1, 7]), st.sampled_from("----r")), max_size=60),
    starts=st.sampled_from([0.0, 0.7, 5.0]),
)
def test_lobbies_that_live_but_never_answer_are_one_more_than_needed_at_most(
    spec: PlannerSpec, planner: PlannerSettings, looks: list[tuple[float, int, str]], starts: float
) -> None:
    """The operator never reaches a lobby, clients come, and it restarts now and then; after that all is as usual."""
    world = World(spec, planner, start_seconds=starts, laws=list(invariants.STEP_LAWS))
    world.cut_off = world.platform_tells = True
    for seconds, count, event in [*looks, *[(5.0, 0, "-")] * 40]:
        if event == "r":
            world.restart_operator()
        world.join(count)
        world.advance(seconds)
        world.step()
        invariants.at_most_one_lobby_is_surplus(world)
    if world.running() and spec.max_replicas > 1:  # the only one would be replaced from time to time
        assert world.step().scaling.reason is SCALING_UNREACHABLE
    world.calm()
    settle(world)


class ClientsMachine(RuleBasedStateMachine):
    """Clients come and go in the worst order, and nothing else happens."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(PlannerSpec(lobby="prices"))

    @initialize(
        seats=st.sampled_from([4, 10]),
        spare=st.sampled_from([0, 0, 1, 12]),
        placement=st.sampled_from([Placement.PACKED, Placement.PACKED, Placement.LATEST]),
        seconds=st.sampled_from([5.0, 60.0]),
        drain=st.sampled_from([0.0, 300.0]),
        share=st.sampled_from([0.3, 0.4, 0.6, 0.8]),
        lobbies=st.integers(4, 16),
        starts=st.sampled_from([0.0, 5.0]),
    )
    def begin(
        self,
        *,
        seats: int,
        spare: int,
        placement: Placement,
        seconds: float,
        drain: float,
        share: float,
        lobbies: int,
        starts: float,
    ) -> None:
        spec = PlannerSpec(
            lobby="prices",
            seats=seats,
            spare_seats=spare,
            placement=placement,
            stabilization_seconds=seconds,
            drain_seconds=drain,
        )
        self.world = World(spec, start_seconds=starts)
        self.world.populate(min(seats, ceil(share * seats) + number % 2) for number in range(lobbies))
        self.world.step()

    @rule(seconds=st.sampled_from([0.05, 1.0, 4.0, 61.0]), looks=st.integers(1, 3))
    def time_passes(self, seconds: float, looks: int) -> None:
        for _ in range(looks):
            self.world.advance(seconds)
            self.world.step()

    @rule(count=st.sampled_from([1, 7, 20]))
    def clients_come(self, count: int) -> None:
        self.world.join(count)

    @rule(count=st.sampled_from([1, 7]))
    def clients_come_while_the_operator_plans(self, count: int) -> None:
        self.world.arriving = count
        self.world.step()

    @precondition(lambda self: self.world.running())
    @rule(place=st.integers(-3, 3), count=st.integers(1, 10))
    def clients_of_one_lobby_leave(self, place: int, count: int) -> None:
        lobbies = sorted(self.world.running(), key=lambda lobby: -lobby.clients)
        self.world.leave_from(lobbies[place % len(lobbies)], count)

    @rule(place=st.integers(0, 3))
    def only_moved_clients_stay_in_a_lobby(self, place: int) -> None:
        """So that it may be the next one to drain."""
        lobbies = [lobby for lobby in self.world.running() if any(client.moves for client in lobby.members)]
        if lobbies:
            lobby = lobbies[place % len(lobbies)]
            self.world.leave_from(lobby, sum(client.moves == 0 for client in lobby.members))

    @rule(share=st.sampled_from([0.2, 0.5]))
    def clients_of_all_lobbies_leave(self, share: float) -> None:
        for lobby in self.world.running():
            self.world.leave_from(lobby, int(share * lobby.clients))

    @invariant()
    def clients_are_moved_seldom(self) -> None:
        invariants.clients_are_moved_seldom(self.world)

    def teardown(self) -> None:
        self.world.settle()
        invariants.clients_are_moved_seldom(self.world)


TestClients = ClientsMachine.TestCase
TestClients.settings = settings(stateful_step_count=40)
TestPlanner = PlannerMachine.TestCase
TestPlanner.settings = settings(stateful_step_count=40)
