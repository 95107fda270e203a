"""What lobbies and greeters answer when they are asked, against real admin ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from tests.support.waiting import stays, until

from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.reports import GreeterReport, LobbyReport
from lobby_operator.reconcile import poller as poller_module
from lobby_operator.reconcile.poller import Poller, PollResult, waiting

NOW = 10.0


class Asked:
    """An admin port that answers what it is told to, once it may."""

    def __init__(self) -> None:
        self.answer = AdminResponse.json(LobbyReport(name="a-1", lobby="a", clients=3).to_json())
        self.may = asyncio.Event()
        self.may.set()
        self.questions = 0

    async def seats(self, _request: AdminRequest) -> AdminResponse:
        self.questions += 1
        await self.may.wait()
        return self.answer


@asynccontextmanager
async def polled() -> AsyncIterator[tuple[Asked, Poller[LobbyReport], list[PollResult[LobbyReport]]]]:
    asked = Asked()
    admin = AdminServer({("GET", "/seats"): asked.seats})
    port = await admin.start("127.0.0.1", 0)
    readings: list[PollResult[LobbyReport]] = []
    poller = Poller(
        "a-1", ("127.0.0.1", port), "/seats", LobbyReport.from_json, lambda: readings.append(poller.reading)
    )
    try:
        yield asked, poller, readings
    finally:
        asked.may.set()
        await poller.close()
        await admin.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_an_answer_is_a_reading_with_its_time() -> None:
    async def main() -> None:
        async with polled() as (_, poller, readings):
            await until(lambda: readings)
            assert poller.reading.report == LobbyReport(name="a-1", lobby="a", clients=3)
            assert poller.reading.unresponsive_since is None
            assert 0 <= asyncio.get_running_loop().time() - poller.reading.at < 20

    run(main())


def test_who_does_not_answer_is_silent_since_the_question_and_keeps_the_last_report(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(poller_module, "POLL_TIMEOUT", 0.05)
    monkeypatch.setattr(poller_module, "HURRIED_POLL_SECONDS", 0.01)

    async def main() -> None:
        async with polled() as (asked, poller, readings):
            await until(lambda: poller.reading.report is not None and poller.reading.unresponsive_since is None)
            answered = poller.reading
            asked.may.clear()
            await until(lambda: poller.reading.unresponsive_since is not None)
            first = poller.reading
            assert first.report == answered.report
            assert first.unresponsive_since is not None
            assert "no answer within 0.05 s" in first.problem
            count = len(readings)
            await until(lambda: len(readings) > count + 2)
            assert poller.reading.unresponsive_since == first.unresponsive_since  # not later with each question
            asked.may.set()
            await until(lambda: poller.reading.unresponsive_since is None)

    with caplog.at_level(logging.WARNING):
        run(main())
    said = [record.getMessage() for record in caplog.records]
    # Once each, however often it was asked; a machine that stands still for a moment is a silence, too.
    assert said[:2] == ["does not answer", "answers again"]
    assert all(one != other for one, other in pairwise(said))


@pytest.mark.parametrize(
    "answer",
    [
        AdminResponse.text("internal error, see the log", 500),
        AdminResponse.json({"name": "a-1"}),
        AdminResponse.json([]),
        AdminResponse.json({"name": "a-1", "lobby": "a", "origin": {"state": "Lost"}}),
    ],
)
def test_an_answer_that_is_no_report_is_none(answer: AdminResponse) -> None:
    async def main() -> None:
        async with polled() as (asked, poller, _):
            asked.answer = answer
            poller.ask_now()
            await until(lambda: poller.reading.unresponsive_since is not None)
            assert poller.reading.problem

    run(main())


def test_it_is_asked_often_while_something_moves_and_at_once_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "HURRIED_POLL_SECONDS", 0.01)
    monkeypatch.setattr(poller_module, "POLL_SECONDS", 1000.0)

    async def main() -> None:
        async with polled() as (asked, poller, _):
            await until(lambda: asked.questions > 5)
            poller.hurried = False
            await until(lambda: poller._task.done() or _waits_long())
            before = asked.questions
            poller.ask_now()
            await until(lambda: asked.questions == before + 1)

    def _waits_long() -> bool:
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]
        return any(timer.when() > loop.time() + 500 for timer in timers)

    run(main())


def test_who_is_ending_may_be_silent_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        poller = Poller("a-1", ("127.0.0.1", 9), "/seats", LobbyReport.from_json, lambda: None)
        poller.ending = True
        await until(lambda: poller.reading.unresponsive_since is not None)
        await poller.close()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


def test_who_answers_after_a_silence_that_was_no_news_is_none_either(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with polled() as (asked, poller, _):
            await until(lambda: poller.reading.report is not None)
            poller.ending = True
            asked.answer = AdminResponse.text("not yet", 503)
            await until(lambda: poller.reading.unresponsive_since is not None)
            asked.answer = AdminResponse.json(LobbyReport(name="a-1", lobby="a").to_json())
            await until(lambda: poller.reading.unresponsive_since is None)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


def test_among_many_one_that_never_answered_is_asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "MAX_POLLS_PER_SECOND", 0.001)

    async def main() -> None:
        before = Poller.unanswered
        async with polled() as (_, poller, _readings):
            assert Poller.unanswered == before + 1
            assert poller.pause == poller_module.HURRIED_POLL_SECONDS
            await until(lambda: poller.reading.report is not None)
            assert Poller.unanswered == before
            assert poller.pause >= 1000
        assert Poller.unanswered == before

    run(main())


def test_no_more_questions_are_under_way_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "MAX_QUESTIONS", 2)

    async def main() -> None:
        async with polled() as (asked, poller, _):
            asked.may.clear()
            address = poller.address
            more = [Poller(f"a-{n}", address, "/seats", LobbyReport.from_json, lambda: None) for n in range(5)]
            await until(lambda: asked.questions == 2)
            await stays(lambda: asked.questions == 2, seconds=0.1)
            asked.may.set()
            await until(lambda: all(each.reading.report is not None for each in more))
            await asyncio.gather(*(each.close() for each in more))

    run(main())


def test_those_who_wait_are_counted_at_all_greeters_that_answer_or_did_a_moment_ago() -> None:
    report = GreeterReport(waiting={"prices": 3, "books": 4})
    readings: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(report, 1.0),
        "greeter-2": PollResult(report, 1.0),
        "greeter-3": PollResult(report, 1.0, unresponsive_since=2.0),
        "greeter-4": PollResult(),
    }
    assert waiting(readings, "prices", 0, NOW) == 9
    assert waiting(readings, "prices", 0, 2.0 + poller_module.UNHEARD_SECONDS) == 6
    assert waiting(readings, "others", 0, NOW) == 0


def test_who_got_a_seat_since_the_greeter_was_asked_does_not_wait() -> None:
    readings = {"greeter-1": PollResult(GreeterReport(clients={"prices": 1024}, waiting={"prices": 976}), 1.0)}
    assert waiting(readings, "prices", 1024, NOW) == 976
    assert waiting(readings, "prices", 1536, NOW) == 464
    assert waiting(readings, "prices", 2000, NOW) == 0
    assert waiting(readings, "prices", 2100, NOW) == 0


def test_seats_of_a_greeter_that_does_not_answer_hide_nobody_who_waits() -> None:
    readings: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(GreeterReport(clients={"prices": 10}, waiting={"prices": 5}), 1.0),
        "greeter-2": PollResult(GreeterReport(clients={"prices": 500}), 1.0, unresponsive_since=2.0),
    }
    for now in (NOW, 2.0 + poller_module.UNHEARD_SECONDS):
        assert waiting(readings, "prices", 510, now) == 5


def test_clients_of_a_busy_greeter_who_lost_their_seats_wait_though_it_says_nothing() -> None:
    readings: dict[str, PollResult[GreeterReport]] = {
        "greeter-1": PollResult(GreeterReport(clients={"prices": 1000}), 1.0),
        "greeter-2": PollResult(GreeterReport(clients={"prices": 1000}), 1.0, unresponsive_since=2.0),
    }
    assert waiting(readings, "prices", 2000, NOW) == 0
    assert waiting(readings, "prices", 1750, NOW) == 250
    assert waiting(readings, "prices", 1750, 2.0 + poller_module.UNHEARD_SECONDS) == 0


def test_many_are_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        before = Poller.running
        async with polled() as (_, poller, _readings):
            assert Poller.running == before + 1
            await until(lambda: poller.reading.report is not None)
            assert poller.pause == poller_module.HURRIED_POLL_SECONDS
            poller.hurried = False
            assert poller.pause == poller_module.POLL_SECONDS
            monkeypatch.setattr(poller_module, "MAX_POLLS_PER_SECOND", (before + 1) / 7)
            assert poller.pause == pytest.approx(7)
        assert Poller.running == before

    run(main())
