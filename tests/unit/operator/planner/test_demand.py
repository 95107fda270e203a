"""How many clients wait, by what greeters report."""

from __future__ import annotations

from lobby_gateway.process.seat_reports import GreeterReport
from lobby_operator.planner.demand import waiting_clients
from lobby_operator.planner.state import PollResult
from lobby_operator.settings import PlannerSettings

NOW = 10.0


def test_waiting_clients_are_counted_at_all_greeters_that_answer_or_did_a_moment_ago() -> None:
    report = GreeterReport(waiting={"prices": 3, "books": 4})
    greeters: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(report, 1.0),
        "greeter-2": PollResult(report, 1.0),
        "greeter-3": PollResult(report, 1.0, unresponsive_since=2.0),
        "greeter-4": PollResult(),
    }
    assert waiting_clients(greeters, "prices", 0, NOW) == 9
    assert waiting_clients(greeters, "prices", 0, 2.0 + PlannerSettings().greeter_report_seconds) == 6
    assert waiting_clients(greeters, "others", 0, NOW) == 0


def test_a_client_seated_since_the_latest_poll_does_not_wait() -> None:
    greeters = {"greeter-1": PollResult(GreeterReport(clients={"prices": 1024}, waiting={"prices": 976}), 1.0)}
    assert waiting_clients(greeters, "prices", 1024, NOW) == 976
    assert waiting_clients(greeters, "prices", 1536, NOW) == 464
    assert waiting_clients(greeters, "prices", 2000, NOW) == 0
    assert waiting_clients(greeters, "prices", 2100, NOW) == 0


def test_seats_of_an_unresponsive_greeter_hide_no_waiting_client() -> None:
    greeters: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(GreeterReport(clients={"prices": 10}, waiting={"prices": 5}), 1.0),
        "greeter-2": PollResult(GreeterReport(clients={"prices": 500}), 1.0, unresponsive_since=2.0),
    }
    for now in (NOW, 2.0 + PlannerSettings().greeter_report_seconds):
        assert waiting_clients(greeters, "prices", 510, now) == 5


def test_clients_of_a_busy_greeter_wait_when_their_lobby_is_gone() -> None:
    greeters: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(GreeterReport(clients={"prices": 1000}), 1.0),
        "greeter-2": PollResult(GreeterReport(clients={"prices": 1000}), 1.0, unresponsive_since=2.0),
    }
    assert waiting_clients(greeters, "prices", 2000, NOW) == 0
    assert waiting_clients(greeters, "prices", 1750, NOW) == 250
    assert waiting_clients(greeters, "prices", 1750, 2.0 + PlannerSettings().greeter_report_seconds) == 0
