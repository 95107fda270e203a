"""Single plans first; then stories in a simulated world."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.property.invariants import STEP_LAWS
from tests.property.world import World
from tests.unit.operator.lobbies import NOW, SPEC, lobby_state, observed

from lobby_gateway.resource.spec import Placement
from lobby_gateway.settings import SeatQueueSettings
from lobby_operator.planner import reasons
from lobby_operator.planner.actions import Action, Create, Delete, Drain
from lobby_operator.planner.plan import Plan, plan
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.stabilization_window import Sample
from lobby_operator.planner.state import Failures, Held, Hold, LobbyState, Observed, Phase
from lobby_operator.settings import PlannerSettings

LOST_WAIT_SECONDS = SeatQueueSettings().lost_seconds(15)
NO_SPARE = replace(SPEC, spare_seats=0)
LATEST = replace(SPEC, placement=Placement.LATEST)


def planned(observation: Observed, spec: PlannerSpec = SPEC, now: float = NOW, **settings: Any) -> Plan:
    return plan(spec, observation, now, PlannerSettings(**settings))


def described(made: Plan) -> list[str]:
    """The actions, as `Create prices-1 BelowReplicas`."""
    return [f"{type(action).__name__} {action.name} {action.reason.code}" for action in made.actions]


# Making lobbies


def test_a_lobby_is_kept_for_the_spare_seats_even_without_clients() -> None:
    assert described(planned(observed())) == ["Create prices-1 SpareSeatsLow"]
    assert described(planned(observed(lobby_state(1)))) == []


def test_without_spare_seats_no_lobby_runs_until_the_first_client_waits() -> None:
    assert described(planned(observed(), NO_SPARE)) == []
    assert described(planned(observed(waiting=1), NO_SPARE)) == ["Create prices-1 ClientsWait"]


def test_the_minimum_is_always_kept() -> None:
    assert described(planned(observed(), replace(NO_SPARE, replicas=2))) == [
        "Create prices-1 BelowReplicas",
        "Create prices-2 BelowReplicas",
    ]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RECOVERING, Phase.UNRESPONSIVE])
def test_starting_and_unresponsive_lobbies_count_for_replicas(phase: Phase) -> None:
    assert described(planned(observed(lobby_state(1, 0, phase)), replace(NO_SPARE, replicas=1))) == []


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.ENDING, Phase.ENDED])
def test_leaving_lobbies_do_not_count_for_replicas(phase: Phase) -> None:
    spec = replace(NO_SPARE, replicas=1)
    assert "Create prices-2 BelowReplicas" in described(planned(observed(lobby_state(1, 0, phase)), spec))


def test_a_lobby_is_created_before_the_seats_run_out() -> None:
    assert described(planned(observed(lobby_state(1, 448)))) == []
    assert described(planned(observed(lobby_state(1, 449)))) == ["Create prices-2 SpareSeatsLow"]
    assert described(planned(observed(lobby_state(1, 449), lobby_state(2, phase=Phase.STARTING)))) == []


def test_a_burst_gets_all_lobbies_at_once() -> None:
    made = planned(observed(lobby_state(1, 100), waiting=2000))  # 412 seats are free, 1,652 more are needed
    assert described(made) == [f"Create prices-{index} ClientsWait" for index in (2, 3, 4, 5)]
    assert (
        made.actions[0].reason.sentence == "2000 clients wait for a seat, 0 are moving, 412 seats are free or starting"
    )


def test_seats_of_an_unreachable_lobby_do_not_count_while_clients_wait() -> None:
    gone = lobby_state(1, 100, unreachable_since=NOW - 2.0)
    made = planned(observed(gone, waiting=300))
    assert described(made) == ["Create prices-2 ClientsWait"]
    assert made.actions[0].reason.sentence == "300 clients wait for a seat, 0 are moving, 0 seats are free or starting"
    assert described(planned(observed(gone, lobby_state(2, phase=Phase.STARTING), waiting=300))) == []
    assert described(planned(observed(gone, lobby_state(2, 100), waiting=300))) == []
    assert described(planned(observed(gone))) == []  # no client waits: perhaps only we cannot reach it


def test_one_missed_answer_changes_nothing_yet() -> None:
    late = planned(observed(lobby_state(1, 100, unreachable_since=NOW - 1.9), waiting=300))
    assert (described(late), late.wake_at) == ([], NOW + 0.1)


def test_an_unreachable_lobby_does_not_make_its_substitutes_superfluous() -> None:
    long_ago = (Sample(0.0, 1),)
    lobbies = (lobby_state(1, 100, unreachable_since=NOW - 2.0), lobby_state(2, 0))
    assert described(planned(observed(*lobbies, waiting=300, surplus=long_ago))) == []
    assert described(planned(observed(*lobbies, surplus=long_ago))) == ["Drain prices-2 Empty"]


def test_clients_of_draining_lobbies_need_seats() -> None:
    assert described(planned(observed(lobby_state(1, 400), lobby_state(2, 500, Phase.DRAINING)))) == [
        "Create prices-3 SpareSeatsLow"
    ]
    assert described(planned(observed(lobby_state(1, 400), lobby_state(2, 500, Phase.ENDING)))) == [
        "Create prices-3 SpareSeatsLow"
    ]


def test_the_number_of_starting_lobbies_is_bounded() -> None:
    assert len(planned(observed(waiting=9000), max_starting=5).actions) == 5
    starting = [lobby_state(index, phase=Phase.STARTING) for index in range(1, 5)]
    assert len(planned(observed(*starting, waiting=9000), max_starting=5).actions) == 1
    assert len(planned(observed(*starting, waiting=9000), max_starting=2).actions) == 0


def test_max_replicas_is_never_exceeded_in_any_phase() -> None:
    spec = replace(SPEC, max_replicas=3)
    lobbies = [lobby_state(1, 512), lobby_state(2, 0, Phase.ENDING)]
    made = planned(observed(*lobbies, waiting=2000), spec)
    assert described(made) == ["Create prices-3 ClientsWait"]
    assert made.scaling.reason is reasons.SCALING_LIMITED
    assert made.scaling.fields == {"missing": 4, "maximum": 3}
    lobbies = [lobby_state(1, 512, Phase.DRAINING), lobby_state(2, 9, Phase.UNRESPONSIVE), lobby_state(3, 512)]
    assert [a for a in planned(observed(*lobbies, waiting=9), spec).actions if isinstance(a, Create)] == []


def test_ended_lobbies_do_not_count_for_the_maximum() -> None:
    made = planned(observed(lobby_state(1, 0, Phase.ENDED)), replace(SPEC, max_replicas=1))
    assert described(made) == ["Delete prices-1 Ended", "Create prices-2 SpareSeatsLow"]


def test_names_continue_after_the_highest_existing_one() -> None:
    lobbies = [lobby_state(3, 512), lobby_state(7, 512, Phase.ENDING)]
    assert described(planned(observed(*lobbies)))[0] == "Create prices-8 SpareSeatsLow"


def test_latest_creates_a_lobby_even_if_older_ones_have_seats() -> None:
    lobbies = [lobby_state(1, 10), lobby_state(2, 500)]
    assert described(planned(observed(*lobbies))) == []
    assert described(planned(observed(*lobbies), LATEST)) == ["Create prices-3 SpareSeatsLow"]


# Failed starts


def failing(count: int, since: float, *lobbies: Any, lost: int = 0) -> Plan:
    return planned(observed(*lobbies, waiting=2000, lost=lost, failures=Failures(count, NOW - since)))


def test_after_one_failed_start_a_single_retry_is_immediate() -> None:
    assert len(failing(1, 0.0).actions) == 1


@pytest.mark.parametrize(("count", "seconds"), [(2, 1.0), (3, 2.0), (5, 8.0), (9, 60.0), (100, 60.0)])
def test_further_retries_wait_longer_and_longer(count: int, seconds: float) -> None:
    early = failing(count, seconds - 0.5)
    assert (early.actions, early.wake_at) == ((), NOW + 0.5)
    assert early.scaling.reason is reasons.SCALING_BACKOFF
    assert len(failing(count, seconds).actions) == 1


def test_repeated_failures_are_named_until_a_lobby_is_ready() -> None:
    """Also during each attempt: otherwise the condition, and Stalled with it, would change with each of them."""
    starting = lobby_state(1, phase=Phase.STARTING, created_at=NOW)
    ending = lobby_state(1, phase=Phase.ENDING, created_at=NOW - 1.0)
    for made in (failing(3, 9.0), failing(3, 9.0, starting), failing(3, 9.0, ending), failing(3, 0.0, ending)):
        assert made.scaling.reason is reasons.SCALING_BACKOFF
    ready = lobby_state(1, created_at=NOW - 2.0, ready_at=NOW - 1.0)
    assert planned(observed(ready, failures=Failures(3, NOW - 9.0))).scaling.reason is reasons.SCALING_STEADY
    assert failing(0, 0.0, starting).scaling.reason is reasons.SCALING_UP


def test_repeated_failures_are_named_even_if_the_last_one_still_takes_its_place() -> None:
    spec, ending = replace(SPEC, max_replicas=1), lobby_state(1, phase=Phase.ENDING, created_at=NOW - 1.0)
    made = planned(observed(ending, waiting=1, failures=Failures(3, NOW - 9.0)), spec)
    assert made.scaling.reason is reasons.SCALING_BACKOFF


def test_a_single_failed_start_is_not_named() -> None:
    made = failing(1, 0.1, lobby_state(1, phase=Phase.STARTING, created_at=NOW))
    assert made.scaling.reason is reasons.SCALING_UP


def test_only_one_retry_at_a_time() -> None:
    made = failing(3, 50.0, lobby_state(1, phase=Phase.STARTING, created_at=NOW - 1.0))
    assert (made.actions, made.wake_at) == ((), NOW + 59.0)


def test_the_planner_wakes_when_a_lobby_has_lasted() -> None:
    lasting = lobby_state(1, created_at=NOW - 3.0, ready_at=NOW - 2.0)
    made = failing(3, 50.0, lasting, lobby_state(2, phase=Phase.STARTING, created_at=NOW))
    assert (made.actions, made.wake_at) == ((), NOW + 3.0)
    made = failing(9, 10.0, lasting)  # the back-off has 50 s left
    assert (made.actions, made.wake_at) == ((), NOW + 3.0)


@pytest.mark.parametrize("count", [3, 9, 100])
def test_retries_wait_little_while_clients_wait_whose_lobby_is_gone(count: int) -> None:
    early = failing(count, 1.0, lost=1)
    assert (early.actions, early.wake_at) == ((), NOW + 0.5)
    assert early.scaling.reason is reasons.SCALING_BACKOFF
    assert len(failing(count, 1.5, lost=1).actions) == 2
    assert len(failing(count, 1.5, lobby_state(1, phase=Phase.STARTING, created_at=NOW), lost=1).actions) == 1


def test_how_long_lost_clients_wait_bounds_the_backoff() -> None:
    spec = replace(SPEC, lost_seconds=300.0)
    waiting = observed(waiting=2000, lost=1, failures=Failures(9, NOW - 10.0))
    made = planned(waiting, spec)
    assert (made.actions, made.wake_at) == ((), NOW + 5.0)


def test_a_late_start_does_not_count_while_clients_wait_whose_lobby_is_gone() -> None:
    hanging = lobby_state(1, phase=Phase.STARTING, created_at=NOW - 7.5)
    assert described(planned(observed(hanging, waiting=300))) == []
    assert described(planned(observed(hanging, waiting=300, lost=1))) == ["Create prices-2 ClientsWait"]
    started = replace(hanging, created_at=NOW - 7.0)
    made = planned(observed(started, waiting=300, lost=1))
    assert (described(made), made.wake_at) == ([], NOW + 0.5)


def test_late_starts_do_not_keep_others_from_starting() -> None:
    hanging = [lobby_state(index, phase=Phase.STARTING, created_at=NOW - 9.0) for index in (1, 2)]
    assert len(planned(observed(*hanging, waiting=9000, lost=1), max_starting=2).actions) == 2
    assert len(failing(1, 8.0, *hanging, lost=1).actions) == 2


# Lobbies that live, but never answered


def unheard(index: int, seconds: float, phase: Phase = Phase.STARTING, **fields: Any) -> LobbyState:
    """Its pod has been ready for this long; it has not answered us since."""
    values = {"created_at": NOW - seconds - 3.0, "unheard_since": NOW - seconds, **fields}
    return lobby_state(index, 0, phase, **values)


def test_a_lobby_that_lives_but_was_not_heard_yet_counts_as_starting() -> None:
    made = planned(observed(unheard(1, 9.9), waiting=300))
    assert (described(made), made.scaling.reason) == ([], reasons.SCALING_UP)
    assert made.wake_at == pytest.approx(NOW + 0.1)


@pytest.mark.parametrize("waiting", [0, 300])
@pytest.mark.parametrize("seconds", [10.0, 70.0, 1e6])
def test_one_more_is_created_in_case_it_is_broken_and_not_a_third(waiting: int, seconds: float) -> None:
    reason = "ClientsWait" if waiting else "SpareSeatsLow"
    assert described(planned(observed(unheard(1, seconds), waiting=waiting))) == [f"Create prices-2 {reason}"]
    for younger in (lobby_state(2, phase=Phase.STARTING, created_at=NOW), unheard(2, 0.1), unheard(2, seconds)):
        made = planned(observed(unheard(1, seconds), younger, waiting=waiting))
        assert (described(made), made.scaling.reason) == ([], reasons.SCALING_UNREACHABLE)


def test_many_that_were_never_heard_are_one_more_at_most() -> None:
    ten = [unheard(index, 60.0) for index in range(1, 11)]
    assert described(planned(observed(*ten, waiting=5000))) == ["Create prices-11 ClientsWait"]
    assert described(planned(observed(*ten, unheard(11, 50.0), waiting=5000))) == []
    assert len(planned(observed(*ten, waiting=5000, lost=5000)).actions) == 1


def test_no_lobby_is_created_to_see_whether_one_is_broken_if_older_ones_fell_silent_too() -> None:
    older = lobby_state(1, 512, unreachable_since=NOW - 60.0)
    assert described(planned(observed(older, unheard(2, 50.0)))) == []
    assert described(planned(observed(lobby_state(1, 512), unheard(2, 50.0)))) == ["Create prices-3 SpareSeatsLow"]


def test_a_failed_start_does_not_keep_us_from_seeing_whether_a_silent_lobby_is_broken() -> None:
    made = planned(observed(unheard(1, 50.0), waiting=9, failures=Failures(1, NOW - 90)))
    assert described(made) == ["Create prices-2 ClientsWait"]


def test_a_lobby_that_never_answers_while_others_do_is_broken() -> None:
    both = (lobby_state(1, 5), unheard(2, 60.0))
    assert described(planned(observed(*both, heard_since=NOW - 10.0))) == ["Delete prices-2 NeverAnswered"]
    soon = planned(observed(*both, heard_since=NOW - 9.0))  # we may have been cut off until then
    assert (described(soon), soon.wake_at) == ([], NOW + 1.0)
    young = (lobby_state(1, 5), unheard(2, 50.0, created_at=NOW - 59.0))
    made = planned(observed(*young, heard_since=NOW - 100.0))
    assert (described(made), made.wake_at) == ([], NOW + 1.0)
    assert described(planned(observed(*both))) == []  # none answers


def test_without_room_for_another_a_single_lobby_that_never_answers_is_replaced() -> None:
    one = replace(SPEC, max_replicas=1)
    assert described(planned(observed(unheard(1, 60.0)), one)) == ["Delete prices-1 NeverAnswered"]
    assert described(planned(observed(unheard(1, 50.0)), one)) == []
    two = replace(SPEC, max_replicas=2)
    assert described(planned(observed(unheard(1, 60.0), unheard(2, 60.0), waiting=9), two)) == []


def test_lobbies_that_were_up_before_us_are_lost_only_if_others_answer() -> None:
    lost = [unheard(index, 2.0, Phase.RECOVERING) for index in (1, 2, 3)]
    assert described(planned(observed(*lost, waiting=900))) == []  # all three count but one
    assert described(planned(observed(*lost, waiting=1400))) == ["Create prices-4 ClientsWait"]
    answers = lobby_state(4, 512)
    assert len(planned(observed(*lost, answers, waiting=1400, heard_since=NOW)).actions) == 3
    missed_one = [replace(lobby, unheard_since=NOW - 1.0) for lobby in lost]
    made = planned(observed(*missed_one, answers, waiting=1400, heard_since=NOW))
    assert (described(made), made.wake_at) == ([], NOW + 1.0)


def test_lobbies_that_fall_silent_for_long_are_named_but_nothing_is_done() -> None:
    made = planned(observed(lobby_state(1, 5, unreachable_since=NOW - 9.0)))
    assert (described(made), made.silent, made.wake_at) == ([], (), NOW + 1.0)
    silent = lobby_state(1, 5, unreachable_since=NOW - 10.0)
    made = planned(observed(silent))
    assert (described(made), made.silent, made.scaling.reason) == ([], (silent,), reasons.SCALING_UNREACHABLE)
    assert "1 lobby is healthy but does not answer the operator (prices-1)" in made.scaling.sentence
    assert "NetworkPolicy" in made.scaling.sentence


# What is lost


def test_an_ended_lobby_is_deleted_once() -> None:
    assert described(planned(observed(lobby_state(1, 0, Phase.ENDED)), NO_SPARE)) == ["Delete prices-1 Ended"]
    assert described(planned(observed(lobby_state(1, 0, Phase.ENDED, delete_requested=True)), NO_SPARE)) == []


def test_an_unresponsive_lobby_is_given_up_after_its_time() -> None:
    unresponsive = observed(lobby_state(1, 9, Phase.UNRESPONSIVE), lobby_state(2, 5))
    assert (described(planned(unresponsive)), planned(unresponsive).wake_at) == ([], NOW + 10.0)
    assert described(planned(unresponsive, now=NOW + 10.0)) == ["Delete prices-1 Silent"]


def test_giving_up_a_lobby_that_never_answered_has_its_own_reason() -> None:
    unresponsive = observed(lobby_state(1, 0, Phase.UNRESPONSIVE, ready_at=None), lobby_state(2, 5))
    (action,) = planned(unresponsive, now=NOW + 10.0).actions
    assert action.reason.sentence == "it did not respond within 1010 s of its creation"


def test_an_unresponsive_lobby_is_replaced_at_once() -> None:
    assert described(planned(observed(lobby_state(1, 9, Phase.UNRESPONSIVE)))) == ["Create prices-2 SpareSeatsLow"]


def test_an_unresponsive_lobby_without_a_time_gets_its_full_time() -> None:
    made = planned(observed(lobby_state(1, 9, Phase.UNRESPONSIVE, unresponsive_since=None), lobby_state(2)))
    assert (described(made), made.wake_at) == ([], NOW + 10.0)


# Drains


def test_a_confirmed_drain_ends_when_the_lobby_is_empty() -> None:
    assert described(planned(observed(lobby_state(1), lobby_state(2, 0, Phase.DRAINING)))) == [
        "Delete prices-2 Drained"
    ]
    told = observed(lobby_state(1), lobby_state(2, 0, Phase.DRAINING, drain_confirmed=False, expected=True))
    assert (described(planned(told)), planned(told).wake_at) == ([], NOW + 300.0)
    assert described(planned(observed(lobby_state(1), lobby_state(2, 3, Phase.DRAINING)))) == []


def test_a_lost_drain_is_repeated() -> None:
    unheard = observed(
        lobby_state(1), lobby_state(2, 0, Phase.DRAINING, drain_confirmed=False, draining_since=NOW - 6.0)
    )
    (action,) = planned(unheard).actions
    assert isinstance(action, Drain)
    assert action.reason.sentence == "it was asked to drain 6 s ago but still takes clients"


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.UNRESPONSIVE])
def test_an_overdue_drain_ends_with_the_remaining_clients(phase: Phase) -> None:
    lobby = lobby_state(2, 3, phase, draining_since=NOW - 300.0)
    (action,) = planned(observed(lobby_state(1), lobby)).actions
    assert isinstance(action, Delete)
    assert action.reason.sentence == "it has been draining for 300 s, and 3 clients are left"


def test_an_unresponsive_draining_lobby_is_deleted_once() -> None:
    lobby = lobby_state(2, 3, Phase.UNRESPONSIVE, draining_since=NOW - 400.0, unresponsive_since=NOW - 20.0)
    assert described(planned(observed(lobby_state(1), lobby))) == ["Delete prices-2 Silent"]


def test_lowering_the_maximum_drains_the_sparsest() -> None:
    lobbies = [
        lobby_state(1, 300),
        lobby_state(2, 10),
        lobby_state(3, 200),
        lobby_state(4, 10, Phase.RECOVERING),
        lobby_state(5, 0, Phase.STARTING),
    ]
    made = planned(observed(*lobbies), replace(SPEC, max_replicas=2))
    assert described(made) == ["Drain prices-4 OverMaximum", "Drain prices-2 OverMaximum"]
    assert [lobby.index for lobby in made.open] == [1, 3]


# Where clients go, and when to look again


def test_a_lobby_about_to_drain_is_no_longer_open() -> None:
    observation = observed(lobby_state(1, 9), lobby_state(2), surplus=(Sample(0.0, 1),))
    made = planned(observation)
    assert described(made) == ["Drain prices-2 Empty"]
    assert [lobby.index for lobby in made.open] == [1]
    assert made.latest is not None
    assert made.latest.name == "prices-1"


def test_without_open_lobbies_there_is_no_latest() -> None:
    assert planned(observed()).latest is None


def test_the_planner_wakes_for_phases_that_time_changes() -> None:
    starting = lobby_state(2, phase=Phase.STARTING, created_at=NOW - 20.0)
    assert planned(observed(lobby_state(1), starting)).wake_at == NOW + 40.0
    recovering = lobby_state(2, 5, Phase.RECOVERING, recovered_at=NOW + 1.5)
    assert planned(observed(lobby_state(1), recovering)).wake_at == NOW + 1.5
    assert planned(observed(lobby_state(1), lobby_state(2, 5, Phase.RECOVERING))).wake_at is None


def test_nothing_is_decided_before_all_lobbies_were_polled() -> None:
    made = planned(observed(lobby_state(1, 9), lobby_state(2, phase=Phase.ENDED), waiting=5000, complete=False))
    assert (made.complete, made.actions) == (False, ())
    assert [lobby.index for lobby in made.open] == [1]


def test_scaling_says_what_is_happening() -> None:
    assert planned(observed(lobby_state(1, 5))).scaling.sentence == "1 lobby, as many as needed"
    assert planned(observed(lobby_state(1, 512))).scaling.sentence == "1 lobby is starting"
    draining = planned(observed(lobby_state(1, 5), lobby_state(2, 3, Phase.DRAINING)))
    assert draining.scaling.sentence == "1 lobby is draining, 3 clients moving"
    sparse = planned(observed(lobby_state(1, 9), lobby_state(2, 4), sparse=(Sample(NOW, 1),)))
    assert sparse.scaling.sentence == "1 lobby is draining, 4 clients moving"


# Stories


def world(spec: PlannerSpec = SPEC, *clients: int, **fields: Any) -> World:
    """A world with lobbies that have had these numbers of clients for a while."""
    made = World(spec, laws=list(STEP_LAWS), **fields)
    made.populate(clients)
    made.step()
    made.history.clear()
    return made


def done(story: World, kind: type[Action]) -> list[str]:
    return [action.name for _, action in story.history if isinstance(action, kind)]


def live(story: World, seconds: float, step: float = 0.5) -> None:
    """Time passes, with a pass of the operator after each step."""
    until = story.now + seconds
    while story.now < until:
        story.advance(step)
        story.step()


def test_runaway_lobbies_drain_into_one_and_no_client_is_closed() -> None:
    story = world(replace(SPEC, spare_seats=12), *[25] * 20)
    live(story, 59.0)
    assert story.history == []
    live(story, 30.0)
    assert [lobby.clients for lobby in story.running()] == [500]
    assert len(done(story, Drain)) == len(done(story, Delete)) == 19
    assert done(story, Create) == []
    assert story.moved == 475
    assert story.waiting == 0


def test_runaway_lobbies_leave_what_the_spare_seats_need() -> None:
    story = world(SPEC, *[25] * 20)  # 500 clients and 64 seats need more than one lobby
    story.settle()
    assert sorted(lobby.clients for lobby in story.running()) == [25, 475]
    assert done(story, Create) == []


def test_a_burst_of_two_thousand_is_seated_and_spare_seats_remain() -> None:
    story = world(SPEC, 0)
    story.join(2000)
    live(story, 3.0)
    assert story.waiting == 0
    assert len(story.running()) == 5  # 2,064 seats needed, 2,560 exist
    assert done(story, Create) == [f"prices-{index}" for index in (2, 3, 4, 5)]
    story.settle()
    assert len(story.running()) == 5


def test_latest_seats_a_burst_without_creating_more_lobbies_than_needed() -> None:
    story = world(LATEST, 0)
    story.join(2000)
    story.settle()
    assert story.waiting == 0
    assert len(story.running()) == 5


def test_one_second_without_an_answer_closes_a_lobby_for_a_few_seconds_only() -> None:
    story = world(SPEC, 300, 0)
    unresponsive = story.lobbies["prices-1"]
    unresponsive.unresponsive_since = story.now
    unresponsive.stopped, members = True, unresponsive.members
    assert [lobby.name for lobby in story.step().open] == ["prices-2"]
    unresponsive.stopped = False
    unresponsive.members = members
    live(story, 1.5)
    assert [lobby.name for lobby in story.step().open] == ["prices-2"]
    live(story, 1.0)
    assert [lobby.name for lobby in story.step().open] == ["prices-1", "prices-2"]
    assert story.history == []


def test_ten_seconds_without_an_answer_end_a_lobby() -> None:
    story = world(SPEC, 300, 0)
    story.lobbies["prices-1"].stopped = True
    live(story, 3.0)
    assert story.waiting == 0  # they are in the other one
    assert done(story, Delete) == []
    live(story, 9.0)
    assert done(story, Delete) == ["prices-1"]
    assert done(story, Create) == []


def test_the_only_lobby_is_replaced_before_it_is_certainly_dead() -> None:
    story = world(SPEC, 300)
    story.lobbies["prices-1"].stopped = True
    live(story, 2.0)
    assert done(story, Create) == ["prices-2"]
    assert story.waiting == 0
    assert story.lobbies["prices-2"].clients == 300


def test_a_lobby_that_keeps_failing_is_retried_ever_more_rarely() -> None:
    story = world(SPEC, start_fails=True)
    story.step()
    live(story, 600.0)
    tries = [at for at, action in story.history if isinstance(action, Create)]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 60.0
    assert len(tries) < 20
    story.start_fails = False
    live(story, 70.0)
    assert len(story.running()) == 1


def test_a_flapping_lobby_is_waited_out() -> None:
    """It answers every other second for five minutes: one lobby replaces it, and stays."""
    story = world(SPEC, 100)
    for _ in range(150):
        story.lobbies["prices-1"].stopped ^= True
        live(story, 1.0)
    assert done(story, Create) == ["prices-2"]
    assert done(story, Delete) == []
    story.lobbies["prices-1"].stopped = False
    story.settle()
    assert len(story.running()) == 1


def test_at_the_maximum_clients_wait_until_a_seat_is_free() -> None:
    story = world(replace(SPEC, max_replicas=2), 512, 512)
    story.join(5)
    live(story, 10.0)
    assert (story.waiting, story.history) == (5, [])
    assert story.planned is not None
    assert story.planned.scaling.reason is reasons.SCALING_LIMITED
    story.leave(5, random.Random(1))
    live(story, 2.0)
    assert (story.waiting, story.history) == (0, [])


def test_empty_lobbies_go_and_without_spare_seats_the_last_one_too() -> None:
    story = world(NO_SPARE, 3, 0, 0)
    live(story, 59.0)
    assert story.history == []
    live(story, 10.0)
    assert len(story.running()) == 1
    story.leave(3, random.Random(1))
    live(story, 70.0)
    assert story.running() == []
    story.join(1)
    live(story, 2.0)
    assert (story.waiting, len(story.running())) == (0, 1)


def test_one_client_more_or_less_creates_and_removes_no_lobbies() -> None:
    story = world(SPEC, 448)
    for _ in range(100):
        story.join(1)
        live(story, 3.0)
        story.leave(1, random.Random(1))
        live(story, 3.0)
    assert len(story.history) == 1
    assert done(story, Create) == ["prices-2"]


def test_a_restarted_operator_delays_but_does_no_harm() -> None:
    story = world(replace(SPEC, spare_seats=12), *[25] * 20)
    live(story, 50.0)
    story.restart_operator()
    live(story, 50.0)
    assert story.history == []
    live(story, 40.0)
    assert [lobby.clients for lobby in story.running()] == [500]


def test_clients_that_lose_lobby_and_operator_together_wait_only_for_the_next_operator() -> None:
    story = world(SPEC, 0)
    story.join(2000)
    live(story, 20.0)
    story.history.clear()
    full = [lobby for lobby in story.lobbies.values() if not lobby.seats - lobby.clients]
    for lobby in full:
        lobby.stopped = True
    story.advance(1.0)  # greeters notice; no operator is running
    assert story.waiting
    story.restart_operator()
    live(story, 5.0)
    assert story.waiting == 0
    assert len(done(story, Create)) == len(full) == 3


def test_a_client_is_not_moved_again_when_the_others_leave_its_new_lobby() -> None:
    spec = replace(SPEC, seats=10, spare_seats=0)
    story = world(spec, 7, 7, 7, 7, 6, 6)
    live(story, spec.stabilization_seconds + 1.0)
    assert done(story, Drain) == ["prices-6"]  # more are to follow
    story.leave_from(story.lobbies["prices-1"], 7)  # the 3 that were moved there are left
    live(story, spec.stabilization_seconds - 2.0)
    assert done(story, Drain) == ["prices-6"]
    live(story, spec.stabilization_seconds)
    assert done(story, Drain)[1:2] == ["prices-1"]
    assert story.shortest_stay >= spec.stabilization_seconds


def test_direct_clients_are_closed_when_the_drain_ends_and_not_before() -> None:
    story = world(replace(SPEC, drain_seconds=100.0), 200, 50)
    story.lobbies["prices-2"].direct = 50
    live(story, 150.0)
    assert [why.reason.code for _, why in story.history] == [ActionReason.SPARSE]
    assert story.lobbies["prices-2"].clients == 50
    live(story, 20.0)
    assert [action.reason.code for _, action in story.history] == [ActionReason.SPARSE, ActionReason.DRAIN_OVERDUE]
    assert [lobby.clients for lobby in story.running()] == [250]


@pytest.mark.parametrize("seats", [512, 128])
@pytest.mark.parametrize("seed", range(2))
def test_lobby_faults_in_a_row_close_no_client(seats: int, seed: int) -> None:
    """500 clients, and for two minutes a lobby is killed or stopped every 2 s, even one that has just started."""
    rng = random.Random(seed)
    story = world(replace(SPEC, seats=seats), start_seconds=0.7)
    story.join(500)
    live(story, 20.0)
    assert story.waiting == 0
    for _ in range(62):
        if up := sorted(lobby.name for lobby in story.running() if not lobby.stopped):
            victim = rng.choice(up)
            if story.lobbies[victim].answers(story.now) and rng.random() < 0.5:
                story.lobbies[victim].stopped = True
            else:
                story.kill(victim)
        live(story, 2.0, step=0.25)
    assert story.longest_lost < LOST_WAIT_SECONDS  # then greeters would close them


def test_pauses_in_a_row_of_the_only_lobby_close_no_client() -> None:
    story = world(replace(SPEC, max_replicas=1), 500)
    for _ in range(20):
        story.lobbies["prices-1"].stopped = True
        live(story, 3.0)
        story.lobbies["prices-1"].stopped = False
        live(story, 5.0)
    assert done(story, Delete) == []
    assert story.longest_lost < LOST_WAIT_SECONDS  # then greeters would close them


def test_a_single_lobby_that_never_answers_costs_clients_seconds_and_is_deleted() -> None:
    story = world(replace(SPEC, spare_seats=0), platform_tells=True)
    story.join(3)
    story.step()
    story.lobbies["prices-1"].unheard = True
    live(story, 13.0)
    assert (story.waiting, done(story, Create)) == (0, ["prices-1", "prices-2"])
    live(story, 60.0)
    assert done(story, Delete) == ["prices-1"]
    live(story, 300.0)
    assert (done(story, Create), [lobby.name for lobby in story.running()]) == (["prices-1", "prices-2"], ["prices-2"])


def test_the_only_permitted_lobby_is_replaced_if_it_never_answers() -> None:
    story = world(replace(SPEC, max_replicas=1), platform_tells=True)
    story.lobbies["prices-1"].unheard = True
    story.join(3)
    live(story, 59.0)
    assert (done(story, Delete), story.waiting) == ([], 3)
    live(story, 10.0)
    assert (done(story, Delete), story.waiting, len(story.running())) == (["prices-1"], 0, 1)


def test_an_operator_that_is_cut_off_creates_one_lobby_more_and_all_answer_afterwards() -> None:
    story = world(SPEC, 40, platform_tells=True)
    story.cut_off = True
    story.join(600)  # more than the only lobby has seats for
    live(story, 600.0, step=1.0)
    assert len(story.running()) <= 3
    assert done(story, Delete) == []
    story.cut_off = False
    live(story, 30.0)
    assert story.waiting == 0
    assert done(story, Delete) == []  # those that did not answer for so long are in order


def test_a_lobby_whose_pod_is_ready_before_its_first_answer_is_not_created_twice() -> None:
    story = world(SPEC, platform_tells=True)
    for step in range(60):
        story.join(512 if step < 15 else 0)
        for lobby in story.running():
            lobby.unheard = story.now < lobby.created_at + 9.0  # polls are late
        live(story, 0.5)
    assert (story.waiting, len(story.running()), done(story, Delete)) == (0, 16, [])


# What holds a starting lobby


def held(index: int, hold: Hold, problem: str = "why", **fields: Any) -> LobbyState:
    made = {"origin": None, "address": "", "starting_since": None, "held": Held(hold, problem), **fields}
    return lobby_state(index, phase=Phase.STARTING, **made)


@pytest.mark.parametrize("hold", list(Hold))
def test_a_lobby_that_the_platform_holds_is_left_alone_and_counts_as_starting(hold: Hold) -> None:
    made = plan(replace(SPEC, replicas=1), observed(held(1, hold)), NOW)
    assert made.actions == ()
    if hold is Hold.IMAGE_PULL:
        assert made.scaling.reason is reasons.SCALING_UP
    else:
        assert made.scaling.reason is reasons.SCALING_HELD[hold]
        assert made.scaling.reason.name == hold.value
        assert "why" in made.scaling.sentence


@pytest.mark.parametrize("hold", [each for each in Hold if each not in (Hold.UNSCHEDULABLE, Hold.IMAGE_PULL)])
def test_a_lobby_is_held_early_for_three_minutes_from_its_creation(hold: Hold) -> None:
    spec = replace(SPEC, replicas=1)
    for age, early, wake_at in ((0.0, True, NOW + 180), (179.0, True, NOW + 1), (180.0, False, None)):
        made = plan(spec, observed(held(1, hold, created_at=NOW - age)), NOW)
        assert (made.early, made.wake_at) == (early, wake_at)
    made = plan(spec, observed(held(2, hold, created_at=NOW), held(1, hold, created_at=NOW - 200)), NOW)
    assert (made.early, made.scaling.fields["lobby"]) == (False, "prices-1")


def test_no_other_is_created_for_clients_whose_lobby_is_gone_where_it_would_wait_too() -> None:
    lost = {"waiting": 3, "lost": 3}
    assert plan(SPEC, observed(held(1, Hold.UNSCHEDULABLE), **lost), NOW).actions == ()
    assert plan(SPEC, observed(held(1, Hold.IMAGE_PULL), **lost), NOW).actions  # another node may have the image
    assert plan(SPEC, observed(held(1, Hold.UNSCHEDULABLE), **lost), NOW).wake_at is None


def test_an_outdated_lobby_that_is_held_goes_at_once() -> None:
    (action,) = plan(
        replace(SPEC, revision="new"), observed(held(1, Hold.SECRET_MISSING, outdated=True), lobby_state(2)), NOW
    ).actions
    assert (type(action), action.reason.code) == (Delete, ActionReason.NEVER_NEEDED)


# Names that others have


def test_names_of_others_are_skipped() -> None:
    three = replace(SPEC, replicas=3)
    made = plan(three, observed(lobby_state(1, 500), taken=frozenset({2, 4})), NOW)
    assert [action.name for action in made.actions] == ["prices-3", "prices-5"]
    assert [action.name for action in plan(SPEC, observed(taken=frozenset({1})), NOW).actions] == ["prices-2"]
