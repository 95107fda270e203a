"""A watch knows all objects, whatever happens to kopf; against a fake server on a real socket."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from tests.support.kube_api import Asked, FakeKubeApi, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import LOBBIES_PATH, PODS_PATH, connected, lobby_resource, running

from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.kopf_thread import KopfThread
from lobby_operator.kube.names import LOBBIES, PODS
from lobby_operator.kube.watch import Watch
from lobby_operator.settings import ApiSettings, KopfSettings

SHOP = PODS_PATH.format("shop")
QUICK = KopfSettings(
    min_backoff_seconds=0.01, max_backoff_seconds=0.05, watch_interval_seconds=0.01, relisted_seconds=0.05
)
EAGER = KopfSettings(
    min_backoff_seconds=0.01,
    max_backoff_seconds=0.05,
    watch_interval_seconds=0.01,
    audit_seconds=0.2,
    silent_seconds=1.0,
)


class Recorder:
    """Records what a watch reports."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.changes: list[str] = []
        self.synced = 0
        self.refuse = ""

    def changed(self, change: Change) -> None:
        if change.key == self.refuse:
            raise ValueError("not this one")
        self.changes.append(change.key)
        if change.object is None:
            del self.objects[change.key]
        else:
            self.objects[change.key] = change.object

    def all_known(self) -> None:
        self.synced += 1


@asynccontextmanager
async def watching_with(
    server: FakeKubeApi, api: KubeApi, settings: KopfSettings = QUICK, resource: Any = PODS, **fields: Any
) -> AsyncIterator[tuple[FakeKubeApi, Recorder, Watch]]:
    recorder = Recorder()
    watch = Watch(api, resource, recorder.changed, synced=recorder.all_known, settings=settings, **fields)
    try:
        async with running(watch.run()):
            yield server, recorder, watch
    finally:
        await watch.close()


@asynccontextmanager
async def watching(settings: KopfSettings = QUICK, **fields: Any) -> AsyncIterator[tuple[FakeKubeApi, Recorder, Watch]]:
    async with (
        connected(settings=ApiSettings(request_seconds=1.0)) as (server, api),
        watching_with(server, api, settings, **fields) as it,
    ):
        yield it


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def pod(**labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels, "namespace": "shop"}}


def lists(server: FakeKubeApi, path: str = SHOP, *, metadata: bool = False) -> list[Asked]:
    """Requests for lists, of objects or of metadata."""
    return [
        asked
        for asked in server.asked
        if asked.path == path
        and "watch" not in asked.query
        and ("PartialObjectMetadataList" in asked.headers["accept"]) == metadata
    ]


def test_it_reports_existing_added_changed_and_deleted_objects() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(f"{SHOP}/a-0", pod())
            async with watching_with(server, api, namespace="shop") as (_, recorder, watch):
                await watch.wait_synced()
                assert recorder.objects.keys() == {"shop/a-0"}
                assert (recorder.synced, watch.lag_seconds, watch.stuck()) == (1, 0.0, "")
                await until(lambda: server.watches == 1)
                server.put(f"{SHOP}/a-1", pod())
                await until(lambda: "shop/a-1" in recorder.objects)
                server.put(f"{SHOP}/a-1", pod(a="b"))
                await until(lambda: recorder.objects["shop/a-1"]["metadata"]["labels"] == {"a": "b"})
                server.remove(f"{SHOP}/a-1")
                await until(lambda: recorder.objects.keys() == {"shop/a-0"})
                assert (len(watch), recorder.synced, watch.restarts, watch.ghosts) == (1, 1, 0, 0)

    run(main())


def test_an_empty_collection_is_synced() -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (_, recorder, watch):
            await watch.wait_synced()
            assert recorder.objects == {}

    run(main())


