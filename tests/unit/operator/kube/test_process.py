"""A complete operator against a fake server of the API, with lobbies that answer."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client.parser import text_string_to_metric_families
from tests.support.kube_api import Asked, FakeKubeApi, fake_kube_api, status
from tests.support.kubelet import FakeKubelet, free_port
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import (
    LOBBIES_PATH,
    PODS_PATH,
    connected,
    lobby_resource,
    operator_settings,
    running,
)

from lobby_gateway.http.admin import AdminRequest, AdminResponse
from lobby_gateway.process.lifecycle import Shutdown
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.resource.list_watch import Change
from lobby_operator import metrics
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.election import Election
from lobby_operator.kube.lease import Lease, LeaseLostError
from lobby_operator.kube.manager import ControllerManager
from lobby_operator.kube.metrics import API_CALLS, OPERATOR
from lobby_operator.kube.names import Resource
from lobby_operator.kube.process import Operator, routes
from lobby_operator.settings import (
    ApiSettings,
    EventSettings,
    KopfSettings,
    LeaseSettings,
    OperatorSettings,
    PodSettings,
    ReconcileSettings,
    StatusWriterSettings,
)

PRICES = f"{LOBBIES_PATH.format('shop')}/prices"
PODS = PODS_PATH.format("shop")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/system/leases/lobby-operator"
CALLS = ApiSettings(request_seconds=2.0)
# A call for the Lease may take twice the time between renewals; on a busy machine, calls are slow, and who can't renew ends.
STEADY = LeaseSettings(duration_seconds=60, deadline_seconds=50.0, renew_seconds=1.0)
BRIEF = LeaseSettings(duration_seconds=3, deadline_seconds=2.5, renew_seconds=0.5)


class Killed(BaseException):
    """The operator's process was killed."""


class Cluster:
    """A server of the API, a kubelet, and operators."""

    def __init__(self, server: FakeKubeApi, kubelet: FakeKubelet) -> None:
        self.server = server
        self.kubelet = kubelet
        self.calls = 0

    @asynccontextmanager
    async def operator(
        self, identity: str = "one", *, last_call: int | None = None, lease: LeaseSettings = STEADY, **fields: Any
    ) -> AsyncIterator[tuple[Operator, asyncio.Task[None], Shutdown]]:
        """Runs an operator; with `last_call` it is killed at the call after that."""
        self.calls = 0

        def before(verb: str, resource: Resource) -> None:
            made.before_call(verb, resource, counted)

        def counted(_verb: str, _resource: Resource) -> None:
            self.calls += 1
            if last_call is not None and self.calls > last_call:
                raise Killed

        api = KubeApi(ApiClient(Configuration(host=self.server.url)), before=before, settings=CALLS)
        lease_api = KubeApi(ApiClient(Configuration(host=self.server.url)), before=counted, settings=CALLS)
        made = Operator(
            api,
            OperatorSettings(
                pods=PodSettings(image="lobby:1", token_secret="token"),
                namespace=fields.get("namespace", "shop"),
                own_namespace="system",
                identity=identity,
                token_key_file=fields.get("token_key_file"),
                lobby_namespaces=fields.get("lobby_namespaces", ()),
                prefix_paths=fields.get("prefix_paths", False),
                admin_host="127.0.0.1",
                admin_port=0,
                lease=lease,
                kopf=KopfSettings(min_backoff_seconds=0.01, max_backoff_seconds=0.05),
                reconcile=ReconcileSettings(min_interval_seconds=0.005, min_backoff_seconds=0.02),
                events=EventSettings(gather_seconds=0.01),
                status=StatusWriterSettings(min_interval_seconds=0.02),
                lobby_admin_port=self.kubelet.port,
            ),
            lease_api,
        )
        stopping = Shutdown()
        task = asyncio.create_task(made.run(stopping))
        try:
            yield made, task, stopping
        except AssertionError as error:
            if task.done():
                error.add_note(f"the operator {identity} has ended: {task}")
            raise
        finally:
            stopping.stop("the test is over")
            await asyncio.gather(task, return_exceptions=True)
            await api.close()
            await lease_api.close()

    @property
    def status(self) -> dict[str, Any]:
        stored: dict[str, Any] = self.server.objects[PRICES].get("status") or {}
        return stored

    def condition(self, kind: str, of: str = PRICES) -> dict[str, Any]:
        conditions = (self.server.objects[of].get("status") or {}).get("conditions") or ()
        return next((each for each in conditions if each["type"] == kind), {})

    def reasons(self) -> set[str]:
        return {each["reason"] for path, each in self.server.objects.items() if "/events/" in path}

    def pods(self) -> set[str]:
        return {path.rpartition("/")[2] for path in self.server.objects if path.startswith(f"{PODS}/")}

    def writes(self, start: int = 0) -> list[Asked]:
        """Requests that write, except those of the Lease."""
        return [each for each in self.server.asked[start:] if each.method != "GET" and "/leases" not in each.path]

    def well(self) -> bool:
        """Whether the status says that one lobby is ready."""
        return self.status.get("readyReplicas") == 1 and self.condition("Ready").get("status") == "True"


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    async with fake_kube_api() as server:
        kubelet = await free_port(server)
        async with running(kubelet.run()):
            yield Cluster(server, kubelet)


