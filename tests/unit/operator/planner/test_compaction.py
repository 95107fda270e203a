from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from tests.unit.operator.lobbies import NOW, SPEC, lobby_state, observed

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.actions import Create, Reason
from lobby_operator.planner.compaction import compact, drain_empty, removable_empty, removable_sparse
from lobby_operator.planner.placement import measure_capacity
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.stabilization_window import Sample
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.settings import PlannerSettings

LATEST = replace(SPEC, placement=Placement.LATEST)
LONG_AGO = NOW - 1000.0


def indexes(lobbies: Iterable[LobbyState]) -> list[int]:
    return [lobby.index for lobby in lobbies]


def empty(spec: PlannerSpec, *lobbies: LobbyState) -> list[int]:
    return indexes(removable_empty(spec, measure_capacity(spec, observed(*lobbies))))


def sparse(spec: PlannerSpec, *lobbies: LobbyState, waiting: int = 0) -> list[int]:
    return indexes(removable_sparse(spec, measure_capacity(spec, observed(*lobbies, waiting=waiting))))


def drained(
    observation: Observed, spec: PlannerSpec = SPEC, settings: PlannerSettings | None = None
) -> tuple[list[str], float | None]:
    """Names of the lobbies that the two passes drain, and when to plan again."""
    builder = PlanBuilder(spec, settings or PlannerSettings(), observation, measure_capacity(spec, observation), NOW)
    drain_empty(builder)
    compact(builder)
    return [f"{action.reason.code} {action.name}" for action in builder.actions], builder.wake_at


# What could be spared


def test_the_sparsest_are_removable_while_clients_and_spare_seats_fit() -> None:
    lobbies = [lobby_state(index, 25) for index in range(1, 21)]
    assert len(sparse(SPEC, *lobbies)) == 18  # 500 clients and 64 seats need two lobbies
    assert len(sparse(replace(SPEC, spare_seats=12), *lobbies)) == 19
    assert sparse(SPEC, lobby_state(1, 100), lobby_state(2, 20), lobby_state(3, 400)) == [
        2
    ]  # 100 more would leave 504 of 512 seats taken


def test_among_equals_the_newest_goes_first() -> None:
    assert sparse(SPEC, lobby_state(1, 9), lobby_state(2, 9)) == [2]
    assert empty(SPEC, lobby_state(1), lobby_state(2), lobby_state(3)) == [3, 2]


def test_empty_lobbies_are_removable_except_for_the_minimum_and_the_spare_seats() -> None:
    assert empty(SPEC, lobby_state(1, 400), lobby_state(2), lobby_state(3)) == [3, 2]
    assert empty(SPEC, lobby_state(1, 449), lobby_state(2), lobby_state(3)) == [3]
    assert empty(replace(SPEC, replicas=2), lobby_state(1), lobby_state(2), lobby_state(3)) == [3]
    assert empty(replace(SPEC, spare_seats=0), lobby_state(1)) == [1]
    assert empty(SPEC, lobby_state(1)) == []


def test_a_small_empty_lobby_goes_if_a_larger_one_cannot() -> None:
    assert empty(SPEC, lobby_state(1, 512), lobby_state(2, seats=10), lobby_state(3, seats=100)) == [2]


def test_no_client_moves_into_a_sparser_lobby() -> None:
    # The empty one is too large to be removed. Moving the one client there would leave one lobby less, but not a fuller one.
    lobbies = [lobby_state(1, 1, seats=1), lobby_state(2, 0, seats=100)]
    assert sparse(replace(SPEC, spare_seats=50), *lobbies) == []


def test_waiting_and_moving_clients_get_the_seats_first() -> None:
    lobbies = [lobby_state(1, 100), lobby_state(2, 100)]
    assert sparse(SPEC, *lobbies) == [2]
    assert sparse(SPEC, *lobbies, waiting=300) == []
    assert sparse(SPEC, *lobbies, lobby_state(3, 300, Phase.DRAINING)) == []


def test_an_overfull_lobby_has_no_free_seats() -> None:
    # Its seats were lowered; the 600 would need seats.
    assert sparse(SPEC, lobby_state(1, 600, seats=512), lobby_state(2, 30), lobby_state(3, 20)) == [3]


def test_latest_removes_older_lobbies_that_are_sparser_than_the_latest() -> None:
    assert sparse(LATEST, lobby_state(1, 90), lobby_state(2, 10), lobby_state(3, 50)) == [2]
    assert sparse(LATEST, lobby_state(1, 40), lobby_state(2, 0), lobby_state(3, 50), lobby_state(4, 0)) == [2, 1, 4]
    assert empty(LATEST, lobby_state(1, 40), lobby_state(2, 0), lobby_state(3, 50), lobby_state(4, 0)) == [2, 4]
    assert sparse(LATEST, lobby_state(1, 100), lobby_state(2, 400)) == []  # they would not fit into the latest


# When they are


def test_an_empty_lobby_is_drained_after_a_while() -> None:
    lobbies = [lobby_state(1, 5), lobby_state(2, empty_since=NOW - 60.0)]
    assert drained(observed(*lobbies, surplus=(Sample(LONG_AGO, 1),))) == (["Empty prices-2"], None)


@pytest.mark.parametrize(
    ("since", "sample", "wake_at"),
    [
        (NOW - 59.0, Sample(LONG_AGO, 1), NOW + 1.0),  # it was not empty for long enough
        (LONG_AGO, Sample(NOW, 1), NOW + 40.0),  # it was needed until just now
        (NOW - 10.0, Sample(NOW, 1), NOW + 40.0),  # neither
    ],
)
def test_an_empty_lobby_stays_until_it_was_not_needed_all_the_time(
    since: float, sample: Sample, wake_at: float
) -> None:
    surplus = (Sample(NOW - 20.0, 0), sample) if sample.at == NOW else (sample,)
    lobbies = [lobby_state(1, 5), lobby_state(2, empty_since=since)]
    assert drained(observed(*lobbies, surplus=surplus)) == ([], wake_at)


