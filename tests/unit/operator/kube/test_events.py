"""Events are few and complete, and nothing waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi, status
from tests.support.waiting import until
from tests.unit.operator.kube.support import connected, running

from lobby_operator.kube.event_reasons import LobbyEvent
from lobby_operator.kube.events import (
    EventCorrelator,
    PendingEvent,
    Recorder,
    Regarding,
)
from lobby_operator.settings import EventSettings

SETTINGS = EventSettings()
QUICK = EventSettings(gather_seconds=0.01)

PRICES = Regarding("shop", "prices", "uid-1")
BOOKS = Regarding("shop", "books", "uid-2")
PATH = "/apis/events.k8s.io/v1/namespaces/shop/events/"


def lobby_event(reason: str = "SpareSeatsLow", lobby: str = "prices-1", kind: str = "Normal") -> LobbyEvent:
    return LobbyEvent(kind, reason, "Create", "starting", lobby)


def taken(correlator: EventCorrelator, now: float) -> list[PendingEvent]:
    return list(correlator.take(now))


def test_alike_events_become_one_that_names_all_lobbies() -> None:
    correlator = EventCorrelator()
    for number in range(1, 6):
        correlator.add(PRICES, lobby_event(lobby=f"prices-{number}"))
    correlator.add(PRICES, lobby_event("Empty"))
    correlator.add(BOOKS, lobby_event())
    assert correlator
    first, other, books = taken(correlator, 100.0)
    assert first.event.note == "prices-1, prices-2, prices-3, prices-4, prices-5: starting"
    assert (first.event.lobby, other.event.lobby) == ("", "prices-1")
    assert (first.count, other.count, books.count) == (5, 1, 1)
    assert not correlator
    assert taken(correlator, 101.0) == []


def test_a_repeated_event_increases_the_count_of_a_young_one() -> None:
    correlator = EventCorrelator()
    correlator.add(PRICES, lobby_event())
    (first,) = taken(correlator, 100.0)
    correlator.add(PRICES, lobby_event())
    (again,) = taken(correlator, 110.0)
    assert (again.name, again.count, again.written) == (first.name, 2, True)
    correlator.add(PRICES, lobby_event())
    (later,) = taken(correlator, 100.0 + SETTINGS.series_seconds)
    assert later.name != first.name
    assert not later.written


def test_what_happens_to_another_lobby_is_no_repetition() -> None:
    correlator = EventCorrelator()
    correlator.add(PRICES, lobby_event("Ended"))
    (first,) = taken(correlator, 100.0)
    correlator.add(PRICES, lobby_event("Ended", "prices-2"))
    (second,) = taken(correlator, 101.0)
    assert (second.name != first.name, second.event.note, second.count) == (True, "prices-2: starting", 1)
    correlator.add(PRICES, lobby_event("Ended"))
    (again,) = taken(correlator, 102.0)
    assert (again.name, again.event.lobby, again.count) == (first.name, "prices-1", 2)


def test_events_are_rate_limited_per_lobby() -> None:
    correlator = EventCorrelator()
    for number in range(SETTINGS.burst + 5):
        correlator.add(PRICES, lobby_event(f"Reason{number}"))
    correlator.add(BOOKS, lobby_event())
    assert len(taken(correlator, 100.0)) == SETTINGS.burst + 1
    assert correlator.dropped == 5
    correlator.add(PRICES, lobby_event("Late"))
    assert taken(correlator, 100.0 + SETTINGS.refill_seconds / 2) == []
    correlator.add(PRICES, lobby_event("Late"))
    assert len(taken(correlator, 100.0 + SETTINGS.refill_seconds)) == 1


def test_old_events_are_forgotten() -> None:
    correlator = EventCorrelator()
    correlator.add(PRICES, lobby_event())
    taken(correlator, 100.0)
    correlator.forget(110.0)
    assert correlator._lobbies[PRICES].recent
    correlator.add(PRICES, lobby_event("Empty"))
    taken(correlator, 101.0 + SETTINGS.series_seconds)
    correlator.forget(101.0 + SETTINGS.series_seconds)
    assert [each.event.reason for each in correlator._lobbies[PRICES].recent.values()] == ["Empty"]
    correlator.forget(10_000.0)
    assert not correlator._lobbies


def test_a_long_note_is_truncated() -> None:
    correlator = EventCorrelator()
    correlator.add(PRICES, LobbyEvent("Warning", "ActionFailed", "Observe", "x" * 5000))
    (entry,) = taken(correlator, 100.0)
    assert entry.event.note == "x" * 1024


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[FakeKubeApi, Recorder]]:
    async with connected() as (server, api):
        recorder = Recorder(api, "operator-abc", QUICK)
        async with running(recorder.run()):
            yield server, recorder


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def written(server: FakeKubeApi) -> list[dict[str, Any]]:
    return [each for path, each in server.objects.items() if path.startswith(PATH)]


def test_an_event_names_the_lobby_what_happened_and_the_reporter() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            recorder.record(PRICES, lobby_event(kind="Warning"))
            (event,) = await until(lambda: written(server))
            assert event["regarding"] == {
                "apiVersion": "lobby-gateway.io/v1alpha1",
                "kind": "Lobby",
                "namespace": "shop",
                "name": "prices",
                "uid": "uid-1",
            }
            assert (event["type"], event["reason"], event["action"]) == ("Warning", "SpareSeatsLow", "Create")
            assert event["note"] == "prices-1: starting"
            assert event["related"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "prices-1"}
            assert event["reportingInstance"] == "operator-abc"
            assert event["eventTime"].endswith("Z")
            assert "series" not in event

    run(main())


def test_a_series_is_updated_and_recreated_if_someone_deleted_it() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            recorder.record(PRICES, lobby_event())
            (event,) = await until(lambda: written(server))
            recorder.record(PRICES, lobby_event())
            await until(lambda: written(server)[0].get("series", {}).get("count") == 2)
            assert len(written(server)) == 1
            server.remove(f"{PATH}{event['metadata']['name']}")
            recorder.record(PRICES, lobby_event())
            await until(lambda: written(server) and written(server)[0]["series"]["count"] == 3)

    run(main())


def test_a_refused_event_is_lost_and_the_next_is_written(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            server.instead = lambda _asked: status(403, "Forbidden", "not you")
            recorder.record(PRICES, lobby_event())
            await until(lambda: server.asked)
            server.instead = lambda _asked: None
            recorder.record(PRICES, lobby_event("Empty"))
            await until(lambda: written(server))

    with caplog.at_level(logging.INFO):
        run(main())
    assert "can't write an Event" in caplog.text