async def quiet(it: Cluster) -> None:
    """Waits until nothing is written any more: what is not urgent is written a second later."""
    loop = asyncio.get_running_loop()
    writes, since = -1, loop.time()

    def unchanged() -> bool:
        nonlocal writes, since
        if len(it.writes()) != writes:
            writes, since = len(it.writes()), loop.time()
        return loop.time() - since > 1.5

    await until(unchanged)


def run(main: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        async with cluster() as it:
            await main(it)

    asyncio.run(all_of_it())


def test_a_lobby_that_is_applied_gets_a_pod_a_status_and_events() -> None:
    async def main(it: Cluster) -> None:
        async with it.operator() as (made, _, _stopping):
            await until(lambda: made.manager.active)
            it.server.put(PRICES, lobby_resource(spareSeats=8))
            await until(it.well)
            assert it.pods() == {"prices-1"}
            assert it.status["latest"]["address"] == f"{it.kubelet.lobbies['prices-1'].address}:8000"
            assert it.status["selector"].endswith("lobby-gateway.io/lobby=prices")
            assert it.condition("PathAccepted")["status"] == "True"
            await until(lambda: it.reasons() == {"SpareSeatsLow"})
            await until(lambda: any("/poddisruptionbudgets/" in path for path in it.server.objects))
            assert any("/configmaps/prices-lobby" in path for path in it.server.objects)
            assert made.ready() == made.alive() == ""

    run(main)


def test_it_runs_as_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr("getpass.getuser", unknown)  # as in a pod

    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(it.well)

    run(main)


def test_without_changes_nothing_is_written_or_read() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator() as (made, _, _stopping):
            await until(it.well)
            await until(lambda: made.manager.reconcilers and not made.manager.reconcilers[0].active)
            start = len(it.server.asked)
            passes = made.manager.reconcilers[0].passes
            await until(lambda: made.manager.reconcilers[0].passes > passes)
            assert it.writes(start) == []
            # Except for uids of ConfigMaps, now and then: someone may delete one.
            asked = [each for each in it.server.asked[start:] if each.method == "GET"]
            assert all(each.path.endswith("/configmaps") and "Metadata" in each.headers["accept"] for each in asked)

    run(main)


def test_a_standby_writes_nothing_and_takes_over_at_once_when_the_other_stops() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator("one") as (_, first, stopping):
            await until(it.well)
            await quiet(it)
            start = len(it.server.asked)
            async with it.operator("two") as (second, _, _stopping):
                await until(lambda: second.ready() == "" and second.manager.object_counts["pods"] == 1)
                assert not second.manager.active
                user_agents = {each.path for each in it.writes(start)}
                assert all("/leases" in path or "/events" in path for path in user_agents)
                stopping.stop("the test says so")
                await until(lambda: second.manager.active)
                assert first.done()
                await until(it.well)
                assert it.kubelet.started == {"prices-1": 1}

    run(main)


def test_a_standby_whose_watches_are_blind_acts_on_what_the_server_has() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        it.server.put(LEASE, {"spec": {"holderIdentity": "one", "leaseDurationSeconds": 100}})
        acted_on: list[tuple[Any, set[str]]] = []
        async with it.operator("two") as (second, _, _stopping):
            await until(lambda: second.ready() == "" and it.server.watches == 3)
            it.server.deafen()
            start = second.manager.start

            def started(term: int = 0) -> None:
                start(term)
                (record,) = second.manager.lobbies
                (controller,) = second.manager._controllers.values()
                assert controller.runtime is not None
                acted_on.append((record.status, {*controller.runtime.poll_results()}))

            second.manager.start = started  # type: ignore[method-assign]
            async with it.operator("one") as (_, first, stopping):
                await until(it.well)
                await quiet(it)
                before = it.status
                stopping.stop("the test says so")
                await until(first.done)
            await until(lambda: acted_on)
            assert acted_on == [(before, {"prices-1"})]
            await until(lambda: not second.manager.reconcilers[0].active)
            assert it.kubelet.started == {"prices-1": 1}

    run(main)


def test_an_operator_that_lost_the_lease_exits_and_stops_writing() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator() as (made, task, _):
            await until(it.well)
            lease = next(path for path in it.server.objects if "/leases/" in path)
            it.server.put(lease, {"spec": {"holderIdentity": "another", "leaseDurationSeconds": 15}})
            await until(task.done)
            start = len(it.server.asked)
            with pytest.raises(LeaseLostError, match="lost to another"):
                await task
            assert not made.manager.active
            await stays(lambda: it.writes(start) == [], seconds=0.1)
        assert it.server.objects[lease]["spec"]["holderIdentity"] == "another"

    run(main)


async def converges(it: Cluster, killed_at: int) -> bool:
    """Kills an operator after this many calls and lets another complete the work; returns whether the first needed no more."""
    it.server.objects.clear()
    it.server.put(PRICES, lobby_resource(spareSeats=600, uid=f"uid-{killed_at}"))
    it.kubelet.started.clear()
    describe = f"killed at call {killed_at}"
    async with it.operator(last_call=killed_at) as (_, task, _stopping):
        await until(lambda: task.done() or it.status.get("readyReplicas") == 2, describe=describe)
        finished = not task.done()
    async with it.operator():
        await until(
            lambda: it.status.get("readyReplicas") == 2 and it.condition("Scaling").get("reason") == "AsNeeded",
            describe=lambda: f"{describe}: {it.status}",
        )
    assert it.pods() == {"prices-1", "prices-2"}, describe
    assert it.kubelet.started == {"prices-1": 1, "prices-2": 1}, describe
    return finished


def test_an_operator_killed_between_any_two_calls_is_completed_by_another_without_duplicates() -> None:
    async def main(it: Cluster) -> None:
        killed_at = 0
        while not await converges(it, killed_at):
            killed_at += 1
        assert killed_at > 10

    run(main)


def test_an_invalid_lobby_has_a_condition_and_does_not_block_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main(it: Cluster) -> None:
        bad = f"{LOBBIES_PATH.format('shop')}/bad"
        origin = {"url": "ws://feed/", "onConnect": [{"send": "$(NOT_THERE)"}]}
        it.server.put(bad, lobby_resource("bad", origin=origin))
        it.server.put(f"{LOBBIES_PATH.format('shop')}/worse", {**lobby_resource("worse"), "spec": 5})
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(it.well)
            await until(lambda: it.condition("Scaling", bad).get("reason") == "InvalidSpec")
            assert "spec.origin.onConnect[0].send" in it.condition("Scaling", bad)["message"]
            assert it.condition("Ready", bad)["status"] == "False"
            await until(lambda: "InvalidSpec" in it.reasons())
            assert it.pods() == {"prices-1"}
            it.server.put(bad, lobby_resource("bad", generation=2))
            await until(lambda: it.condition("Ready", bad).get("status") == "True")

    with caplog.at_level(logging.ERROR):
        run(main)
    assert caplog.records == []


def test_an_invalid_edit_leaves_the_lobbies_as_they_were() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(it.well)
            origin = {"url": "ws://feed/", "onConnect": [{"send": "$(NOT_THERE)"}]}
            it.server.put(PRICES, {**it.server.objects[PRICES], **_spec(2, replicas=3, origin=origin)})
            await until(lambda: it.condition("Scaling").get("reason") == "InvalidSpec")
            assert it.status["observedGeneration"] == 2
            assert it.condition("Ready")["reason"] == "InvalidSpec"
            assert (it.status["readyReplicas"], len(it.status["open"])) == (1, 1)
            it.server.put(PRICES, {**it.server.objects[PRICES], **_spec(3, replicas=2)})
            await until(lambda: it.status.get("readyReplicas") == 2)
            assert it.condition("Scaling")["status"] == "True"

    run(main)


def _spec(generation: int, **fields: Any) -> dict[str, Any]:
    made = lobby_resource(generation=generation, **fields)
    return {"metadata": {**made["metadata"], "uid": "ignored"}, "spec": made["spec"]}


def test_the_later_of_two_lobbies_with_one_path_has_none() -> None:
    async def main(it: Cluster) -> None:
        later = f"{LOBBIES_PATH.format('shop')}/later"
        it.server.put(PRICES, lobby_resource(created="2026-11-25T10:00:00Z", path="/p"))
        it.server.put(later, lobby_resource("later", created="2026-11-25T10:00:01Z", path="/p"))
        async with it.operator():
            await until(lambda: it.condition("PathAccepted", later).get("reason") == "PathTaken")
            assert "prices" in it.condition("PathAccepted", later)["message"]
            await until(lambda: "PathTaken" in it.reasons())
            it.server.remove(PRICES)
            await until(lambda: it.condition("PathAccepted", later).get("reason") == "Accepted")

    run(main)


def test_a_refused_pod_is_a_condition_and_an_event_until_it_is_created() -> None:
    async def main(it: Cluster) -> None:
        def refuse(asked: Asked) -> Any:
            if asked.method == "POST" and asked.path == PODS:
                return status(403, "Forbidden", 'pods "prices-1" is forbidden: exceeded quota: few')
            return None

        it.server.instead = refuse
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(lambda: it.condition("Scaling").get("reason") == "Failing")
            assert "exceeded quota: few" in it.condition("Scaling")["message"]
            await until(lambda: "ActionFailed" in it.reasons())
            it.server.instead = lambda _asked: None
            await until(it.well)
            await until(lambda: it.condition("Scaling")["status"] == "True")
            await until(lambda: "ScalingAgain" in it.reasons())

    run(main)


def test_a_config_map_of_someone_else_is_left_alone_and_named_in_a_condition() -> None:
    async def main(it: Cluster) -> None:
        path = "/api/v1/namespaces/shop/configmaps/prices-lobby"
        theirs = it.server.put(path, {"metadata": {"labels": {"team": "trading"}}, "data": {"prices.conf": "theirs"}})
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(lambda: it.condition("Scaling").get("reason") == "Failing")
            assert "the ConfigMap prices-lobby in namespace shop was created by" in it.condition("Scaling")["message"]
            await until(lambda: "ActionFailed" in it.reasons())
            await stays(lambda: it.server.objects[path] == theirs and not it.pods(), seconds=0.3)
            it.server.remove(path)
            await until(it.well)
            await until(lambda: it.condition("Scaling")["status"] == "True")

    run(main)


def test_a_budget_of_someone_else_is_named_in_a_condition() -> None:
    async def main(it: Cluster) -> None:
        path = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/prices-lobby"
        theirs = it.server.put(path, {"spec": {"minAvailable": 3}})
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(it.well)
            await until(lambda: it.condition("Scaling").get("reason") == "Failing")
            assert "the PodDisruptionBudget prices-lobby in namespace shop" in it.condition("Scaling")["message"]
            assert it.server.objects[path] == theirs

    run(main)


def test_a_deleted_lobby_is_forgotten_and_a_new_one_of_its_name_starts_afresh() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator() as (made, _, _stopping):
            await until(it.well)
            it.server.remove(PRICES)
            await until(lambda: not made.manager.reconcilers and not it.pods())
            it.server.put(PRICES, lobby_resource(uid="another"))
            await until(it.well)
            assert it.kubelet.started == {"prices-1": 2}

    run(main)


def test_the_lobbies_of_a_deleted_lobby_are_told_before_its_finalizers_are_done(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)

    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator(token_key_file=key) as (made, _, _stopping):
            await until(it.well)
            lobby = it.kubelet.lobbies["prices-1"]
            # As `kubectl delete --cascade=foreground` leaves it until its pods are gone.
            leaving = dict(it.server.objects[PRICES])
            leaving["metadata"] = {**leaving["metadata"], "deletionTimestamp": "2026-11-25T10:00:00Z"}
            it.server.put(PRICES, leaving)
            await until(lambda: lobby.deleted)
            assert not made.manager.reconcilers

    run(main)


def test_the_lobbies_of_an_operator_that_stops_are_not_told_that_their_lobby_was_deleted() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(it.well)
        lobby = it.kubelet.lobbies["prices-1"]
        assert (lobby.deleted, lobby.draining) == (False, False)

    run(main)


def test_a_lost_and_a_recovered_origin_are_reported() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator():
            await until(it.well)
            lobby = it.kubelet.lobbies["prices-1"]
            lobby.origin = OriginReport(state=OriginState.WAITING, reason="no route to it")
            await until(lambda: "OriginLost" in it.reasons())
            assert "no route to it" in it.condition("OriginConnected")["message"]
            lobby.origin = OriginReport(state=OriginState.CONNECTED)
            await until(lambda: "OriginBack" in it.reasons())

    run(main)


def test_an_outage_longer_than_the_lease_ends_the_operator_and_the_next_resumes() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        async with it.operator(lease=BRIEF) as (_, task, _stopping):
            await until(it.well)
            it.server.instead = lambda _asked: status(503, "ServiceUnavailable", "not now")
            await until(task.done)
            with pytest.raises(LeaseLostError):
                await task
        async with it.operator("next", lease=BRIEF) as (made, task, _stopping):
            await stays(lambda: made.ready() != "" and not task.done(), seconds=0.2)
            it.server.instead = lambda _asked: None
            await until(lambda: made.manager.active)
            await until(it.well)
            assert it.kubelet.started == {"prices-1": 1}

    run(main)


def test_in_all_namespaces_each_lobby_has_what_it_needs(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)

    async def main(it: Cluster) -> None:
        lab = f"{LOBBIES_PATH.format('lab')}/prices"
        it.server.put(PRICES, lobby_resource(created="2026-11-25T10:00:00Z"))
        it.server.put(lab, lobby_resource(namespace="lab", created="2026-11-25T10:00:01Z"))
        async with it.operator(namespace="", token_key_file=key) as (made, _, _stopping):
            await until(lambda: {each.lobby.key for each in made.manager.reconcilers} == {"shop/prices", "lab/prices"})
            await until(it.well)
            await until(lambda: it.condition("PathAccepted", lab).get("reason") == "PathTaken")
            assert "shop/prices" in it.condition("PathAccepted", lab)["message"]
            await until(lambda: (it.server.objects[lab].get("status") or {}).get("readyReplicas") == 1)
            secrets = {path for path in it.server.objects if "/secrets/" in path}
            assert secrets == {f"/api/v1/namespaces/{name}/secrets/token" for name in ("shop", "lab")}

    run(main)


def test_a_new_master_key_reaches_all_namespaces_at_once(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)

    def stored(it: Cluster) -> dict[str, str]:
        return {path: each["data"]["key"] for path, each in it.server.objects.items() if "/secrets/" in path}

    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource())
        it.server.put(f"{LOBBIES_PATH.format('lab')}/prices", lobby_resource(namespace="lab", path="/lab"))
        async with it.operator(namespace="", token_key_file=key):
            await until(lambda: len(stored(it)) == 2)
            before = stored(it)
            assert len(set(before.values())) == 2
            await asyncio.to_thread(key.write_text, f"{'ab' * 32}\n{'cd' * 32}\n")
            await until(lambda: all(stored(it)[path] != text for path, text in before.items()), deadline=10)
            for path, text in before.items():  # the first line signs, as before
                assert base64.b64decode(stored(it)[path]).startswith(base64.b64decode(text))

    run(main)


