"""A reconciler over a runtime in memory: it comes to what is wanted, whatever happens to lobbies and to the runtime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.support.waiting import until

from lobby_gateway.process.peer_list import PeerList
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator.local.lobby_sources import from_url
from lobby_operator.planner.actions import Action, Create, Delete, Drain, Preconnect, Reason
from lobby_operator.planner.demand import Demand
from lobby_operator.planner.placement import Capacity, measure_capacity
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import LobbyReading, Phase
from lobby_operator.reconcile.reconciler import Reconciler, act
from lobby_operator.reconcile.runtime import LobbyNameTakenError, RuntimeFailedError
from lobby_operator.settings import PlannerSettings, ReconcileSettings

LOBBY = from_url("ws://h/", name="prices", seats=8, option="test").lobby


class MemoryRuntime:
    """Lobbies as entries of a dict: what it is told to do is done at once, unless it is told to fail."""

    def __init__(self) -> None:
        self.lobbies: dict[str, LobbyReading] = {}
        self.created: list[str] = []
        self.told: list[tuple[str, PeerList]] = []
        self.revision = ""
        self.problem: Exception | None = None
        self.list_problem: Exception | None = None
        self.taken: set[str] = set()

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        if self.list_problem is not None:
            raise self.list_problem
        return list(self.lobbies.values())

    async def create(self, lobby: Lobby, name: str) -> None:
        if self.problem is not None:
            raise self.problem
        if name in self.taken:
            raise LobbyNameTakenError(name, "someone else has it")
        report = LobbyReport(name=name, lobby=lobby.name, seats=lobby.spec.clients.seats)
        now = asyncio.get_running_loop().time()
        self.lobbies[name] = LobbyReading(
            name=name, created_at=now, address="127.0.0.1:1", report=report, revision=self.revision
        )
        self.created.append(name)

    async def preconnect(self, name: str) -> None:
        raise AssertionError(f"{name} replaces no other")

    async def drain(self, name: str) -> None:
        self.change(name, draining=True)

    async def tell_peers(self, name: str, told: PeerList) -> None:
        self.told.append((name, told))
        self.change(name, told=[told.version.term, told.version.number], permit=told.connect)

    async def delete(self, name: str) -> None:
        if self.problem is not None:
            raise self.problem
        del self.lobbies[name]

    def change(self, name: str, **fields: Any) -> None:
        lobby = self.lobbies[name]
        assert lobby.report is not None
        self.lobbies[name] = replace(lobby, report=replace(lobby.report, **fields))


QUICK = ReconcileSettings(min_interval_seconds=0.001, max_interval_seconds=0.02, min_backoff_seconds=0.01)


class Reconciled:
    """A reconciler over a runtime in memory, and what it reported."""

    def __init__(self, waiting: int = 0, **settings: Any) -> None:
        self.runtime = MemoryRuntime()
        self.waiting = waiting
        self.done: list[tuple[Action, str]] = []
        self.passes = 0
        self.problems: list[str] = []
        self.taken: list[tuple[str, str]] = []
        self.reconciler = Reconciler(
            LOBBY,
            self.runtime,
            demand=lambda _taken: Demand(self.waiting),
            on_action=lambda *each: self.done.append(each),
            on_plan=self._on_plan,
            on_name_taken=lambda *each: self.taken.append(each),
            settings=replace(QUICK, **settings),
            planner_settings=PlannerSettings(min_backoff_seconds=0.01, unresponsive_seconds=0.1),
        )

    def _on_plan(self, reconciler: Reconciler) -> None:
        assert reconciler is self.reconciler
        assert reconciler.planned is not None
        self.passes += 1
        self.problems.append(reconciler.problem)


@asynccontextmanager
async def reconciling(**fields: Any) -> AsyncIterator[Reconciled]:
    async with running_reconciler(Reconciled(**fields)) as made:
        yield made


@asynccontextmanager
async def running_reconciler(made: Reconciled) -> AsyncIterator[Reconciled]:
    task = asyncio.create_task(made.reconciler.run())
    try:
        yield made
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_creates_a_lobby_reports_it_and_then_rests() -> None:
    async def main() -> None:
        async with reconciling() as made:
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            passes = made.passes
            await until(lambda: made.passes > passes + 3)
            assert made.runtime.created == ["prices-1"]
            assert [action.name for action, _ in made.done] == ["prices-1"]
            assert made.reconciler.actions == {("Create", "SpareSeatsLow"): 1}
            assert made.reconciler.failures == 0
            assert 0 < made.reconciler.seconds < 10
            assert made.reconciler.passes == made.passes

    run(main())


def test_a_pass_measures_seats_and_clients_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = 0

    def measure(*arguments: Any) -> Capacity:
        nonlocal measured
        measured += 1
        return measure_capacity(*arguments)

    for module in ("history", "plan"):
        monkeypatch.setattr(f"lobby_operator.planner.{module}.measure_capacity", measure)

    async def main() -> None:
        async with reconciling() as made:
            await until(lambda: made.passes > 3)
            assert measured == made.passes

    run(main())


def test_waking_starts_a_pass_at_once() -> None:
    async def main() -> None:
        async with reconciling(max_interval_seconds=1000.0) as made:
            await until(lambda: made.runtime.created)
            made.reconciler.wake()
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            made.runtime.change("prices-1", clients=8)
            made.reconciler.wake()
            await until(lambda: made.runtime.created == ["prices-1", "prices-2"])

    run(main())


def test_another_revision_replaces_its_lobbies() -> None:
    async def main() -> None:
        async with reconciling(max_interval_seconds=0.05) as made:
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            made.runtime.revision = "new"
            made.reconciler.update(LOBBY, "new")
            await until(lambda: list(made.runtime.lobbies) == ["prices-2"])
            assert {action for action, _ in made.reconciler.actions} == {"Create", "Drain", "Delete"}

    run(main())


def test_waiting_clients_get_lobbies() -> None:
    async def main() -> None:
        async with reconciling(waiting=20) as made:
            await until(lambda: len(made.runtime.created) == 3)
            assert {reason for _, reason in made.reconciler.actions} == {"ClientsWait"}
            assert made.reconciler.active

    run(main())


def test_a_lost_lobby_is_replaced() -> None:
    async def main() -> None:
        async with reconciling() as made:
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            made.runtime.lobbies.clear()
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY) and len(made.runtime.created) == 2)

    run(main())


def test_a_lobby_that_stays_silent_is_ended_and_replaced() -> None:
    async def main() -> None:
        async with reconciling() as made:
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            unresponsive = replace(
                made.runtime.lobbies["prices-1"], unresponsive_since=asyncio.get_running_loop().time()
            )
            made.runtime.lobbies["prices-1"] = unresponsive
            await until(lambda: "prices-1" not in made.runtime.lobbies and "prices-2" in made.runtime.lobbies)

    run(main())


def test_a_failed_action_is_logged_counted_and_retried_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with reconciling() as made:
            made.runtime.problem = RuntimeFailedError("no more processes")
            await until(lambda: made.reconciler.failures >= 3)
            assert made.reconciler.actions == {}
            assert made.reconciler.problem == "no more processes"
            made.runtime.problem = None
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY) and not made.reconciler.problem)

    with caplog.at_level(logging.WARNING):
        run(main())
    record = caplog.records[0]
    assert record.getMessage() == "an action failed"
    assert vars(record)["problem"] == "no more processes"
    assert record.exc_info is None  # nothing of ours is broken: no traceback
    assert vars(record)["again_in_seconds"] == 0.01
    assert [each.getMessage() for each in caplog.records] == ["an action failed", "actions succeed again"]
    assert vars(caplog.records[-1])["failures"] >= 3


def test_an_internal_error_is_logged_with_its_traceback_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with reconciling() as made:
            made.runtime.list_problem = ZeroDivisionError("ours")
            await until(lambda: made.reconciler.failures >= 2)
            assert made.reconciler.problem == "internal error in the operator, see its log"
            made.runtime.list_problem = None
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records[0].exc_info is not None
    assert [each.getMessage() for each in caplog.records] == ["reconcile failed", "reconciling again"]
    assert vars(caplog.records[-1])["failures"] >= 2


def test_a_bug_before_there_is_a_plan_is_published_with_the_latest_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: Any, **_fields: Any) -> None:
        raise ZeroDivisionError("ours")

    async def main() -> None:
        async with reconciling() as made:
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            with monkeypatch.context() as patched:
                patched.setattr("lobby_operator.reconcile.reconciler.plan", broken)
                failures = made.reconciler.failures
                made.reconciler.wake()
                await until(lambda: made.reconciler.failures >= failures + 2)
                assert made.problems[-1] == "internal error in the operator, see its log"
                assert made.problems.count(made.problems[-1]) == 1
            await until(lambda: not made.problems[-1])

    run(main())


def test_a_bug_in_what_publishes_a_plan_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Reconciled):
        broken = False

        def _on_plan(self, reconciler: Reconciler) -> None:
            if self.broken:
                raise ZeroDivisionError("ours")
            super()._on_plan(reconciler)

    async def main() -> None:
        async with running_reconciler(Broken()) as made:
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            assert isinstance(made, Broken)
            made.broken = True
            await until(lambda: made.reconciler.failures >= 2)
            made.broken = False
            await until(lambda: not made.reconciler.problem)

    run(main())
    assert "can't publish the state of a Lobby" in caplog.text


def test_a_failed_action_does_not_hold_up_the_others() -> None:
    class OneFails(MemoryRuntime):
        async def create(self, lobby: Lobby, name: str) -> None:
            if name == "prices-1":
                raise RuntimeFailedError("not this one")
            await super().create(lobby, name)

    async def main() -> None:
        async with reconciling(waiting=20) as made:
            made.runtime.__class__ = OneFails
            await until(lambda: len(made.runtime.created) >= 2)
            assert made.reconciler.failures >= 1

    run(main())


def test_only_the_failed_action_backs_off() -> None:
    class Unreachable(MemoryRuntime):
        async def delete(self, name: str) -> None:
            raise RuntimeFailedError("no answer")

    async def main() -> None:
        async with reconciling(min_backoff_seconds=1000.0, max_backoff_seconds=1000.0) as made:
            await until(lambda: made.reconciler.observed.in_phase(Phase.READY))
            made.runtime.__class__ = Unreachable
            unresponsive = replace(
                made.runtime.lobbies["prices-1"], unresponsive_since=asyncio.get_running_loop().time()
            )
            made.runtime.lobbies["prices-1"] = unresponsive
            await until(lambda: made.reconciler.problem == "no answer")
            made.waiting = 20
            await until(lambda: len(made.runtime.created) >= 3)
            made.waiting = 40
            await until(lambda: len(made.runtime.created) >= 5)
            assert made.reconciler.failures == 1

    run(main())


def test_is_active_while_something_changes_and_shortly_after() -> None:
    async def main() -> None:
        async with reconciling(active_seconds=0.3) as made:
            assert made.reconciler.active
            await until(lambda: not made.reconciler.active)
            assert made.reconciler.observed.in_phase(Phase.READY)
            made.runtime.change("prices-1", clients=1)
            await until(lambda: made.reconciler.active)

    run(main())


# One action


def test_a_name_that_someone_else_has_is_skipped_and_said_once() -> None:
    async def main() -> None:
        made = Reconciled()
        made.runtime.taken = {"prices-1", "prices-2"}
        async with running_reconciler(made):
            await until(lambda: made.runtime.created == ["prices-3"])
            await until(lambda: made.reconciler.observed.lobbies)
            assert made.taken == [(name, "someone else has it") for name in ("prices-1", "prices-2")]
            assert (made.reconciler.problem, made.reconciler.failures) == ("", 0)

    run(main())


def test_a_taken_name_is_tried_again_after_a_while() -> None:
    async def main() -> None:
        made = Reconciled(taken_seconds=0.05)
        made.runtime.taken = {"prices-1"}
        async with running_reconciler(made):
            await until(lambda: made.runtime.created == ["prices-2"])
            made.runtime.taken.clear()
            await until(lambda: not made.reconciler.observed.taken)
            await made.runtime.delete("prices-2")
            await until(lambda: made.runtime.created[1:] == ["prices-1"])

    run(main())


class RecordingRuntime:
    """Records calls, or fails them all."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self._fails = fails

    def _call(self, what: str, name: str) -> None:
        if self._fails:
            raise RuntimeFailedError("no more processes")
        self.calls.append((what, name))

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        raise AssertionError("acting reads nothing")

    async def create(self, lobby: Lobby, name: str) -> None:
        assert lobby is LOBBY
        self._call("create", name)

    async def preconnect(self, name: str) -> None:
        self._call("preconnect", name)

    async def drain(self, name: str) -> None:
        self._call("drain", name)

    async def tell_peers(self, name: str, told: PeerList) -> None:
        raise AssertionError((name, told))

    async def delete(self, name: str) -> None:
        self._call("delete", name)


