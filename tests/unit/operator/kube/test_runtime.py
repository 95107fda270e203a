"""Lobbies as pods, against a server of the API and against admin ports, all on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from tests.support.kube_api import FakeKubeApi, fake_kube_api, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube import support

from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.reports import LobbyReport
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.names import Resource
from lobby_operator.kube.runtime import KubeRuntime
from lobby_operator.reconcile.runtime import Runtime, RuntimeFailedError
from lobby_operator.settings import LobbyControllerSettings, OperatorSettings, PodMaintenanceSettings

PODS = "/api/v1/namespaces/shop/pods"
CONFIG = "/api/v1/namespaces/shop/configmaps/prices-lobby"
HOST = "127.0.0.9"
DEAD = "127.0.0.99"
"""Nobody answers there."""

LOBBY = support.lobby()
RESOURCE = support.resource()


class Killed(BaseException):
    """The operator's process ended."""


class AdminPort:
    """What a lobby answers."""

    def __init__(self) -> None:
        self.draining = False
        self.clients = 0
        self.asked = 0
        self.broken = False

    async def seats(self, _request: AdminRequest) -> AdminResponse:
        self.asked += 1
        report = LobbyReport(name="prices-1", lobby="prices", draining=self.draining, seats=5, clients=self.clients)
        return AdminResponse.json(report.to_json())

    async def drain(self, _request: AdminRequest) -> AdminResponse:
        if self.broken:
            return AdminResponse.text("can't", 500)
        self.draining = True
        return AdminResponse.json({}, 202)


class Scene:
    """A server of the API, a lobby that answers at `HOST`, and runtimes one after another."""

    def __init__(self, server: FakeKubeApi, admin: AdminPort, settings: OperatorSettings) -> None:
        self.server = server
        self.admin = admin
        self.settings = settings
        self.calls = 0
        self.last_call: int | None = None
        self.changes = 0
        self._open: list[KubeRuntime | KubeApi] = []

    def _before(self, _verb: str, _resource: Resource) -> None:
        self.calls += 1
        if self.last_call is not None and self.calls > self.last_call:
            raise Killed

    def _changed(self) -> None:
        self.changes += 1

    def runtime(self, resource: dict[str, Any] | None = None) -> KubeRuntime:
        """A new one, as after a start of the operator; it sees what there is."""
        resource = resource or RESOURCE
        api = KubeApi(ApiClient(Configuration(host=self.server.url)), before=self._before)
        lobby = lobby_from_resource(resource)
        made = KubeRuntime(api, self.settings, lobby, resource, changed=self._changed)
        self._open += [made, api]
        self.feed(made)
        return made

    def feed(self, runtime: KubeRuntime) -> None:
        """What an informer would do by now."""
        there = {path: pod for path, pod in self.server.objects.items() if path.startswith(PODS)}
        for pod in there.values():
            runtime.pod_changed(pod)
        for name in runtime.poll_results():
            if f"{PODS}/{name}" not in there:
                runtime.pod_deleted(name)

    def starts(self, name: str, *, host: str = HOST, **fields: Any) -> None:
        """The kubelet has started a pod."""
        path = f"{PODS}/{name}"
        self.server.put(path, support.running_pod(self.server.objects[path], ip=host, **fields))

    def pod(self, name: str) -> dict[str, Any]:
        """As the server has it."""
        return self.server.objects[f"{PODS}/{name}"]

    def annotations(self, name: str) -> dict[str, str]:
        """Of a pod."""
        found = self.pod(name)["metadata"]["annotations"]
        assert isinstance(found, dict)
        return found

    async def serving(self, name: str = "prices-1") -> KubeRuntime:
        """A runtime with a lobby that runs and answers."""
        runtime = self.runtime()
        await runtime.create(LOBBY, name)
        self.starts(name)
        self.feed(runtime)
        await until(lambda: runtime.poll_results()[name].report)
        return runtime

    async def close(self) -> None:
        for each in self._open:
            await each.close()


@asynccontextmanager
async def scene(**settings: Any) -> AsyncIterator[Scene]:
    admin = AdminPort()
    port_of = AdminServer({("GET", "/seats"): admin.seats, ("POST", "/drain"): admin.drain})
    port = await port_of.start(HOST, 0)
    async with fake_kube_api() as server:
        made = Scene(server, admin, support.operator_settings(lobby_admin_port=port, **settings))
        try:
            yield made
        finally:
            await made.close()
            await port_of.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_a_lobby_is_made_as_a_pod_after_its_configuration() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime: Runtime = here.runtime()
            await runtime.create(LOBBY, "prices-1")
            assert [asked.method for asked in here.server.asked] == ["PATCH", "POST"]
            assert here.server.asked[0].path == CONFIG
            labels = here.pod("prices-1")["metadata"]["labels"]
            assert labels["lobby-gateway.io/revision"] == here.runtime().revision

    run(main())


