from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from tests.property.invariants import STEP_LAWS
from tests.property.world import World
from tests.unit.operator.lobbies import NOW, SPEC, lobby_state, observed, reading

from lobby_operator.planner import reasons
from lobby_operator.planner.history import observe
from lobby_operator.planner.placement import measure_capacity, open_lobbies
from lobby_operator.planner.plan import Plan, plan
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.rollout import next_batch
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.settings import PlannerSettings

NEW = replace(SPEC, revision="new")
NO_SPARE = replace(NEW, spare_seats=0)


def old(index: int, clients: int = 0, phase: Phase = Phase.READY, **fields: Any) -> LobbyState:
    return lobby_state(index, clients, phase, outdated=True, **fields)


def planned(*lobbies: LobbyState, spec: PlannerSpec = NEW, waiting: int = 0) -> Plan:
    return plan(spec, observed(*lobbies, waiting=waiting), NOW)


def described(*lobbies: LobbyState, spec: PlannerSpec = NEW, waiting: int = 0) -> list[str]:
    actions = planned(*lobbies, spec=spec, waiting=waiting).actions
    return [f"{type(action).__name__} {action.name} {action.reason.code}" for action in actions]


def batch(*lobbies: LobbyState, **settings: Any) -> list[int]:
    made = observed(*lobbies)
    builder = PlanBuilder(NEW, PlannerSettings(**settings), made, measure_capacity(NEW, made), NOW)
    return [lobby.index for lobby in next_batch(builder)]


def names(lobbies: Iterable[LobbyState]) -> list[str]:
    return [lobby.name for lobby in lobbies]


# What is outdated


def observed_with(spec: PlannerSpec, revision: str, before: Observed | None = None, **fields: Any) -> Observed:
    return observe(before, [reading(1, revision=revision, **fields)], waiting=0, spec=spec, now=NOW)


def test_a_lobby_of_another_revision_is_outdated_from_the_moment_the_spec_changes() -> None:
    before = observed_with(replace(SPEC, revision="old"), "old")
    assert not before.lobbies[0].outdated
    assert observed_with(NEW, "old", before).lobbies[0].outdated
    assert not observed_with(NEW, "new").lobbies[0].outdated


def test_without_revisions_nothing_is_outdated() -> None:
    assert not observed_with(SPEC, "whatever").lobbies[0].outdated


def test_a_created_lobby_that_is_not_listed_yet_is_not_outdated() -> None:
    assert not observed_with(NEW, "", expected=True).lobbies[0].outdated
    assert observed_with(NEW, "").lobbies[0].outdated


# Surge, drain


def test_seats_for_the_next_batch_exist_before_it_drains() -> None:
    assert described(old(1, 300)) == ["Create prices-2 SpareSeatsLow"]
    assert described(old(1, 300), lobby_state(2, phase=Phase.STARTING)) == []
    assert described(old(1, 300), lobby_state(2)) == ["Drain prices-1 Outdated"]


def test_as_many_are_created_as_the_batch_and_the_spare_seats_need() -> None:
    assert described(old(1, 512), old(2, 512)) == ["Create prices-3 SpareSeatsLow", "Create prices-4 SpareSeatsLow"]
    assert described(old(1, 512), old(2, 512), lobby_state(3), lobby_state(4)) == ["Drain prices-2 Outdated"]


def test_the_sparsest_goes_first() -> None:
    assert described(old(1, 300), old(2, 20), lobby_state(3)) == ["Drain prices-2 Outdated"]


def test_waiting_clients_are_served_before_others_move() -> None:
    assert described(old(1, 300), lobby_state(2, 400), waiting=100) == ["Create prices-3 ClientsWait"]


def test_a_batch_moves_a_tenth_of_the_clients_or_one_lobby_full() -> None:
    assert batch(*(old(index, 512) for index in range(1, 11))) == [10]
    assert batch(*(old(index, 50) for index in range(1, 31))) == [30, 29, 28]
    assert batch(*(old(index, 500) for index in range(1, 31))) == [30, 29, 28]
    assert batch(old(1, 512), old(2, 400, Phase.DRAINING)) == []


def test_without_spare_seats_empty_lobbies_are_not_replaced() -> None:
    assert described(old(1), spec=NO_SPARE) == ["Drain prices-1 Outdated"]


