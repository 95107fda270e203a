from __future__ import annotations

from tests.unit.operator.lobbies import NOW, raw, report

from lobby_operator.planner.actions import Create, Delete, Drain, Reason
from lobby_operator.planner.expectations import EXPECTED_SECONDS, Expectations
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import LobbyReading

CREATE = Create("prices-2", Reason(ActionReason.BELOW_REPLICAS, running=1, replicas=2))
DRAIN = Drain("prices-1", Reason(ActionReason.EMPTY, seconds=60))
DELETE = Delete("prices-1", Reason(ActionReason.DRAINED))


def test_a_lobby_that_was_made_is_there_before_it_shows() -> None:
    expected = Expectations().expect([CREATE], NOW)
    laid, expected = expected.lay_over([raw(1)], NOW + 1.0)
    assert laid == (raw(1), LobbyReading(name="prices-2", created_at=NOW, expected=True))
    laid, expected = expected.lay_over([raw(1), raw(2)], NOW + 2.0)
    assert laid == (raw(1), raw(2))
    assert expected == Expectations()


def test_a_lobby_that_was_deleted_is_ending_before_it_shows() -> None:
    expected = Expectations().expect([DELETE], NOW)
    laid, expected = expected.lay_over([raw(1)], NOW)
    assert laid == (raw(1, ending=True, expected=True),)
    assert expected.lay_over([], NOW) == ((), Expectations())
    laid, expected = expected.lay_over([raw(1, ending=True)], NOW)
    assert laid == (raw(1, ending=True),)
    assert expected == Expectations()


def test_a_lobby_that_was_told_drains_before_it_says_so() -> None:
    expected = Expectations().expect([DRAIN], NOW)
    laid, kept = expected.lay_over([raw(1)], NOW)
    assert laid == (raw(1, draining=True, expected=True),)
    assert kept == expected
    for shown in ([raw(1, report=report(draining=True))], [raw(1, ending=True)], [raw(1, ended=True)], []):
        assert expected.lay_over(shown, NOW) == (tuple(shown), Expectations())


def test_a_lobby_that_never_spoke_is_still_expected_to_drain() -> None:
    laid, kept = Expectations().expect([DRAIN], NOW).lay_over([raw(1, None)], NOW)
    assert laid[0].draining
    assert kept.items


def test_what_does_not_come_about_is_given_up_after_a_while() -> None:
    for action in (CREATE, DRAIN, DELETE):
        expected = Expectations().expect([action], NOW)
        until = NOW + EXPECTED_SECONDS[type(action)]
        assert expected.wake_at() == until
        laid, kept = expected.lay_over([raw(1)], until - 0.001)
        assert kept == expected
        assert laid != (raw(1),)
        assert expected.lay_over([raw(1)], until) == ((raw(1),), Expectations())


def test_a_later_action_takes_the_place_of_an_earlier_one() -> None:
    expected = Expectations().expect([DRAIN], NOW).expect([DELETE, CREATE], NOW + 1.0)
    assert [item.action for item in expected.items] == [DELETE, CREATE]


def test_an_action_that_failed_is_forgotten() -> None:
    expected = Expectations().expect([DELETE, CREATE], NOW)
    assert [item.action for item in expected.forget("prices-1").items] == [CREATE]
    assert Expectations().wake_at() is None
