"""Lobbies as pods, against a fake server of the API and admin ports, all on real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from tests.support.kube_api import Answer, FakeKubeApi, fake_kube_api, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube import support

from lobby_gateway.clients.tokens import Purpose, TokenError, verify
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_operator import wall_clock
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.names import Resource
from lobby_operator.kube.pod_state import pod_state
from lobby_operator.kube.runtime import KubeRuntime
from lobby_operator.planner.state import Held, Hold
from lobby_operator.reconcile.runtime import LobbyNameTakenError, Runtime, RuntimeFailedError
from lobby_operator.settings import (
    LobbyControllerSettings,
    OperatorSettings,
    PodMaintenanceSettings,
    PolicySettings,
    StartWatchSettings,
)

PODS = "/api/v1/namespaces/shop/pods"
CONFIG = "/api/v1/namespaces/shop/configmaps/prices-lobby"
HOST = "127.0.0.9"
DEAD = "127.0.0.99"
"""Nothing answers there."""

LOBBY = support.lobby()
RESOURCE = support.resource()


class Killed(BaseException):
    """The operator's process was killed."""


OLD_KEY, NEW_KEY = b"o" * 32, b"n" * 32


class AdminPort:
    """The admin port of a lobby."""

    def __init__(self) -> None:
        self.draining = False
        self.clients = 0
        self.asked = 0
        self.broken = False
        self.queries: list[str] = []
        self.token_keys = [OLD_KEY]

    async def seats(self, _request: AdminRequest) -> AdminResponse:
        self.asked += 1
        report = LobbyReport(name="prices-1", lobby="prices", draining=self.draining, seats=5, clients=self.clients)
        return AdminResponse.json(report.to_json())

    async def drain(self, request: AdminRequest) -> AdminResponse:
        if self.broken:
            return AdminResponse.text("can't", 500)
        try:
            verify(
                request.headers["authorization"].removeprefix("Bearer "),
                self.token_keys,
                purpose=Purpose.DRAIN,
                lobby=f"{LOBBY.namespace}/prices-1",
                path="/drain",
                now=time.time(),
            )
        except TokenError as error:
            return AdminResponse.unauthorized(str(error))
        self.draining = True
        self.queries.append(request.query)
        return AdminResponse.json({}, 202)


class Scene:
    """A server of the API, a lobby that answers at `HOST`, and one runtime after another."""

    def __init__(self, server: FakeKubeApi, admin: AdminPort, settings: OperatorSettings) -> None:
        self.server = server
        self.admin = admin
        self.token_keys: tuple[bytes, ...] = (OLD_KEY,)
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

    async def _token_keys(self) -> tuple[bytes, ...]:
        return self.token_keys

    def runtime(self, resource: dict[str, Any] | None = None) -> KubeRuntime:
        """A new runtime, as after a start of the operator, that knows all pods."""
        resource = resource or RESOURCE
        api = KubeApi(ApiClient(Configuration(host=self.server.url)), before=self._before)
        lobby = lobby_from_resource(resource)
        made = KubeRuntime(
            api,
            self.settings,
            lobby,
            resource,
            changed=self._changed,
            token_keys=self._token_keys,
            spawn=BackgroundTasks().spawn,
        )
        self._open += [made, api]
        self.feed(made)
        return made

    def feed(self, runtime: KubeRuntime) -> None:
        """Does what a watch would have done by now."""
        there = {path: pod for path, pod in self.server.objects.items() if path.startswith(PODS)}
        for pod in there.values():
            runtime.pod_changed(pod_state(pod))
        for name in runtime.poll_results():
            if f"{PODS}/{name}" not in there:
                runtime.pod_deleted(name)

    def starts(self, name: str, *, host: str = HOST, **fields: Any) -> None:
        """Starts a pod as the kubelet does."""
        path = f"{PODS}/{name}"
        self.server.put(path, support.running_pod(self.server.objects[path], ip=host, **fields))

    def pod(self, name: str) -> dict[str, Any]:
        """A pod as stored."""
        return self.server.objects[f"{PODS}/{name}"]

    def annotations(self, name: str) -> dict[str, str]:
        """The annotations of a pod."""
        found = self.pod(name)["metadata"]["annotations"]
        assert isinstance(found, dict)
        return found

    async def serving(self, name: str = "prices-1") -> KubeRuntime:
        """A runtime with a lobby that answers."""
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


