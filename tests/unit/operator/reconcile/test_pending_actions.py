"""Expected effects of our own actions, and retries of failed ones."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.operator.lobbies import NOW, reading, report

from lobby_operator.planner.actions import Action, Create, Delete, Drain, Preconnect, Reason
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import LobbyReading
from lobby_operator.reconcile.pending_actions import Expectations, Retries
from lobby_operator.settings import ReconcileSettings

CREATE = Create("prices-2", Reason(ActionReason.BELOW_REPLICAS, running=1, replicas=2))
DRAIN = Drain("prices-1", Reason(ActionReason.EMPTY, seconds=60))
SETTINGS = ReconcileSettings()
PRECONNECT = Preconnect("prices-1", Reason(ActionReason.BEFORE_MOVES, clients=3))
DELETE = Delete("prices-1", Reason(ActionReason.DRAINED))


def test_a_created_lobby_exists_before_it_is_listed() -> None:
    expected = Expectations().expect([CREATE], NOW)
    overlaid, expected = expected.overlay([reading(1)], NOW + 1.0)
    assert overlaid == (reading(1), LobbyReading(name="prices-2", created_at=NOW, expected=True))
    overlaid, expected = expected.overlay([reading(1), reading(2)], NOW + 2.0)
    assert overlaid == (reading(1), reading(2))
    assert expected == Expectations()


def test_a_deleted_lobby_is_ending_before_its_reading_says_so() -> None:
    expected = Expectations().expect([DELETE], NOW)
    overlaid, expected = expected.overlay([reading(1)], NOW)
    assert overlaid == (reading(1, ending=True, expected=True),)
    assert expected.overlay([], NOW) == ((), Expectations())
    overlaid, expected = expected.overlay([reading(1, ending=True)], NOW)
    assert overlaid == (reading(1, ending=True),)
    assert expected == Expectations()


def test_a_drained_lobby_is_draining_before_it_reports_so() -> None:
    expected = Expectations().expect([DRAIN], NOW)
    overlaid, kept = expected.overlay([reading(1)], NOW)
    assert overlaid == (reading(1, draining=True, expected=True),)
    assert kept == expected
    for shown in ([reading(1, report=report(draining=True))], [reading(1, ending=True)], [reading(1, ended=True)], []):
        assert expected.overlay(shown, NOW) == (tuple(shown), Expectations())


def test_a_lobby_asked_to_connect_is_not_asked_again_before_it_reports_so() -> None:
    expected = Expectations().expect([PRECONNECT], NOW)
    overlaid, kept = expected.overlay([reading(1)], NOW)
    assert overlaid == (reading(1, report=replace(report(), preconnected=True)),)
    assert kept == expected
    assert expected.wake_at() == NOW + SETTINGS.request_expected_seconds
    for shown in (
        [reading(1, report=replace(report(), preconnected=True))],
        [reading(1, report=report(draining=True))],
        [reading(1, ending=True)],
        [],
    ):
        assert expected.overlay(shown, NOW) == (tuple(shown), Expectations())


def test_a_lobby_without_a_report_is_still_expected_to_drain() -> None:
    overlaid, kept = Expectations().expect([DRAIN], NOW).overlay([reading(1, None)], NOW)
    assert overlaid[0].draining
    assert kept.items


def test_expectations_expire() -> None:
    for action in (CREATE, DRAIN, DELETE):
        expected = Expectations().expect([action], NOW)
        until = NOW + (SETTINGS.request_expected_seconds if action is DRAIN else SETTINGS.expected_seconds)
        assert expected.wake_at() == until
        overlaid, kept = expected.overlay([reading(1)], until - 0.001)
        assert kept == expected
        assert overlaid != (reading(1),)
        assert expected.overlay([reading(1)], until) == ((reading(1),), Expectations())


def test_a_later_action_replaces_an_earlier_one() -> None:
    expected = Expectations().expect([DRAIN], NOW).expect([DELETE, CREATE], NOW + 1.0)
    assert [item.action for item in expected.items] == [DELETE, CREATE]


def test_no_expectation_never_wakes() -> None:
    assert Expectations().items == ()
    assert Expectations().wake_at() is None


# Retries

ONE: Action = Delete("prices-1", Reason(ActionReason.DRAINED))
TWO: Action = Delete("prices-2", Reason(ActionReason.DRAINED))


def test_an_action_that_has_not_failed_is_due() -> None:
    retries = Retries(0.2, 10.0)
    assert retries.due([ONE, TWO], 100.0) == [ONE, TWO]
    assert (retries.problem, retries.wake_at()) == ("", None)


def test_each_wait_is_twice_the_one_before_up_to_the_maximum() -> None:
    retries = Retries(1.0, 5.0)
    assert [retries.failed(ONE, "no", 100.0) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_only_the_failed_action_waits() -> None:
    retries = Retries(1.0, 10.0)
    retries.failed(ONE, "no room", 100.0)
    assert retries.due([ONE, TWO], 100.5) == [TWO]
    assert retries.wake_at() == 101.0
    assert retries.due([ONE, TWO], 101.0) == [ONE, TWO]
    assert retries.problem == "no room"


def test_failures_of_done_or_unplanned_actions_are_forgotten() -> None:
    retries = Retries(1.0, 10.0)
    retries.failed(ONE, "no room", 100.0)
    retries.failed(TWO, "no room", 100.0)
    assert retries.problem == "no room"
    retries.done(ONE)
    assert retries.due([ONE], 100.0) == [ONE]
    assert retries.problem == ""
    assert retries.failed(TWO, "no", 100.0) == 1.0


def test_another_action_on_the_same_lobby_does_not_wait() -> None:
    retries = Retries(1.0, 10.0)
    retries.failed(ONE, "no", 100.0)
    create = Create("prices-1", Reason(ActionReason.BELOW_REPLICAS, running=0, replicas=1))
    assert retries.due([create], 100.0) == [create]
