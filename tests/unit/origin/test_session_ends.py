"""The end of a stream: who closed it, what had arrived before, and when the next attempt is."""

from __future__ import annotations

import pytest
from tests.unit.origin.sessions import HELLO, NO_PINGS, PING_RULE, Shell, json_batch, published

from lobby_gateway.origin.states import BeginClose, Connect, Failure, Forget, NoteClose, Publish, State
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.websocket.parser import Close, Violation


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