def no_pod(code: int, reason: str, message: str) -> Answer:
    """Refuses to create pods."""
    return lambda asked: status(code, reason, message) if (asked.method, asked.path) == ("POST", PODS) else None


def test_the_config_map_is_written_before_the_pod() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime: Runtime = it.runtime()
            await runtime.create(LOBBY, "prices-1")
            assert [asked.method for asked in it.server.asked] == ["GET", "POST", "POST"]
            assert it.server.asked[0].path == CONFIG
            assert it.server.asked[1].path == CONFIG.rpartition("/")[0]
            labels = it.pod("prices-1")["metadata"]["labels"]
            assert labels["lobby-gateway.io/revision"] == it.runtime().revision

    run(main())


def test_the_config_map_is_written_once_for_many_lobbies() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = it.runtime()
            await asyncio.gather(*(runtime.create(LOBBY, f"prices-{n}") for n in range(1, 6)))
            assert len(it.server.requests("POST", "configmaps")) == 1
            assert not it.server.requests("PATCH", "configmaps")

    run(main())


def test_no_pod_is_created_if_the_config_map_cannot_be_written() -> None:
    async def main() -> None:
        async with scene() as it:
            it.server.instead = lambda asked: status(403, "Forbidden", "no") if "configmaps" in asked.path else None
            runtime = it.runtime()
            with pytest.raises(RuntimeFailedError, match="can't write the ConfigMap of the lobbies"):
                await runtime.create(LOBBY, "prices-1")
            assert not it.server.objects

    run(main())


def test_creating_an_existing_lobby_succeeds() -> None:
    async def main() -> None:
        async with scene() as it:
            await it.runtime().create(LOBBY, "prices-1")
            before = it.pod("prices-1")
            await it.runtime().create(LOBBY, "prices-1")
            assert it.pod("prices-1") == before

    run(main())


def test_no_more_lobbies_are_created_than_a_namespace_may_have() -> None:
    async def main() -> None:
        async with scene(policy=PolicySettings(max_lobbies=2)) as it:
            runtime = it.runtime()
            it.server.instead = lambda asked: status(500, "InternalError", "no") if asked.path == PODS else None
            with pytest.raises(RuntimeFailedError, match="can't create prices-0"):
                await runtime.create(LOBBY, "prices-0")  # does not count
            it.server.instead = lambda _asked: None
            results = await asyncio.gather(
                *(runtime.create(LOBBY, f"prices-{n}") for n in range(1, 4)), return_exceptions=True
            )
            (problem,) = filter(None, results)
            wanted = "can't create prices-3: namespace shop has 2 lobbies, the most that this cluster allows"
            assert str(problem) == wanted
            assert isinstance(problem, RuntimeFailedError)
            assert len([path for path in it.server.objects if path.startswith(PODS)]) == 2

    run(main())


def test_a_foreign_pod_of_that_name_is_an_error() -> None:
    async def main() -> None:
        async with scene() as it:
            it.server.put(f"{PODS}/prices-1", {"metadata": {"labels": {}}})
            runtime = it.runtime()
            with pytest.raises(LobbyNameTakenError, match="that this Lobby does not own"):
                await runtime.create(LOBBY, "prices-1")
            it.feed(runtime)
            assert await runtime.list("prices") == []
            await runtime.delete("prices-1")
            await runtime.drain("prices-1")
            assert f"{PODS}/prices-1" in it.server.objects

    run(main())


