from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tests.support.kube_api import status
from tests.support.waiting import until
from tests.unit.operator.kube.support import connected

from lobby_gateway.process.background import BackgroundTasks
from lobby_operator.kube.pod_state import PodState
from lobby_operator.kube.start_watch import StartWatch
from lobby_operator.planner.state import Hold
from lobby_operator.settings import StartWatchSettings

EVENTS = "/apis/events.k8s.io/v1/namespaces/shop/events"
POD = PodState(name="prices-1", uid="u1", node="node-1")


def failed(name: str = "a", uid: str = "u1") -> dict[str, Any]:
    note = 'MountVolume.SetUp failed for volume "secrets" : secret "feed" not found'
    return {"metadata": {"name": name}, "reason": "FailedMount", "note": note, "regarding": {"uid": uid}}


def test_the_events_of_a_pod_that_waits_are_read_until_it_starts() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(f"{EVENTS}/a", failed())
            pods = [POD]
            changes: list[int] = []
            watch = StartWatch(
                api,
                "shop",
                awaiting=lambda: pods,
                secrets=dict,
                changed=lambda: changes.append(len(watch.held)),
                spawn=BackgroundTasks().spawn,
                settings=StartWatchSettings(poll_seconds=0.01),
            )
            watch.start()
            try:
                await until(lambda: watch.held)
                assert watch.held["u1"].hold is Hold.SECRET_MISSING
                asked = server.requests("GET", "events")
                assert {each.query["fieldSelector"] for each in asked} == {"regarding.uid=u1"}
                pods.clear()
                await until(lambda: not watch.held)
                assert changes == [1, 0]
                count = len(server.requests("GET", "events"))
                await asyncio.sleep(0.1)
                assert len(server.requests("GET", "events")) == count  # nobody waits
            finally:
                await watch.close()

    asyncio.run(main())


def test_many_pods_wait_for_the_same() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(f"{EVENTS}/a", failed())
            pods = [replace(POD, uid=f"u{number}") for number in range(1, 8)]
            watch = StartWatch(
                api,
                "shop",
                awaiting=lambda: pods,
                secrets=dict,
                changed=lambda: None,
                spawn=BackgroundTasks().spawn,
                settings=StartWatchSettings(poll_seconds=0.01, max_pods=2),
            )
            watch.start()
            try:
                await until(lambda: len(watch.held) == len(pods))
                asked = server.requests("GET", "events")
                assert {each.query["fieldSelector"] for each in asked} == {"regarding.uid=u1", "regarding.uid=u2"}
            finally:
                await watch.close()

    asyncio.run(main())


def test_nothing_is_asked_about_pods_that_start_in_time() -> None:
    """While thousands start, each list of Events would cost the server a look at all of them."""

    async def main() -> None:
        async with connected() as (server, api):
            server.put(f"{EVENTS}/a", failed())
            started: list[PodState] = []

            def awaiting() -> list[PodState]:
                started.append(replace(POD, uid=f"u{len(started)}"))
                return started[-1:]

            watch = StartWatch(
                api,
                "shop",
                awaiting=awaiting,
                secrets=dict,
                changed=lambda: None,
                spawn=BackgroundTasks().spawn,
                settings=StartWatchSettings(poll_seconds=0.01),
            )
            watch.start()
            try:
                await until(lambda: len(started) > 10)
                assert not server.requests("GET", "events")
            finally:
                await watch.close()

    asyncio.run(main())


def test_without_the_right_to_read_events_it_tries_again() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(f"{EVENTS}/a", failed())
            server.instead = lambda _asked: status(403, "Forbidden", "no")
            watch = StartWatch(
                api,
                "shop",
                awaiting=lambda: [POD],
                secrets=dict,
                changed=lambda: None,
                spawn=BackgroundTasks().spawn,
                settings=StartWatchSettings(poll_seconds=0.01),
            )
            watch.start()
            try:
                await until(lambda: len(server.requests("GET", "events")) > 1)
                assert not watch.held
                server.instead = lambda _asked: None
                await until(lambda: watch.held)
            finally:
                await watch.close()

    asyncio.run(main())
