"""The life of an origin connection in virtual time: the test is the shell."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from tests.support.specs import http_step, origin_spec, resolved

from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.dialogue import Dialogue
from lobby_gateway.origin.expressions import ExpressionError
from lobby_gateway.origin.http_calls import HttpAnswer
from lobby_gateway.origin.redaction import Redactor
from lobby_gateway.origin.session import OriginSession
from lobby_gateway.origin.states import (
    TRANSITIONS,
    BeginClose,
    BeginEpoch,
    Call,
    CancelCall,
    CancelConnect,
    Command,
    Connect,
    Failure,
    Forget,
    Hide,
    ImpossibleSignalError,
    Keep,
    NoteClose,
    PauseReading,
    Publish,
    Renew,
    Reschedule,
    ResumeReading,
    Send,
    SendPing,
    Signal,
    State,
)
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.settings import ORIGIN, OriginSettings
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch, Opcode, frame
from lobby_gateway.websocket.parser import Close, Ping, Pong, Violation

HELLO = Batch.of([frame(Opcode.TEXT, b"hello")])
NO_PINGS = {"pingSeconds": 0, "timeoutSeconds": 1}
LOGIN = [{"send": "login"}, {"expect": {"json": {"/ok": True}, "timeoutSeconds": 5}}]


def secrets_changed(shell: Shell) -> list[Command]:
    shell.session.secrets_changed(shell.now)
    return shell.took()


def json_batch(*messages: str) -> Batch:
    return Batch.of([frame(Opcode.TEXT, each.encode()) for each in messages])


class Shell:
    """Gives the session its inputs, and collects what it asks for."""

    def __init__(
        self,
        *,
        fraction: float = 1.0,
        linger: float = 10.0,
        secrets: tuple[str, ...] = (),
        allowance: ConnectAllowance | None = None,
        **fields: Any,
    ) -> None:
        spec = origin_spec(**fields)
        self.session = OriginSession(
            spec,
            dialogue=resolved(spec).dialogue,
            redactor=Redactor(secrets),
            fraction=lambda: fraction,
            wall_clock=lambda: 1767225600.5,
            allowance=allowance,
            settings=OriginSettings(linger_seconds=linger),
        )
        self.now = 1000.0
        self.session.start(self.now)

    @property
    def state(self) -> State:
        return self.session.state

    @property
    def report(self) -> OriginReport:
        return self.session.report(self.now)

    def took(self) -> list[Command]:
        return self.session.commands()

    def wanted(self, wanted: bool = True) -> list[Command]:
        self.session.set_needed(wanted, self.now)
        return self.took()

    def opened(self) -> list[Command]:
        self.session.opened(self.now)
        return self.took()

    def receive(self, *events: Any) -> list[Command]:
        self.session.receive(events, self.now)
        return self.took()

    def lost(self, reason: str = "gone") -> list[Command]:
        self.session.lost(reason, self.now)
        return self.took()

    def failed(self, reason: str = "connection refused") -> list[Command]:
        self.session.failed(reason, self.now)
        return self.took()

    def refused(self, status: int, retry_after: float | None = None) -> list[Command]:
        self.session.refused(status, f"HTTP {status}", retry_after, self.now)
        return self.took()

    def later(self, seconds: float) -> list[Command]:
        """Time passes; the session is woken when it wants to be, and at the end."""
        end = self.now + seconds
        commands: list[Command] = []
        for _ in range(1000):
            at = self.session.wake_at()
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self.session.wake(self.now)
            commands += self.took()
        else:
            pytest.fail("it wants to be woken again and again")
        self.now = end
        self.session.wake(end)
        return commands + self.took()

    def streaming(self) -> Shell:
        self.wanted()
        self.opened()
        assert self.session.state is State.STREAMING
        return self


# Wanted


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


# Tries that fail


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


# The script


def test_nothing_is_published_before_the_script_is_done() -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    assert shell.opened() == [Send("login")]
    assert shell.report.state is OriginState.CONNECTING
    assert shell.receive(HELLO) == []
    answer = json_batch('{"ok": false}', '{"ok": true}', "first")
    began, publish = shell.receive(answer)
    assert began == BeginEpoch()
    assert isinstance(publish, Publish)
    assert publish.batch.frames == json_batch("first").frames
    assert shell.receive(HELLO) == [Publish(HELLO)]


def test_script_that_gets_no_answer_closes_and_tries_again() -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    shell.opened()
    assert shell.later(5) == [BeginClose(1000, "a message that onConnect expects did not arrive")]
    assert shell.receive(json_batch('{"ok": true}')) == []  # too late
    shell.lost()
    assert shell.report.reason == "onConnect[1]: no message matching /ok within 5 s"
    assert shell.session.failures == {Failure.SCRIPT: 1}
    assert shell.later(0.5) == [Connect()]
    assert shell.opened() == [Send("login")]


def test_origin_that_closes_during_the_script_is_told_by_its_step() -> None:
    shell = Shell(onConnect=LOGIN)
    shell.wanted()
    shell.opened()
    assert shell.receive(Close(4001, "bad login")) == []
    shell.lost()
    assert shell.report.reason == "onConnect[1]: the origin closed the connection: 4001 (bad login)"
    assert shell.report.state is OriginState.WAITING


@pytest.mark.parametrize("code", [3000, 3003])
def test_origin_that_forbids_by_close_code_is_tried_again_rarely(code: int) -> None:
    shell = Shell(onConnect=LOGIN, fraction=0.0)
    shell.wanted()
    shell.opened()
    shell.receive(Close(code, ""))
    shell.lost()
    assert shell.report.state is OriginState.REFUSED
    assert shell.report.retry_in_seconds == ORIGIN.min_refused_seconds


def test_no_secret_is_reported_even_if_the_origin_says_it() -> None:
    shell = Shell(secrets=("hunter22", "a b&c=d"))
    shell.wanted()
    shell.session.refused(400, "HTTP 400 no key hunter22", None, shell.now)
    assert shell.report.reason == "HTTP 400 no key ***"
    shell.later(1)
    shell.opened()
    shell.receive(Close(4000, "key=a%20b%26c%3Dd\nis\x00 wrong"))
    assert shell.report.reason == "the origin closed the connection: 4000 (key=*** is wrong)"


# The end of a stream


@pytest.mark.parametrize(
    ("close", "said"),
    [
        (Close(1000, ""), "1000 (normal closure)"),
        (Close(1001, ""), "1001 (going away)"),
        (Close(1012, "deploy"), "1012 (service restart: deploy)"),
        (Close(1005, ""), "1005 (no code)"),
        (Close(4321, ""), "4321"),
    ],
)
def test_origin_that_closes_is_tried_again(close: Close, said: str) -> None:
    shell = Shell().streaming()
    assert shell.receive(HELLO, close) == [Publish(HELLO), NoteClose(close.code)]
    assert shell.report.state is OriginState.CLOSING
    assert shell.lost() == []
    assert shell.report.reason == f"the origin closed the connection: {said}"
    assert shell.session.failures == {Failure.CLOSED: 1}
    assert shell.later(0.5) == [Connect()]


def test_lost_connection_is_tried_again() -> None:
    shell = Shell().streaming()
    assert shell.lost("connection reset") == []
    assert (shell.report.state, shell.report.reason) == (OriginState.WAITING, "connection reset")
    assert shell.session.failures == {Failure.LOST: 1}
    assert shell.later(0.5) == [Connect()]


@pytest.mark.parametrize(
    ("code", "failure"),
    [(1002, Failure.PROTOCOL_ERROR), (1007, Failure.INVALID_DATA), (1009, Failure.TOO_BIG)],
)
def test_violation_is_counted_and_what_came_before_it_is_published(code: int, failure: Failure) -> None:
    shell = Shell().streaming()
    assert shell.receive(HELLO, Violation(code, "bad")) == [Publish(HELLO)]
    assert shell.state is State.CLOSING
    shell.lost()
    assert shell.report.reason == f"the origin broke the protocol ({code}): bad"
    assert shell.session.failures == {failure: 1}


def test_origin_that_accepts_and_drops_is_not_hammered() -> None:
    shell = Shell()
    shell.wanted()
    for wait in (0.5, 1, 2, 4, 8, 16, 30):
        shell.opened()
        shell.receive(HELLO)
        shell.later(0.1)
        shell.lost()
        assert shell.report.retry_in_seconds == pytest.approx(wait)
        assert shell.later(wait + 1e-6) == [Connect()]


def test_connection_that_lasted_makes_the_next_wait_short_again() -> None:
    shell = Shell(keepalive=NO_PINGS)
    shell.wanted()
    for _ in range(5):
        shell.failed()
        shell.later(30)
    shell.opened()
    shell.later(10)
    shell.lost()
    assert shell.report.retry_in_seconds == 0.5


def test_connection_that_lasted_and_was_left_makes_the_next_wait_short_again() -> None:
    shell = Shell(keepalive=NO_PINGS)
    shell.wanted()
    for _ in range(5):
        shell.failed()
        shell.later(30)
    shell.opened()
    shell.wanted(False)
    assert shell.later(10) == [Forget(), BeginClose(1000)]
    shell.lost()
    assert shell.wanted() == [Connect()]
    shell.failed()
    assert shell.report.retry_in_seconds == 0.5


# Watchdogs


def test_pings_are_sent_and_pongs_keep_the_connection() -> None:
    shell = Shell().streaming()
    for _ in range(5):
        assert shell.later(20) == [SendPing()]
        shell.now += 0.1
        assert shell.receive(Pong(b"")) == []
    assert shell.receive(Ping(b"")) == []
    assert shell.state is State.STREAMING


def test_origin_that_answers_no_ping_is_given_up() -> None:
    shell = Shell(keepalive={"pingSeconds": 20, "timeoutSeconds": 5}).streaming()
    assert shell.later(24.9) == [SendPing()]
    assert shell.later(0.1) == [BeginClose(1011, "no answer to a ping", unresponsive=True)]
    shell.lost()
    assert shell.report.reason == "no answer to a ping within 5 s"
    assert shell.session.failures == {Failure.PING_TIMEOUT: 1}


def test_pings_go_out_during_the_script_too() -> None:
    patient = [{"expect": {"json": {"/ok": True}, "timeoutSeconds": 300}}]
    shell = Shell(onConnect=patient, keepalive={"pingSeconds": 20, "timeoutSeconds": 5})
    shell.wanted()
    shell.opened()
    assert shell.later(20) == [SendPing()]
    assert shell.later(5) == [BeginClose(1011, "no answer to a ping", unresponsive=True)]


def test_stream_without_a_message_for_too_long_is_given_up() -> None:
    shell = Shell(staleSeconds=30, keepalive=NO_PINGS).streaming()
    shell.later(29)
    shell.receive(HELLO)
    assert shell.later(29.9) == []
    assert shell.later(0.1) == [BeginClose(1000, "no message for 30 s")]
    shell.lost()
    assert shell.report.reason == "no message for 30 s"
    assert shell.session.failures == {Failure.STALE: 1}


def test_origin_that_accepts_and_goes_silent_again_and_again_is_not_hammered() -> None:
    shell = Shell(staleSeconds=30, keepalive=NO_PINGS)
    shell.wanted()
    for wait in (0.5, 1, 2, 4):
        shell.opened()
        shell.later(30)
        shell.lost()
        assert shell.report.retry_in_seconds == pytest.approx(wait)
        assert shell.later(wait + 1e-6) == [Connect()]


# The table


def test_impossible_signals_are_loud() -> None:
    with pytest.raises(ImpossibleSignalError, match="OPENED in IDLE"):
        Shell().session.opened(0)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {target for moves in TRANSITIONS.values() for target in moves.values()}
    assert reached == set(State) == set(TRANSITIONS)
    assert {signal for moves in TRANSITIONS.values() for signal in moves} == set(Signal)


def test_repr_of_commands_shows_no_secret() -> None:
    assert "hunter22" not in repr(Send("hunter22"))
    assert "hunter22" not in repr(Redactor(["hunter22"]))


# Secrets that are replaced


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
    shell.session.set_dialogue(Dialogue(steps=("login new",)), Redactor(("old-secret", "new-secret")))
    shell.lost()
    shell.later(30.0)
    assert Send("login new") in shell.opened()
    shell.lost("old-secret and new-secret are bad")
    assert shell.report.reason == "*** and *** are bad"


# Messages that nobody needs any more


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


# Floods before the script is done

FLOOD = ["{}"] * 1200


def test_a_flood_before_the_awaited_message_is_judged_in_several_turns() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch(*FLOOD, '{"ok": true}', "a"), Ping(b"")) == [PauseReading()]
    assert shell.receive(json_batch("b")) == []
    turns: list[Command] = []
    for _ in range(2):
        assert shell.session.wake_at() == 0.0
        shell.session.wake(shell.now)
        turns += shell.took()
    assert [type(each) for each in turns] == [BeginEpoch, Publish, Publish, ResumeReading]
    assert shell.state is State.STREAMING
    assert [bytes(each.batch.payload(0)) for each in turns if isinstance(each, Publish)] == [b"a", b"b"]


def test_a_flood_that_ends_with_a_close_ends_the_connection_in_its_turn() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD[:700]), Close(1008, "login first"))
    states = [shell.state]
    shell.session.wake(shell.now)
    assert shell.took() == [ResumeReading()]
    states.append(shell.state)
    assert states == [State.SCRIPTING, State.CLOSING]
    shell.lost()
    assert "1008" in shell.report.reason


def test_a_flood_without_the_awaited_message_does_not_keep_the_script_from_timing_out() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch(*FLOOD)) == [PauseReading()]
    shell.now += 6
    shell.session.wake(shell.now)
    assert [type(each) for each in shell.took()] == [ResumeReading, BeginClose]
    assert shell.session.failures == {Failure.SCRIPT: 1}


@pytest.mark.parametrize(("code", "state", "failure"), [
    (4401, State.REFUSED, Failure.REFUSED), (1001, State.WAITING, Failure.CLOSED), (0, State.WAITING, Failure.LOST),
])  # fmt: skip
def test_what_arrived_before_a_connection_was_lost_is_judged_first(code: int, state: State, failure: Failure) -> None:
    shell = Shell(closeCodes={"refused": [4401]}, onMessage=[PING_RULE]).streaming()
    flood = json_batch(*[f'{{"n":{n},"ping":1}}' for n in range(700)], "tick")
    shell.receive(flood, *([Close(code, "no")] if code else []))
    assert shell.lost() == []
    assert shell.session.wake_at() == 0
    commands = shell.later(0)
    assert published(commands) == ["tick"]
    assert shell.state is state
    assert shell.session.failures == {failure: 1}
    assert Connect() in shell.later(0.9 if state is State.WAITING else 61)


def test_a_client_to_blame_is_excused_though_the_connection_was_lost_before_its_close_frame_was_judged() -> None:
    shell = Shell(closeCodes={"refused": [4401]}, onMessage=[PING_RULE]).streaming()
    shell.receive(json_batch(*['{"ping":1}'] * 700), Close(4401, "bad message"))
    shell.lost()
    shell.session.wake(shell.now)
    assert NoteClose(4401) in shell.took()
    shell.session.excuse(shell.now)
    shell.later(0)
    assert shell.state is State.WAITING


def test_nothing_is_judged_after_an_error_of_our_own() -> None:
    """The rest may be where the error came from."""
    shell = Shell(onMessage=[PING_RULE]).streaming()
    shell.receive(json_batch(*['{"ping":1}'] * 700), Close(1000, ""))
    shell.session.lost("a bug", shell.now, Failure.INTERNAL)
    assert shell.session.failures == {Failure.INTERNAL: 1}
    assert shell.state is State.WAITING


def test_a_session_that_stops_before_all_is_judged_is_soon_done() -> None:
    shell = Shell(onMessage=[PING_RULE]).streaming()
    shell.receive(json_batch(*['{"ping":1}'] * 700))
    shell.lost()
    shell.session.stop()
    shell.later(0)
    assert shell.session.stopped


def test_a_flood_ends_with_its_connection() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD))
    shell.lost()
    assert shell.later(1) == [Connect()]
    shell.opened()
    assert shell.receive(json_batch('{"ok": true}')) == [BeginEpoch()]


# Rules, close codes and timed messages

PING_RULE = {"contains": '"ping"', "when": "has(msg.ping)", "send": '{"pong":$(msg.ping)}', "forward": False}


def published(commands: list[Command]) -> list[str]:
    batches = [each.batch for each in commands if isinstance(each, Publish)]
    return [bytes(batch.payload(i)).decode() for batch in batches for i in range(len(batch))]


def test_without_a_hit_a_batch_is_published_as_it_came() -> None:
    shell = Shell(onMessage=[PING_RULE]).streaming()
    assert shell.receive(HELLO) == [Publish(HELLO)]


def test_a_control_message_is_answered_and_not_published() -> None:
    shell = Shell(onMessage=[PING_RULE]).streaming()
    commands = shell.receive(json_batch('{"n":1}', '{"ping":7}', '{"n":2}'))
    assert published(commands) == ['{"n":1}', '{"n":2}']
    assert [each for each in commands if isinstance(each, Send)] == [Send('{"pong":7}')]


def test_a_dropped_message_counts_as_a_sign_of_life() -> None:
    shell = Shell(onMessage=[PING_RULE], staleSeconds=5, keepalive=NO_PINGS).streaming()
    for _ in range(4):
        assert shell.later(3) == []
        shell.receive(json_batch('{"ping":1}'))
    assert shell.state is State.STREAMING


def test_a_message_that_ends_the_connection_is_the_reason_with_secrets_hidden() -> None:
    shell = Shell(
        secrets=("hunter2hunter2",), onMessage=[{"contains": "error", "end": {"reason": "msg.error"}}]
    ).streaming()
    commands = shell.receive(json_batch("a", '{"error":"bad key hunter2hunter2"}'), json_batch("b"))
    assert published(commands) == ["a", '{"error":"bad key hunter2hunter2"}']
    assert commands[-1] == BeginClose(1000, "ended by a message of the origin")
    shell.lost()
    assert (shell.state, shell.report.reason) == (State.WAITING, "bad key ***")
    assert shell.session.failures == {Failure.ENDED: 1}


def test_a_refusal_in_a_message_is_retried_rarely() -> None:
    shell = Shell(onMessage=[{"contains": "error", "end": {"reason": "msg.error", "refused": True}}])
    shell.wanted()
    for attempt in range(1, 4):
        shell.opened()
        shell.receive(json_batch('{"error":"connection limit exceeded"}'))
        shell.lost()
        assert (shell.state, shell.report.reason) == (State.REFUSED, "connection limit exceeded")
        assert shell.report.state is OriginState.REFUSED
        assert Connect() not in shell.later(30)
        assert Connect() in shell.later(ORIGIN.min_refused_seconds * 2**attempt)


def test_a_refusal_during_the_script_names_the_step() -> None:
    shell = Shell(onConnect=LOGIN, onMessage=[{"contains": "error", "end": {"reason": "msg.error", "refused": True}}])
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch('{"error":"auth failed"}')) == [
        BeginClose(1000, "ended by a message of the origin")
    ]
    shell.lost()
    assert (shell.state, shell.report.reason) == (State.REFUSED, "onConnect[1]: auth failed")


@pytest.mark.parametrize(("codes", "code", "state"), [
    ([1008], 1008, State.REFUSED), ([], 1008, State.WAITING), ([4401], 4401, State.REFUSED), ([4401], 4403, State.WAITING),
    ([4401], 3000, State.REFUSED), ([], 3003, State.REFUSED),
])  # fmt: skip
def test_close_codes_that_mean_a_refusal(codes: list[int], code: int, state: State) -> None:
    shell = Shell(closeCodes={"refused": codes}).streaming()
    shell.receive(Close(code, "no"))
    shell.lost()
    assert shell.state is state


def test_a_client_to_blame_makes_a_close_code_no_refusal() -> None:
    shell = Shell().streaming()
    assert shell.receive(Close(1008, "bad message")) == [NoteClose(1008)]
    shell.session.excuse(shell.now)
    shell.lost()
    assert shell.state is State.WAITING


def test_timed_messages_are_sent_while_streaming_and_only_then() -> None:
    every = [{"seconds": 10, "send": "ping $(now)"}, {"seconds": 25, "send": "other"}]
    shell = Shell(every=every, onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.later(4) == []
    shell.receive(json_batch('{"ok":true}'))
    assert shell.later(26) == [Send("ping 1767225600"), Send("ping 1767225600"), Send("other")]
    shell.lost()
    assert [each for each in shell.later(0.4) if isinstance(each, Send)] == []


def test_the_stream_begins_when_a_pause_at_the_end_is_over() -> None:
    shell = Shell(onConnect=[{"send": "a"}, {"wait": {"seconds": 2}}, {"send": "b"}, {"wait": {"seconds": 3}}])
    shell.wanted()
    assert shell.opened() == [Send("a")]
    assert shell.later(1.9) == []
    assert shell.later(0.2) == [Send("b")]
    assert shell.receive(HELLO) == []
    assert shell.report.state is OriginState.CONNECTING
    assert shell.later(3) == [BeginEpoch()]
    assert shell.receive(HELLO) == [Publish(HELLO)]


def test_a_pause_ends_after_what_came_before_its_end_was_judged() -> None:
    """A read of many messages takes several turns; those of a pause must not pass for the stream."""
    shell = Shell(onConnect=[{"wait": {"seconds": 1}}])
    shell.wanted()
    shell.opened()
    many = json_batch(*["early"] * (2 * ORIGIN.judged_per_turn + 1))
    assert shell.receive(many) == [PauseReading()]
    shell.now += 1
    shell.session.wake(shell.now)
    assert shell.took() == []
    shell.session.wake(shell.now)
    assert shell.took() == [ResumeReading(), BeginEpoch()]


def test_early_messages_are_published_when_the_stream_begins() -> None:
    steps = [{"expect": {"json": {"/ok": True}, "timeoutSeconds": 5, "early": "Forward"}}]
    shell = Shell(onConnect=steps, onMessage=[PING_RULE])
    shell.wanted()
    shell.opened()
    assert published(shell.receive(json_batch("snapshot", '{"ping":1}'))) == []
    commands = shell.receive(json_batch('{"ok":true}', "tick", '{"ping":2}'))
    assert BeginEpoch() in commands
    assert published(commands) == ["snapshot", "tick"]
    assert Send('{"pong":2}') in commands


def test_a_flood_that_concerns_a_rule_is_judged_in_turns_and_in_order() -> None:
    shell = Shell(onMessage=[PING_RULE]).streaming()
    flood = json_batch(*(f'{{"n":{n}}}' if n % 2 else f'{{"ping":{n}}}' for n in range(1200)))
    commands = shell.receive(flood, HELLO)
    assert PauseReading() in commands
    assert len(published(commands)) == ORIGIN.judged_per_turn / 2
    assert shell.session.wake_at() == 0
    commands += shell.later(0)
    assert published(commands) == [f'{{"n":{n}}}' for n in range(1, 1200, 2)] + ["hello"]
    assert commands.count(PauseReading()) == commands.count(ResumeReading()) == 1
    assert sum(isinstance(each, Send) for each in commands) == 600


def bombs(count: int) -> Batch:
    """Messages of which three fit a turn."""
    size = ORIGIN.decoded_per_turn // 3
    payloads = [gzip.compress(b"%d" % number + b" " * size, mtime=0) for number in range(count)]
    return Batch.of([frame(Opcode.BINARY, each) for each in payloads])


def numbers_of(commands: list[Command]) -> list[int]:
    return [int(each) for each in published(commands)]


def test_a_read_of_many_bombs_is_decoded_in_turns_and_in_order() -> None:
    shell = Shell(decode="Gzip", maxMessageBytes=ORIGIN.decoded_per_turn).streaming()
    commands = shell.receive(bombs(8))
    assert numbers_of(commands) == [0, 1, 2]
    assert PauseReading() in commands
    assert shell.receive(Batch.of([frame(Opcode.TEXT, b"8")])) == []  # the rest of a read that was under way
    assert shell.session.wake_at() == 0
    shell.session.wake(shell.now)
    commands = shell.took()
    assert numbers_of(commands) == [3, 4, 5]
    assert ResumeReading() not in commands
    assert numbers_of(shell.later(0)) == [6, 7, 8]
    assert shell.session.wake_at() != 0


def test_what_is_left_to_decode_of_a_lost_connection_is_published_in_turns() -> None:
    shell = Shell(decode="Gzip", maxMessageBytes=ORIGIN.decoded_per_turn).streaming()
    shell.receive(bombs(8))
    shell.lost()
    shell.session.wake(shell.now)
    assert numbers_of(shell.took()) == [3, 4, 5]
    assert shell.session.failures == {}
    assert numbers_of(shell.later(0)) == [6, 7]
    assert shell.state is State.WAITING


def test_messages_that_are_decoded_in_turns_are_judged_in_turns() -> None:
    parts = "\n".join(f'{{"ping":{n}}}' if n % 2 else f'{{"n":{n}}}' for n in range(30_000))
    shell = Shell(onMessage=[PING_RULE], split="\n").streaming()
    commands = shell.receive(Batch.of([frame(Opcode.TEXT, parts.encode())]))
    while shell.session.wake_at() == 0:
        commands += shell.later(0)
    assert published(commands) == [f'{{"n":{n}}}' for n in range(0, 30_000, 2)]
    assert sum(isinstance(each, Send) for each in commands) == 15_000
    assert commands.count(PauseReading()) == commands.count(ResumeReading())


def test_the_rest_of_a_flood_behind_the_script_is_judged_in_turns() -> None:
    shell = Shell(onConnect=LOGIN, onMessage=[PING_RULE])
    shell.wanted()
    shell.opened()
    ticks = [f'{{"n":{n}}}' for n in range(1200)]
    commands = shell.receive(json_batch('{"ok":true}', *ticks, '{"ping":1}'))
    commands += shell.later(0)
    assert published(commands) == ticks
    assert Send('{"pong":1}') in commands


def test_compressed_messages_are_judged_and_published_as_texts() -> None:
    shell = Shell(decode="Gzip", split="|", onMessage=[PING_RULE]).streaming()
    batch = Batch.of(
        [frame(Opcode.BINARY, gzip.compress(b'{"ping":1}|{"n":1}')), frame(Opcode.BINARY, gzip.compress(b"{}"))]
    )
    commands = shell.receive(batch)
    assert published(commands) == ['{"n":1}', "{}"]
    assert Send('{"pong":1}') in commands


def test_what_can_not_be_decoded_ends_the_connection_with_a_reason() -> None:
    shell = Shell(decode="Gzip").streaming()
    commands = shell.receive(Batch.of([frame(Opcode.BINARY, b"no")]), HELLO)
    assert commands == [BeginClose(1007, "a binary message is not Gzip")]
    shell.lost()
    assert shell.session.failures == {Failure.INVALID_DATA: 1}
    assert shell.report.reason == "a binary message is not Gzip"


def test_binary_messages_are_sent_by_steps_rules_and_timers() -> None:
    shell = Shell(
        onConnect=[{"sendBytes": r'b"\x10\x01"'}],
        onMessage=[{"when": 'hex(data) == "d000"', "forward": False, "sendBytes": 'b"got " + data'}],
        every=[{"seconds": 30, "sendBytes": r'b"\xc0\x00"'}],
        keepalive=NO_PINGS,
    )
    shell.wanted()
    assert Send(b"\x10\x01") in shell.opened()
    assert shell.receive(Batch.of([frame(Opcode.BINARY, b"\xd0\x00")])) == [Send(b"got \xd0\x00")]
    assert shell.later(31) == [Send(b"\xc0\x00")]


# Saved values

HELLO_RULES: dict[str, Any] = {
    "onConnect": [
        {"expect": {"json": {"/op": 10}, "timeoutSeconds": 5, "save": {"beat": "msg.beat", "id": "msg.id"}}},
        {"send": "identify $(saved.id)"},
    ],
    "every": [{"secondsFrom": "double(saved.beat) / 1000.0", "send": "beat"}],
    "keepalive": NO_PINGS,
}


def sent(commands: list[Command]) -> list[str | bytes]:
    return [each.message for each in commands if isinstance(each, Send)]


def test_saved_values_are_used_by_later_steps_and_timers() -> None:
    shell = Shell(**HELLO_RULES)
    shell.wanted()
    shell.opened()
    assert sent(shell.receive(json_batch('{"op":10,"beat":4000,"id":"abc"}'))) == ["identify abc"]
    assert shell.later(3.9) == []
    assert sent(shell.later(4.2)) == ["beat", "beat"]


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ('{"op":10,"beat":10,"id":"abc"}', "every[0].secondsFrom: 0.01; accepted: 1 to 86400"),
        ('{"op":10,"beat":true,"id":"abc"}', "every[0].secondsFrom: "),
        ('{"op":10,"id":"abc"}', "onConnect[0].expect.save.beat: "),
    ],
)
def test_a_value_that_is_missing_or_useless_ends_the_connection_and_says_where(hello: str, reason: str) -> None:
    shell = Shell(**HELLO_RULES)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(hello))
    shell.lost()
    assert reason in shell.report.reason
    assert shell.session.failures == {Failure.ENDED: 1}


def test_saved_values_outlive_a_reconnect_and_are_hidden_in_reasons() -> None:
    rules = [{"contains": "token", "save": {"token": "msg.token"}, "forward": False}, {"contains": "error", "end": {}}]
    shell = Shell(onMessage=rules, onConnect=[{"send": '$(has(saved.token) ? saved.token : "none")'}])
    shell.wanted()
    assert sent(shell.opened()) == ["none"]
    commands = shell.receive(json_batch('{"token":"cap7ured"}'))
    (hide,) = (each for each in commands if isinstance(each, Hide))
    assert hide.redactor.hide("a cap7ured b") == "a *** b"
    shell.receive(json_batch("error: cap7ured is no good"))
    shell.lost()
    assert shell.report.reason == "error: *** is no good"
    shell.later(60)
    assert sent(shell.opened()) == ["cap7ured"]
    shell.session.set_dialogue(Dialogue(), Redactor(()))
    (hide,) = (each for each in shell.took() if isinstance(each, Hide))
    assert hide.redactor.hide("a cap7ured b") == "a *** b"
    shell.receive(Close(4000, "cap7ured"))
    shell.lost()
    assert "cap7ured" not in shell.report.reason


def test_the_successor_of_a_session_knows_and_hides_what_that_one_saved() -> None:
    fields: dict[str, Any] = {
        "onMessage": [{"contains": "token", "save": {"token": "msg.token"}, "forward": False}],
        "onConnect": [{"send": '$(has(saved.token) ? saved.token : "none")'}],
    }
    before, after = Shell(**fields), Shell(**fields)
    before.wanted()
    before.opened()
    before.receive(json_batch('{"token":"cap7ured"}'))
    after.session.inherit(before.session)
    (hide,) = (each for each in after.session.commands() if isinstance(each, Hide))
    assert hide.redactor.hide("a cap7ured b") == "a *** b"
    after.wanted()
    assert sent(after.opened()) == ["cap7ured"]
    after.receive(Close(4000, "cap7ured"))
    after.lost()
    assert "cap7ured" not in after.report.reason


def test_a_signature_is_hidden_in_reasons() -> None:
    shell = Shell(onConnect=[{"send": '$(hex(hmac("SHA256", "k", string(now))))'}])
    shell.wanted()
    (sign,) = sent(shell.opened())
    assert isinstance(sign, str)
    shell.receive(Close(4000, f"bad {sign}"))
    shell.lost()
    assert shell.report.reason == "the origin closed the connection: 4000 (bad ***)"


def test_a_message_may_ask_for_a_new_connection_and_this_one_goes_on() -> None:
    shell = Shell(onMessage=[{"contains": "shutdown", "renew": True, "forward": False}]).streaming()
    commands = shell.receive(json_batch("a", "shutdown", "b", "shutdown"))
    assert published(commands) == ["a", "b"]
    assert commands.count(Renew()) == 1
    assert shell.state is State.STREAMING


def test_what_ends_the_connection_renews_nothing() -> None:
    rules = [{"contains": "shutdown", "renew": True}, {"contains": "error", "end": {}}]
    assert Renew() not in Shell(onMessage=rules).streaming().receive(json_batch("shutdown", "error"))


# The pace of what is sent (`origin.limits.sendsPerSecond`)


def test_messages_to_the_origin_go_out_at_its_pace_in_their_order() -> None:
    shell = Shell(
        onConnect=[{"send": each} for each in "abc"],
        onMessage=[{"contains": "ping", "send": "pong"}],
        every=[{"seconds": 1, "send": "tick"}],
        limits={"sendsPerSecond": 2},
        keepalive=NO_PINGS,
    )
    shell.wanted()
    assert shell.opened() == [Send("a"), Reschedule(), BeginEpoch()]
    shell.receive(json_batch("ping"))
    assert shell.session.forward("client's", shell.now)
    shell.took()
    sent = []
    for _ in range(5):
        sent += [each.message for each in shell.later(0.5) if isinstance(each, Send)]
    assert sent == ["b", "c", "pong", "client's", "tick"]


def test_a_connection_ends_if_too_many_messages_wait_to_be_sent() -> None:
    shell = Shell(onMessage=[{"contains": "ping", "send": "pong"}], limits={"sendsPerSecond": 1}, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    commands = shell.receive(json_batch(*["ping"] * (ORIGIN.waiting_sends + 2)))
    assert BeginClose(1000, "too many messages wait to be sent") in commands
    shell.lost()
    assert shell.report.reason == "limits.sendsPerSecond: more than 256 messages wait to be sent"


# Permits to connect (`origin.limits.connects`)

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


# A permit (`origin.limits.connections`) and planned reconnects (`origin.renew`)


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


# The request of the handshake


def test_the_request_is_made_anew_for_each_attempt_with_what_was_saved() -> None:
    shell = Shell(
        onConnect=[{"expect": {"json": {}, "save": {"token": "msg.token"}, "timeoutSeconds": 5}}],
        query=[{"name": "resume", "value": '$(has(saved.token) ? saved.token : "")'}],
    )
    shell.wanted()
    assert shell.session.request().url == "ws://origin.example/"
    shell.opened()
    shell.receive(json_batch('{"token": "cap7ured"}'))
    shell.lost()
    shell.later(1)
    assert shell.session.request().url == "ws://origin.example/?resume=cap7ured"
    shell.failed("no answer to cap7ured")
    assert shell.report.reason == "no answer to ***"


def test_signatures_of_many_attempts_are_not_all_kept_while_what_is_saved_stays_hidden() -> None:
    shell = Shell(
        onConnect=[{"expect": {"json": {}, "save": {"token": "msg.token"}, "timeoutSeconds": 5}}],
        keepalive={"pingSeconds": 0, "timeoutSeconds": 1},
        every=[{"seconds": 1, "send": "$(uuid())-$(hex(hmac('SHA256', 'key', string(nowMillis) + uuid())))"}],
    )
    shell.wanted()
    shell.opened()
    shell.receive(json_batch('{"token": "cap7ured"}'))
    for _ in range(200):
        (send,) = (each for each in shell.later(1) if isinstance(each, Send))
    assert isinstance(send.message, str)
    signature = send.message.rpartition("-")[2]
    assert shell.session.redacted(f"a cap7ured b {signature} c") == "a *** b *** c"
    assert repr(shell.session._redactor) == "<Redactor: 65 secrets>"


# HTTP calls


TOKEN_CALL = http_step(url="https://api.example/token?a=b", method="POST", save={"token": "http.json.token"})
SUBSCRIBE = http_step(url="https://api.example/subscribe", body="$(saved.session)", status=[202])
WELCOME = [{"expect": {"json": {"/type": "welcome"}, "save": {"session": "msg.session"}, "timeoutSeconds": 5}}]


def json_answer(text: str, status: int = 200, **fields: Any) -> HttpAnswer:
    return HttpAnswer(status=status, body=text.encode(), **fields)


def test_calls_before_an_attempt_are_made_in_order_and_their_values_used() -> None:
    second = http_step(url="https://api.example/$(saved.token)", save={"url": "http.json.url"})
    shell = Shell(url="$(saved.url)", beforeConnect=[TOKEN_CALL, second])
    shell.wanted()
    request = shell.session.next_call()
    assert request is not None
    assert (request.what, request.request.url) == ("POST https://api.example/token", "https://api.example/token?a=b")
    assert shell.session.answered(json_answer('{"token": "t0ken"}'), shell.now)
    request = shell.session.next_call()
    assert request is not None
    assert request.request.url == "https://api.example/t0ken"
    assert shell.session.answered(json_answer('{"url": "ws://there.example"}'), shell.now)
    assert shell.session.next_call() is None
    assert shell.session.request().url == "ws://there.example"
    shell.opened()
    assert shell.state is State.STREAMING
    shell.lost()
    shell.later(1)
    assert shell.session.next_call() is not None, "each attempt makes its own calls"


@pytest.mark.parametrize(
    ("status", "state", "failure"),
    [(401, OriginState.REFUSED, Failure.REFUSED), (500, OriginState.WAITING, Failure.HTTP_CALL)],
)
def test_a_call_that_fails_is_a_failed_attempt(status: int, state: OriginState, failure: Failure) -> None:
    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.next_call()
    assert not shell.session.answered(json_answer("s3cr3t", status), shell.now)
    assert shell.session.next_call() is None
    assert shell.report.state is state
    assert shell.report.reason.startswith(f"beforeConnect[0].http: POST https://api.example/token: HTTP {status} ")
    assert "s3cr3t" not in shell.report.reason
    assert shell.session.failures == {failure: 1}
    assert shell.report.retry_in_seconds == (60.5 if state is OriginState.REFUSED else 0.5)


def test_retry_after_of_a_call_is_honored() -> None:
    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.next_call()
    shell.session.answered(json_answer("", 429, retry_after_seconds=120.0), shell.now)
    assert shell.later(119.9) == []
    assert shell.later(0.7) == [Connect()]


def test_a_call_without_an_answer_is_a_failed_attempt_and_names_the_step() -> None:
    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.next_call()
    shell.session.call_failed("connection refused", shell.now)
    assert shell.report.reason == "beforeConnect[0].http: POST https://api.example/token: connection refused"
    assert shell.session.failures == {Failure.HTTP_CALL: 1}


def subscribing(**fields: Any) -> Shell:
    shell = Shell(onConnect=[*WELCOME, SUBSCRIBE, *fields.pop("more", ())], **fields)
    shell.wanted()
    shell.opened()
    call, hide = shell.receive(json_batch('{"type": "welcome", "session": "s3ss10n"}'))
    assert isinstance(call, Hide)
    assert isinstance(hide, Call)
    assert hide.request.body == "s3ss10n"
    return shell


def test_a_call_of_on_connect_ends_the_script() -> None:
    shell = subscribing()
    assert shell.report.state is OriginState.CONNECTING
    shell.session.answered(json_answer("", 202), shell.now)
    assert [type(each) for each in shell.took()] == [BeginEpoch]
    assert shell.state is State.STREAMING


def test_messages_during_a_call_wait_for_the_steps_behind_it_or_are_the_stream() -> None:
    for more, stream in (
        ((), [b'{"a": 1}', b'{"b": 1}']),
        (({"expect": {"json": {"/a": 1}, "timeoutSeconds": 5}},), [b'{"b": 1}']),
    ):
        shell = subscribing(more=more)
        assert shell.receive(json_batch('{"a": 1}'), Ping(b"")) == [PauseReading()]
        assert shell.receive(json_batch('{"b": 1}')) == []
        assert shell.session.wake_at() is None
        shell.session.wake(shell.now + 500)
        assert shell.took() == []
        shell.session.answered(json_answer("", 202), shell.now)
        assert shell.session.wake_at() == 0.0
        shell.session.wake(shell.now)
        commands = shell.took()
        published = [each.batch for each in commands if isinstance(each, Publish)]
        assert [bytes(batch.payload(index)) for batch in published for index in range(len(batch))] == stream
        assert ResumeReading() in commands
        assert shell.state is State.STREAMING


def test_messages_behind_the_one_that_starts_a_call_wait_too() -> None:
    shell = Shell(onConnect=[*WELCOME, SUBSCRIBE])
    shell.wanted()
    shell.opened()
    commands = shell.receive(json_batch('{"type": "welcome", "session": "s3ss10n"}', "first", "second"))
    assert [type(each) for each in commands] == [Hide, Call, PauseReading]
    shell.session.answered(json_answer("", 202), shell.now)
    shell.session.wake(shell.now)
    (publish,) = (each for each in shell.took() if isinstance(each, Publish))
    assert [bytes(publish.batch.payload(index)) for index in range(len(publish.batch))] == [b"first", b"second"]


def test_a_call_of_on_connect_that_fails_closes_the_connection() -> None:
    shell = subscribing()
    shell.session.answered(json_answer("", 403, retry_after_seconds=200.0), shell.now)
    assert shell.took()[-1] == BeginClose(1000, "an HTTP call of onConnect has failed")
    shell.lost()
    assert shell.report.reason == "onConnect[1].http: GET https://api.example/subscribe: HTTP 403 Forbidden"
    assert shell.report.state is OriginState.REFUSED
    assert shell.report.retry_in_seconds == 200.5


@pytest.mark.parametrize("how", ["lost", "closed", "stopped"])
def test_a_connection_that_ends_cancels_its_call(how: str) -> None:
    shell = subscribing()
    if how == "lost":
        commands = shell.lost()
    elif how == "closed":
        commands = shell.receive(Close(1001, ""))
    else:
        shell.session.stop()
        commands = shell.took()
    assert commands[0] == CancelCall()
    assert shell.took() == []


def test_a_connection_that_is_lost_during_a_call_ends_for_the_reason_behind_the_kept_messages() -> None:
    shell = subscribing(closeCodes={"refused": [4003]})
    shell.receive(json_batch("first"), Close(4003, "unused"))
    assert shell.lost() == [CancelCall()]
    shell.later(0)
    assert shell.state is State.REFUSED
    assert shell.report.reason == "onConnect[1]: the origin closed the connection: 4003 (unused)"


def test_a_connection_that_was_lost_makes_no_call_for_the_messages_that_are_still_judged() -> None:
    shell = Shell(onConnect=[*WELCOME, SUBSCRIBE], closeCodes={"refused": [4003]})
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD[:700], '{"type": "welcome", "session": "s3ss10n"}', *FLOOD), Close(4003, "unused"))
    shell.lost()
    commands = [each for each in shell.later(0) if isinstance(each, Call | CancelCall)]
    assert [type(each) for each in commands] == [Call, CancelCall]
    assert shell.state is State.REFUSED


def test_a_reply_to_one_of_many_messages_is_sent_at_once() -> None:
    """Replies, while a read has more messages than are judged in one turn."""
    rules = [{"contains": "ping", "send": "pong", "forward": False}]
    shell = Shell(onConnect=LOGIN, onMessage=rules, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch("ping", *FLOOD)) == [Send("pong"), PauseReading()]


# The newest message


def test_an_attempt_knows_the_newest_message_of_the_stream() -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}])
    shell.wanted()
    assert shell.session.request().url == "ws://origin.example/"
    shell.opened()
    shell.receive(json_batch('{"at": 1}', '{"at": 2}'))
    shell.receive(json_batch('{"at": 3}'))
    shell.lost()
    shell.later(1)
    assert shell.session.request().url == "ws://origin.example/?cursor=3"
    after = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}])
    after.session.inherit(shell.session)
    after.wanted()
    assert after.session.request().url == "ws://origin.example/?cursor=3"


def test_a_message_that_a_rule_drops_is_not_the_newest_and_one_that_is_not_json_is_an_empty_map() -> None:
    rules = [
        {"contains": "drop", "forward": False},
        {"contains": "beat", "send": "$(has(last.at) ? last.at : 0)", "forward": False},
    ]
    shell = Shell(onMessage=rules).streaming()
    assert Send("0") in shell.receive(json_batch("beat"))
    shell.receive(json_batch('{"at": 1}', '{"at": 2, "drop": true}'))
    assert Send("1") in shell.receive(json_batch("beat"))
    shell.receive(json_batch("no json"))
    assert Send("0") in shell.receive(json_batch("beat"))


def test_without_an_expression_that_needs_it_no_message_is_kept() -> None:
    shell = Shell(onMessage=[{"contains": "x", "send": "$(msg.last)"}]).streaming()
    shell.receive(json_batch('{"at": 1}'))
    assert shell.session._last is None


@pytest.mark.parametrize("message", ["[1]", "2", '"x"', "true", '{"at": "\\ud800"}'])
def test_a_newest_message_that_is_no_object_or_no_text_delays_no_attempt(message: str) -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}]).streaming()
    shell.receive(json_batch(message))
    shell.lost()
    shell.later(1)
    assert shell.session.request().url in ("ws://origin.example/", "ws://origin.example/?cursor=%3F")


def test_a_newest_message_that_an_expression_cannot_use_costs_one_attempt() -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(int(last.at) + 1) : "")'}]).streaming()
    shell.receive(json_batch('{"at": "later"}'))
    shell.lost()
    shell.later(1)
    with pytest.raises(ExpressionError):
        shell.session.request()
    assert shell.session.request().url == "ws://origin.example/"


def test_a_cursor_from_before_nobody_listened_is_forgotten() -> None:
    shell = Shell(query=[{"name": "cursor", "value": '$(has(last.at) ? string(last.at) : "")'}]).streaming()
    shell.receive(json_batch('{"at": 1}'))
    shell.wanted(False)
    assert Forget() in shell.lost()
    shell.wanted()
    assert shell.session.request().url == "ws://origin.example/"


def test_calls_of_an_attempt_are_those_of_the_secrets_that_were_read_after_it_began() -> None:
    def calling(key: str) -> Dialogue:
        headers = [{"name": "Authorization", "value": f"Bearer {key}"}]
        return resolved(
            origin_spec(beforeConnect=[http_step(url="https://api.example/token", headers=headers)])
        ).dialogue

    shell = Shell(beforeConnect=[TOKEN_CALL])
    shell.wanted()
    shell.session.set_dialogue(calling("newer"), Redactor(()))
    request = shell.session.next_call()
    assert request is not None
    assert "Bearer newer" in repr(request.request.headers)


def test_what_is_hidden_beside_the_secrets_is_bounded_in_characters() -> None:
    rules = [{"contains": "save", "save": {"value": "msg.save"}, "forward": False}]
    shell = Shell(onMessage=rules).streaming()
    for number in range(20):
        shell.receive(json_batch(json.dumps({"save": f"{number}" * 600})))
    assert sum(map(len, shell.session._hidden)) <= 2 * 4096
    assert shell.session.redacted("19" * 600) == "***"


def kept(text: str, ahead: int = 0) -> KeptFrame:
    return KeptFrame(frame(Opcode.TEXT, text.encode()), ahead)


KEEPING: dict[str, Any] = {
    "onConnect": [
        {"send": "subscribe"},
        {"expect": {"json": {"/ok": True}, "keep": "ok", "early": "Forward", "timeoutSeconds": 5}},
    ],
    "onMessage": [{"contains": "state", "keep": "state"}],
}


def test_kept_messages_are_told_before_the_stream_begins_and_those_of_it_before_they_are_published() -> None:
    shell = Shell(**KEEPING)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch("state 1")) == []  # an attempt that fails changes nothing
    keep_ok, begin, keep_state, early = shell.receive(json_batch('{"ok":true}'))
    assert (keep_ok, begin) == (Keep({"ok": kept('{"ok":true}')}), BeginEpoch())
    assert isinstance(early, Publish)
    assert keep_state == Keep({"state": kept("state 1", 1)})
    keep, publish = shell.receive(json_batch("a", "state 2", "b"))
    assert isinstance(publish, Publish)
    assert len(publish.batch) == 3
    assert keep == Keep({"state": kept("state 2", 2)})


def test_a_message_of_the_stream_that_is_too_large_to_be_kept_takes_the_place_of_the_earlier_one() -> None:
    shell = Shell(**KEEPING)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch('{"ok":true}'))
    large = "state" + "." * ORIGIN.kept_message_bytes
    assert shell.receive(json_batch(large))[0] == Keep({"state": KeptFrame(b"", 1)})


def test_without_kept_messages_nothing_is_told_about_them() -> None:
    shell = Shell(onMessage=KEEPING["onMessage"]).streaming()
    assert not any(isinstance(each, Keep) for each in shell.receive(json_batch("a", "b")))
