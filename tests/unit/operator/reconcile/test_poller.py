"""Polling lobbies and greeters, against real admin ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from tests.support.waiting import stays, until

from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_operator.planner.state import PollResult
from lobby_operator.reconcile.poller import Poller, PollSchedule
from lobby_operator.settings import PollSettings


class ScriptedPort:
    """An admin port that gives a set answer as soon as it may."""

    def __init__(self) -> None:
        self.answer = AdminResponse.json(LobbyReport(name="a-1", lobby="a", clients=3).to_json())
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.requests = 0

    async def seats(self, _request: AdminRequest) -> AdminResponse:
        self.requests += 1
        await self.may_answer.wait()
        return self.answer


@dataclass
class Polled:
    """A poller, the port that it polls, and its results so far."""

    port: ScriptedPort
    poller: Poller[LobbyReport]
    schedule: PollSchedule
    results: list[PollResult[LobbyReport]] = field(default_factory=list)


@asynccontextmanager
async def polling(**settings: Any) -> AsyncIterator[Polled]:
    port = ScriptedPort()
    admin = AdminServer({("GET", "/seats"): port.seats})
    address = ("127.0.0.1", await admin.start("127.0.0.1", 0))
    schedule = PollSchedule(PollSettings(**settings))
    results: list[PollResult[LobbyReport]] = []
    poller = Poller(
        "a-1", address, "/seats", LobbyReport.from_json, lambda: results.append(poller.result), schedule=schedule
    )
    try:
        yield Polled(port, poller, schedule, results)
    finally:
        port.may_answer.set()
        await poller.close()
        await admin.close()
        assert (schedule.pollers, schedule.unanswered) == (0, 0)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_a_result_has_the_report_and_its_time() -> None:
    async def main() -> None:
        async with polling() as made:
            await until(lambda: made.results)
            assert made.poller.result.report == LobbyReport(name="a-1", lobby="a", clients=3)
            assert made.poller.result.unresponsive_since is None
            assert 0 <= asyncio.get_running_loop().time() - made.poller.result.at < 20

    run(main())


def test_a_process_is_unresponsive_since_the_first_failed_poll_and_keeps_its_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with polling(timeout_seconds=0.05, fast_interval_seconds=0.01) as made:
            poller = made.poller
            await until(lambda: poller.result.report is not None and poller.result.unresponsive_since is None)
            answered = poller.result
            made.port.may_answer.clear()
            await until(lambda: poller.result.unresponsive_since is not None)
            first = poller.result
            assert first.report == answered.report
            assert first.unresponsive_since is not None
            assert "no response within 0.05 s" in first.problem
            count = len(made.results)
            await until(lambda: len(made.results) > count + 2)
            assert poller.result.unresponsive_since == first.unresponsive_since  # not later with each poll
            made.port.may_answer.set()
            await until(lambda: poller.result.unresponsive_since is None)

    with caplog.at_level(logging.WARNING):
        run(main())
    messages = [record.getMessage() for record in caplog.records]
    # Once each, however often it was polled; a machine that stalls for a moment looks unresponsive, too.
    assert messages[:2] == ["not responding", "responding again"]
    assert all(one != other for one, other in pairwise(messages))


@pytest.mark.parametrize(
    "answer",
    [
        AdminResponse.text("internal error, see the log", 500),
        AdminResponse.json({"name": "a-1"}),
        AdminResponse.json([]),
        AdminResponse.json({"name": "a-1", "lobby": "a", "origin": {"state": "Lost"}}),
    ],
)
def test_an_answer_that_is_not_a_report_is_a_failed_poll(answer: AdminResponse) -> None:
    async def main() -> None:
        async with polling() as made:
            made.port.answer = answer
            made.poller.poll_now()
            await until(lambda: made.poller.result.unresponsive_since is not None)
            assert made.poller.result.problem

    run(main())


@pytest.mark.parametrize("place", ["parse", "on_result"])
def test_a_bug_is_logged_once_and_polling_goes_on(place: str, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise the process would look for ever as it did then."""
    pollers, polled = list[Poller[LobbyReport]](), list[PollResult[LobbyReport]]()

    def parse(report: dict[str, Any]) -> LobbyReport:
        if place == "parse":
            raise ZeroDivisionError
        return LobbyReport.from_json(report)

    def on_result() -> None:
        polled.append(pollers[0].result)
        if place == "on_result":
            raise ZeroDivisionError

    async def main() -> None:
        admin = AdminServer({("GET", "/seats"): ScriptedPort().seats})
        address = ("127.0.0.1", await admin.start("127.0.0.1", 0))
        schedule = PollSchedule(PollSettings(fast_interval_seconds=0.01))
        pollers.append(Poller("a-1", address, "/seats", parse, on_result, schedule=schedule))
        await until(lambda: len(polled) > 3)
        await pollers[0].close()
        await admin.close()

    run(main())
    assert [each.report is None for each in polled[:3]] == [place == "parse"] * 3
    (line,) = caplog.records
    assert line.getMessage() == ("not responding" if place == "parse" else "a poll failed")
    assert line.__dict__["problem"].startswith("internal error: ZeroDivisionError in test_poller.py")