def test_as_many_empty_lobbies_go_as_were_superfluous_all_the_time() -> None:
    lobbies = [lobby_state(1, 5), lobby_state(2), lobby_state(3), lobby_state(4)]
    names, wake_at = drained(observed(*lobbies, surplus=(Sample(NOW - 20.0, 1), Sample(NOW, 3))))
    assert names == ["Empty prices-4"]
    assert wake_at == NOW + 40.0


def test_without_a_time_a_lobby_counts_as_empty_from_now_on() -> None:
    lobbies = [lobby_state(1, 5), lobby_state(2, empty_since=None)]
    assert drained(observed(*lobbies, surplus=(Sample(LONG_AGO, 1),))) == ([], NOW + 60.0)


def test_sparse_lobbies_drain_together_after_the_stabilization_time() -> None:
    lobbies = [lobby_state(index, 25) for index in range(1, 21)]
    spec = replace(SPEC, spare_seats=12)
    names, _ = drained(observed(*lobbies, sparse=(Sample(NOW, 19),)), spec)
    assert names == [f"Sparse prices-{index}" for index in range(20, 1, -1)]


def test_sparse_lobbies_stay_until_they_were_removable_all_the_time() -> None:
    lobbies = [lobby_state(1, 30), lobby_state(2, 20), lobby_state(3, 10)]
    names, wake_at = drained(observed(*lobbies, sparse=(Sample(NOW - 50.0, 0), Sample(NOW, 2))))
    assert (names, wake_at) == ([], NOW + 10.0)
    names, wake_at = drained(observed(*lobbies, sparse=(Sample(NOW - 50.0, 1), Sample(NOW, 2))))
    assert (names, wake_at) == (["Sparse prices-3"], NOW + 10.0)


def test_what_is_removable_is_checked_again_before_it_drains() -> None:
    window = (Sample(NOW, 2),)
    assert drained(observed(lobby_state(1, 400), lobby_state(2, 40), lobby_state(3, 30), sparse=window))[0] == [
        "Sparse prices-3"
    ]
    assert drained(observed(lobby_state(1, 500), lobby_state(2, 440), lobby_state(3, 430), sparse=window))[0] == []


def test_a_moved_client_is_left_alone_for_the_stabilization_time() -> None:
    ready = (lobby_state(1, clients=100), lobby_state(2, clients=50))
    seen = replace(observed(*ready), sparse=(Sample(LONG_AGO, 0), Sample(LONG_AGO + 1.0, 1)))
    moved_at = NOW - SPEC.stabilization_seconds
    assert drained(replace(seen, moved_at=moved_at))[0] == ["Sparse prices-2"]
    assert drained(replace(seen, moved_at=moved_at + 0.5)) == ([], NOW + 0.5)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.UNRESPONSIVE])
def test_no_client_moves_while_lobbies_start_or_are_unresponsive(phase: Phase) -> None:
    lobbies = [lobby_state(1, 30), lobby_state(2, 20), lobby_state(3, 0, phase)]
    assert drained(observed(*lobbies, sparse=(Sample(NOW, 1),))) == ([], None)


def test_no_client_moves_while_others_wait_or_compaction_is_off() -> None:
    lobbies = [lobby_state(1, 30), lobby_state(2, 20)]
    window = (Sample(NOW, 1),)
    assert drained(observed(*lobbies, sparse=window))[0] == ["Sparse prices-2"]
    assert drained(observed(*lobbies, sparse=window, waiting=1))[0] == []
    assert drained(observed(*lobbies, sparse=window), replace(SPEC, compaction=False))[0] == []


def test_compaction_leaves_empty_lobbies_alone() -> None:
    lobbies = [lobby_state(1, 30), lobby_state(2, 20), lobby_state(3, 0, empty_since=NOW)]
    windows = {"sparse": (Sample(NOW, 2),), "surplus": (Sample(NOW, 1),)}
    assert drained(observed(*lobbies, **windows)) == (["Sparse prices-2"], NOW + 60.0)
    assert drained(observed(lobby_state(1, 30), lobby_state(2, empty_since=NOW), **windows)) == ([], NOW + 60.0)


def test_a_batch_moves_a_tenth_of_all_clients_or_one_lobby_full() -> None:
    lobbies = [lobby_state(index, 50) for index in range(1, 201)]  # 10,000 clients: 1,000 at a time
    assert len(drained(observed(*lobbies, sparse=(Sample(NOW, 180),)))[0]) == 20
    draining = lobby_state(201, 600, Phase.DRAINING)
    assert len(drained(observed(*lobbies, draining, sparse=(Sample(NOW, 178),)))[0]) == 8
    few = [lobby_state(index, 100) for index in range(1, 16)]  # 1,500 clients: 512 at a time
    assert len(drained(observed(*few, sparse=(Sample(NOW, 11),)))[0]) == 5


def test_nothing_is_removed_by_a_plan_that_creates_lobbies() -> None:
    observation = observed(
        lobby_state(1, 30), lobby_state(2, 20), lobby_state(3), sparse=(Sample(NOW, 2),), surplus=(Sample(LONG_AGO, 1),)
    )
    builder = PlanBuilder(SPEC, PlannerSettings(), observation, measure_capacity(SPEC, observation), NOW)
    builder.act(Create("prices-4", Reason(ActionReason.BELOW_REPLICAS, running=3, replicas=4)))
    drain_empty(builder)
    compact(builder)
    assert len(builder.actions) == 1
