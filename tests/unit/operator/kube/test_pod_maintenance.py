"""Maintenance of annotations and the disruption budget, against a fake server of the API on a real socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import SETTINGS, UID, connected, lobby, running_pod

from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_operator.kube.names import lobby_labels
from lobby_operator.kube.pod_maintenance import DisruptionBudget, PodMaintenance, disruption_budget, min_available
from lobby_operator.kube.pod_state import PodState, pod_state
from lobby_operator.kube.pods import pod_manifest
from lobby_operator.settings import PodMaintenanceSettings

PODS = "/api/v1/namespaces/shop/pods"
BUDGET = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/prices-lobby"
SAFE = "cluster-autoscaler.kubernetes.io/safe-to-evict"
CONFIG = "lobby-gateway.io/config"


QUICK = PodMaintenanceSettings(
    min_interval_seconds=0.02, max_interval_seconds=0.02, retry_seconds=0.05, evictable_after_seconds=0.0
)
LOWER_SECONDS = PodMaintenanceSettings().lower_budget_seconds


class Pods:
    """What the watch shows, and the reports of lobbies."""

    def __init__(self, server: FakeKubeApi) -> None:
        self.server = server
        self.reports: dict[str, LobbyReport | None] = {}
        self.shown: dict[str, PodState] = {}
        self.stuck = False

    def make(self, count: int, *, clients: int = 0) -> None:
        for index in range(1, count + 1):
            name = f"prices-{index}"
            made = pod_manifest(lobby(), name, SETTINGS, config="old")
            self.server.put(f"{PODS}/{name}", running_pod(made))
            self.says(name, clients)

    def says(self, name: str, clients: int) -> None:
        self.reports[name] = LobbyReport(name=name, lobby="prices", clients=clients)

    def of(self, name: str) -> dict[str, str]:
        found = self.server.objects[f"{PODS}/{name}"]["metadata"]["annotations"]
        assert isinstance(found, dict)
        return found

    def __call__(self) -> list[tuple[PodState, LobbyReport | None]]:
        if not self.stuck:
            there = [each for path, each in self.server.objects.items() if path.startswith(PODS)]
            self.shown = {each["metadata"]["name"]: pod_state(each) for each in there}
        return [(pod, self.reports.get(name)) for name, pod in self.shown.items()]


@asynccontextmanager
async def maintained(**settings: Any) -> AsyncIterator[tuple[FakeKubeApi, Pods, PodMaintenance]]:
    async with connected() as (server, api):
        pods = Pods(server)
        spawn = BackgroundTasks().spawn
        maintenance = PodMaintenance(
            api, lobby(), pods, replace(QUICK, **settings), spawn=spawn, labels={"team": "data"}
        )
        try:
            yield server, pods, maintenance
        finally:
            await maintenance.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def available(server: FakeKubeApi) -> int | None:
    return server.objects[BUDGET]["spec"]["minAvailable"] if BUDGET in server.objects else None


def test_nothing_happens_before_it_is_started() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(2, clients=1)
            maintenance.configured("new")
            await stays(lambda: not server.asked, seconds=0.1)

    run(main())


def test_an_occupied_lobby_is_not_safe_to_evict_until_it_is_empty_again() -> None:
    async def main() -> None:
        async with maintained() as (_, pods, maintenance):
            pods.make(1)
            maintenance.start()
            pods.says("prices-1", 3)
            await until(lambda: pods.of("prices-1")[SAFE] == "false")
            pods.says("prices-1", 0)
            await until(lambda: pods.of("prices-1")[SAFE] == "true")

    run(main())


def test_a_lobby_that_is_briefly_empty_is_not_safe_to_evict() -> None:
    async def main() -> None:
        async with maintained(evictable_after_seconds=3600) as (_, pods, maintenance):
            pods.make(1, clients=1)
            maintenance.start()
            await until(lambda: pods.of("prices-1")[SAFE] == "false")
            pods.says("prices-1", 0)
            await stays(lambda: pods.of("prices-1")[SAFE] == "false", seconds=0.2)

    run(main())


def test_a_lobby_without_a_report_is_not_annotated() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(1)
            pods.reports.clear()
            maintenance.start()
            await until(lambda: BUDGET in server.objects)
            await stays(lambda: not server.requests("PATCH", "pods"), seconds=0.1)

    run(main())


def test_a_new_configuration_is_annotated_on_every_live_pod() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(3)
            ended = server.objects[f"{PODS}/prices-3"]
            server.put(f"{PODS}/prices-3", {**ended, "status": {"phase": "Failed"}})
            maintenance.start()
            maintenance.configured("new")
            await until(lambda: [pods.of(f"prices-{n}")[CONFIG] for n in (1, 2)] == ["new", "new"])
            await stays(lambda: pods.of("prices-3")[CONFIG] == "old", seconds=0.1)
            assert len(server.requests("PATCH", f"{PODS}/")) == 2

    run(main())


def test_a_recent_write_is_not_repeated() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(1)
            pods()
            pods.stuck = True
            maintenance.start()
            maintenance.configured("new")
            await until(lambda: pods.of("prices-1")[CONFIG] == "new")
            await stays(lambda: len(server.requests("PATCH", f"{PODS}/")) == 1, seconds=0.2)

    run(main())


def test_a_lost_write_is_repeated() -> None:
    async def main() -> None:
        async with maintained(rewrite_seconds=0.1) as (server, pods, maintenance):
            pods.make(1)
            pods()
            pods.stuck = True
            maintenance.start()
            maintenance.configured("new")
            await until(lambda: len(server.requests("PATCH", f"{PODS}/")) > 1)

    run(main())


def test_a_deleted_pod_does_not_block_others() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(2)
            pods()
            pods.stuck = True
            server.remove(f"{PODS}/prices-1")
            maintenance.start()
            maintenance.configured("new")
            await until(lambda: pods.of("prices-2")[CONFIG] == "new")

    run(main())


def test_writes_per_round_are_limited() -> None:
    async def main() -> None:
        async with maintained(max_writes=2, max_interval_seconds=3600) as (_, pods, maintenance):
            pods.make(5)
            maintenance.start()
            maintenance.configured("new")
            await until(lambda: all(pods.of(f"prices-{n}")[CONFIG] == "new" for n in range(1, 6)))

    run(main())


def test_the_budget_follows_the_lobbies() -> None:
    async def main() -> None:
        async with maintained(lower_budget_seconds=0.3) as (server, pods, maintenance):
            maintenance.start()
            await until(lambda: available(server) == 0)
            assert (
                server.objects[BUDGET]["metadata"]["labels"].items()
                >= {"team": "data", **lobby_labels("prices")}.items()
            )
            pods.make(3)
            await until(lambda: available(server) == 2)
            server.remove(f"{PODS}/prices-3")
            await until(lambda: available(server) == 1)

    run(main())


def test_a_restart_does_not_lower_the_budget() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(3)
            server.put(BUDGET, disruption_budget(lobby(), 7))
            maintenance.start()
            await until(lambda: server.requests("GET", BUDGET))
            await stays(lambda: available(server) == 7, seconds=0.2)
            pods.make(10)
            await until(lambda: available(server) == 9)

    run(main())


def test_an_edited_budget_is_corrected() -> None:
    async def main() -> None:
        async with maintained() as (server, _, maintenance):
            server.put(BUDGET, {**disruption_budget(lobby(), 0), "spec": {"minAvailable": "50%"}})
            maintenance.start()
            await until(lambda: available(server) == 0)

    run(main())


def test_a_budget_of_someone_else_is_left_alone_and_named_until_it_is_gone() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(2)
            theirs = server.put(BUDGET, {"spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "theirs"}}}})
            maintenance.start()
            maintenance.configured("new")
            await until(lambda: maintenance.problem)
            assert maintenance.problem.startswith(
                "the PodDisruptionBudget prices-lobby in namespace shop was created by"
            )
            await until(lambda: pods.of("prices-2")[CONFIG] == "new")  # the rest of the maintenance goes on
            await stays(lambda: server.objects[BUDGET] == theirs, seconds=0.2)
            server.remove(BUDGET)
            await until(lambda: available(server) == 1 and not maintenance.problem)

    run(main())


def test_a_failure_is_logged_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(2)
            server.instead = lambda _asked: status(503, "ServiceUnavailable", "later")
            maintenance.start()
            await until(lambda: "pod maintenance failed" in caplog.text)
            server.instead = lambda _asked: None
            await until(lambda: available(server) == 1)

    with caplog.at_level(logging.WARNING):
        run(main())


def test_a_bug_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(2)
            server.put(BUDGET, {**disruption_budget(lobby(), 0), "spec": None})
            maintenance.start()
            await until(lambda: "pod maintenance failed" in caplog.text)
            server.put(BUDGET, disruption_budget(lobby(), 0))
            await until(lambda: available(server) == 1)

    with caplog.at_level(logging.ERROR):
        run(main())


@pytest.mark.parametrize(("lobbies", "stay"), [(0, 0), (1, 0), (2, 1), (10, 9), (19, 18), (20, 18), (2000, 1800)])
def test_a_tenth_of_the_lobbies_may_be_evicted_and_at_least_one(lobbies: int, stay: int) -> None:
    assert min_available(lobbies, PodMaintenanceSettings().lobbies_per_eviction) == stay


def test_the_budget_selects_the_lobbys_pods_and_is_owned_by_it() -> None:
    budget = disruption_budget(lobby(), 2)
    assert budget["metadata"]["name"] == "prices-lobby"
    assert budget["metadata"]["ownerReferences"][0]["uid"] == UID
    assert budget["spec"]["minAvailable"] == 2
    assert budget["spec"]["selector"]["matchLabels"]["lobby-gateway.io/lobby"] == "prices"
    assert "maxUnavailable" not in budget["spec"]


def test_a_draining_lobby_may_always_be_evicted() -> None:
    assert disruption_budget(lobby(), 2)["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_budget_is_not_changed_before_it_is_known() -> None:
    assert DisruptionBudget().change(5, 0.0) is None


def test_the_budget_is_raised_at_once() -> None:
    budget = DisruptionBudget()
    budget.written(0)
    assert budget.change(3, 0.0) == 2
    budget.written(2)
    assert budget.change(3, 0.0) is None


def test_the_budget_is_lowered_late() -> None:
    budget = DisruptionBudget()
    budget.written(2)
    assert budget.change(2, 10.0) is None
    assert budget.change(2, 10.0 + LOWER_SECONDS - 1) is None
    assert budget.change(2, 10.0 + LOWER_SECONDS) == 1


def test_replacing_an_evicted_lobby_does_not_lower_the_budget() -> None:
    budget = DisruptionBudget()
    budget.written(2)
    assert budget.change(2, 10.0) is None  # evicted
    assert budget.change(3, 12.0) is None  # replaced
    assert budget.change(2, 13.0) is None  # the next
    assert budget.change(2, 13.0 + LOWER_SECONDS - 1) is None


def test_a_deleted_budget_is_written_again_once_it_is_missed() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(3)
            maintenance.start()
            await until(lambda: available(server) == 2)
            uid = maintenance.budget_uid
            assert uid == server.objects[BUDGET]["metadata"]["uid"]
            server.remove(BUDGET)
            maintenance.forget_budget()
            await until(lambda: available(server) == 2)
            await until(lambda: maintenance.budget_uid not in ("", uid))

    run(main())


def test_a_budget_that_is_still_there_is_not_written_again() -> None:
    async def main() -> None:
        async with maintained() as (server, pods, maintenance):
            pods.make(3)
            maintenance.start()
            await until(lambda: available(server) == 2)
            maintenance.forget_budget()
            await until(lambda: maintenance.budget_uid)
            assert [each.method for each in server.asked if each.path.startswith(BUDGET)].count("PATCH") == 0

    run(main())
