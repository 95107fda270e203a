"""Events are few, on the server they are whole, and nothing waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi, status
from tests.support.waiting import until
from tests.unit.operator.kube.cluster import called, running

from lobby_operator.kube import events
from lobby_operator.kube.event_reasons import Happening
from lobby_operator.kube.events import (
    BURST,
    REFILL_SECONDS,
    SERIES_SECONDS,
    Gathering,
    PendingEvent,
    Recorder,
    Regarding,
)

PRICES = Regarding("shop", "prices", "uid-1")
BOOKS = Regarding("shop", "books", "uid-2")
PATH = "/apis/events.k8s.io/v1/namespaces/shop/events/"


def happening(reason: str = "SpareSeatsLow", note: str = "prices-1: starting", kind: str = "Normal") -> Happening:
    return Happening(kind, reason, "Create", note)


def taken(gathering: Gathering, now: float) -> list[PendingEvent]:
    return list(gathering.take(now))


def test_what_happens_together_is_one_event() -> None:
    gathering = Gathering()
    for number in range(1, 6):
        gathering.add(PRICES, happening(note=f"prices-{number}: starting"))
    gathering.add(PRICES, happening("Empty"))
    gathering.add(BOOKS, happening())
    assert gathering
    first, other, books = taken(gathering, 100.0)
    assert first.happening.note == "prices-1: starting (and 4 more like it)"
    assert (first.count, other.count, books.count) == (5, 1, 1)
    assert not gathering
    assert taken(gathering, 101.0) == []


def test_what_happens_again_is_counted_on_the_same_event_while_it_is_young() -> None:
    gathering = Gathering()
    gathering.add(PRICES, happening())
    (first,) = taken(gathering, 100.0)
    gathering.add(PRICES, happening(note="prices-2: starting"))
    (again,) = taken(gathering, 110.0)
    assert (again.name, again.count, again.written) == (first.name, 2, True)
    gathering.add(PRICES, happening())
    (later,) = taken(gathering, 100.0 + SERIES_SECONDS)
    assert later.name != first.name
    assert not later.written


def test_a_lobby_to_which_very_much_happens_gets_few_events_and_no_other_suffers() -> None:
    gathering = Gathering()
    for number in range(BURST + 5):
        gathering.add(PRICES, happening(f"Reason{number}"))
    gathering.add(BOOKS, happening())
    assert len(taken(gathering, 100.0)) == BURST + 1
    assert gathering.dropped == 5
    gathering.add(PRICES, happening("Late"))
    assert taken(gathering, 100.0 + REFILL_SECONDS / 2) == []
    gathering.add(PRICES, happening("Late"))
    assert len(taken(gathering, 100.0 + REFILL_SECONDS)) == 1


def test_what_is_old_is_forgotten() -> None:
    gathering = Gathering()
    gathering.add(PRICES, happening())
    taken(gathering, 100.0)
    gathering.forget(110.0)
    assert gathering._lobbies
    gathering.forget(10_000.0)
    assert not gathering._lobbies


def test_a_note_that_is_too_long_is_cut() -> None:
    gathering = Gathering()
    for _ in range(2):
        gathering.add(PRICES, happening(note="x" * 5000))
    (entry,) = taken(gathering, 100.0)
    assert len(entry.happening.note) <= 1024
    assert entry.happening.note.endswith("(and 1 more like it)")


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[FakeKubeApi, Recorder]]:
    async with called() as (server, api):
        recorder = Recorder(api, "operator-abc")
        async with running(recorder.run()):
            yield server, recorder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "GATHER_SECONDS", 0.01)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def written(server: FakeKubeApi) -> list[dict[str, Any]]:
    return [each for path, each in server.objects.items() if path.startswith(PATH)]


def test_an_event_says_what_happened_to_which_lobby_and_who_says_so() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            recorder.tell(PRICES, happening(kind="Warning"))
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
            assert event["reportingInstance"] == "operator-abc"
            assert event["eventTime"].endswith("Z")
            assert "series" not in event

    run(main())


def test_a_series_is_counted_up_and_made_anew_if_somebody_deleted_it() -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            recorder.tell(PRICES, happening())
            (event,) = await until(lambda: written(server))
            recorder.tell(PRICES, happening())
            await until(lambda: written(server)[0].get("series", {}).get("count") == 2)
            assert len(written(server)) == 1
            server.remove(f"{PATH}{event['metadata']['name']}")
            recorder.tell(PRICES, happening())
            await until(lambda: written(server) and written(server)[0]["series"]["count"] == 3)

    run(main())


def test_an_event_that_the_server_refuses_is_lost_and_the_next_is_written(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with recording() as (server, recorder):
            server.instead = lambda _asked: status(403, "Forbidden", "not you")
            recorder.tell(PRICES, happening())
            await until(lambda: server.asked)
            server.instead = lambda _asked: None
            recorder.tell(PRICES, happening("Empty"))
            await until(lambda: written(server))

    with caplog.at_level(logging.INFO):
        run(main())
    assert "an Event is lost" in caplog.text
