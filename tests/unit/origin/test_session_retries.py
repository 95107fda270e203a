"""Attempts that fail: how long the next one waits, and what is said about it."""

from __future__ import annotations

import pytest
from tests.unit.origin.sessions import LOGIN, Shell

from lobby_gateway.origin.dialogue import Dialogue
from lobby_gateway.origin.states import Command, Connect, Failure, Send, State
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.settings import ORIGIN


def secrets_changed(shell: Shell) -> list[Command]:
    shell.session.secrets_changed(shell.now)
    return shell.took()


def test_failed_tries_wait_longer_and_longer_and_say_why() -> None:
    shell = Shell()
    shell.wanted()
    for wait in (0.5, 1, 2, 4, 8, 16, 30, 30):
        assert shell.failed("DNS: no address for origin.example") == []
        assert shell.report.state is OriginState.WAITING
        assert shell.report.reason == "DNS: no address for origin.example"
        assert shell.report.retry_in_seconds == pytest.approx(wait)
        assert shell.later(wait * 0.99) == []
        assert shell.later(wait * 0.01 + 1e-6) == [Connect()]
    assert shell.session.failures == {Failure.UNREACHABLE: 8}
    assert shell.session.attempts == 9
    assert shell.report.connections == 0


def test_reason_stays_while_it_tries_again_and_goes_when_the_stream_begins() -> None:
    shell = Shell()
    shell.wanted()
    shell.failed("connection refused")
    shell.later(1)
    assert shell.report == OriginReport(state=OriginState.CONNECTING, reason="connection refused")
    shell.opened()
    assert shell.report == OriginReport(state=OriginState.CONNECTED, connections=1)


@pytest.mark.parametrize("status", [401, 403])
def test_forbidden_is_shown_as_refused_and_tried_again_rarely(status: int) -> None:
    shell = Shell(fraction=0.0)
    shell.wanted()
    for _ in range(3):
        shell.refused(status)
        assert shell.report.state is OriginState.REFUSED
        assert shell.report.reason == f"HTTP {status}"
        assert shell.later(ORIGIN.min_refused_seconds - 0.1) == []
        assert shell.later(0.2) == [Connect()]
    assert shell.session.failures == {Failure.REFUSED: 3}


def test_forbidden_waits_at_least_the_longest_wait() -> None:
    shell = Shell(fraction=0.0, reconnect={"minMilliseconds": 500, "maxMilliseconds": 600_000})
    shell.wanted()
    shell.refused(401)
    assert shell.report.retry_in_seconds == 600


@pytest.mark.parametrize(("jitter", "wait"), [("Full", 7.5), ("Half", 18.75), ("None", 30.0)])
def test_jitter_is_the_random_share_of_each_wait(jitter: str, wait: float) -> None:
    shell = Shell(fraction=0.25, reconnect={"minMilliseconds": 30_000, "maxMilliseconds": 30_000, "jitter": jitter})
    shell.wanted()
    for _ in range(3):
        shell.failed()
        assert shell.later(wait - 0.01) == []
        assert shell.later(0.02) == [Connect()]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honored(status: int) -> None:
    shell = Shell(fraction=0.5)
    shell.wanted()
    shell.refused(status, 120)
    assert shell.report.state is OriginState.WAITING
    assert shell.later(119.9) == []
    assert shell.later(0.4) == [Connect()]
    assert shell.session.failures == {Failure.TURNED_AWAY: 1}


def test_other_statuses_wait_as_any_failure() -> None:
    shell = Shell()
    shell.wanted()
    shell.refused(404)
    assert (shell.report.state, shell.report.retry_in_seconds) == (OriginState.WAITING, 0.5)


@pytest.mark.parametrize(("status", "state"), [(401, OriginState.REFUSED), (429, OriginState.WAITING)])
def test_clients_that_leave_and_come_back_do_not_shorten_the_wait(status: int, state: OriginState) -> None:
    shell = Shell()
    shell.wanted()
    shell.refused(status, 100)
    for _ in range(9):
        assert shell.wanted(False) == []
        assert shell.report.state is OriginState.IDLE
        assert shell.later(10) == []
        assert shell.wanted() == []
        assert shell.report.state is state
        assert shell.report.reason == f"HTTP {status}"
    assert shell.later(60) == [Connect()]


def test_client_that_comes_back_after_the_wait_connects_at_once() -> None:
    shell = Shell()
    shell.wanted()
    shell.refused(401)
    shell.wanted(False)
    assert shell.later(200) == []
    assert shell.wanted() == [Connect()]


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_new_secret_is_tried_at_once_whatever_was_answered_to_the_old_one(status: int) -> None:
    shell = Shell()
    shell.wanted()
    assert shell.refused(status, 600.0) == []
    assert secrets_changed(shell) == [Connect()]
    assert shell.state is State.CONNECTING


def test_a_new_secret_does_not_touch_an_open_stream() -> None:
    shell = Shell().streaming()
    assert secrets_changed(shell) == []
    assert shell.report.connections == 1
    assert shell.lost() == []
    assert shell.report.state is OriginState.WAITING  # as after any loss


@pytest.mark.parametrize("opened", [False, True])
def test_a_secret_replaced_during_a_try_is_tried_when_that_has_failed(opened: bool) -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    if opened:
        shell.opened()
    assert secrets_changed(shell) == []
    assert shell.lost() == [Connect()] if opened else shell.refused(401) == [Connect()]
    assert shell.refused(401) == []
    assert shell.state is State.REFUSED


def test_a_secret_replaced_while_nobody_wants_the_stream_connects_nobody() -> None:
    shell = Shell()
    shell.wanted()
    shell.refused(403)
    shell.wanted(False)
    assert secrets_changed(shell) == []
    assert shell.state is State.IDLE
    assert shell.wanted() == [Connect()]


def test_a_secret_replaced_during_a_lingering_attempt_leaves_it_alone() -> None:
    shell = Shell()
    shell.wanted()
    shell.wanted(False)
    assert secrets_changed(shell) == []
    assert shell.state is State.CONNECTING


def test_new_steps_hold_from_the_next_connection_on_and_old_secrets_stay_hidden() -> None:
    shell = Shell(secrets=("old-secret",)).streaming()
    shell.session.set_dialogue(Dialogue(steps=("login new",)), ("new-secret",))
    shell.lost()
    shell.later(30.0)
    assert Send("login new") in shell.opened()
    shell.lost("old-secret and new-secret are bad")
    assert shell.report.reason == "*** and *** are bad"