def test_only_lobbies_of_the_named_namespaces_are_served_and_only_their_pods_are_read() -> None:
    async def main(it: Cluster) -> None:
        lab = f"{LOBBIES_PATH.format('lab')}/prices"
        it.server.put(lab, lobby_resource(namespace="lab", created="2026-11-25T10:00:00Z", path="/prices"))
        it.server.put(PRICES, lobby_resource(created="2026-11-25T10:00:01Z"))
        async with it.operator(namespace="", lobby_namespaces=("shop", "feeds")):
            await until(it.well)
            assert it.condition("PathAccepted")["status"] == "True"  # the older Lobby has no claim
            await until(lambda: it.condition("PathAccepted", lab).get("reason") == "NotServed")
            assert it.condition("PathAccepted", lab)["message"] == (
                "Lobbies in namespace lab are not served; accepted: a namespace of watch.lobbyNamespaces (chart)"
            )
            assert it.condition("Ready", lab)["status"] == "False"
            await until(lambda: "NotServed" in it.reasons())
            assert not it.server.requests("POST", "/namespaces/lab/pods")
            listed = {asked.path for asked in it.server.requests("GET", "/pods")}
            assert listed == {f"/api/v1/namespaces/{name}/pods" for name in ("shop", "feeds", "system")}

    run(main)