def test_it_selects_by_labels_in_one_namespace_or_all() -> None:
    async def main() -> None:
        async with watching(labels="app=lobby") as (server, recorder, _):
            await until(lambda: server.watches == 1)
            server.put(f"{SHOP}/a-1", pod(app="other"))
            server.put(f"{SHOP}/a-2", pod(app="lobby"))
            server.put(f"{PODS_PATH.format('lab')}/a-3", {"metadata": {"labels": {"app": "lobby"}, "namespace": "lab"}})
            await until(lambda: recorder.objects.keys() == {"shop/a-2", "lab/a-3"})
            asked = [each for each in server.asked if each.path == "/api/v1/pods"]
            assert len(asked) >= 3
            assert all(each.query["labelSelector"] == "app=lobby" for each in asked)

    run(main())


def test_lobbies_and_pods_are_watched_side_by_side_and_kopf_writes_nothing() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(f"{SHOP}/a-1", pod())
            server.put(f"{LOBBIES_PATH.format('shop')}/prices", lobby_resource())
            async with (
                watching_with(server, api) as (_, pods, _watch),
                watching_with(server, api, resource=LOBBIES) as (_, lobbies, _other),
            ):
                await until(lambda: server.watches == 2)
                await until(lambda: {*pods.objects, *lobbies.objects} == {"shop/a-1", "shop/prices"})
                server.put(f"{LOBBIES_PATH.format('shop')}/prices", lobby_resource(version=9))
                await until(lambda: len(lobbies.changes) == 2)
            assert {asked.method for asked in server.asked} == {"GET"}

    run(main())


def test_kopf_reads_a_long_list_in_pages_and_its_requests_are_counted() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            for number in range(25):
                server.put(f"{SHOP}/a-{number}", pod())
            settings = KopfSettings(page_size=10)
            async with watching_with(server, api, settings, namespace="shop") as (_, recorder, watch):
                await watch.wait_synced()
                assert len(recorder.objects) == 25
                await until(lambda: server.watches == 1)
                assert [asked.query.get("continue") for asked in lists(server)] == [None, "10", "20"]
                assert lists(server)[0].headers["user-agent"].startswith("lobby-operator/")
                await until(lambda: api.calls["watch", "pods", "ok"] == 1)
                assert api.calls["list", "pods", "ok"] >= 4

    run(main())


def test_an_ended_watch_resumes_at_its_last_version() -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, watch):
            await until(lambda: server.watches == 1)
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects)
            for _ in range(3):
                server.asked.clear()
                server.end_watches()
                await until(lambda: server.asked and server.watches == 1)
            server.put(f"{SHOP}/a-2", pod())
            await until(lambda: len(recorder.objects) == 2)
            assert recorder.changes == ["shop/a-1", "shop/a-2"]
            assert watch.restarts == 0

    run(main())


def watches(server: FakeKubeApi, at_least: int) -> bool:
    """Whether a watch is open, and so many have been."""
    return bool(server.watches) and sum("watch" in asked.query for asked in server.asked) >= at_least


@pytest.mark.parametrize(
    "settings",
    [replace(QUICK, watch_seconds=1.0), replace(QUICK, idle_seconds=0.5)],
    ids=["the server ends it in time", "nothing came for long"],
)
def test_a_watch_that_is_renewed_is_no_restart_of_kopf(settings: KopfSettings) -> None:
    async def main() -> None:
        async with watching(settings, namespace="shop") as (server, recorder, watch):
            for number in (1, 2, 3):
                await until(partial(watches, server, number))
                server.put(f"{SHOP}/a-{number}", pod())
                await until(lambda: len(recorder.objects) == len(recorder.changes) == len(server.objects))
            assert (watch.restarts, watch.ghosts, watch.problem) == (0, 0, "")

    run(main())


def test_what_was_deleted_before_a_new_list_of_kopf_is_found_at_once() -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, watch):
            for number in range(3):
                server.put(f"{SHOP}/a-{number}", pod())
            await until(lambda: len(recorder.objects) == 3 and server.watches == 1)
            server.remove(f"{SHOP}/a-1", silent=True)
            server.put(f"{SHOP}/a-3", pod(), silent=True)
            server.compact()
            server.end_watches()
            await until(lambda: recorder.objects.keys() == {"shop/a-0", "shop/a-2", "shop/a-3"})
            assert (watch.ghosts, watch.restarts) == (1, 0)

    run(main())


