"""The table of the states, and the commands."""

from __future__ import annotations

import pytest
from tests.unit.origin.sessions import Shell

from lobby_gateway.origin.redaction import Redactor
from lobby_gateway.origin.states import TRANSITIONS, ImpossibleSignalError, Send, Signal, State


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
