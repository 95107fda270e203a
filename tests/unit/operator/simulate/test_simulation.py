"""The simulator: what its crowd does, that it counts every move, and that the planner keeps its promises at any size."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.simulate.fleet import NEW, Past, SimulatedLobby, draw, spread
from lobby_operator.simulate.scenarios import SCENARIOS, Flow, Scenario
from lobby_operator.simulate.simulation import Simulation
from lobby_operator.simulate.tally import LOST, ROLLOUT, Report, Tally, quantiles

SPEC = PlannerSpec(lobby="prices", max_replicas=1000)


def simulated(name: str, clients: int = 3000, **fields: object) -> Report:
    return Simulation(SCENARIOS[name], replace(SPEC, **fields), clients).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_client_is_counted_once(name: str) -> None:
    report = simulated(name)
    assert sum(report.clients_by_moves.values()) == report.joined
    assert sum(moves * count for moves, count in report.clients_by_moves.items()) == sum(report.moves.values())


@pytest.mark.parametrize("name", ["mass-disconnect", "node-loss", "flapping-origin"])
def test_the_same_seed_gives_the_same_result(name: str) -> None:
    first, again = (Simulation(SCENARIOS[name], SPEC, 2000, seed=7).run() for _ in range(2))
    assert first == again


def test_another_seed_gives_another_result() -> None:
    first, other = (Simulation(SCENARIOS["day-and-night"], SPEC, 2000, seed=seed).run() for seed in (1, 2))
    assert first.joined != other.joined


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_client_is_moved_by_compaction_soon_after_another_move(name: str, placement: Placement) -> None:
    report = simulated(name, 1000, placement=placement, seats=50, spare_seats=5)
    before = report.shortest_seconds_before_compaction
    assert before is None or before >= SPEC.stabilization_seconds
    assert sum(report.moves.values()) <= 2 * report.joined


def test_a_flash_crowd_waits_for_lobbies_and_leaves_none_behind() -> None:
    report = simulated("flash-crowd", 20_000)
    assert report.refusals == 0
    assert report.wait_seconds is not None
    assert 0 < report.wait_seconds["max"] <= 15
    assert report.samples[-1].lobbies == report.samples[-1].needed


def test_a_flash_crowd_beyond_max_replicas_is_refused_and_comes_again() -> None:
    report = simulated("flash-crowd", 3000, max_replicas=2)
    assert report.lobbies_most == 2
    assert report.refusals > 3000 - 2 * SPEC.seats


def test_a_slow_leak_leaves_no_more_lobbies_than_needed() -> None:
    report = simulated("slow-leak")
    assert report.samples[-1].lobbies == report.samples[-1].needed == 1
    assert set(report.moves) == {"compaction"}
    without = simulated("slow-leak", compaction=False)
    assert without.moves == {}
    assert without.samples[-1].lobbies == without.lobbies_most == 6
    assert without.samples[-1].clients == pytest.approx(300, abs=150)


def test_a_lost_node_costs_its_clients_one_move_each() -> None:
    report = simulated("node-loss", 20_000)
    assert set(report.moves) == {LOST}
    assert 3 * 0.07 < report.moves_per_client < 3 * 0.13
    assert report.closed == 0


def test_a_flapping_origin_moves_no_one_and_changes_no_lobby() -> None:
    report = simulated("flapping-origin", 2800)
    assert (report.moves, report.created, report.removed) == ({}, 0, 0)


def test_a_rollout_moves_each_client_once() -> None:
    report = simulated("rollout", 2800)
    assert set(report.moves) == {ROLLOUT}
    assert report.clients_by_moves[1] > 2500
    assert report.moves_per_client <= 1
    assert report.created == report.removed == 6


def test_a_lobby_that_holds_no_one_can_be_simulated() -> None:
    calm = Scenario(
        name="calm", sentence="Nothing happens.", seconds=120, start=0.0, flow=lambda _now, _clients: Flow()
    )
    report = Simulation(calm, replace(SPEC, spare_seats=0), 10).run()
    assert (report.joined, report.lobbies_most, report.wait_seconds) == (0, 0, None)
    assert report.lines()


# Groups of clients


@given(
    st.dictionaries(st.integers(0, 3).map(lambda n: Past(n, float(n))), st.integers(1, 9), min_size=1),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_clients_are_drawn_from_groups_without_replacement(groups: dict[Past, int], share: float, seed: int) -> None:
    lobby = SimulatedLobby("prices-1", 0.0, 0.0, 512, "1")
    for past, count in groups.items():
        lobby.add(past, count)
    count = round(share * lobby.clients)
    taken = Counter(dict(lobby.take(count, random.Random(seed))))
    assert taken.total() == count
    assert taken + lobby.groups == Counter(groups)
    assert lobby.clients == lobby.groups.total()


def test_every_client_is_as_likely_to_leave_as_any_other() -> None:
    rng = random.Random(1)
    lobbies = [SimulatedLobby(f"prices-{clients}", 0.0, 0.0, 512, "1") for clients in (10, 90)]
    for lobby, clients in zip(lobbies, (10, 90), strict=True):
        lobby.add(NEW, clients)
    left: Counter[str] = Counter()
    for _ in range(1000):
        left.update({lobby.name: count for lobby, count in spread(lobbies, 10, rng)})
    assert left.total() == 10_000
    assert 900 < left["prices-10"] < 1100


def test_all_clients_can_leave_at_once() -> None:
    lobbies = [SimulatedLobby(f"prices-{index}", 0.0, 0.0, 512, "1") for index in range(3)]
    for lobby in lobbies:
        lobby.add(NEW, 5)
    assert dict(Counter({lobby.name: count for lobby, count in spread(lobbies, 99, random.Random(1))})) == {
        "prices-0": 5,
        "prices-1": 5,
        "prices-2": 5,
    }


def test_all_of_one_group_are_drawn_alike() -> None:
    assert draw(Counter({NEW: 7}), 3, random.Random(1)) == {NEW: 3}


# Figures


def test_the_shortest_time_between_two_moves_is_that_of_one_client() -> None:
    tally = Tally()
    once = tally.moved(NEW, 5, LOST, 10.0)
    assert (once, tally.shortest_stay) == (Past(1, 10.0), None)
    twice = tally.moved(once, 2, "compaction", 80.0)
    assert (twice.moves, tally.shortest_stay, tally.shortest_compaction_stay) == (2, 70.0, 70.0)
    tally.moved(twice, 1, LOST, 90.0)
    assert (tally.shortest_stay, tally.shortest_compaction_stay) == (10.0, 70.0)
    assert tally.moves == {LOST: 6, "compaction": 2}


def test_quantiles_are_those_of_the_counted_values() -> None:
    assert quantiles(Counter()) is None
    assert quantiles(Counter({1.0: 98, 5.0: 1, 9.0: 1})) == {"p50": 1.0, "p99": 5.0, "max": 9.0}
