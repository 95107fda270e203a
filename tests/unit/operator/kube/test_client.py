"""Calls of the Kubernetes API against a fake server on a real socket."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.support.kube_api import fake_kube_api, status
from tests.support.waiting import until
from tests.unit.operator.kube.support import connected

from lobby_gateway.errors import LobbyGatewayError, UserError
from lobby_operator.kube.client import (
    AlreadyExistsError,
    ApiError,
    BusyError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnreachableError,
    connect,
)
from lobby_operator.kube.names import CONFIG_MAPS, LOBBIES, PODS, Resource
from lobby_operator.settings import ApiSettings

POD: dict[str, Any] = {"metadata": {"name": "prices-1", "labels": {"a": "b"}}, "spec": {"x": [1]}}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_an_object_is_returned_as_the_server_sent_it() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            made = await api.create(PODS, "shop", POD)
            assert made["metadata"]["uid"]
            server.objects["/api/v1/namespaces/shop/pods/prices-1"]["spec"]["unknownToThisVersion"] = {"y": None}
            read = await api.get(PODS, "shop", "prices-1")
            assert read["spec"] == {"x": [1], "unknownToThisVersion": {"y": None}}

    run(main())


def test_a_list_covers_one_namespace_or_all_and_selects_by_labels() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put("/api/v1/namespaces/shop/pods/a-1", {"metadata": {"labels": {"a": "b", "c": "d"}}})
            server.put("/api/v1/namespaces/shop/pods/a-2", {"metadata": {"labels": {"a": "b"}}})
            listed = await api.list(PODS, "shop", labels="a=b,c=d")
            assert [item["metadata"]["name"] for item in listed["items"]] == ["a-1"]
            assert listed["metadata"]["resourceVersion"]
            assert (await api.list(LOBBIES))["items"] == []
            assert server.asked[-1].path == "/apis/lobby-gateway.io/v1alpha1/lobbies"
            assert server.asked[-1].query == {}

    run(main())


def test_a_list_of_versions_takes_little_more_memory_than_its_text() -> None:
    fields: dict[str, Any] = {f"f:{number}": {f"f:{part}": {} for part in range(10)} for number in range(40)}
    metadata = {"uid": "", "resourceVersion": "7", "managedFields": [{"fieldsV1": fields}]}
    items = [{"metadata": {**metadata, "uid": f"uid-{number}"}} for number in range(300)]
    text = json.dumps({"metadata": {"resourceVersion": "9"}, "items": items})

    async def main() -> None:
        async with connected() as (server, api):
            server.instead = lambda _asked: web.Response(text=text, content_type="application/json")
            tracemalloc.start()
            try:
                listed, version = await api.list_versions(PODS)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert (version, len(listed), set(listed.values())) == ("9", 300, {"7"})
            assert peak < 6 * len(text)  # copies here and in the server; all of it as objects takes 11 times as much

    run(main())


def test_creating_an_existing_object_fails() -> None:
    async def main() -> None:
        async with connected() as (_, api):
            await api.create(PODS, "shop", POD)
            with pytest.raises(AlreadyExistsError, match=r"create pods shop: .* already exists"):
                await api.create(PODS, "shop", POD)

    run(main())


def test_a_dry_run_creates_nothing() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            await api.create(PODS, "shop", POD, dry_run=True)
            assert not server.objects

    run(main())


def test_a_merge_patch_changes_only_the_fields_it_names() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            await api.create(PODS, "shop", POD)
            patched = await api.patch(PODS, "shop", "prices-1", {"metadata": {"labels": {"a": None, "c": "d"}}})
            assert patched["metadata"]["labels"] == {"c": "d"}
            assert patched["spec"] == {"x": [1]}
            assert server.asked[-1].content_type == "application/merge-patch+json"

    run(main())


def test_a_patch_of_a_subresource_goes_to_its_path() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            await api.create(LOBBIES, "shop", {"metadata": {"name": "prices"}})
            await api.patch(LOBBIES, "shop", "prices", {"status": {"clients": 1}}, subresource="status")
            assert server.asked[-1].path == "/apis/lobby-gateway.io/v1alpha1/namespaces/shop/lobbies/prices/status"
            assert api.calls["patch", "lobbies/status", "ok"] == 1

    run(main())


def test_patching_an_outdated_version_is_a_conflict() -> None:
    async def main() -> None:
        async with connected() as (_, api):
            made = await api.create(PODS, "shop", POD)
            await api.patch(PODS, "shop", "prices-1", {"metadata": {"labels": {"a": "c"}}})
            guarded = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
            with pytest.raises(ConflictError):
                await api.patch(PODS, "shop", "prices-1", guarded)

    run(main())


def test_apply_creates_or_updates() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            body = {"metadata": {"name": "prices-lobby"}, "data": {"lobby.json": "{}"}}
            await api.apply(CONFIG_MAPS, "shop", "prices-lobby", body)
            await api.apply(CONFIG_MAPS, "shop", "prices-lobby", {**body, "data": {"lobby.json": "[]"}})
            (kept,) = server.objects.values()
            assert kept["data"] == {"lobby.json": "[]"}
            assert server.asked[-1].content_type == "application/apply-patch+yaml"
            assert server.asked[-1].query == {"fieldManager": "lobby-operator", "force": "true"}

    run(main())


def test_a_delete_with_a_uid_deletes_only_that_object() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            made = await api.create(CONFIG_MAPS, "shop", POD)
            with pytest.raises(ConflictError):
                await api.delete(CONFIG_MAPS, "shop", "prices-1", uid="another")
            await api.delete(CONFIG_MAPS, "shop", "prices-1", uid=made["metadata"]["uid"], grace_seconds=3)
            assert server.asked[-1].body["gracePeriodSeconds"] == 3
            with pytest.raises(NotFoundError):
                await api.delete(CONFIG_MAPS, "shop", "prices-1")

    run(main())


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", InvalidError),
        (401, "Unauthorized", ForbiddenError),
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotFoundError),
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (410, "Expired", GoneError),
        (422, "Invalid", InvalidError),
        (418, "Teapot", ApiError),
        (500, "InternalError", UnreachableError),
        (503, "ServiceUnavailable", UnreachableError),
    ],
)
def test_a_failure_raises_our_exception_with_the_servers_message(code: int, reason: str, kind: type[ApiError]) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.instead = lambda _asked: status(code, reason, "spec.path: must begin with '/'")
            with pytest.raises(ApiError) as raised:
                await api.get(LOBBIES, "shop", "prices")
            assert type(raised.value) is kind
            assert str(raised.value) == "get lobbies shop/prices: spec.path: must begin with '/'"
            assert (raised.value.status, raised.value.reason) == (code, reason)
            assert api.calls == {("get", "lobbies", kind.__name__.removesuffix("Error")): 1}

    run(main())


def test_a_busy_server_says_when_to_retry() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.instead = lambda _asked: status(429, "TooManyRequests", "later", Retry_After="7")
            with pytest.raises(BusyError) as raised:
                await api.get(PODS, "shop", "prices-1")
            assert raised.value.retry_after == 7
            server.instead = lambda _asked: status(429, "TooManyRequests", "later")
            with pytest.raises(BusyError) as raised:
                await api.get(PODS, "shop", "prices-1")
            assert raised.value.retry_after is None

    run(main())


def test_a_failure_without_a_status_object_is_reported_by_its_number() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.instead = lambda _asked: web.Response(status=502, text="<html>bad gateway</html>")
            with pytest.raises(UnreachableError, match="get pods shop/prices-1: answer 502"):
                await api.get(PODS, "shop", "prices-1")
            server.instead = lambda _asked: web.json_response(["bad gateway"], status=502)
            with pytest.raises(UnreachableError, match="answer 502"):
                await api.get(PODS, "shop", "prices-1")
            server.instead = lambda _asked: web.Response(text="<html>welcome</html>")
            with pytest.raises(UnreachableError, match="not JSON"):
                await api.get(PODS, "shop", "prices-1")

    run(main())


def test_a_server_that_does_not_answer_is_unreachable() -> None:
    async def main() -> None:
        async with connected(settings=ApiSettings(request_seconds=0.1)) as (server, api):
            server.mute.set()
            with pytest.raises(UnreachableError, match=r"no answer within 0\.1 s"):
                await api.get(PODS, "shop", "prices-1")
            assert api.calls["get", "pods", "Unreachable"] == 1
            assert api.seconds["get", "pods"] >= 0.1

    run(main())


def test_a_broken_connection_is_unreachable() -> None:
    async def main() -> None:
        async with connected() as (server, api):

            def broken(_asked: Any) -> None:
                raise ConnectionResetError

            server.instead = broken
            with pytest.raises(UnreachableError, match="no answer: "):
                await api.create(PODS, "shop", POD)
            await server.close()
            with pytest.raises(UnreachableError, match="no answer: "):
                await api.get(PODS, "shop", "prices-1")
            await server.start()

    run(main())


def test_a_cancelled_call_is_counted() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.mute.set()
            task = asyncio.create_task(api.get(PODS, "shop", "prices-1"))
            await until(lambda: server.asked)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert api.calls == {("get", "pods", "Cancelled"): 1}

    run(main())


def test_the_hook_runs_before_each_call() -> None:
    async def main() -> None:
        calls: list[tuple[str, Resource]] = []
        async with connected(before=lambda verb, resource: calls.append((verb, resource))) as (_, api):
            await api.create(PODS, "shop", POD)
            await api.get(PODS, "shop", "prices-1")
        assert calls == [("create", PODS), ("get", PODS)]

    run(main())


def test_credentials_come_from_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with fake_kube_api() as server:
            path = server.write_kubeconfig(tmp_path / "config")
            written = (tmp_path / "config").read_bytes()
            monkeypatch.setenv("KUBECONFIG", path)
            for api in (await connect(path), await connect()):
                await api.list(PODS)
                await api.close()
                assert server.asked[-1].headers["authorization"] == "Bearer secret-of-the-operator"
                assert server.asked[-1].headers["user-agent"].startswith("lobby-operator/")
            assert (tmp_path / "config").read_bytes() == written

    run(main())


def test_the_environment_has_no_say_in_how_the_server_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def main() -> None:
        async with fake_kube_api() as server:
            api = await connect(server.write_kubeconfig(tmp_path / "config"))
            try:
                assert (await api.list(PODS))["items"] == []
            finally:
                await api.close()

    run(main())


@pytest.mark.parametrize("content", [None, "{", "a: b", "[]"])
def test_an_unusable_kubeconfig_is_a_user_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"KUBECONFIG: .*config.*; accepted: ") as raised:
        asyncio.run(connect(str(path)))
    assert "\n" not in str(raised.value)


def test_outside_a_pod_a_kubeconfig_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match="KUBECONFIG: is not set, and this is not a pod"):
        asyncio.run(connect())


def test_our_deadline_comes_before_the_librarys() -> None:
    assert ApiSettings().request_seconds < 5 * 60


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"message": "not there", "reason": "NotFound", "status": 404}, "get pods a/b: not there"),
        ({"reason": "NotFound", "status": 404}, "get pods a/b: NotFound"),
        ({"status": 404}, "get pods a/b: 404"),
    ],
)
def test_an_error_names_the_call_and_the_most_specific_cause(given: dict[str, str | int], text: str) -> None:
    assert str(ApiError("get pods a/b", **given)) == text  # type: ignore[arg-type]


def test_every_api_error_is_one_of_ours() -> None:
    assert issubclass(UnreachableError, ApiError)
    assert issubclass(ApiError, LobbyGatewayError)
