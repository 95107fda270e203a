"""Rows, summaries and change lines of the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from lobby_gateway.process.seat_reports import GreeterReport, LobbyReport, OriginReport, OriginState
from lobby_operator.local.view import LobbyRow, LobbySummary, Rates, changes, lobby_summary, phase
from lobby_operator.planner.state import LobbyState, Observed, Phase, PollResult
from lobby_operator.settings import LOCAL_MODE


def lobby(number: int = 1, **fields: Any) -> LobbyState:
    given = {"phase": Phase.READY, "created_at": 0.0, "seats": 512, "clients": 3, **fields}
    return LobbyState(name=f"prices-{number}", index=number, **given)


def test_rate_is_zero_until_there_are_two_counts_then_averages_the_last_seconds() -> None:
    rates = Rates()
    assert rates.rate("a", 100.0, 1000) == 0.0
    assert rates.rate("a", 101.0, 1010) == 10.0
    assert rates.rate("a", 101.0, 1010) == 10.0  # nothing new
    for second in range(102, 120):
        last = rates.rate("a", float(second), 1010 + (second - 101) * 500)
    assert last == 500.0


def test_rate_falls_to_zero_within_the_window_when_messages_stop() -> None:
    rates = Rates()
    rates.rate("a", 0.0, 0)
    rates.rate("a", 1.0, 1000)
    for step in range(1, 7):
        last = rates.rate("a", 1.0 + step, 1000)
    assert last == 0.0
    assert LOCAL_MODE.rate_window_seconds <= 6


def test_count_that_restarts_gives_no_negative_rate() -> None:
    rates = Rates()
    rates.rate("a", 0.0, 1000)
    rates.rate("a", 1.0, 2000)
    assert rates.rate("a", 2.0, 5) == 0.0
    assert rates.rate("a", 3.0, 10) == 5.0


def test_rates_of_removed_lobbies_are_forgotten() -> None:
    rates = Rates()
    rates.rate("a", 0.0, 0)
    rates.keep(set())
    assert rates.rate("a", 1.0, 100) == 0.0


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (lobby(phase=Phase.STARTING), "starting"),
        (lobby(), "open"),
        (lobby(clients=512), "full"),
        (lobby(phase=Phase.DRAINING), "draining"),
        (lobby(phase=Phase.UNRESPONSIVE), "unresponsive"),
        (lobby(phase=Phase.RECOVERING), "recovering"),
        (lobby(phase=Phase.ENDING), "ending"),
    ],
)
def test_state_of_a_lobby_is_one_word(state: LobbyState, word: str) -> None:
    assert phase(state) == word


def test_summary_combines_reports_of_lobbies_and_greeters() -> None:
    origin = OriginReport(state=OriginState.WAITING, reason="connection refused", retry_in_seconds=12.4)
    report = LobbyReport(name="prices-1", lobby="prices", dropped=2, messages=100)
    summary = lobby_summary(
        "prices",
        "ws://127.0.0.1:8000/prices",
        Observed(lobbies=(lobby(1, origin=origin), lobby(2, phase=Phase.STARTING, clients=0)), waiting=7),
        {"prices-1": PollResult(report, 1.0), "prices-2": PollResult()},
        {
            "greeter-1": PollResult(GreeterReport(dropped={"prices": 5, "other": 100}), 1.0),
            "greeter-2": PollResult(),
        },
        latest="prices-1",
        rates=Rates(),
    )
    assert summary.waiting == 7
    assert summary.dropped == 7
    assert summary.problem == "origin of prices-1: connection refused"
    assert summary.lobbies == (
        LobbyRow(
            name="prices-1",
            phase="open",
            latest=True,
            clients=3,
            seats=512,
            origin="Waiting 12 s",
            problem="connection refused",
        ),
        LobbyRow(name="prices-2", phase="starting", seats=512),
    )


def summary_of(*rows: LobbyRow) -> LobbySummary:
    return LobbySummary(name="prices", url="ws://h/prices", lobbies=rows)


def row(phase_: str = "open", origin: str = "", problem: str = "", **fields: Any) -> LobbyRow:
    given = {"seats": 512, **fields}
    return LobbyRow(name="prices-1", phase=phase_, origin=origin, problem=problem, **given)


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        (None, row("starting"), []),
        (row("starting"), row("open"), ["open, with 512 seats"]),
        (None, row("open"), ["open, with 512 seats"]),
        (row("open"), row("open", clients=5), []),
        (row("open"), row("full", clients=512), []),
        (row("full", clients=512), row("open", clients=511), []),
        (row("open"), row("unresponsive"), ["unresponsive"]),
        (row("unresponsive"), row("recovering"), []),
        (row("unresponsive"), row("open"), ["responds again"]),
        (row("recovering"), row("open"), ["responds again"]),
        (row("open"), row("draining", clients=25), ["draining 25 clients"]),
        (row("open", "Idle"), row("open", "Connecting"), []),
        (row("open", "Connecting"), row("open", "Connected"), ["origin connected"]),
        (row("open", "Connected"), row("open", "Waiting", "it closed"), ["no origin connection: it closed"]),
        (row("open", "Connected"), row("open", "Connecting"), []),
        (row("open", "Waiting 2 s", "refused"), row("open", "Waiting 1 s", "refused"), []),
        (row("open", "Waiting 2 s", "refused"), row("open", "Connecting"), []),
        (row("open", "Connecting"), row("open", "Refused 60 s", "401"), ["no origin connection: 401"]),
        (row("open", "Connecting", "refused"), row("open", "Waiting 4 s", "refused"), []),
        (row("open", "Connected"), row("open", "Waiting"), ["no origin connection: no reason given"]),
        (row("open", "Connected"), row("open", "Idle"), []),
    ],
)
def test_each_change_is_one_line(before: LobbyRow | None, now: LobbyRow, lines: list[str]) -> None:
    assert changes(summary_of(before) if before else None, summary_of(now)) == [f"prices-1: {line}" for line in lines]
