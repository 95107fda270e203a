from __future__ import annotations

import pytest
from tests.unit.operator.lobbies import lobby_state, observed

from lobby_gateway.process.seat_reports import GreeterReport
from lobby_operator.planner.state import Phase, PollResult, lobby_index, lobby_name


@pytest.mark.parametrize(("lobby", "index"), [("prices", 1), ("prices", 104), ("a-1", 2), ("a", 12)])
def test_the_index_is_read_back_from_the_name(lobby: str, index: int) -> None:
    assert lobby_index(lobby_name(lobby, index)) == index


@pytest.mark.parametrize("name", ["prices", "prices-", "prices-x", "prices-٣", "prices-²", ""])
def test_a_foreign_name_has_index_zero(name: str) -> None:
    assert lobby_index(name) == 0


def test_free_seats_are_never_negative() -> None:
    assert lobby_state(1, 500).free == 12
    assert lobby_state(1, 500, seats=64).free == 0


def test_in_phase_keeps_the_order() -> None:
    lobbies = observed(
        lobby_state(1), lobby_state(2, phase=Phase.UNRESPONSIVE), lobby_state(3, phase=Phase.STARTING), lobby_state(4)
    )
    assert [lobby.index for lobby in lobbies.in_phase(Phase.READY, Phase.STARTING)] == [1, 3, 4]


def test_a_poll_result_is_shown_with_its_latest_report_and_problem() -> None:
    report = GreeterReport(waiting={"prices": 2})
    unresponsive = PollResult(report, 1.0, 2.0, "no answer")
    assert unresponsive.to_json() == {"report": report.to_json(), "answers": False, "problem": "no answer"}
    assert PollResult().to_json() == {"report": None, "answers": True, "problem": ""}