def test_polls_often_while_something_changes_and_at_once_on_request() -> None:
    async def main() -> None:
        async with polling(fast_interval_seconds=0.01, interval_seconds=1000.0) as made:
            await until(lambda: made.port.requests > 5)
            made.poller.fast = False
            await until(lambda: made.poller._task.done() or _waits_long())
            before = made.port.requests
            made.poller.poll_now()
            await until(lambda: made.port.requests == before + 1)

    def _waits_long() -> bool:
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]
        return any(timer.when() > loop.time() + 500 for timer in timers)

    run(main())


def test_a_quiet_poller_logs_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        poller = Poller("a-1", ("127.0.0.1", 9), "/seats", LobbyReport.from_json, lambda: None, schedule=PollSchedule())
        poller.quiet = True
        await until(lambda: poller.result.unresponsive_since is not None)
        await poller.close()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


def test_recovery_from_a_failure_that_was_not_logged_is_not_logged_either(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with polling() as made:
            await until(lambda: made.poller.result.report is not None)
            made.poller.quiet = True
            made.port.answer = AdminResponse.text("not yet", 503)
            await until(lambda: made.poller.result.unresponsive_since is not None)
            made.port.answer = AdminResponse.json(LobbyReport(name="a-1", lobby="a").to_json())
            await until(lambda: made.poller.result.unresponsive_since is None)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


def test_among_many_one_that_has_never_answered_is_polled_often() -> None:
    async def main() -> None:
        async with polling(max_polls_per_second=0.001) as made:
            assert made.schedule.unanswered == 1
            assert made.poller.interval == PollSettings().fast_interval_seconds
            await until(lambda: made.poller.result.report is not None)
            assert made.schedule.unanswered == 0
            assert made.poller.interval >= 1000
        assert made.schedule.unanswered == 0

    run(main())


def test_polls_in_flight_are_bounded() -> None:
    async def main() -> None:
        async with polling(max_concurrent=2) as made:
            port, address = made.port, made.poller.address
            port.may_answer.clear()
            more = [
                Poller(f"a-{n}", address, "/seats", LobbyReport.from_json, lambda: None, schedule=made.schedule)
                for n in range(5)
            ]
            await until(lambda: port.requests == 2)
            await stays(lambda: port.requests == 2, seconds=0.1)
            port.may_answer.set()
            await until(lambda: all(each.result.report is not None for each in more))
            await asyncio.gather(*(each.close() for each in more))

    run(main())


def test_many_processes_are_polled_less_often() -> None:
    async def main() -> None:
        async with polling() as made:
            assert made.schedule.pollers == 1
            await until(lambda: made.poller.result.report is not None)
            assert made.poller.interval == PollSettings().fast_interval_seconds
            made.poller.fast = False
            assert made.poller.interval == PollSettings().interval_seconds
            made.schedule.settings = PollSettings(max_polls_per_second=1 / 7)
            assert made.poller.interval == pytest.approx(7)
        assert made.schedule.pollers == 0

    run(main())