ACTIONS = [
    (Create("prices-1", Reason(ActionReason.BELOW_REPLICAS, running=1, replicas=2)), "create", "starting"),
    (Drain("prices-2", Reason(ActionReason.EMPTY, seconds=60)), "drain", "draining"),
    (Delete("prices-3", Reason(ActionReason.DRAINED)), "delete", "deleting"),
]


@pytest.mark.parametrize(("action", "call", "said"), ACTIONS)
def test_an_action_is_one_call_and_is_reported_with_its_reason(action: Action, call: str, said: str) -> None:
    runtime = RecordingRuntime()
    done: list[tuple[Action, str]] = []
    asyncio.run(act(action, LOBBY, runtime, lambda *each: done.append(each)))
    assert runtime.calls == [(call, action.name)]
    assert done == [(action, f"{said}: {action.reason.sentence}")]


def test_a_request_to_connect_is_repeated_and_so_not_reported() -> None:
    runtime = RecordingRuntime()
    done: list[tuple[Action, str]] = []
    action = Preconnect("prices-4", Reason(ActionReason.BEFORE_MOVES, clients=3))
    asyncio.run(act(action, LOBBY, runtime, lambda *each: done.append(each)))
    assert runtime.calls == [("preconnect", "prices-4")]
    assert done == []


@pytest.mark.parametrize("action", [each[0] for each in ACTIONS])
def test_a_failed_action_is_not_reported_as_done(action: Action) -> None:
    done: list[tuple[Action, str]] = []
    with pytest.raises(RuntimeFailedError):
        asyncio.run(act(action, LOBBY, RecordingRuntime(fails=True), lambda *each: done.append(each)))
    assert done == []


def test_lobbies_are_told_their_peers_once() -> None:
    async def main() -> None:
        async with reconciling() as made:
            await until(lambda: [name for name, _ in made.runtime.told] == ["prices-1"])
            assert made.runtime.told[0][1].connect
            await made.runtime.create(LOBBY, "prices-2")
            await until(lambda: len(made.runtime.told) == 3)
            assert {name: [peer.name for peer in told.peers] for name, told in made.runtime.told[1:]} == {
                "prices-1": ["prices-2"],
                "prices-2": ["prices-1"],
            }
            passes = made.passes
            await until(lambda: made.passes > passes + 3)
            assert len(made.runtime.told) == 3

    run(main())
