"""The informer knows all objects, whatever happens to lists and watches; against a fake server on a real socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from tests.support.kube_api import Asked, FakeKubeApi, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import PODS_PATH, connected, running

from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.informer import Informer
from lobby_operator.kube.names import PODS
from lobby_operator.settings import ApiSettings, InformerSettings

SHOP = PODS_PATH.format("shop")
QUICK = InformerSettings(min_backoff_seconds=0.001, max_backoff_seconds=0.01)


class Recorder:
    """Records what an informer reports."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.changes: list[str] = []
        self.lists = 0
        self.refuse = ""

    def changed(self, change: Change) -> None:
        if change.key == self.refuse:
            raise ValueError("not this one")
        self.changes.append(change.key)
        if change.object is None:
            del self.objects[change.key]
        else:
            self.objects[change.key] = change.object

    def listed(self) -> None:
        self.lists += 1


@asynccontextmanager
async def watching(
    settings: InformerSettings = QUICK, **fields: Any
) -> AsyncIterator[tuple[FakeKubeApi, Recorder, Informer]]:
    async with connected(settings=ApiSettings(request_seconds=1.0)) as (server, api):
        recorder = Recorder()
        informer = Informer(api, PODS, recorder.changed, listed=recorder.listed, settings=settings, **fields)
        async with running(informer.run()):
            yield server, recorder, informer


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def pod(**labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels, "namespace": "shop"}}


def test_it_reports_existing_added_and_deleted_objects() -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, informer):
            await until(lambda: server.watches == 1)
            assert informer.synced
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: "shop/a-1" in recorder.objects)
            server.put(f"{SHOP}/a-1", pod(a="b"))
            await until(lambda: recorder.objects["shop/a-1"]["metadata"]["labels"] == {"a": "b"})
            server.remove(f"{SHOP}/a-1")
            await until(lambda: not recorder.objects)
            assert len(informer) == 0
            assert recorder.lists == 1

    run(main())


def test_it_selects_by_labels_in_one_namespace_or_all() -> None:
    async def main() -> None:
        async with watching(labels="app=lobby") as (server, recorder, _):
            await until(lambda: server.watches == 1)
            server.put(f"{SHOP}/a-1", pod(app="other"))
            server.put(f"{SHOP}/a-2", pod(app="lobby"))
            server.put(f"{PODS_PATH.format('lab')}/a-3", {"metadata": {"labels": {"app": "lobby"}, "namespace": "lab"}})
            await until(lambda: recorder.objects.keys() == {"shop/a-2", "lab/a-3"})
            assert all(asked.query["labelSelector"] == "app=lobby" for asked in server.asked)

    run(main())


def test_a_long_list_is_read_in_pages() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            for number in range(25):
                server.put(f"{SHOP}/a-{number}", pod())
            recorder = Recorder()
            settings = InformerSettings(page_size=10)
            async with running(Informer(api, PODS, recorder.changed, namespace="shop", settings=settings).run()):
                await until(lambda: len(recorder.objects) == 25)
            assert [asked.query.get("continue") for asked in server.asked[:3]] == [None, "10", "20"]

    run(main())


def test_an_ended_watch_resumes_at_its_last_version() -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, _):
            await until(lambda: server.watches == 1)
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects)
            for _ in range(3):
                server.asked.clear()
                server.end_watches()
                await until(lambda: server.asked and server.watches == 1)
            server.put(f"{SHOP}/a-2", pod())
            await until(lambda: len(recorder.objects) == 2)
            assert recorder.lists == 1
            assert recorder.changes == ["shop/a-1", "shop/a-2"]

    run(main())


@pytest.mark.parametrize("how", ["answer", "event"])
def test_a_deletion_is_found_by_listing_after_the_version_expired(how: str) -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, _):
            server.put(f"{SHOP}/a-1", pod())
            server.put(f"{SHOP}/a-2", pod())
            await until(lambda: len(recorder.objects) == 2 and server.watches == 1)
            del server.objects[f"{SHOP}/a-1"]  # without an event
            if how == "answer":
                server.oldest = 1000
                server.end_watches()
                await until(lambda: recorder.lists >= 2)
                server.oldest = 0
            else:
                server.send_event({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
            await until(lambda: recorder.objects.keys() == {"shop/a-2"})
            await until(lambda: server.watches == 1)

    run(main())


def test_an_unreachable_server_is_retried_and_known_objects_stay(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, informer):
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects and server.watches == 1)
            server.instead = lambda _asked: status(503, "ServiceUnavailable", "not yet")
            server.end_watches()
            await until(lambda: len(server.requests("GET")) > 8)
            assert "not yet" in informer.problem
            assert recorder.objects.keys() == {"shop/a-1"}
            server.instead = lambda _asked: None
            await until(lambda: not informer.problem)
            assert informer.stuck() == ""

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "can't list or watch; keeping what is known",
        "the API server answers again",
    ]


def test_an_idle_watch_is_restarted() -> None:
    async def main() -> None:
        settings = InformerSettings(idle_seconds=0.05, min_backoff_seconds=0.001, max_backoff_seconds=0.01)
        async with watching(settings, namespace="shop") as (server, recorder, _):
            await until(lambda: sum(asked.query.get("watch") == "true" for asked in server.asked) > 3)
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects)
            assert recorder.lists == 1

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


def test_a_watch_that_breaks_within_an_event_is_restarted() -> None:
    async def main() -> None:
        broken: list[Asked] = []

        def half(asked: Asked) -> web.StreamResponse | None:
            if asked.query.get("watch") == "true" and not broken:
                broken.append(asked)
                return web.Response(text='{"type": "ADDED", "object"')
            return None

        async with connected() as (server, api):
            server.instead = half
            recorder = Recorder()
            async with running(Informer(api, PODS, recorder.changed, settings=QUICK).run()):
                await until(lambda: server.watches == 1)
                assert broken

    run(main())


def test_it_is_stuck_after_too_long_without_a_list_or_watch() -> None:
    async def main() -> None:
        async with connected() as (_, api):
            settings = InformerSettings(watch_seconds=0.02, idle_seconds=0.01)
            informer = Informer(api, PODS, lambda _change: None, settings=settings)
            assert informer.stuck() == ""
            await until(informer.stuck)
            assert informer.stuck().startswith("no list or watch of pods for")

    run(main())


def test_invalid_events_do_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with watching(namespace="shop") as (server, recorder, _):
            await until(lambda: server.watches == 1)
            server.send_event({"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}})
            server.put(f"{SHOP}/a-1", pod())
            await until(lambda: recorder.objects)
            await stays(lambda: recorder.lists == 1, seconds=0.05)

    with caplog.at_level(logging.INFO):
        run(main())
    assert "etcd is away" in {vars(record).get("problem") for record in caplog.records}
