"""A worker over a runtime in memory: it comes to what is wanted, whatever happens to lobbies and to the runtime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.support.waiting import until

from lobby_gateway.process.reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator.local.sources import from_url
from lobby_operator.planner.actions import Action
from lobby_operator.planner.state import LobbyReading, Phase
from lobby_operator.reconcile import reconciler as worker_module
from lobby_operator.reconcile.poller import PollResult
from lobby_operator.reconcile.reconciler import Reconciler
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import PlannerSettings

LOBBY = from_url("ws://h/", name="prices", seats=8, option="test").lobby


class MemoryRuntime:
    """Lobbies as entries of a dict: what it is told to do is done at once, unless it is told to fail."""

    def __init__(self) -> None:
        self.lobbies: dict[str, LobbyReading] = {}
        self.created: list[str] = []
        self.revision = ""
        self.problem: Exception | None = None
        self.list_problem: Exception | None = None

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        if self.list_problem is not None:
            raise self.list_problem
        return list(self.lobbies.values())

    async def read(self, name: str) -> PollResult[LobbyReport] | None:
        return None

    async def create(self, lobby: Lobby, name: str) -> None:
        if self.problem is not None:
            raise self.problem
        report = LobbyReport(name=name, lobby=lobby.name, seats=lobby.spec.clients.seats)
        now = asyncio.get_running_loop().time()
        self.lobbies[name] = LobbyReading(
            name=name, created_at=now, address="127.0.0.1:1", report=report, revision=self.revision
        )
        self.created.append(name)

    async def drain(self, name: str) -> None:
        self.change(name, draining=True)

    async def delete(self, name: str) -> None:
        if self.problem is not None:
            raise self.problem
        del self.lobbies[name]

    def change(self, name: str, **fields: Any) -> None:
        lobby = self.lobbies[name]
        assert lobby.report is not None
        self.lobbies[name] = replace(lobby, report=replace(lobby.report, **fields))


class Worked:
    """A running worker and what it said."""

    def __init__(self, waiting: int = 0) -> None:
        self.runtime = MemoryRuntime()
        self.waiting = waiting
        self.told: list[tuple[Action, str]] = []
        self.passes = 0
        self.worker = Reconciler(
            LOBBY,
            self.runtime,
            waiting=lambda _taken: self.waiting,
            told=lambda *each: self.told.append(each),
            passed=self._passed,
            settings=PlannerSettings(min_backoff_seconds=0.01, silent_seconds=0.1),
        )

    def _passed(self, worker: Reconciler) -> None:
        assert worker is self.worker
        assert worker.planned is not None
        self.passes += 1


@asynccontextmanager
async def working(**fields: Any) -> AsyncIterator[Worked]:
    made = Worked(**fields)
    task = asyncio.create_task(made.worker.run())
    try:
        yield made
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MIN_PASS_SECONDS", 0.001)
    monkeypatch.setattr(worker_module, "MAX_PASS_SECONDS", 0.02)
    monkeypatch.setattr(worker_module, "MIN_RETRY_SECONDS", 0.01)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_it_makes_a_lobby_and_says_so_and_then_rests() -> None:
    async def main() -> None:
        async with working() as made:
            await until(lambda: made.worker.observed.in_phase(Phase.READY))
            passes = made.passes
            await until(lambda: made.passes > passes + 3)
            assert made.runtime.created == ["prices-1"]
            assert [action.name for action, _ in made.told] == ["prices-1"]
            assert made.worker.actions == {("Create", "SpareSeatsLow"): 1}
            assert made.worker.failures == 0
            assert 0 < made.worker.seconds < 10
            assert made.worker.passes == made.passes

    run(main())


def test_what_it_is_woken_for_it_sees_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MAX_PASS_SECONDS", 1000.0)

    async def main() -> None:
        async with working() as made:
            await until(lambda: made.runtime.created)
            made.worker.wake()
            await until(lambda: made.worker.observed.in_phase(Phase.READY))
            made.runtime.change("prices-1", clients=8)
            made.worker.wake()
            await until(lambda: made.runtime.created == ["prices-1", "prices-2"])

    run(main())


def test_another_revision_replaces_its_lobbies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MAX_PASS_SECONDS", 0.05)

    async def main() -> None:
        async with working() as made:
            await until(lambda: made.worker.observed.in_phase(Phase.READY))
            made.runtime.revision = "new"
            made.worker.update(LOBBY, "new")
            await until(lambda: list(made.runtime.lobbies) == ["prices-2"])
            assert {action for action, _ in made.worker.actions} == {"Create", "Drain", "Delete"}

    run(main())


def test_clients_who_wait_get_lobbies() -> None:
    async def main() -> None:
        async with working(waiting=20) as made:
            await until(lambda: len(made.runtime.created) == 3)
            assert {reason for _, reason in made.worker.actions} == {"ClientsWait"}
            assert made.worker.hurried

    run(main())


def test_a_lobby_that_is_lost_is_replaced() -> None:
    async def main() -> None:
        async with working() as made:
            await until(lambda: made.worker.observed.in_phase(Phase.READY))
            made.runtime.lobbies.clear()
            await until(lambda: made.worker.observed.in_phase(Phase.READY) and len(made.runtime.created) == 2)

    run(main())


def test_a_lobby_that_stays_silent_is_ended_and_replaced() -> None:
    async def main() -> None:
        async with working() as made:
            await until(lambda: made.worker.observed.in_phase(Phase.READY))
            silent = replace(made.runtime.lobbies["prices-1"], unresponsive_since=asyncio.get_running_loop().time())
            made.runtime.lobbies["prices-1"] = silent
            await until(lambda: "prices-1" not in made.runtime.lobbies and "prices-2" in made.runtime.lobbies)

    run(main())


def test_what_fails_is_logged_counted_and_done_again_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with working() as made:
            made.runtime.problem = RuntimeFailedError("no more processes")
            await until(lambda: made.worker.failures >= 3)
            assert made.worker.actions == {}
            assert made.worker.problem == "no more processes"
            made.runtime.problem = None
            await until(lambda: made.worker.observed.in_phase(Phase.READY) and not made.worker.problem)

    with caplog.at_level(logging.WARNING):
        run(main())
    record = caplog.records[0]
    assert record.getMessage() == "an action failed"
    assert vars(record)["problem"] == "no more processes"
    assert record.exc_info is None  # nothing of ours is broken: no traceback
    pauses = [vars(each)["again_in_seconds"] for each in caplog.records[:3]]
    assert pauses == [0.01, 0.02, 0.04]


def test_a_fault_of_ours_is_logged_with_its_traceback_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with working() as made:
            made.runtime.list_problem = ZeroDivisionError("ours")
            await until(lambda: made.worker.failures >= 2)
            assert made.worker.problem == "a fault of the operator, see its log"
            made.runtime.list_problem = None
            await until(lambda: made.worker.observed.in_phase(Phase.READY))

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records[0].exc_info is not None


def test_one_action_that_fails_does_not_keep_others_from_being_done() -> None:
    class OneFails(MemoryRuntime):
        async def create(self, lobby: Lobby, name: str) -> None:
            if name == "prices-1":
                raise RuntimeFailedError("not this one")
            await super().create(lobby, name)

    async def main() -> None:
        async with working(waiting=20) as made:
            made.runtime.__class__ = OneFails
            await until(lambda: len(made.runtime.created) >= 2)
            assert made.worker.failures >= 1

    run(main())


def test_what_failed_waits_for_its_next_try_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MIN_RETRY_SECONDS", 1000.0)
    monkeypatch.setattr(worker_module, "MAX_RETRY_SECONDS", 1000.0)

    class Unreachable(MemoryRuntime):
        async def delete(self, name: str) -> None:
            raise RuntimeFailedError("no answer")

    async def main() -> None:
        async with working() as made:
            await until(lambda: made.worker.observed.in_phase(Phase.READY))
            made.runtime.__class__ = Unreachable
            silent = replace(made.runtime.lobbies["prices-1"], unresponsive_since=asyncio.get_running_loop().time())
            made.runtime.lobbies["prices-1"] = silent
            await until(lambda: made.worker.problem == "no answer")
            made.waiting = 20
            await until(lambda: len(made.runtime.created) >= 3)
            made.waiting = 40
            await until(lambda: len(made.runtime.created) >= 5)
            assert made.worker.failures == 1

    run(main())


def test_it_hurries_while_something_moves_and_rests_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "HURRIED_SECONDS", 0.05)

    async def main() -> None:
        async with working() as made:
            assert made.worker.hurried
            await until(lambda: not made.worker.hurried)
            assert made.worker.observed.in_phase(Phase.READY)
            made.runtime.change("prices-1", clients=1)
            await until(lambda: made.worker.hurried)

    run(main())