def test_a_namespace_whose_pods_cannot_be_listed_does_not_stop_the_others() -> None:
    async def main(it: Cluster) -> None:
        def refuse(asked: Asked) -> Any:
            gone = asked.path.startswith("/api/v1/namespaces/gone/")
            return status(403, "Forbidden", "no role there") if gone else None

        gone = f"{LOBBIES_PATH.format('gone')}/prices"
        it.server.instead = refuse
        it.server.put(PRICES, lobby_resource())
        it.server.put(gone, lobby_resource(namespace="gone", path="/gone"))
        async with it.operator(namespace="", lobby_namespaces=("gone", "shop")) as (made, _, _stopping):
            await until(it.well)
            assert made.ready() == ""
            assert not it.server.requests("POST", "/namespaces/gone/pods")  # it may have lobbies already
            it.server.instead = lambda _asked: None
            await until(lambda: it.condition("Ready", gone).get("status") == "True")

    run(main)


def test_with_prefixed_paths_two_namespaces_share_a_path() -> None:
    async def main(it: Cluster) -> None:
        lab = f"{LOBBIES_PATH.format('lab')}/prices"
        it.server.put(PRICES, lobby_resource(path="/p"))
        it.server.put(lab, lobby_resource(namespace="lab", path="/p"))
        async with it.operator(namespace="", prefix_paths=True):
            await until(lambda: it.condition("PathAccepted").get("message") == "served at /shop/p")
            await until(lambda: it.condition("PathAccepted", lab).get("message") == "served at /lab/p")
            config = "/api/v1/namespaces/lab/configmaps/prices-lobby"
            await until(lambda: config in it.server.objects)
            assert json.loads(it.server.objects[config]["data"]["lobby.json"])["spec"]["path"] == "/lab/p"

    run(main)