def test_the_last_object_deleted_unseen_is_found_though_kopf_calls_no_handler() -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, watch):
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects and server.watches == 1)
            server.remove(f"{SHOP}/a-1", silent=True)
            server.compact()
            server.end_watches()
            await until(lambda: not recorder.objects)
            assert watch.ghosts == 1

    run(main())


def test_a_ghost_is_confirmed_by_a_list_that_is_not_from_a_cache() -> None:
    async def main() -> None:
        async with watching(EAGER, namespace="shop") as (server, recorder, watch):
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects and watch.synced)
            stale: list[Asked] = []

            def empty_cache(asked: Asked) -> Any:
                if asked.query.get("resourceVersion") == "0":
                    stale.append(asked)
                    return empty_list()
                return None

            server.instead = empty_cache
            await until(lambda: len(stale) > 2)
            confirming = [asked for asked in lists(server, metadata=True) if "resourceVersion" not in asked.query]
            assert confirming
            assert recorder.objects.keys() == {"shop/a-1"}
            assert watch.ghosts == 0

    run(main())


def empty_list() -> web.StreamResponse:
    return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})


def test_an_object_that_lost_its_label_unseen_is_dropped() -> None:
    async def main() -> None:
        async with watching(EAGER, namespace="shop", labels="app=lobby") as (server, recorder, _):
            server.put(f"{SHOP}/a-1", pod(app="lobby"))
            await until(lambda: recorder.objects)
            server.put(f"{SHOP}/a-1", pod(app="quarantine"), silent=True)
            await until(lambda: not recorder.objects)
            server.put(f"{SHOP}/a-1", pod(app="lobby"))
            await until(lambda: recorder.objects)

    run(main())


def test_a_watch_that_lives_and_reports_nothing_makes_kopf_start_again() -> None:
    async def main() -> None:
        async with watching(EAGER, namespace="shop") as (server, recorder, watch):
            server.bookmark_seconds = 0.05
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects and server.watches == 1)
            server.deafen()
            server.put(f"{SHOP}/a-2", pod())
            await until(lambda: watch.lag_seconds > 0.5)
            await until(lambda: recorder.objects.keys() == {"shop/a-1", "shop/a-2"})
            assert watch.restarts == 1
            assert watch.lag_seconds == 0.0

    run(main())


def test_who_catches_up_knows_what_a_blind_kopf_has_not_told() -> None:
    async def main() -> None:
        settings = replace(QUICK, page_size=2, late_seconds=0.1)
        async with watching(settings, namespace="shop") as (server, recorder, watch):
            for number in range(5):
                server.put(f"{SHOP}/a-{number}", pod())
            await until(lambda: len(recorder.objects) == 5 and watch.synced and server.watches == 1)
            server.deafen()
            server.put(f"{SHOP}/a-0", pod(changed="yes"))
            server.remove(f"{SHOP}/a-1")
            server.put(f"{SHOP}/a-5", pod())
            await watch.catch_up()
            assert recorder.objects.keys() == {f"shop/a-{number}" for number in (0, 2, 3, 4, 5)}
            assert recorder.objects["shop/a-0"]["metadata"]["labels"] == {"changed": "yes"}
            assert recorder.objects["shop/a-5"]["kind"] == "Pod"
            await until(lambda: watch.restarts == 1 and server.watches == 1)
            server.put(f"{SHOP}/a-6", pod())
            await until(lambda: "shop/a-6" in recorder.objects)
            assert watch.restarts == 1

    run(main())


