"""Permits to connect (`limits.connects`, `limits.connections`), and planned reconnects (`renew`)."""

from __future__ import annotations

from tests.unit.origin.sessions import HELLO, NO_PINGS, Shell

from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.states import BeginClose, CancelConnect, Command, Connect, Publish, State
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.settings import ORIGIN

CONNECTS = {"connects": {"count": 1, "seconds": 5}}
PERMIT = "waiting for a permit to connect (origin.limits.connects: 1 in 5 s)"


def allow(shell: Shell, allowance: ConnectAllowance, allowed: int) -> list[Command]:
    allowance.allowed = allowed
    shell.session.permits_came(shell.now)
    return shell.took()


def test_an_attempt_waits_for_a_permit_and_says_so() -> None:
    allowance = ConnectAllowance(0)
    shell = Shell(allowance=allowance, limits=CONNECTS)
    assert shell.wanted() == []
    assert shell.session.wants_permit(shell.now)
    assert shell.report == OriginReport(state=OriginState.WAITING, reason=PERMIT)
    assert shell.session.wake_at() is None
    assert allow(shell, allowance, 1) == [Connect()]
    assert not shell.session.starved
    shell.opened()
    assert shell.report == OriginReport(state=OriginState.CONNECTED, connections=1)


def test_a_permit_is_asked_for_shortly_before_it_is_needed() -> None:
    allowance = ConnectAllowance(1)
    shell = Shell(allowance=allowance, limits=CONNECTS, reconnect={"minMilliseconds": 20_000})
    assert shell.wanted() == [Connect()]
    shell.failed()
    assert not shell.session.wants_permit(shell.now)
    shell.later(20 - ORIGIN.permit_ahead_seconds)
    assert shell.session.wants_permit(shell.now)
    assert shell.later(6) == []
    assert shell.report.reason == f"connection refused; {PERMIT}"
    assert allow(shell, allowance, 2) == [Connect()]


def test_a_permit_that_comes_early_shortens_no_wait() -> None:
    allowance = ConnectAllowance(1)
    shell = Shell(allowance=allowance, limits=CONNECTS, reconnect={"minMilliseconds": 20_000})
    shell.wanted()
    shell.failed()
    assert allow(shell, allowance, 2) == []
    assert shell.later(19.9) == []
    assert shell.later(0.2) == [Connect()]


def test_a_stream_that_nobody_needs_any_more_waits_for_no_permit() -> None:
    allowance = ConnectAllowance(0)
    shell = Shell(allowance=allowance, limits=CONNECTS)
    shell.wanted()
    shell.wanted(False)
    assert not shell.session.starved
    assert not shell.session.wants_permit(shell.now)
    assert allow(shell, allowance, 1) == []


def test_a_planned_reconnect_waits_for_a_permit_while_the_stream_goes_on() -> None:
    allowance = ConnectAllowance(1)
    shell = Shell(allowance=allowance, limits=CONNECTS, keepalive=NO_PINGS).streaming()
    shell.session.renew(shell.now)
    assert shell.later(60) == []
    assert shell.receive(HELLO) == [Publish(HELLO)]
    assert shell.session.wants_permit(shell.now)
    assert (shell.report.state, shell.report.reason) == (OriginState.CONNECTED, f"renewal: {PERMIT}")
    assert allow(shell, allowance, 2) == [BeginClose(1000, "planned reconnect")]
    assert shell.session.wants_permit(shell.now)  # it is not taken back before its use
    assert shell.lost() == [Connect()]
    assert not shell.session.wants_permit(shell.now)
    assert not shell.session.renewing
    assert shell.session.failures == {}


def test_a_connection_that_ends_while_its_planned_reconnect_waits_is_like_any_other() -> None:
    allowance = ConnectAllowance(1)
    shell = Shell(allowance=allowance, limits=CONNECTS, reconnect={"minMilliseconds": 20_000}).streaming()
    shell.session.renew(shell.now)
    shell.lost("reset")
    assert shell.report.reason == "reset"
    assert not shell.session.wants_permit(shell.now)
    assert allow(shell, allowance, 2) == []
    assert shell.later(20) == [Connect()]


def test_without_a_permit_nothing_is_tried_until_there_is_one() -> None:
    shell = Shell(connect="Always")
    shell.took()
    shell.session.set_permitted(False, shell.now)
    assert shell.took() == [CancelConnect()]
    assert shell.state is State.IDLE
    assert shell.later(100) == []
    shell.session.set_permitted(True, shell.now)
    assert shell.took() == [Connect()]


def test_a_permit_that_is_withdrawn_closes_an_open_connection_at_once() -> None:
    shell = Shell()
    shell.wanted()
    shell.opened()
    shell.session.set_permitted(False, shell.now)
    assert shell.took() == [BeginClose(1000)]  # the clients keep what they have: another lobby may continue the stream
    assert shell.lost() == []
    assert shell.state is State.IDLE
    assert shell.wanted(False) == shell.wanted() == []
    shell.session.set_permitted(True, shell.now)
    assert shell.took() == [Connect()]


def test_a_planned_reconnect_is_at_once_and_no_failure() -> None:
    shell = Shell(keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    shell.later(60)
    shell.session.renew(shell.now)
    assert BeginClose(1000, "planned reconnect") in shell.took()
    assert shell.lost() == [Connect()]
    assert not shell.session.failures
