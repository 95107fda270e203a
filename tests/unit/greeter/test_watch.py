"""A directory that is fed by an API server which ends watches, forgets versions, falls silent and goes away."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from tests.support.kube_api import Asked, FakeKubeApi, fake_kube_api, status
from tests.support.sockets import run
from tests.support.waiting import stays, until
from tests.unit.greeter.support import resource

from lobby_gateway.greeter.directory import Directory, DirectoryEntry
from lobby_gateway.greeter.watch import ApiServer, KubernetesSource
from lobby_gateway.settings import WatchSettings

ROOT = "/apis/lobby-gateway.io/v1alpha1"
SETTINGS = WatchSettings(
    start_seconds=5.0, watch_seconds=100.0, idle_seconds=5.0, min_backoff_seconds=0.01, max_backoff_seconds=0.05
)


class World:
    """An API server and a directory that follows it."""

    def __init__(self, api: FakeKubeApi) -> None:
        self.api = api
        self.changes: list[str] = []
        self.ended: list[str] = []
        self.directory = Directory(self)
        self.source: KubernetesSource | None = None

    def entry_changed(self, entry: DirectoryEntry) -> None:
        self.changes.append(f"+{entry.lobby.key}")

    def entry_removed(self, key: str) -> None:
        self.changes.append(f"-{key}")

    def put(self, key: str, *addresses: str, **spec: Any) -> None:
        namespace, name = key.split("/")
        made = resource(name, *addresses, namespace=namespace, **spec)
        made["metadata"]["managedFields"] = [{"manager": "lobby-operator"}]
        self.api.put(f"{ROOT}/namespaces/{namespace}/lobbies/{name}", made)

    def remove(self, key: str) -> None:
        namespace, name = key.split("/")
        self.api.remove(f"{ROOT}/namespaces/{namespace}/lobbies/{name}")

    def addresses(self, path: str) -> list[str]:
        entry = self.directory.at(path)
        return [each.id.address for each in entry.open] if entry is not None else ["there is none"]

    @property
    def version(self) -> str:
        assert self.source is not None
        return self.source._objects.version

    @property
    def lists(self) -> int:
        return sum("watch" not in asked.query for asked in self.api.asked)

    async def until_watched(self) -> None:
        await until(lambda: self.api.watches == 1)

    @contextlib.asynccontextmanager
    async def followed(self, namespace: str = "", settings: WatchSettings = SETTINGS) -> AsyncIterator[None]:
        server = replace(ApiServer.of_url(self.api.url), settings=settings)
        source = self.source = KubernetesSource(server, namespace)
        await source.start(self.directory, self.ended.append)
        try:
            yield
        finally:
            await source.close()


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with fake_kube_api() as api:
        yield World(api)


def test_existing_lobbies_are_known_after_the_start_and_changes_follow() -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a", "10.0.0.1:1")
            it.put("m/b")
            async with it.followed():
                assert it.directory.known
                assert sorted(it.changes) == ["+m/b", "+n/a"]
                assert it.addresses("/a") == ["10.0.0.1:1"]
                it.put("n/a", "10.0.0.1:2")
                it.put("n/c", path="/see")
                await until(lambda: it.addresses("/a") == ["10.0.0.1:2"] and it.addresses("/see") == [])
                it.remove("m/b")
                await until(lambda: it.addresses("/b") == ["there is none"])
                assert it.lists == 1
            assert not it.ended

    run(main())


def test_one_namespace_can_be_watched() -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a")
            it.put("m/b")
            async with it.followed("n"):
                await it.until_watched()
                assert it.changes == ["+n/a"]
                assert all("/namespaces/n/lobbies" in asked.path for asked in it.api.asked)

    run(main())


def test_a_long_list_is_read_in_pages() -> None:
    async def main() -> None:
        async with world() as it:
            for number in range(5):
                it.put(f"n/a{number}")
            async with it.followed(settings=SETTINGS._replace(page=2)):
                assert len(it.directory) == 5
                assert it.lists == 3

    run(main())


def test_a_watch_that_ends_is_resumed() -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a", "10.0.0.1:1")
            async with it.followed():
                await it.until_watched()
                it.api.end_watches()
                it.put("n/a", "10.0.0.1:2")
                await until(lambda: it.addresses("/a") == ["10.0.0.1:2"])
                await it.until_watched()
                it.api.send_event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}})
                await until(lambda: it.version == "77")
                it.api.end_watches()
                await until(lambda: it.api.asked[-1].query.get("resourceVersion") == "77")
                assert it.lists == 1
                watch = it.api.asked[-1].query
                assert watch["allowWatchBookmarks"] == "true"
                assert 90 <= int(watch["timeoutSeconds"]) <= 100

    run(main())


@pytest.mark.parametrize("where", ["answer", "event"])
def test_an_expired_version_leads_to_a_new_list_that_finds_deleted_lobbies(where: str) -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a")
            it.put("n/b")
            async with it.followed():
                await it.until_watched()

                def gone(asked: Asked) -> web.StreamResponse | None:
                    if asked.query.get("watch") and it.lists == 1:
                        return status(410, "Expired", "too old resource version")
                    return None

                if where == "answer":
                    it.api.instead = gone
                    it.api.end_watches()
                else:
                    error = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                    it.api.send_event({"type": "ERROR", "object": error})
                await until(lambda: it.lists == 2)
                it.remove("n/a")
                await until(lambda: "-n/a" in it.changes)
                assert len(it.directory) == 1
                assert not it.directory.problem  # it is how things go

    run(main())


def test_while_the_server_is_unavailable_the_directory_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a", "10.0.0.1:1")
            async with it.followed():
                await it.until_watched()
                it.api.instead = lambda _: web.Response(status=503)
                it.api.end_watches()
                await until(lambda: it.directory.problem)
                it.put("n/a", "10.0.0.1:2")
                before = len(it.api.asked)
                await until(lambda: len(it.api.asked) > before + 5)
                assert it.addresses("/a") == ["10.0.0.1:1"]
                assert it.directory.known
                assert it.directory.problem == "HTTP 503"
                it.api.instead = lambda _: None
                await until(lambda: it.addresses("/a") == ["10.0.0.1:2"])
                assert not it.directory.problem
                assert it.lists == 1

    with caplog.at_level(logging.INFO):
        run(main())
    said = [record.getMessage() for record in caplog.records if record.name.startswith("lobby_gateway")]
    assert said == [
        "Lobbies can't be watched: the known ones stay as they are",
        "the API server responds again",
    ]


def test_an_unavailable_server_does_not_delay_the_start_and_is_retried() -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a")
            it.api.mute.set()
            async with it.followed(settings=SETTINGS._replace(start_seconds=0.05)):
                assert not it.directory.known
                it.api.mute.clear()
                it.api.instead = lambda _: status(403, "Forbidden", "no")
            async with it.followed(settings=SETTINGS._replace(start_seconds=0.05)):
                await until(lambda: it.directory.problem == "HTTP 403: no")
                assert not it.directory.known
                it.api.instead = lambda _: None
                await until(lambda: it.directory.known)
                assert len(it.directory) == 1

    run(main())


def test_a_silent_watch_is_restarted() -> None:
    async def main() -> None:
        async with world() as it, it.followed(settings=SETTINGS._replace(idle_seconds=0.1, max_backoff_seconds=0.01)):
            await until(lambda: sum("watch" in asked.query for asked in it.api.asked) >= 3)
            assert it.lists == 1

    run(main())


def test_a_watch_that_lasted_a_while_is_soon_restarted_however_often_earlier_ones_broke() -> None:
    settings = WatchSettings(idle_seconds=5.0, min_backoff_seconds=0.01, max_backoff_seconds=1000.0)

    async def main() -> None:
        async with world() as it, it.followed(settings=settings):
            for number in range(100, 115):

                def seen(number: int = number) -> bool:
                    it.api.send_event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(number)}}})
                    return it.version == str(number)

                await until(seen)
                before = len(it.api.asked)
                it.api.send_event({"type": "ERROR", "object": {"code": 500, "message": "the connection was lost"}})
                await until(lambda before=before: len(it.api.asked) > before)  # type: ignore[misc]

    run(main(), deadline=60)


@pytest.mark.parametrize("event", [{"type": "ADDED"}, {"no": "type"}, [], {"type": "ADDED", "object": {"metadata": 1}}])
def test_an_invalid_event_leads_to_a_new_list(event: Any) -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a")
            async with it.followed():
                await it.until_watched()
                it.api.send_event(event)
                await until(lambda: it.lists == 2)
                await it.until_watched()
                assert it.changes == ["+n/a"]
            assert not it.ended

    run(main())


def test_a_lobby_that_is_being_deleted_gives_up_its_path_at_once() -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a", path="/x")
            async with it.followed():
                await it.until_watched()
                path = f"{ROOT}/namespaces/n/lobbies/a"
                leaving = dict(it.api.objects[path])
                leaving["metadata"] = {**leaving["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
                it.api.put(path, leaving)
                await until(lambda: it.changes == ["+n/a", "-n/a"])
                it.api.remove(path)
                it.put("m/b", path="/x")
                await until(lambda: it.addresses("/x") == [])
                assert it.changes == ["+n/a", "-n/a", "+m/b"]

    run(main())


def test_unneeded_fields_are_not_kept() -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a")
            async with it.followed():
                await it.until_watched()
                it.put("n/b")
                await until(lambda: len(it.directory) == 2)
                kept: Mapping[str, Any] = it.directory._resources
                assert all("managedFields" not in each["metadata"] for each in kept.values())

    run(main())


def test_a_closed_watch_sends_no_requests() -> None:
    async def main() -> None:
        async with world() as it:
            async with it.followed():
                await it.until_watched()
            await until(lambda: it.api.watches == 0)
            asked = len(it.api.asked)
            await stays(lambda: len(it.api.asked) == asked, seconds=0.2)
            assert not it.ended

    run(main())


def test_a_bug_of_ours_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with world() as it:
            it.put("n/a")

            def broken(_entry: DirectoryEntry) -> None:
                raise RuntimeError("a bug")

            it.entry_changed = broken  # type: ignore[assignment, method-assign]
            async with it.followed(settings=WatchSettings(start_seconds=0.2)):
                await until(lambda: it.ended == ["the watch of Lobbies failed"])

    run(main())
    assert any(record.exc_info for record in caplog.records)