def test_who_catches_up_reads_no_object_that_kopf_tells_in_time() -> None:
    async def main() -> None:
        async with watching(replace(QUICK, late_seconds=30.0), namespace="shop") as (server, recorder, watch):
            await until(lambda: watch.synced and server.watches == 1)
            read = len(lists(server))
            server.put(f"{SHOP}/a-1", pod())
            await watch.catch_up()
            assert recorder.objects.keys() == {"shop/a-1"}
            assert (len(lists(server)), watch.restarts) == (read, 0)

    run(main())


def test_who_catches_up_waits_for_a_server_that_does_not_answer() -> None:
    async def main() -> None:
        async with watching(replace(QUICK, late_seconds=0.1), namespace="shop") as (server, recorder, watch):
            await until(lambda: watch.synced and server.watches == 1)
            server.deafen()
            server.put(f"{SHOP}/a-1", pod())
            server.instead = lambda _asked: status(503, "ServiceUnavailable", "the test says so")
            async with asyncio.TaskGroup() as group:
                task = group.create_task(watch.catch_up())
                await until(lambda: watch.problem)
                assert not task.done()
                server.instead = lambda asked: web.json_response({}) if "continue" not in asked.query else None
                await until(lambda: "not a list" in watch.problem)
                server.instead = lambda _asked: None
            assert recorder.objects.keys() == {"shop/a-1"}
            assert watch.problem == ""

    run(main())


def test_it_is_stuck_if_starting_kopf_again_does_not_help() -> None:
    async def main() -> None:
        settings = KopfSettings(
            min_backoff_seconds=0.01, max_backoff_seconds=0.05, silent_seconds=0.2, blind_seconds=0.6, audit_seconds=0.1
        )
        async with connected() as (server, api):
            server.hidden = frozenset({"lobby-gateway.io"})  # from discovery
            server.put(f"{LOBBIES_PATH.format('shop')}/prices", lobby_resource())
            async with watching_with(server, api, settings, resource=LOBBIES) as (_, recorder, watch):
                await until(lambda: watch.restarts > 1 and watch.stuck())
                assert watch.stuck().startswith("kopf has not reported changes to 1 of the lobbies for ")
                assert not watch.synced
                server.hidden = frozenset()
                await until(lambda: recorder.objects.keys() == {"shop/prices"})
                assert (watch.synced, watch.stuck()) == (True, "")

    run(main())


def test_it_is_stuck_after_too_long_without_a_list() -> None:
    async def main() -> None:
        async with connected() as (_, api):
            settings = KopfSettings(audit_seconds=0.02, request_seconds=0.01)
            watch = Watch(api, PODS, lambda _change: None, settings=settings)
            assert watch.stuck() == ""
            await until(watch.stuck)
            assert watch.stuck().startswith("no list of pods for")

    run(main())


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}},
        {"type": "ERROR", "object": {"code": 410, "message": "too old"}},
        {"type": "ADDED"},
        [],
    ],
)
def test_invalid_events_lose_nothing(event: Any) -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, _):
            await until(lambda: server.watches == 1)
            server.send_event(event)
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects)
            await until(lambda: server.watches == 1)

    run(main())


def test_an_end_of_kopf_is_logged_with_its_cause_and_it_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, _, watch):
            await until(lambda: server.watches == 1)
            server.send_event({"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}})
            await until(lambda: watch.restarts == 1 and server.watches == 1)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.getMessage() for record in caplog.records] == ["kopf ended; starting it again"]
    (fields,) = (vars(record) for record in caplog.records)
    assert "etcd is away" in fields["problem"]
    assert (fields["resource"], fields["namespace"], fields["restarts"]) == ("pods", "shop", 1)


def test_an_unreachable_server_is_retried_and_known_objects_stay(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with watching(EAGER, namespace="shop") as (server, recorder, watch):
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects and server.watches == 1)
            server.instead = lambda _asked: status(503, "ServiceUnavailable", "not yet")
            server.end_watches()
            await until(lambda: "not yet" in watch.problem)
            await until(lambda: len(server.requests("GET")) > 20)
            assert recorder.objects.keys() == {"shop/a-1"}
            server.instead = lambda _asked: None
            await until(lambda: not watch.problem)
            assert watch.stuck() == ""
            await until(lambda: server.watches == 1)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "can't list or watch; keeping what is known",
        "the API server answers again",
    ]


