"""One call of the runtime for each action, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lobby_gateway.process.reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator.local.sources import from_url
from lobby_operator.planner.actions import Action, Create, Delete, Drain, Reason
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import LobbyReading
from lobby_operator.reconcile.act import act
from lobby_operator.reconcile.poller import PollResult
from lobby_operator.reconcile.runtime import RuntimeFailedError

LOBBY = from_url("ws://h/", name="prices", seats=None, option="test").lobby


class RecordingRuntime:
    """Does nothing but remember what it was asked for; fails where it is told to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self._fails = fails

    def _call(self, what: str, name: str) -> None:
        if self._fails:
            raise RuntimeFailedError("no more processes")
        self.calls.append((what, name))

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        raise AssertionError("acting observes nothing")

    async def read(self, name: str) -> PollResult[LobbyReport] | None:
        raise AssertionError("acting observes nothing")

    async def create(self, lobby: Lobby, name: str) -> None:
        assert lobby is LOBBY
        self._call("create", name)

    async def drain(self, name: str) -> None:
        self._call("drain", name)

    async def delete(self, name: str) -> None:
        self._call("delete", name)


ACTIONS = [
    (Create("prices-1", Reason(ActionReason.BELOW_REPLICAS, running=1, replicas=2)), "create", "starting"),
    (Drain("prices-2", Reason(ActionReason.EMPTY, seconds=60)), "drain", "told to drain"),
    (Delete("prices-3", Reason(ActionReason.DRAINED)), "delete", "told to end"),
]


@pytest.mark.parametrize(("action", "call", "said"), ACTIONS)
def test_an_action_is_one_call_and_is_told_with_its_reason(action: Action, call: str, said: str) -> None:
    runtime = RecordingRuntime()
    told: list[tuple[Action, str]] = []
    asyncio.run(act(action, LOBBY, runtime, lambda *each: told.append(each)))
    assert runtime.calls == [(call, action.name)]
    assert told == [(action, f"{said}: {action.reason.sentence}")]


@pytest.mark.parametrize("action", [each[0] for each in ACTIONS])
def test_what_could_not_be_done_is_not_told_as_done(action: Action) -> None:
    told: list[tuple[Action, str]] = []
    with pytest.raises(RuntimeFailedError):
        asyncio.run(act(action, LOBBY, RecordingRuntime(fails=True), lambda *each: told.append(each)))
    assert told == []