def test_a_pod_whose_label_was_taken_away_has_the_name() -> None:
    async def main() -> None:
        async with scene() as it:
            await it.runtime().create(LOBBY, "prices-1")
            pod = it.pod("prices-1")
            labels = {key: each for key, each in pod["metadata"]["labels"].items() if key != "lobby-gateway.io/lobby"}
            it.server.put(f"{PODS}/prices-1", {**pod, "metadata": {**pod["metadata"], "labels": labels}})
            with pytest.raises(LobbyNameTakenError, match="whose labels were changed") as taken:
                await it.runtime().create(LOBBY, "prices-1")
            assert taken.value.name == "prices-1"
            assert it.pod("prices-1")["metadata"]["labels"] == labels

    run(main())


def test_what_keeps_a_pod_from_starting_is_read_from_its_events() -> None:
    async def main() -> None:
        async with scene(starts=StartWatchSettings(poll_seconds=0.01)) as it:
            runtime = it.runtime()
            await runtime.create(LOBBY, "prices-1")
            pod = it.pod("prices-1")
            it.server.put(f"{PODS}/prices-1", {**pod, "spec": {**pod["spec"], "nodeName": "node-1"}})
            note = 'MountVolume.SetUp failed for volume "token" : secret "token" not found'
            event = {"metadata": {"name": "e"}, "reason": "FailedMount", "note": note}
            it.server.put("/apis/events.k8s.io/v1/namespaces/shop/events/e", event)
            it.feed(runtime)
            await runtime.list("prices")
            await until(lambda: runtime.lacks)
            (reading,) = await runtime.list("prices")
            assert reading.held == Held(Hold.SECRET_MISSING, "Secret token is missing", ("token",))
            assert runtime.lacks == {"token"}

    run(main())


def test_a_pod_of_an_earlier_lobby_of_that_name_is_ignored() -> None:
    async def main() -> None:
        async with scene() as it:
            await it.serving()
            later = it.runtime(support.resource(uid="another"))
            assert await later.list("prices") == []

    run(main())


def test_a_pod_that_vanishes_during_the_check_is_an_error() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = it.runtime()
            it.server.instead = lambda asked: (
                status(409, "AlreadyExists", "there") if (asked.method, asked.path) == ("POST", PODS) else None
            )
            with pytest.raises(RuntimeFailedError, match="can't create prices-1: get pods"):
                await runtime.create(LOBBY, "prices-1")

    run(main())


def test_a_refusal_by_the_server_is_reported() -> None:
    async def main() -> None:
        async with scene() as it:
            it.server.instead = lambda asked: (
                status(422, "Invalid", "spec.x: no") if (asked.method, asked.path) == ("POST", PODS) else None
            )
            with pytest.raises(RuntimeFailedError, match=r"can't create prices-1: .*spec\.x: no"):
                await it.runtime().create(LOBBY, "prices-1")

    run(main())


def test_a_running_lobby_is_polled() -> None:
    async def main() -> None:
        async with scene() as it:
            it.admin.clients = 3
            runtime = await it.serving()
            (reading,) = await runtime.list("prices")
            assert reading.report is not None
            assert (reading.name, reading.report.clients, reading.alive) == ("prices-1", 3, True)
            assert reading.address == f"{HOST}:8000"
            assert reading.revision == runtime.revision
            assert runtime.poll_results()["prices-1"].report == reading.report
            assert "prices-2" not in runtime.poll_results()

    run(main())


def test_a_lobby_that_had_started_when_first_seen_was_up() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = it.runtime()
            await runtime.create(LOBBY, "prices-1")
            it.feed(runtime)
            it.starts("prices-1")
            it.feed(runtime)
            assert [reading.was_up for reading in await runtime.list("prices")] == [False]
            assert [reading.was_up for reading in await it.runtime().list("prices")] == [True]
            it.starts("prices-1", started=False)
            assert [reading.was_up for reading in await it.runtime().list("prices")] == [False]

    run(main())


