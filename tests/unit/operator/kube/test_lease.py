"""Candidates for the Lease against a fake server on a real socket: one holds it, and soon another when that one ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import connected, running

from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.election import Election
from lobby_operator.kube.lease import Lease, LeaseLostError
from lobby_operator.settings import LeaseSettings

PATH = "/apis/coordination.k8s.io/v1/namespaces/system/leases/lobby-operator"
QUICK = LeaseSettings(duration_seconds=2, deadline_seconds=1.5, renew_seconds=0.2)
STEADY = LeaseSettings(duration_seconds=1000, deadline_seconds=500, renew_seconds=0.5)


def candidate(api: KubeApi, identity: str, settings: LeaseSettings = QUICK) -> Lease:
    return Lease(api, Election(identity, settings), namespace="system", name="lobby-operator")


@asynccontextmanager
async def holding(
    settings: LeaseSettings = QUICK,
) -> AsyncIterator[tuple[FakeKubeApi, KubeApi, Lease, asyncio.Task[None]]]:
    """One candidate that holds the Lease."""
    async with connected() as (server, api):
        one = candidate(api, "one", settings)
        task = asyncio.create_task(one.run())
        try:
            await until(one.acquired.is_set)
            yield server, api, one, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_the_first_creates_the_lease_and_renews_it_with_one_call_each() -> None:
    async def main() -> None:
        async with holding(STEADY) as (server, _, one, _task):
            made = server.objects[PATH]["spec"]
            assert made["holderIdentity"] == one.holder == "one"
            assert made["acquireTime"].endswith("Z")
            await until(lambda: len(server.requests("PATCH")) >= 3)
            assert len(server.requests("GET")) == 1
            assert server.objects[PATH]["spec"]["acquireTime"] == made["acquireTime"]
            assert one.holds()

    run(main())


def test_a_standby_waits_and_writes_nothing() -> None:
    async def main() -> None:
        async with holding() as (server, api, _, _task):
            two = candidate(api, "two")
            async with running(two.run()):
                await stays(lambda: not two.acquired.is_set(), seconds=QUICK.duration_seconds + 0.5)
                assert two.holder == "one"
            assert all(asked.body["spec"]["holderIdentity"] == "one" for asked in server.requests("PATCH"))

    run(main())


def test_a_standby_acquires_the_lease_some_time_after_the_holder_was_killed() -> None:
    async def main() -> None:
        async with holding() as (server, api, _, task):
            two = candidate(api, "two")
            async with running(two.run()):
                await until(lambda: two.holder == "one")
                task.cancel()
                await until(two.acquired.is_set)
            assert server.objects[PATH]["spec"]["leaseTransitions"] == 1

    run(main())


def test_a_standby_acquires_a_released_lease_at_once() -> None:
    async def main() -> None:
        async with holding(STEADY) as (_, api, one, task):
            two = candidate(api, "two", STEADY)
            async with running(two.run()):
                await until(lambda: two.holder == "one")
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await one.release()
                await until(two.acquired.is_set)
            await one.release()  # not ours: it stays as it is
            assert two.holds()

    run(main())


def test_the_holder_stops_in_time_if_it_cannot_renew() -> None:
    async def main() -> None:
        async with holding() as (server, _, one, task):
            server.mute.set()
            await until(task.done)
            assert not one.holds()
            with pytest.raises(LeaseLostError, match="lobby-operator could not be renewed in time"):
                await task

    run(main())


def test_the_holder_stops_at_once_when_another_has_the_lease() -> None:
    async def main() -> None:
        async with holding() as (server, _, one, task):
            server.put(PATH, {"spec": {"holderIdentity": "two", "leaseDurationSeconds": 15}})
            await until(task.done)
            assert one.holder == "two"
            with pytest.raises(LeaseLostError, match="lost to two"):
                await task

    run(main())


def test_a_short_outage_costs_nothing() -> None:
    async def main() -> None:
        async with holding() as (server, _, one, task):
            server.instead = lambda _asked: status(503, "ServiceUnavailable", "not now")
            await until(lambda: one.problem)
            server.instead = lambda _asked: None
            await until(lambda: not one.problem)
            assert one.holds()
            assert not task.done()

    run(main())


def test_a_lost_answer_costs_nothing() -> None:
    async def main() -> None:
        async with holding() as (server, _, one, task):
            # The write succeeded but its answer never came: the version that we know is outdated.
            server.put(PATH, {"spec": server.objects[PATH]["spec"]})
            calls = len(server.requests("GET"))
            await until(lambda: len(server.requests("GET")) > calls)
            puts = len(server.requests("PATCH"))
            await until(lambda: len(server.requests("PATCH")) > puts + 2)
            assert one.holds()
            assert not task.done()

    run(main())


def test_a_free_lease_is_acquired_at_once_and_keeps_its_metadata() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            owner = {"meta.helm.sh/release-name": "trial"}
            server.put(PATH, {"metadata": {"annotations": owner}})  # as the chart creates it: without a spec
            one = candidate(api, "one")
            async with running(one.run()):
                await until(one.acquired.is_set)
            assert server.objects[PATH]["spec"]["holderIdentity"] == "one"
            assert server.objects[PATH]["metadata"]["annotations"] == owner

    run(main())
