from __future__ import annotations

from dataclasses import replace

from lobby_gateway.process.reports import GreeterReport, LobbyReport, OriginReport, OriginState
from lobby_gateway.resource.overview import Item
from lobby_operator.local.overview import shown_item
from lobby_operator.local.sources import from_url
from lobby_operator.reconcile.poller import PollResult

LOBBY = from_url("ws://h/", name="prices", seats=None, option="test").lobby
STATUS = {
    "lobbies": [
        {"name": "prices-1", "phase": "Ready", "clients": 1, "seats": 512, "origin": "Idle"},
        {"name": "prices-2", "phase": "Starting"},
    ],
    "open": [{"name": "prices-1", "address": "h:1", "clients": 1, "seats": 512}],
}


def report(**fields: int) -> LobbyReport:
    origin = OriginReport(state=OriginState.WAITING, reason="connection refused", retry_in_seconds=12.0)
    return replace(LobbyReport(name="prices-1", lobby="prices", seats=512, origin=origin), **fields)  # type: ignore[arg-type]


def shown(
    readings: dict[str, PollResult[LobbyReport]], *greeters: PollResult[GreeterReport], now: float = 100.0
) -> Item:
    return shown_item(LOBBY, STATUS, readings, greeters, address="ws://h:8000/prices", now=now)


def test_what_a_lobby_says_of_itself_is_newer_than_the_status() -> None:
    item = shown({"prices-1": PollResult(report(clients=9, messages=500), 98.0), "prices-2": PollResult()})
    one, two = item.lobbies
    assert (one.phase, one.clients, one.origin, one.problem) == ("open", 9, "Waiting", "connection refused")
    assert (one.messages, one.at, one.retry_in_seconds) == (500, 98.0, 10.0)
    assert (two.phase, two.messages) == ("starting", None)
    assert item.address == "ws://h:8000/prices"


def test_a_try_that_is_overdue_is_not_in_the_past() -> None:
    item = shown({"prices-1": PollResult(report(), 50.0)})
    assert item.lobbies[0].retry_in_seconds == 0.0


def test_counts_are_those_of_lobbies_and_greeters_together() -> None:
    greeters: list[PollResult[GreeterReport]] = [
        PollResult(
            GreeterReport(
                clients={"prices": 5, "books": 99},
                waiting={"prices": 2},
                dropped={"prices": 7, "books": 99},
                deliveries={"prices": 100},
                moves_exact={"prices": 1},
                moves_live={"prices": 4},
            ),
            99.0,
        ),
        PollResult(GreeterReport(clients={"prices": 1}), 97.0),
        PollResult(),
    ]
    counts = shown({"prices-1": PollResult(report(direct=3, dropped=10, deliveries=20), 98.0)}, *greeters).counts
    assert (counts.clients, counts.waiting) == (9, 2)
    assert (counts.dropped, counts.deliveries) == (17, 120)
    assert (counts.moves_exact, counts.moves_live) == (1, 4)
    assert counts.at == 99.0


def test_before_anybody_has_answered_there_is_nothing_to_count() -> None:
    item = shown({})
    assert (item.counts.clients, item.counts.at) == (0, 100.0)