def _says(it: Cluster, message: str) -> bool:
    return message in it.condition("Scaling").get("message", "")


def test_a_reference_to_a_secret_with_token_keys_is_refused_with_a_condition() -> None:
    async def main(it: Cluster) -> None:
        async with it.operator():
            for number, name in enumerate(("token", "lobby-gateway-token-key"), 1):
                reference = {"secretKeyRef": {"name": name, "key": "key"}}
                origin = {"url": "ws://feed/", "headers": [{"name": "X", "valueFrom": reference}]}
                it.server.put(PRICES, lobby_resource(uid=f"uid-{number}", origin=origin))
                message = f"spec.origin.headers[0].valueFrom.secretKeyRef.name: {name} holds keys of the operator"
                await until(partial(_says, it, message))
                assert it.condition("Scaling")["reason"] == "InvalidSpec"
                assert not it.pods()
                it.server.remove(PRICES)

    run(main)


class Port:
    """The routes of the admin port, and the state of the process."""

    def __init__(self) -> None:
        self.ready = ""
        self.alive = ""
        self.routes: Any = {}

    async def get(self, path: str) -> AdminResponse:
        answer = await self.routes["GET", path](AdminRequest(method="GET", path=path, query="", headers={}))
        assert isinstance(answer, AdminResponse)
        return answer