def test_the_minimum_is_kept_during_a_rollout() -> None:
    two = replace(NO_SPARE, replicas=2)
    assert described(old(1), old(2), spec=two) == ["Create prices-3 BelowReplicas"]
    assert described(old(1), old(2), lobby_state(3), spec=two) == ["Drain prices-2 Outdated"]


def test_an_outdated_lobby_that_has_not_started_is_deleted() -> None:
    assert described(old(1, phase=Phase.STARTING), lobby_state(2)) == ["Delete prices-1 NeverNeeded"]


def test_compaction_waits_for_the_end_of_a_rollout() -> None:
    spec = replace(NEW, empty_seconds=0.0, max_replicas=4)
    assert described(old(1, 512), lobby_state(2, 400), lobby_state(3), lobby_state(4), spec=spec) == [
        "Drain prices-1 Outdated"
    ]


# Where new clients go


def test_new_clients_go_to_the_current_revision_as_soon_as_it_has_a_seat() -> None:
    def opened(*lobbies: LobbyState) -> list[str]:
        return names(open_lobbies(measure_capacity(NEW, observed(*lobbies))))

    assert opened(old(1, 300), lobby_state(2, 10)) == ["prices-2"]
    assert opened(old(1, 300), old(2, 20), lobby_state(3, 512)) == ["prices-1", "prices-2"]
    assert opened(old(1, 300)) == ["prices-1"]


def test_scaling_says_how_many_are_left() -> None:
    finding = planned(old(1, 300), old(2, 300, Phase.DRAINING), lobby_state(3)).scaling
    assert finding.reason is reasons.SCALING_ROLLING
    assert finding.sentence == "replacing 2 lobbies of an older revision"


# No room for a surge


def test_at_the_maximum_one_drains_all_the_same() -> None:
    assert described(old(1, 500), old(2, 400), spec=replace(NEW, max_replicas=2)) == ["Drain prices-2 Outdated"]
    assert described(old(1, 500), old(2, 9, Phase.DRAINING), spec=replace(NEW, max_replicas=2)) == []


@pytest.mark.parametrize(
    ("others", "deleted"),
    [
        ([], True),
        ([lobby_state(2, 512)], True),
        ([lobby_state(2, 500)], False),  # there is a seat
        ([lobby_state(2, phase=Phase.STARTING)], False),  # there will be one
        ([old(2, 300)], False),
        ([old(2, 300, Phase.ENDING)], False),  # it is gone soon
    ],
)
def test_a_drain_without_other_seats_ends_at_once(others: list[LobbyState], deleted: bool) -> None:
    spec = replace(NEW, max_replicas=1 + len(others))
    assert ("Delete prices-1 DrainPointless" in described(old(1, 300, Phase.DRAINING), *others, spec=spec)) is deleted


def test_only_a_rollout_ends_a_drain_early() -> None:
    assert described(lobby_state(1, 300, Phase.DRAINING), spec=replace(NEW, max_replicas=1)) == []


# Stories


def rolled_out(clients: list[int], **fields: Any) -> World:
    spec = replace(SPEC, revision="old", **fields)
    world = World(spec, laws=list(STEP_LAWS))
    world.populate(clients)
    world.settle()
    world.spec = replace(spec, revision="new")
    world.settle()
    assert {lobby.revision for lobby in world.running()} == {"new"}
    assert world.waiting == 0
    assert world.clients() == sum(clients)
    return world


def test_each_of_a_thousand_clients_moves_once() -> None:
    assert rolled_out([500, 500]).moved == 1000


def test_a_lobby_with_max_replicas_one_is_replaced() -> None:
    world = rolled_out([300], max_replicas=1)
    assert len(world.running()) == 1


def test_a_revision_that_does_not_start_leaves_the_old_lobbies_serving() -> None:
    spec = replace(SPEC, revision="old")
    world = World(spec, laws=list(STEP_LAWS))
    world.populate([300])
    world.settle()
    world.spec, world.start_fails = replace(spec, revision="bad"), True
    for _ in range(200):
        world.step()
        world.advance(1.0)
    assert world.lobbies["prices-1"].clients == 300
    assert world.planned is not None
    assert names(world.planned.open) == ["prices-1"]
    world.spec, world.start_fails = replace(spec, revision="good"), False
    world.settle()
    assert {lobby.revision for lobby in world.running()} == {"good"}
