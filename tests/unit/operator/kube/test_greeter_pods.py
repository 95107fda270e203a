"""Polls of greeters' pods, each with a real admin port on its own address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tests.support.waiting import stays, until

from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.process.seat_reports import GreeterReport
from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.greeter_pods import GreeterPods


class Greeter:
    """The admin port of a greeter."""

    def __init__(self) -> None:
        self.report = GreeterReport()
        self.polls = 0
        self.server = AdminServer({("GET", "/waiting"): self._waiting})

    async def _waiting(self, _request: AdminRequest) -> AdminResponse:
        self.polls += 1
        return AdminResponse.json(self.report.to_json())


class Scene:
    """Two greeters, and the Lobbies reported as changed."""

    def __init__(self, one: Greeter, two: Greeter, port: int) -> None:
        self.one = one
        self.two = two
        self.changed: list[frozenset[str]] = []
        self.greeters = GreeterPods(self.changed.append, port=port, spawn=BackgroundTasks().spawn)

    def pod(self, name: str, address: str, **fields: Any) -> None:
        status = {"phase": fields.pop("phase", "Running"), "podIP": address}
        self.greeters.pod_changed(Change(f"system/{name}", {"metadata": {"name": name, **fields}, "status": status}))


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    one, two = Greeter(), Greeter()
    port = await one.server.start("127.0.0.1", 0)
    await two.server.start("127.0.0.2", port)
    made = Scene(one, two, port)
    made.greeters.poll_fast(fast=True)
    try:
        yield made
    finally:
        await made.greeters.close()
        await one.server.close()
        await two.server.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_every_running_greeter_is_polled() -> None:
    async def main() -> None:
        async with scene() as it:
            it.one.report = GreeterReport(waiting={"shop/prices": 3})
            it.pod("g-1", "127.0.0.1")
            it.pod("g-2", "127.0.0.2")
            it.pod("g-3", "", phase="Pending")
            await until(lambda: it.greeters.serving == 2)
            reports = {key: result.report for key, result in it.greeters.poll_results().items()}
            assert reports == {"system/g-1": it.one.report, "system/g-2": GreeterReport()}

    run(main())


def test_only_changed_lobbies_are_reported() -> None:
    async def main() -> None:
        async with scene() as it:
            it.pod("g-1", "127.0.0.1")
            await until(lambda: it.greeters.serving)
            assert it.changed == []
            it.one.report = GreeterReport(waiting={"shop/prices": 3}, clients={"shop/books": 1})
            await until(lambda: it.changed)
            assert it.changed == [frozenset({"shop/prices", "shop/books"})]
            polls = it.one.polls
            await until(lambda: it.one.polls > polls + 1)
            assert len(it.changed) == 1
            it.one.report = GreeterReport(clients={"shop/books": 1})
            await until(lambda: it.changed[1:] == [frozenset({"shop/prices"})])

    run(main())


def test_a_deleted_greeter_is_no_longer_polled() -> None:
    async def main() -> None:
        async with scene() as it:
            it.pod("g-1", "127.0.0.1")
            await until(lambda: it.greeters.serving)
            it.greeters.pod_changed(Change("system/g-1", None))
            assert it.greeters.poll_results() == {}
            assert it.changed == [frozenset()]
            polls = it.one.polls
            await stays(lambda: it.one.polls <= polls + 1, seconds=0.5)
            it.greeters.pod_changed(Change("system/g-1", None))

    run(main())


def test_a_greeter_with_a_new_address_is_polled_there() -> None:
    async def main() -> None:
        async with scene() as it:
            it.pod("g-1", "127.0.0.1")
            await until(lambda: it.greeters.serving)
            it.pod("g-1", "127.0.0.1", labels={"a": "b"})
            it.two.report = GreeterReport(waiting={"shop/prices": 1})
            it.pod("g-1", "127.0.0.2")
            await until(lambda: it.two.polls)
            await until(lambda: it.greeters.poll_results()["system/g-1"].report == it.two.report)

    run(main())


def test_an_unresponsive_greeter_does_not_count_as_serving() -> None:
    async def main() -> None:
        async with scene() as it:
            it.pod("g-1", "127.0.0.1")
            await until(lambda: it.greeters.serving == 1)
            it.pod("g-1", "127.0.0.1", deletionTimestamp="2026-11-25T10:00:00Z")
            await it.one.server.close()
            await until(lambda: it.greeters.serving == 0)
            assert it.greeters.poll_results()["system/g-1"].unresponsive_since is not None

    run(main())