def test_the_configuration_is_written_once_for_many_lobbies() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = here.runtime()
            await asyncio.gather(*(runtime.create(LOBBY, f"prices-{n}") for n in range(1, 6)))
            assert len(here.server.requests("PATCH", "configmaps")) == 1

    run(main())


def test_a_lobby_is_not_made_before_its_configuration_is_written() -> None:
    async def main() -> None:
        async with scene() as here:
            here.server.instead = lambda asked: status(403, "Forbidden", "no") if "configmaps" in asked.path else None
            runtime = here.runtime()
            with pytest.raises(RuntimeFailedError, match="can't write the ConfigMap of the lobbies"):
                await runtime.create(LOBBY, "prices-1")
            assert not here.server.objects

    run(main())


def test_a_lobby_that_is_there_already_is_made() -> None:
    async def main() -> None:
        async with scene() as here:
            await here.runtime().create(LOBBY, "prices-1")
            before = here.pod("prices-1")
            await here.runtime().create(LOBBY, "prices-1")
            assert here.pod("prices-1") == before

    run(main())


def test_a_pod_of_somebody_else_is_no_lobby() -> None:
    async def main() -> None:
        async with scene() as here:
            here.server.put(f"{PODS}/prices-1", {"metadata": {"labels": {}}})
            runtime = here.runtime()
            with pytest.raises(RuntimeFailedError, match="does not belong to this Lobby"):
                await runtime.create(LOBBY, "prices-1")
            here.feed(runtime)
            assert await runtime.list("prices") == []
            await runtime.delete("prices-1")
            await runtime.drain("prices-1")
            assert f"{PODS}/prices-1" in here.server.objects

    run(main())


def test_a_pod_of_an_earlier_lobby_of_that_name_is_not_ours() -> None:
    async def main() -> None:
        async with scene() as here:
            await here.serving()
            later = here.runtime(support.resource(uid="another"))
            assert await later.list("prices") == []

    run(main())


def test_a_pod_that_goes_while_it_is_looked_at_is_made_later() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = here.runtime()
            here.server.instead = lambda asked: (
                status(409, "AlreadyExists", "there") if asked.method == "POST" else None
            )
            with pytest.raises(RuntimeFailedError, match="can't create prices-1: get pods"):
                await runtime.create(LOBBY, "prices-1")

    run(main())


def test_what_the_server_refuses_is_told() -> None:
    async def main() -> None:
        async with scene() as here:
            here.server.instead = lambda asked: status(422, "Invalid", "spec.x: no") if asked.method == "POST" else None
            with pytest.raises(RuntimeFailedError, match=r"can't create prices-1: .*spec\.x: no"):
                await here.runtime().create(LOBBY, "prices-1")

    run(main())


def test_a_lobby_that_runs_is_asked_how_it_is() -> None:
    async def main() -> None:
        async with scene() as here:
            here.admin.clients = 3
            runtime = await here.serving()
            (raw,) = await runtime.list("prices")
            assert raw.report is not None
            assert (raw.name, raw.report.clients, raw.alive) == ("prices-1", 3, True)
            assert raw.address == f"{HOST}:8000"
            assert raw.revision == runtime.revision
            assert await runtime.read("prices-1") == runtime.poll_results()["prices-1"]
            assert await runtime.read("prices-2") is None

    run(main())


def test_what_had_started_before_it_was_seen_is_known_to_have_been_up() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = here.runtime()
            await runtime.create(LOBBY, "prices-1")
            here.feed(runtime)
            here.starts("prices-1")
            here.feed(runtime)
            assert [raw.was_up for raw in await runtime.list("prices")] == [False]
            assert [raw.was_up for raw in await here.runtime().list("prices")] == [True]
            here.starts("prices-1", started=False)
            assert [raw.was_up for raw in await here.runtime().list("prices")] == [False]

    run(main())


def test_a_lobby_is_put_elsewhere_than_where_all_that_answered_fell_silent() -> None:
    async def main() -> None:
        async with scene() as here:
            first = here.runtime()
            for name in ("prices-1", "prices-2", "prices-3", "prices-4", "prices-5"):
                await first.create(LOBBY, name)
            assert "affinity" not in here.pod("prices-5")["spec"]
            here.starts("prices-1", node="good")
            here.starts("prices-2", node="good", host=DEAD)
            here.starts("prices-3", node="lost", host=DEAD)
            here.starts("prices-4", node="slow", host=DEAD, started=False)
            here.starts("prices-5", node="left", host=DEAD)
            here.pod("prices-5")["metadata"]["deletionTimestamp"] = "2026-11-25T14:13:00Z"
            runtime = here.runtime()
            said = runtime.poll_results
            await until(lambda: all(each.report or each.unresponsive_since for each in said().values()))
            await until(lambda: said()["prices-1"].at > (said()["prices-2"].unresponsive_since or 0))
            await runtime.create(LOBBY, "prices-6")
            ((preferred,),) = here.pod("prices-6")["spec"]["affinity"]["nodeAffinity"].values()
            assert [each["values"] for each in preferred["preference"]["matchFields"]] == [["lost"]]

    run(main())


