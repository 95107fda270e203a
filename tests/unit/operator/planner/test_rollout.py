from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from tests.property.invariants import STEP_LAWS
from tests.property.world import World
from tests.unit.operator.lobbies import NOW, SPEC, lobby_state, observed, reading

from lobby_gateway.process.seat_reports import OriginReport, OriginState
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


def new(index: int, clients: int = 0, **fields: Any) -> LobbyState:
    """A lobby of the current revision that has the stream."""
    connected = OriginReport(state=OriginState.CONNECTED)
    return lobby_state(index, clients, **{"origin": connected, "preconnected": True, **fields})


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
    return observe(before, [reading(1, revision=revision, **fields)], waiting=0, spec=spec, now=NOW)[0]


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
    assert described(old(1, 300), new(2)) == ["Drain prices-1 Outdated"]


def test_as_many_are_created_as_the_batch_and_the_spare_seats_need() -> None:
    assert described(old(1, 512), old(2, 512)) == ["Create prices-3 SpareSeatsLow", "Create prices-4 SpareSeatsLow"]
    assert described(old(1, 512), old(2, 512), new(3), new(4)) == ["Drain prices-2 Outdated"]


def test_the_sparsest_goes_first() -> None:
    assert described(old(1, 300), old(2, 20), new(3)) == ["Drain prices-2 Outdated"]


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
    assert described(old(1, 512), lobby_state(2, 400), new(3), new(4), spec=spec) == ["Drain prices-1 Outdated"]


# The stream

WAITING = OriginReport(state=OriginState.WAITING, reason="connection refused")


def test_a_new_lobby_connects_before_an_old_one_with_the_stream_drains() -> None:
    assert described(old(1, 300), lobby_state(2)) == ["Preconnect prices-2 BeforeMoves"]
    assert described(old(1, 300), lobby_state(2, preconnected=True)) == []
    connecting = OriginReport(state=OriginState.CONNECTING)
    assert described(old(1, 300), lobby_state(2, origin=connecting, preconnected=True)) == []
    assert described(old(1, 300), new(2)) == ["Drain prices-1 Outdated"]


def test_it_is_asked_again_before_it_disconnects() -> None:
    assert described(old(1, 300), new(2, preconnected=False)) == [
        "Preconnect prices-2 BeforeMoves",
        "Drain prices-1 Outdated",
    ]
    assert described(old(1, 300), lobby_state(2, origin=WAITING)) == ["Preconnect prices-2 BeforeMoves"]


def test_as_many_connect_as_the_clients_of_the_next_batch_need() -> None:
    three = [lobby_state(index) for index in (2, 3, 4)]
    assert described(old(1, 500), *three) == ["Preconnect prices-2 BeforeMoves"]
    small = [lobby_state(index, seats=200) for index in (2, 3, 4)]
    assert described(old(1, 300), *small, spec=NO_SPARE) == [
        "Preconnect prices-2 BeforeMoves",
        "Preconnect prices-3 BeforeMoves",
    ]


def test_an_old_lobby_without_the_stream_waits_for_nothing() -> None:
    assert described(old(1, 300, origin=WAITING), lobby_state(2)) == ["Drain prices-1 Outdated"]
    assert described(old(1), lobby_state(2)) == ["Drain prices-1 Outdated"]


def test_one_that_lost_the_stream_a_moment_ago_still_counts() -> None:
    assert described(old(1, 300, origin=WAITING, stream_lost_at=NOW - 59), lobby_state(2, preconnected=True)) == []
    assert planned(old(1, 300, origin=WAITING, stream_lost_at=NOW - 59), new(2, preconnected=False)).actions
    late = old(1, 300, origin=WAITING, stream_lost_at=NOW - 60)
    assert described(late, lobby_state(2)) == ["Drain prices-1 Outdated"]


def test_the_plan_is_made_again_when_it_no_longer_counts() -> None:
    lost = old(1, 300, origin=WAITING, stream_lost_at=NOW - 20)
    assert planned(lost, lobby_state(2, preconnected=True)).wake_at == NOW + 40


def test_a_rollout_without_the_stream_stops_and_says_why() -> None:
    stopped = planned(old(1, 300), old(2, 400), lobby_state(3, origin=WAITING, preconnected=True))
    assert stopped.actions == ()
    assert stopped.scaling.reason is reasons.SCALING_ROLLOUT_STOPPED
    assert stopped.scaling.sentence == (
        "prices-3, of the new revision, has no connection to its origin (connection refused), so 2 older lobbies that have "
        "one stay; change or revert spec.origin (or, if the origin accepts only one connection, set maxReplicas to 1)"
    )


def test_it_is_said_after_a_few_attempts_and_also_during_the_next() -> None:
    fresh = lobby_state(2, origin=WAITING, preconnected=True, ready_at=NOW - 4)
    soon = planned(old(1, 300), fresh)
    assert (soon.scaling.reason, soon.wake_at) == (reasons.SCALING_ROLLING, NOW + 6)
    connecting = OriginReport(state=OriginState.CONNECTING, reason="connection refused")
    again = planned(old(1, 300), lobby_state(2, origin=connecting, preconnected=True))
    assert again.scaling.reason is reasons.SCALING_ROLLOUT_STOPPED


def test_a_corrected_revision_replaces_a_wrong_one_first() -> None:
    wrong = old(2, 3, origin=WAITING, preconnected=True)
    assert described(old(1, 300), wrong, new(3)) == ["Drain prices-2 Outdated"]
    assert described(old(1, 300), wrong, lobby_state(3, origin=WAITING, preconnected=True)) == [
        "Drain prices-2 Outdated"
    ]


def test_while_it_waits_clients_are_sent_to_old_lobbies_that_have_the_stream() -> None:
    assert names(planned(old(1, 300), lobby_state(2, preconnected=True)).open) == ["prices-1"]
    assert names(planned(old(1, 512), lobby_state(2, preconnected=True)).open) == ["prices-2"]
    assert names(planned(old(1, 300, Phase.DRAINING), old(2, 9), lobby_state(3, preconnected=True)).open) == [
        "prices-2"
    ]


def test_without_room_the_next_one_waits_for_the_successor_of_the_first() -> None:
    two = replace(NEW, max_replicas=2)
    assert described(old(1, 500), old(2, 500), spec=two) == ["Drain prices-2 Outdated"]
    assert described(old(1, 500), lobby_state(2, 400, origin=WAITING), spec=two) == []
    assert described(old(1, 500), new(2, 400), spec=two) == ["Drain prices-1 Outdated"]


def test_a_lobby_without_clients_that_nothing_replaces_waits_for_nothing() -> None:
    connected = OriginReport(state=OriginState.CONNECTED)
    assert described(old(1, origin=connected), spec=NO_SPARE) == ["Drain prices-1 Outdated"]
    assert described(old(1, origin=connected), spec=replace(NO_SPARE, replicas=1)) == ["Create prices-2 BelowReplicas"]


def test_a_lower_maximum_takes_the_new_lobbies_without_the_stream_first() -> None:
    one = replace(NEW, max_replicas=1)
    assert described(old(1, 300), lobby_state(2, 3, origin=WAITING), spec=one) == ["Drain prices-2 OverMaximum"]
    assert described(old(1, 300), new(2, 3), spec=one) == ["Drain prices-1 OverMaximum"]


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
