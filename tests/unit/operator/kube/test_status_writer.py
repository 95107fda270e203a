"""The status of a Lobby is written completely, rarely, and never over an unseen version."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kube_api import FakeKubeApi, merge, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import LOBBIES_PATH, connected, lobby_resource, running

from lobby_operator.kube.lobby_registry import LobbyRegistry
from lobby_operator.kube.status_writer import StatusWriter, merge_patch
from lobby_operator.settings import PolicySettings, StatusWriterSettings

PATH = f"{LOBBIES_PATH.format('shop')}/prices"

JSON = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=3), lambda each: st.lists(each, max_size=2), max_leaves=3
)
QUICK = StatusWriterSettings(min_interval_seconds=0.01, min_backoff_seconds=0.001, max_backoff_seconds=0.01)

STATUS = st.dictionaries(st.sampled_from("abcd"), JSON | st.dictionaries(st.sampled_from("xyz"), JSON), max_size=4)


class Scene:
    """A writer, its server, and the known Lobbies."""

    def __init__(self, server: FakeKubeApi, lobbies: LobbyRegistry, writer: StatusWriter) -> None:
        self.server = server
        self.lobbies = lobbies
        self.writer = writer

    @property
    def stored(self) -> dict[str, Any]:
        stored: dict[str, Any] = self.server.objects[PATH].get("status", {})
        return stored

    def report_stored(self) -> None:
        """Reports the stored Lobby as the watch does."""
        self.lobbies.update(self.server.objects[PATH])
        self.writer.wake()


@asynccontextmanager
async def writing(**settings: Any) -> AsyncIterator[Scene]:
    async with connected() as (server, api):
        server.put(PATH, lobby_resource())
        lobbies = LobbyRegistry(PolicySettings())
        lobbies.update(server.objects[PATH])
        writer = StatusWriter(api, "shop/prices", lobbies, replace(QUICK, **settings))
        async with running(writer.run()):
            yield Scene(server, lobbies, writer)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@given(STATUS, STATUS)
def test_a_patch_turns_one_status_into_the_other_and_is_empty_for_equal_ones(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert merge(before, merge_patch(before, after)) == after
    assert merge_patch(after, after) == {}


def test_only_changes_are_written_and_obsolete_fields_are_removed() -> None:
    async def main() -> None:
        async with writing() as it:
            it.writer.set({"clients": 1, "latest": {"name": "prices-1", "clients": 1}, "open": [1]})
            await until(lambda: it.stored.get("clients") == 1)
            it.writer.set({"clients": 1, "open": [2]})
            await until(lambda: it.stored == {"clients": 1, "open": [2]})
            patch = it.server.requests("PATCH")[-1]
            assert patch.path == f"{PATH}/status"
            assert patch.body["status"] == {"latest": None, "open": [2]}
            assert patch.body["metadata"]["resourceVersion"]
            assert it.writer.writes == 2

    run(main())


def test_an_unchanged_status_is_not_written() -> None:
    async def main() -> None:
        async with writing() as it:
            it.writer.set({"clients": 1})
            await until(lambda: it.stored)
            it.writer.set({"clients": 1})
            it.writer.set({"clients": 2})
            it.writer.set({"clients": 1})
            it.report_stored()
            await stays(lambda: it.writer.writes == 1, seconds=0.05)

    run(main())


def test_many_changes_cause_few_writes() -> None:
    async def main() -> None:
        async with writing(min_interval_seconds=0.2) as it:
            started = asyncio.get_running_loop().time()
            for clients in range(1, 50):
                it.writer.set({"clients": clients})
                await asyncio.sleep(0.005)
            await until(lambda: it.stored == {"clients": 49})
            seconds = asyncio.get_running_loop().time() - started
            assert it.writer.writes <= seconds / 0.2 + 1

    run(main())


def test_an_unseen_change_is_not_overwritten() -> None:
    async def main() -> None:
        async with writing() as it:
            it.server.put(PATH, lobby_resource(status={"clients": 5, "notOurs": True}))
            it.writer.set({"clients": 1})
            await until(lambda: it.server.requests("PATCH"))
            assert it.stored == {"clients": 5, "notOurs": True}
            assert it.writer.writes == 0
            it.report_stored()
            await until(lambda: it.stored == {"clients": 1})
            assert it.server.requests("GET") == []

    run(main())


def test_after_a_failure_the_latest_status_is_written_later(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with writing() as it:
            it.server.instead = lambda _asked: status(503, "ServiceUnavailable", "not now")
            it.writer.set({"clients": 1})
            await until(lambda: len(it.server.requests("PATCH")) > 2)
            it.writer.set({"clients": 2})
            it.server.instead = lambda _asked: None
            await until(lambda: it.stored == {"clients": 2})

    with caplog.at_level(logging.WARNING):
        run(main())
    assert "not now" in vars(caplog.records[0])["problem"]


def test_a_deleted_lobby_is_not_written_and_ends_nothing() -> None:
    async def main() -> None:
        async with writing() as it:
            it.server.remove(PATH)
            it.writer.set({"clients": 1})
            await until(lambda: it.server.requests("PATCH"))
            it.lobbies.remove("shop/prices")
            it.writer.set({"clients": 2})
            await stays(lambda: len(it.server.requests("PATCH")) == 1, seconds=0.05)

    run(main())
