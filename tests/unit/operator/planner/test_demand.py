"""How many clients wait, by what greeters report."""

from __future__ import annotations

from lobby_gateway.process.seat_reports import GreeterReport
from lobby_operator.planner.demand import Demand, measure_demand
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
    assert measure_demand(greeters, "prices", 0, NOW).waiting == 9
    assert measure_demand(greeters, "prices", 0, 2.0 + PlannerSettings().greeter_report_seconds).waiting == 6
    assert measure_demand(greeters, "others", 0, NOW).waiting == 0


def test_a_client_seated_since_the_latest_poll_does_not_wait() -> None:
    greeters = {"greeter-1": PollResult(GreeterReport(clients={"prices": 1024}, waiting={"prices": 976}), 1.0)}
    assert measure_demand(greeters, "prices", 1024, NOW).waiting == 976
    assert measure_demand(greeters, "prices", 1536, NOW).waiting == 464
    assert measure_demand(greeters, "prices", 2000, NOW).waiting == 0
    assert measure_demand(greeters, "prices", 2100, NOW).waiting == 0


def test_seats_of_an_unresponsive_greeter_hide_no_waiting_client() -> None:
    greeters: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(GreeterReport(clients={"prices": 10}, waiting={"prices": 5}), 1.0),
        "greeter-2": PollResult(GreeterReport(clients={"prices": 500}), 1.0, unresponsive_since=2.0),
    }
    for now in (NOW, 2.0 + PlannerSettings().greeter_report_seconds):
        assert measure_demand(greeters, "prices", 510, now).waiting == 5


def test_clients_of_a_busy_greeter_wait_when_their_lobby_is_gone() -> None:
    greeters: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(GreeterReport(clients={"prices": 1000}), 1.0),
        "greeter-2": PollResult(GreeterReport(clients={"prices": 1000}), 1.0, unresponsive_since=2.0),
    }
    assert measure_demand(greeters, "prices", 2000, NOW).waiting == 0
    assert measure_demand(greeters, "prices", 1750, NOW).waiting == 250
    assert measure_demand(greeters, "prices", 1750, 2.0 + PlannerSettings().greeter_report_seconds).waiting == 0


def test_clients_whose_lobby_is_gone_are_counted_apart() -> None:
    report = GreeterReport(clients={"prices": 10}, waiting={"prices": 7}, lost={"prices": 4, "books": 1})
    greeters: dict[str, PollResult[GreeterReport]] = {"greeter-1": PollResult(report, 1.0)}
    assert measure_demand(greeters, "prices", 10, NOW) == Demand(waiting=7, lost=4)
    assert measure_demand(greeters, "prices", 15, NOW) == Demand(waiting=2, lost=2)  # five have a seat since
    assert measure_demand(greeters, "others", 0, NOW) == Demand()


def test_clients_of_a_busy_greeter_may_have_lost_their_seats() -> None:
    greeters: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(GreeterReport(clients={"prices": 10}), 1.0, unresponsive_since=2.0)
    }
    assert measure_demand(greeters, "prices", 4, NOW) == Demand(waiting=6, lost=6)
