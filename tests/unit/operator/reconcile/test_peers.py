from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.support.waiting import until

from lobby_gateway.process.peer_list import PeerList, Version
from lobby_operator.planner.peer_lists import PeerLists
from lobby_operator.reconcile.peers import PeerTeller
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import PeerListSettings

TOLD = PeerList(version=Version(1, 1), connect=True, peers=())


@dataclass
class Lobbies:
    """A runtime whose lobbies answer when they are allowed to, unless they fail."""

    fails: bool = False
    error: Exception = field(default_factory=lambda: RuntimeFailedError("no answer"))
    asked: list[str] = field(default_factory=list)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell_peers(self, name: str, _told: PeerList) -> None:
        self.asked.append(name)
        await self.answer.wait()
        if self.fails:
            raise self.error


def teller(lobbies: Lobbies, changes: list[None], **settings: Any) -> PeerTeller:
    lists = PeerLists(Version(1, 0))
    return PeerTeller(
        lists, cast("Any", lobbies), changed=lambda: changes.append(None), settings=PeerListSettings(**settings)
    )


def test_a_lobby_is_told_one_list_at_a_time() -> None:
    async def scenario() -> None:
        lobbies, changes = Lobbies(), list[None]()
        tells = teller(lobbies, changes)
        for _ in range(3):
            tells.send({"a-1": TOLD, "a-2": TOLD})
            await asyncio.sleep(0)
        assert lobbies.asked == ["a-1", "a-2"]
        lobbies.answer.set()
        await until(lambda: len(changes) == 2)
        tells.send({"a-1": TOLD})
        await until(lambda: lobbies.asked == ["a-1", "a-2", "a-1"])
        await tells.close()

    asyncio.run(scenario())


def test_nobody_wakes_up_for_a_lobby_that_is_being_told_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        lobbies, changes = Lobbies(fails=True), list[None]()
        tells = teller(lobbies, changes, retry_seconds=0.05)
        clock = asyncio.get_running_loop().time
        lobbies.answer.set()
        tells.send({"a-1": TOLD})
        await until(lambda: len(changes) == 1)
        again = tells.wake_at()
        assert again is not None
        tells.send({"a-1": TOLD})
        assert lobbies.asked == ["a-1"]  # too early
        await until(lambda: clock() >= again)
        lobbies.answer.clear()
        tells.send({"a-1": TOLD})
        await until(lambda: lobbies.asked == ["a-1", "a-1"])
        assert tells.wake_at() is None
        lobbies.answer.set()
        await until(lambda: len(changes) == 2)
        later = tells.wake_at()
        assert later is not None
        assert later > again
        await tells.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert [each.message for each in caplog.records] == ["can't tell a lobby its peers"]


def test_a_bug_is_logged_once_and_the_lobby_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        lobbies, changes = Lobbies(fails=True, error=ZeroDivisionError()), list[None]()
        tells = teller(lobbies, changes, retry_seconds=0.01)
        lobbies.answer.set()
        for count in (1, 2):
            tells.send({"a-1": TOLD})
            await until(lambda: len(changes) == count)  # noqa: B023  # it is over before the next
            again = tells.wake_at()
            assert again is not None
            await until(lambda: asyncio.get_running_loop().time() >= again)  # noqa: B023
        await tells.close()

    asyncio.run(scenario())
    (line,) = caplog.records
    assert (line.levelname, line.message) == ("ERROR", "can't tell a lobby its peers")
    assert line.exc_info is not None