def test_a_lobby_is_as_old_as_its_pod() -> None:
    async def main() -> None:
        async with scene() as here:
            await here.serving()
            here.pod("prices-1")["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
            (old,) = await here.runtime().list("prices")
            assert old.created_at < asyncio.get_running_loop().time() - 60
            here.pod("prices-1")["metadata"]["creationTimestamp"] = "2996-01-01T00:00:00Z"
            (future,) = await here.runtime().list("prices")
            assert future.created_at <= asyncio.get_running_loop().time()

    run(main())


def test_an_answer_that_tells_nothing_new_wakes_nobody() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            runtime.poll_fast(fast=True)
            asked, changes = here.admin.asked, here.changes
            await until(lambda: here.admin.asked > asked + 2)
            assert here.changes == changes
            here.admin.clients = 1
            await until(lambda: here.changes > changes)

    run(main())


def test_a_pod_that_did_not_change_wakes_nobody() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            changes = here.changes
            here.feed(runtime)
            assert here.changes == changes

    run(main())


def test_lobbies_are_asked_more_often_while_something_moves() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            runtime.poll_fast(fast=False)
            pollers = [pod.poller for pod in runtime._pods.values() if pod.poller is not None]
            assert [poller.fast for poller in pollers] == [False]

    run(main())


def test_a_finished_pod_is_asked_no_more_and_can_be_deleted() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            pod = here.pod("prices-1")
            here.server.put(f"{PODS}/prices-1", {**pod, "status": {**pod["status"], "phase": "Failed"}})
            here.feed(runtime)
            (raw,) = await runtime.list("prices")
            assert raw.ended
            assert raw.report is None
            await runtime.delete("prices-1")
            assert f"{PODS}/prices-1" not in here.server.objects

    run(main())


def test_why_a_pod_does_not_run_is_known() -> None:
    async def main() -> None:
        async with scene() as here:
            await here.runtime().create(LOBBY, "prices-1")
            scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod = here.pod("prices-1")
            here.server.put(f"{PODS}/prices-1", {**pod, "status": {"conditions": [scheduled]}})
            assert here.runtime().problems() == {"prices-1": "Unschedulable"}

    run(main())


def test_a_drain_is_marked_and_told() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            await runtime.drain("prices-1")
            assert here.admin.draining
            assert here.annotations("prices-1")["lobby-gateway.io/draining"].endswith("Z")
            (raw,) = await runtime.list("prices")
            assert raw.draining

    run(main())


def test_a_drain_is_marked_once_however_often_it_is_told() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            await runtime.drain("prices-1")
            await runtime.drain("prices-1")
            assert len(here.server.requests("PATCH", "pods")) == 1

    run(main())


def test_a_lobby_that_does_not_answer_is_marked_all_the_same() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = here.runtime()
            for name in ("prices-1", "prices-2", "prices-3"):
                await runtime.create(LOBBY, name)
            here.starts("prices-1", host=DEAD)
            here.starts("prices-3")
            here.admin.broken = True
            here.feed(runtime)
            for name, problem in (
                ("prices-1", "can't drain prices-1: .*127.0.0.99"),
                ("prices-2", "it has no address yet"),
                ("prices-3", "can't drain prices-3: it answered 500"),
            ):
                with pytest.raises(RuntimeFailedError, match=problem):
                    await runtime.drain(name)
                assert "lobby-gateway.io/draining" in here.annotations(name)

    run(main())


def test_a_drain_that_can_not_be_marked_is_not_told() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            here.server.instead = lambda _asked: status(503, "ServiceUnavailable", "later")
            with pytest.raises(RuntimeFailedError, match="can't mark prices-1 as draining"):
                await runtime.drain("prices-1")
            assert not here.admin.draining

    run(main())


def test_what_is_ending_is_neither_drained_nor_deleted_again() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            await runtime.delete("prices-1")
            here.feed(runtime)
            (raw,) = await runtime.list("prices")
            assert raw.ending
            asked = len(here.server.asked)
            await runtime.delete("prices-1")
            await runtime.drain("prices-1")
            assert len(here.server.asked) == asked

    run(main())


def test_only_the_pod_that_was_seen_is_deleted() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            pod = here.pod("prices-1")
            here.server.remove(f"{PODS}/prices-1")
            await runtime.delete("prices-1")  # gone, and so done
            pod["metadata"]["uid"] = "another"
            here.server.put(f"{PODS}/prices-1", pod)
            await runtime.delete("prices-1")
            await runtime.drain("prices-1")
            assert not here.pod("prices-1")["metadata"].get("deletionTimestamp")
            assert "lobby-gateway.io/draining" not in here.annotations("prices-1")

    run(main())


def test_a_pod_that_took_the_name_of_another_is_asked_anew() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            pod = here.pod("prices-1")
            here.server.remove(f"{PODS}/prices-1")
            pod["metadata"]["uid"] = "another"
            here.server.put(f"{PODS}/prices-1", pod)
            here.feed(runtime)
            assert runtime.poll_results()["prices-1"].report is None
            await until(lambda: runtime.poll_results()["prices-1"].report)

    run(main())


def test_a_delete_that_fails_is_told() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            here.server.instead = lambda _asked: status(503, "ServiceUnavailable", "later")
            with pytest.raises(RuntimeFailedError, match=r"can't delete prices-1: .*later"):
                await runtime.delete("prices-1")

    run(main())


def test_a_pod_that_is_gone_is_forgotten() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            here.server.remove(f"{PODS}/prices-1")
            here.feed(runtime)
            assert await runtime.list("prices") == []
            runtime.pod_deleted("prices-1")
            asked = here.admin.asked
            await stays(lambda: here.admin.asked <= asked + 1, seconds=0.5)

    run(main())


def test_a_change_of_the_lobby_reaches_the_configuration_and_the_pods_made_later() -> None:
    async def main() -> None:
        async with scene() as here:
            runtime = await here.serving()
            before = runtime.revision
            changed = support.resource(clients={"seats": 7}, origin={"url": "wss://other.example.com/"})
            await runtime.apply(lobby_from_resource(changed), changed)
            assert "wss://other.example.com/" in here.server.objects[CONFIG]["data"]["lobby.json"]
            assert runtime.revision != before
            await runtime.create(LOBBY, "prices-2")  # whatever the reconciler still has
            assert here.pod("prices-2")["metadata"]["labels"]["lobby-gateway.io/revision"] == runtime.revision
            asked = len(here.server.asked)
            await runtime.apply(lobby_from_resource(changed), changed)
            assert len(here.server.asked) == asked
            here.settings = replace(here.settings, controller=LobbyControllerSettings(resync_seconds=0.0))
            impatient = here.runtime(changed)
            await impatient.apply(lobby_from_resource(changed), changed)
            here.server.remove(CONFIG)
            await impatient.apply(lobby_from_resource(changed), changed)
            assert CONFIG in here.server.objects

    run(main())


def test_lobbies_look_at_a_configuration_that_changed() -> None:
    async def main() -> None:
        async with scene(maintenance=PodMaintenanceSettings(min_interval_seconds=0.02)) as here:
            runtime = await here.serving()
            await runtime.list("prices")
            before = here.annotations("prices-1")["lobby-gateway.io/config"]
            changed = support.resource(clients={"seats": 7})
            await runtime.apply(lobby_from_resource(changed), changed)
            await until(lambda: here.annotations("prices-1")["lobby-gateway.io/config"] != before)

    run(main())


def test_killed_between_any_two_calls_it_comes_to_the_same() -> None:
    later = PodMaintenanceSettings(min_interval_seconds=3600)  # its calls would come at any time

    async def all_of_it(here: Scene) -> None:
        changed = support.resource(clients={"seats": 7})
        runtime = here.runtime()
        if not here.admin.draining:
            await runtime.create(LOBBY, "prices-1")
            here.starts("prices-1")
            here.feed(runtime)
        await runtime.apply(lobby_from_resource(changed), changed)
        await until(lambda: runtime.poll_results()["prices-1"].report)
        await runtime.drain("prices-1")
        await runtime.create(LOBBY, "prices-2")
        await runtime.delete("prices-1")

    def state(here: Scene) -> Any:
        return {
            path: (
                made.get("data"),
                "deletionTimestamp" in made["metadata"],
                "lobby-gateway.io/draining" in made["metadata"].get("annotations", {}),
            )
            for path, made in here.server.objects.items()
        }

    async def main() -> None:
        async with scene(maintenance=later) as here:
            await all_of_it(here)
            wanted, calls = state(here), here.calls
        assert calls >= 6
        for last in range(calls):
            async with scene(maintenance=later) as here:
                here.last_call = last
                with pytest.raises(Killed):
                    await all_of_it(here)
                here.last_call = None
                await all_of_it(here)
                assert state(here) == wanted, f"killed after call {last}"

    run(main())
