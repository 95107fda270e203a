"""When there is a connection: clients come and go, the lobby stops, and what nobody needs is forgotten."""

from __future__ import annotations

import pytest
from tests.unit.origin.sessions import HELLO, NO_PINGS, Shell

from lobby_gateway.origin.states import BeginClose, BeginEpoch, CancelConnect, Connect, Forget, Publish, State
from lobby_gateway.process.seat_reports import OriginReport, OriginState


def test_on_demand_does_nothing_before_the_first_client() -> None:
    shell = Shell()
    assert (shell.took(), shell.later(10**6)) == ([], [])
    assert shell.report == OriginReport()


def test_first_client_connects_at_once_and_the_stream_begins() -> None:
    shell = Shell()
    assert shell.wanted() == [Connect()]
    assert shell.report.state is OriginState.CONNECTING
    assert shell.opened() == [BeginEpoch()]
    assert shell.receive(HELLO) == [Publish(HELLO)]
    assert shell.report == OriginReport(state=OriginState.CONNECTED, connections=1)


def test_always_connects_at_the_start_and_stays_without_clients() -> None:
    shell = Shell(connect="Always", keepalive=NO_PINGS)
    assert shell.took() == [Connect()]
    shell.opened()
    assert shell.wanted(False) == []
    assert shell.later(3600) == []
    assert shell.state is State.STREAMING


def test_connection_outlives_the_last_client_by_the_linger_time() -> None:
    shell = Shell(linger=10, keepalive=NO_PINGS).streaming()
    assert shell.wanted(False) == []
    assert shell.later(9.9) == []
    assert shell.later(0.1) == [Forget(), BeginClose(1000)]
    assert shell.report.state is OriginState.CLOSING
    assert shell.lost() == []
    assert shell.report == OriginReport(connections=1)
    assert shell.session.failures == {}


def test_client_that_comes_back_in_time_keeps_the_connection() -> None:
    shell = Shell(linger=10, keepalive=NO_PINGS).streaming()
    for _ in range(5):
        shell.wanted(False)
        assert shell.later(9) == []
        assert shell.wanted() == []
    assert shell.later(100) == []


def test_client_that_comes_back_while_it_closes_gets_a_new_connection_when_the_old_one_is_gone() -> None:
    shell = Shell().streaming()
    shell.wanted(False)
    shell.later(10)
    assert shell.wanted() == []
    assert shell.lost() == [Connect()]


def test_nobody_wants_it_any_more_while_it_connects() -> None:
    shell = Shell(linger=10)
    shell.wanted()
    shell.wanted(False)
    assert shell.later(10) == [CancelConnect()]
    assert shell.state is State.IDLE
    assert shell.wanted() == [Connect()]


def test_connection_lost_while_nobody_wants_it_is_not_made_anew() -> None:
    shell = Shell().streaming()
    shell.wanted(False)
    assert shell.lost() == [Forget()]
    assert shell.state is State.IDLE
    assert shell.later(100) == []


def test_stop_closes_cleanly_at_once_and_for_good() -> None:
    shell = Shell(connect="Always")
    shell.took()
    shell.opened()
    shell.session.stop()
    assert shell.took() == [BeginClose(1000)]
    assert shell.state is State.CLOSING
    shell.lost()
    assert shell.session.stopped
    shell.wanted()
    assert shell.later(1000) == []


@pytest.mark.parametrize("before", ["idle", "connecting", "waiting"])
def test_stop_in_other_states(before: str) -> None:
    shell = Shell()
    if before != "idle":
        shell.wanted()
    if before == "waiting":
        shell.failed()
    shell.session.stop()
    assert shell.took() == ([CancelConnect()] if before == "connecting" else [])
    assert shell.session.stopped


def test_messages_are_forgotten_when_the_stream_is_closed_because_nobody_needs_it() -> None:
    shell = Shell().streaming()
    shell.receive(HELLO)
    shell.wanted(False)
    assert shell.later(11) == [Forget(), BeginClose(1000)]
    assert shell.lost() == []


def test_messages_are_forgotten_when_the_stream_ends_by_itself_while_nobody_needs_it() -> None:
    shell = Shell().streaming()
    shell.receive(HELLO)
    shell.wanted(False)
    assert shell.lost() == [Forget()]


def test_messages_are_forgotten_when_the_last_client_leaves_while_the_origin_is_away() -> None:
    shell = Shell().streaming()
    shell.receive(HELLO)
    assert shell.lost() == []
    assert shell.wanted(False) == [Forget()]
    assert shell.wanted() == []
    assert shell.wanted(False) == [], "there is nothing new"


def test_messages_are_kept_while_clients_wait_for_the_origin_and_when_the_lobby_stops() -> None:
    shell = Shell().streaming()
    shell.receive(HELLO)
    assert Forget() not in [*shell.lost(), *shell.later(1), *shell.opened()]
    shell.session.stop()
    assert shell.took() == [BeginClose(1000)]
    assert shell.lost() == []