def run_alone(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def ask(port: Port, path: str, *, active: bool = False) -> AdminResponse:
    async with connected() as (server, api):
        manager = ControllerManager(api, operator_settings())
        lease = Lease(api, Election("one"), namespace="system", name="lobby-operator")
        resource = server.put("/apis/lobby-gateway.io/v1alpha1/namespaces/shop/lobbies/prices", lobby_resource())
        manager.lobby_changed(Change("shop/prices", resource))
        if active:
            manager.start()
        port.routes = routes(manager, lease, [api, api], [], ready=lambda: port.ready, alive=lambda: port.alive)
        try:
            return await port.get(path)
        finally:
            await manager.close()


def test_the_admin_port_shows_lobbies_and_the_holder() -> None:
    async def main() -> None:
        shown = json.loads((await ask(Port(), "/lobbies")).body)
        assert (shown["acts"], shown["holder"], shown["greeters"]) == (False, "", {})
        assert [item["metadata"]["name"] for item in shown["items"]] == ["prices"]

    run_alone(main())


def test_probes_name_the_problem() -> None:
    async def main() -> None:
        port = Port()
        port.ready, port.alive = "not all objects are known yet", "no list or watch of pods for 600 s"
        for path, text in (("/readyz", port.ready), ("/healthz", port.alive)):
            answer = await ask(port, path)
            assert (answer.status, answer.body.decode().strip()) == (503, text)

    run_alone(main())


def test_the_metrics_include_those_of_the_lobby_host_and_the_operator() -> None:
    async def main() -> None:
        page = (await ask(Port(), "/metrics", active=True)).body.decode()
        found = {family.name for family in text_string_to_metric_families(page)}
        for definition in (*metrics.LOBBY_HOST, *API_CALLS, *OPERATOR):
            assert definition.name.removesuffix("_total") in found
        assert 'lobby_operator_known_objects{resource="lobbies"} 1.0' in page
        assert 'lobby_operator_status_writes_total{lobby="shop/prices"} 0.0' in page
        assert 'lobby_operator_kopf_restarts_total{resource="greeters"} 0.0' in page
        assert "lobby_operator_leader 0.0" in page

    run_alone(main())


def test_the_last_valid_spec_stays_in_force_when_the_operator_restarts() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(
            PRICES,
            lobby_resource(path="/p", template={"resources": {"requests": {"cpu": "7m"}}}, replicas=1, spareSeats=0),
        )
        async with it.operator():
            await until(it.well)

        def pod() -> tuple[str, str]:
            metadata = it.server.objects.get(f"{PODS}/prices-1", {"metadata": {"uid": "", "labels": {}}})["metadata"]
            return metadata["uid"], metadata["labels"].get("lobby-gateway.io/revision", "")

        uid, revision = pod()
        origin = {"url": "ws://feed/", "onConnect": [{"send": "$(NOT_THERE)"}]}
        it.server.put(PRICES, {**it.server.objects[PRICES], **_spec(2, replicas=3, origin=origin, path="/q")})
        async with it.operator("two"):
            await until(lambda: it.condition("Scaling").get("reason") == "InvalidSpec")
            last = it.status["lastValidSpec"]
            assert (last["path"], last["replicas"], last["template"]) == ("/p", 1, {})
            assert it.status["path"] == "/p"
            assert (it.pods(), pod()) == ({"prices-1"}, (uid, revision))
            it.server.remove(f"{PODS}/prices-1")
            await until(lambda: pod()[0])  # another one of that name, with the same template
            assert pod() == (pod()[0], revision)
            it.server.put(PRICES, {**it.server.objects[PRICES], **_spec(3, replicas=2, path="/q")})
            await until(lambda: it.status.get("readyReplicas") == 2)
            assert "lastValidSpec" not in it.status
            assert it.status["path"] == "/q"

    run(main)


def test_what_cannot_be_read_of_the_last_valid_spec_is_read_again() -> None:
    async def main(it: Cluster) -> None:
        it.server.put(PRICES, lobby_resource(replicas=1, spareSeats=0))
        async with it.operator():
            await until(it.well)
        origin = {"url": "ws://feed/", "onConnect": [{"send": "$(NOT_THERE)"}]}
        it.server.put(PRICES, {**it.server.objects[PRICES], **_spec(2, replicas=1, origin=origin)})
        failures = iter((500, 503))

        def fail(asked: Asked) -> Any:
            code = next(failures, 0) if asked.path.endswith("/configmaps/prices-lobby") else 0
            return status(code, "InternalError", "not now") if code else None

        it.server.instead = fail
        async with it.operator("two"):
            await until(lambda: it.condition("Scaling").get("reason") == "InvalidSpec")
            assert next(failures, 0) == 0
            assert it.status["lastValidSpec"]["replicas"] == 1

    run(main)