def test_refused_credentials_end_kopf_and_it_waits_until_they_are_accepted() -> None:
    async def main() -> None:
        async with watching(EAGER, namespace="shop") as (server, recorder, watch):
            await until(lambda: server.watches == 1)
            server.instead = lambda _asked: status(401, "Unauthorized", "Unauthorized")
            server.end_watches()
            await until(lambda: watch.restarts == 1 and "Unauthorized" in watch.problem)
            asked = len(server.asked)
            await stays(lambda: watch.restarts == 1, seconds=0.3)
            assert len(server.asked) - asked < 60
            server.instead = lambda _asked: None
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects)

    run(main())


def test_watches_that_end_at_once_are_paced() -> None:
    async def main() -> None:
        settings = KopfSettings(watch_interval_seconds=0.2)
        async with watching(settings, namespace="shop") as (server, _, watch):
            await until(lambda: server.watches == 1)
            server.instead = lambda asked: empty_list() if "watch" in asked.query else None
            server.asked.clear()
            server.end_watches()
            await until(lambda: sum("watch" in asked.query for asked in server.asked) >= 2)
            await stays(lambda: sum("watch" in asked.query for asked in server.asked) < 12, seconds=1.0)
            assert watch.stuck() == ""

    run(main())


def test_what_a_change_starts_does_not_keep_kopfs_context_with_the_whole_object() -> None:
    async def main() -> None:
        contexts: list[contextvars.Context] = []
        async with connected() as (server, api):
            server.put(f"{SHOP}/a-1", pod())
            watch = Watch(api, PODS, lambda _: contexts.append(contextvars.copy_context()), settings=QUICK)
            async with running(watch.run()):
                await watch.wait_synced()
            await watch.close()
        ours = dict(contextvars.copy_context())
        assert [dict(each) for each in contexts] == [ours]

    run(main())


def test_an_object_that_cannot_be_handled_does_not_block_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, _):
            recorder.refuse = "shop/a-1"
            server.put(f"{SHOP}/a-1", pod())
            server.put(f"{SHOP}/a-2", pod())
            await until(lambda: recorder.objects.keys() == {"shop/a-2"})

    run(main())
    assert [record.getMessage() for record in caplog.records] == ["can't handle an object"]


def test_a_hanging_kopf_is_left_behind_and_says_nothing_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hanging: list[KopfThread] = []
    live = KopfThread._live

    async def hang(self: KopfThread) -> str:
        if hanging:
            return await live(self)
        hanging.append(self)
        await self._over.wait()
        await asyncio.sleep(1.5)  # longer than we wait for its end
        return "late"

    monkeypatch.setattr(KopfThread, "_live", hang)

    async def main() -> None:
        settings = KopfSettings(
            audit_seconds=0.1, silent_seconds=0.2, end_seconds=0.2, min_backoff_seconds=0.01, max_backoff_seconds=0.05
        )
        async with connected() as (server, api):
            server.put(f"{SHOP}/a-1", pod())
            async with watching_with(server, api, settings, namespace="shop") as (_, recorder, watch):
                await until(lambda: recorder.objects.keys() == {"shop/a-1"})
                assert watch.restarts == 1
                await until(lambda: "kopf does not end; leaving it behind" in caplog.messages)
                item: Mapping[str, Any] = {**pod(), "metadata": {"name": "x", "uid": "x", "resourceVersion": "99"}}
                hanging[0].tell("ADDED", item)
                await stays(lambda: recorder.objects.keys() == {"shop/a-1"}, seconds=0.1)
                await until(lambda: not hanging[0].alive)

    run(main())