def test_a_new_lobby_avoids_nodes_whose_lobbies_stopped_answering() -> None:
    async def main() -> None:
        async with scene() as it:
            first = it.runtime()
            for name in ("prices-1", "prices-2", "prices-3", "prices-4", "prices-5"):
                await first.create(LOBBY, name)
            assert "affinity" not in it.pod("prices-5")["spec"]
            it.starts("prices-1", node="good")
            it.starts("prices-2", node="good", host=DEAD)
            it.starts("prices-3", node="lost", host=DEAD)
            it.starts("prices-4", node="slow", host=DEAD, started=False)
            it.starts("prices-5", node="left", host=DEAD)
            it.pod("prices-5")["metadata"]["deletionTimestamp"] = "2026-11-25T14:13:00Z"
            runtime = it.runtime()
            results = runtime.poll_results
            await until(lambda: all(each.report or each.unresponsive_since for each in results().values()))
            await until(lambda: results()["prices-1"].at > (results()["prices-2"].unresponsive_since or 0))
            await runtime.create(LOBBY, "prices-6")
            ((preferred,),) = it.pod("prices-6")["spec"]["affinity"]["nodeAffinity"].values()
            assert [each["values"] for each in preferred["preference"]["matchFields"]] == [["lost"]]

    run(main())


