"""What failed is tried again later each time, and holds nothing else up."""

from __future__ import annotations

from lobby_operator.planner.actions import Action, Create, Delete, Reason
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.reconcile.retries import Retries

ONE: Action = Delete("prices-1", Reason(ActionReason.DRAINED))
TWO: Action = Delete("prices-2", Reason(ActionReason.DRAINED))


def test_what_did_not_fail_is_due() -> None:
    retries = Retries(0.2, 10.0)
    assert retries.due([ONE, TWO], 100.0) == [ONE, TWO]
    assert (retries.problem, retries.wake_at()) == ("", None)


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    retries = Retries(1.0, 5.0)
    assert [retries.failed(ONE, "no", 100.0) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_one_that_failed_waits_and_the_others_do_not() -> None:
    retries = Retries(1.0, 10.0)
    retries.failed(ONE, "no room", 100.0)
    assert retries.due([ONE, TWO], 100.5) == [TWO]
    assert retries.wake_at() == 101.0
    assert retries.due([ONE, TWO], 101.0) == [ONE, TWO]
    assert retries.problem == "no room"


def test_what_was_done_or_is_no_longer_to_be_done_is_forgotten() -> None:
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