def test_a_lobby_is_as_old_as_its_pod() -> None:
    async def main() -> None:
        async with scene() as it:
            await it.serving()
            it.pod("prices-1")["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
            (old,) = await it.runtime().list("prices")
            assert old.created_at < asyncio.get_running_loop().time() - 60
            it.pod("prices-1")["metadata"]["creationTimestamp"] = "2996-01-01T00:00:00Z"
            (future,) = await it.runtime().list("prices")
            assert future.created_at <= asyncio.get_running_loop().time()

    run(main())


def test_an_unchanged_report_wakes_nothing() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            runtime.poll_fast(fast=True)
            asked, changes = it.admin.asked, it.changes
            await until(lambda: it.admin.asked > asked + 2)
            assert it.changes == changes
            it.admin.clients = 1
            await until(lambda: it.changes > changes)

    run(main())


def test_an_unchanged_pod_wakes_nothing() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            changes = it.changes
            it.feed(runtime)
            assert it.changes == changes

    run(main())


def test_lobbies_are_polled_fast_only_while_active() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            runtime.poll_fast(fast=False)
            pollers = [pod.poller for pod in runtime._pods.values() if pod.poller is not None]
            assert [poller.fast for poller in pollers] == [False]

    run(main())


def test_a_finished_pod_is_not_polled_and_can_be_deleted() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            pod = it.pod("prices-1")
            it.server.put(f"{PODS}/prices-1", {**pod, "status": {**pod["status"], "phase": "Failed"}})
            it.feed(runtime)
            (reading,) = await runtime.list("prices")
            assert reading.ended
            assert reading.report is None
            await runtime.delete("prices-1")
            assert f"{PODS}/prices-1" not in it.server.objects

    run(main())


def test_the_problem_of_a_pod_is_known() -> None:
    async def main() -> None:
        async with scene() as it:
            await it.runtime().create(LOBBY, "prices-1")
            scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod = it.pod("prices-1")
            it.server.put(f"{PODS}/prices-1", {**pod, "status": {"conditions": [scheduled]}})
            assert it.runtime().problems() == {"prices-1": "Unschedulable"}

    run(main())


def test_a_drain_is_annotated_and_sent() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            await runtime.drain("prices-1")
            assert it.admin.draining
            assert it.annotations("prices-1")["lobby-gateway.io/draining"].endswith("Z")
            (reading,) = await runtime.list("prices")
            assert reading.draining
            it.annotations("prices-1")["lobby-gateway.io/draining"] = wall_clock.later(-101)
            (later,) = await it.runtime().list("prices")  # of an operator that starts later
            assert later.draining_since is not None
            assert 99 < asyncio.get_running_loop().time() - later.draining_since < 130

    run(main())


def test_a_lobby_that_does_not_have_the_new_key_yet_is_asked_with_the_old_one() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            it.token_keys = (NEW_KEY, OLD_KEY)
            await runtime.drain("prices-1")
            assert it.admin.draining

    run(main())


def test_a_lobby_that_does_not_accept_the_token_is_an_error() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            it.token_keys = (NEW_KEY,)
            with pytest.raises(RuntimeFailedError, match="can't drain prices-1: it answered 401"):
                await runtime.drain("prices-1")
            assert not it.admin.draining

    run(main())


def test_lobbies_are_told_that_their_lobby_was_deleted_and_nothing_is_written() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            await runtime.create(LOBBY, "prices-2")
            it.starts("prices-2", host=DEAD)
            await runtime.create(LOBBY, "prices-3")  # has no address yet
            it.feed(runtime)
            start = len(it.server.asked)
            await runtime.tell_deleted()  # and a lobby that can't be reached keeps no other from it
            assert it.admin.queries == ["lobby=deleted"]
            assert it.server.asked[start:] == []

    run(main())


def test_lobbies_without_a_known_key_are_not_told_that_their_lobby_was_deleted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()

            async def unknown() -> tuple[bytes, ...]:
                raise RuntimeFailedError("no keys")

            runtime._token_keys = unknown
            with caplog.at_level("INFO"):
                await runtime.tell_deleted()
            assert it.admin.queries == []
            assert [each.__dict__["problem"] for each in caplog.records if "deleted" in each.message] == ["no keys"]

    run(main())


def test_a_drain_is_annotated_once_however_often_it_is_sent() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            await runtime.drain("prices-1")
            await runtime.drain("prices-1")
            assert len(it.server.requests("PATCH", "pods")) == 1

    run(main())


def test_an_unreachable_lobby_is_annotated_nevertheless() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = it.runtime()
            for name in ("prices-1", "prices-2", "prices-3"):
                await runtime.create(LOBBY, name)
            it.starts("prices-1", host=DEAD)
            it.starts("prices-3")
            it.admin.broken = True
            it.feed(runtime)
            for name, problem in (
                ("prices-1", "can't drain prices-1: .*127.0.0.99"),
                ("prices-2", "it has no address yet"),
                ("prices-3", "can't drain prices-3: it answered 500"),
            ):
                with pytest.raises(RuntimeFailedError, match=problem):
                    await runtime.drain(name)
                assert "lobby-gateway.io/draining" in it.annotations(name)

    run(main())


def test_a_drain_that_cannot_be_annotated_is_not_sent() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            it.server.instead = lambda _asked: status(503, "ServiceUnavailable", "later")
            with pytest.raises(RuntimeFailedError, match="can't mark prices-1 as draining"):
                await runtime.drain("prices-1")
            assert not it.admin.draining

    run(main())


def test_a_terminating_pod_is_neither_drained_nor_deleted_again() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            await runtime.delete("prices-1")
            it.feed(runtime)
            (reading,) = await runtime.list("prices")
            assert reading.ending
            asked = len(it.server.asked)
            await runtime.delete("prices-1")
            await runtime.drain("prices-1")
            assert len(it.server.asked) == asked

    run(main())


def test_only_the_known_pod_is_deleted() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            pod = it.pod("prices-1")
            it.server.remove(f"{PODS}/prices-1")
            await runtime.delete("prices-1")  # it is gone, so this succeeds
            pod["metadata"]["uid"] = "another"
            it.server.put(f"{PODS}/prices-1", pod)
            await runtime.delete("prices-1")
            await runtime.drain("prices-1")
            assert not it.pod("prices-1")["metadata"].get("deletionTimestamp")
            assert "lobby-gateway.io/draining" not in it.annotations("prices-1")

    run(main())


def test_a_new_pod_of_the_same_name_is_polled_afresh() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            pod = it.pod("prices-1")
            it.server.remove(f"{PODS}/prices-1")
            pod["metadata"]["uid"] = "another"
            it.server.put(f"{PODS}/prices-1", pod)
            it.feed(runtime)
            assert runtime.poll_results()["prices-1"].report is None
            await until(lambda: runtime.poll_results()["prices-1"].report)

    run(main())


def test_a_failed_delete_is_reported() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            it.server.instead = lambda _asked: status(503, "ServiceUnavailable", "later")
            with pytest.raises(RuntimeFailedError, match=r"can't delete prices-1: .*later"):
                await runtime.delete("prices-1")

    run(main())


def test_a_deleted_pod_is_forgotten() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            it.server.remove(f"{PODS}/prices-1")
            it.feed(runtime)
            assert await runtime.list("prices") == []
            runtime.pod_deleted("prices-1")
            asked = it.admin.asked
            await stays(lambda: it.admin.asked <= asked + 1, seconds=0.5)

    run(main())


def test_a_change_reaches_the_config_map_and_later_pods() -> None:
    async def main() -> None:
        async with scene() as it:
            runtime = await it.serving()
            before = runtime.revision
            changed = support.resource(clients={"seats": 7}, origin={"url": "wss://other.example.com/"})
            await runtime.apply(lobby_from_resource(changed), changed)
            assert "wss://other.example.com/" in it.server.objects[CONFIG]["data"]["lobby.json"]
            assert runtime.revision != before
            await runtime.create(LOBBY, "prices-2")  # whatever Lobby the reconciler still has
            assert it.pod("prices-2")["metadata"]["labels"]["lobby-gateway.io/revision"] == runtime.revision
            asked = len(it.server.asked)
            await runtime.apply(lobby_from_resource(changed), changed)
            assert len(it.server.asked) == asked
            it.settings = replace(it.settings, controller=LobbyControllerSettings(resync_seconds=0.0))
            impatient = it.runtime(changed)
            await impatient.apply(lobby_from_resource(changed), changed)
            it.server.remove(CONFIG)
            await impatient.apply(lobby_from_resource(changed), changed)
            assert CONFIG in it.server.objects

    run(main())


def test_a_changed_configuration_is_annotated_on_pods() -> None:
    async def main() -> None:
        async with scene(maintenance=PodMaintenanceSettings(min_interval_seconds=0.02)) as it:
            runtime = await it.serving()
            await runtime.list("prices")
            before = it.annotations("prices-1")["lobby-gateway.io/config"]
            changed = support.resource(clients={"seats": 7})
            await runtime.apply(lobby_from_resource(changed), changed)
            await until(lambda: it.annotations("prices-1")["lobby-gateway.io/config"] != before)

    run(main())


def test_a_runtime_killed_between_any_two_calls_is_completed_by_another() -> None:
    later = PodMaintenanceSettings(min_interval_seconds=3600)  # its calls would come at unpredictable times

    async def all_of_it(it: Scene) -> None:
        changed = support.resource(clients={"seats": 7})
        runtime = it.runtime()
        if not it.admin.draining:
            await runtime.create(LOBBY, "prices-1")
            it.starts("prices-1")
            it.feed(runtime)
        await runtime.apply(lobby_from_resource(changed), changed)
        await until(lambda: runtime.poll_results()["prices-1"].report)
        await runtime.drain("prices-1")
        await runtime.create(LOBBY, "prices-2")
        await runtime.delete("prices-1")

    def state(it: Scene) -> Any:
        return {
            path: (
                made.get("data"),
                "deletionTimestamp" in made["metadata"],
                "lobby-gateway.io/draining" in made["metadata"].get("annotations", {}),
            )
            for path, made in it.server.objects.items()
        }

    async def main() -> None:
        async with scene(maintenance=later) as it:
            await all_of_it(it)
            wanted, calls = state(it), it.calls
        assert calls >= 6
        for last in range(calls):
            async with scene(maintenance=later) as it:
                it.last_call = last
                with pytest.raises(Killed):
                    await all_of_it(it)
                it.last_call = None
                await all_of_it(it)
                assert state(it) == wanted, f"killed after call {last}"

    run(main())
