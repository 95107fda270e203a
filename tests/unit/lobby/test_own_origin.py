"""Own connections with a fake `OriginConnection`; tests/integration has real ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.sockets import run
from tests.support.specs import origin_spec
from tests.support.waiting import until

from lobby_gateway.lobby import own_origin
from lobby_gateway.lobby.own_origin import OwnOrigin
from lobby_gateway.lobby.stream_source import Source
from lobby_gateway.origin.states import Failure
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.websocket.frames import Batch


class FakeConnection:
    """Does what the test says."""

    def __init__(self, *_: Any, begin_epoch: Callable[[], None], ended: Callable[[], None], **options: Any) -> None:
        self.begin_epoch = begin_epoch
        self.ended = ended
        self.renew: Callable[[], None] = options["renew"]
        self.state = OriginState.IDLE
        self.failures: Counter[Failure] = Counter()
        self.attempts = 0
        self.connections = 0
        self.subprotocol = ""
        self.closed = asyncio.Event()

    @property
    def streaming(self) -> bool:
        return self.state is OriginState.CONNECTED

    def inherit(self, other: FakeConnection) -> None:
        self.inherited = other

    def set_needed(self, needed: bool) -> None:
        if needed and self.state is OriginState.IDLE:
            self.state = OriginState.CONNECTING
            self.attempts += 1

    def begin(self) -> None:
        self.state = OriginState.CONNECTED
        self.connections += 1
        self.begin_epoch()

    def end(self) -> None:
        self.state = OriginState.WAITING
        self.ended()

    def report(self) -> OriginReport:
        return OriginReport(state=self.state, connections=self.connections)

    async def run(self) -> None:
        await self.closed.wait()

    async def close(self) -> None:
        self.closed.set()


class Listener:
    """Takes the renewed session over as soon as its stream begins, like `StreamSources` at an exact place."""

    def __init__(self) -> None:
        self.active: Source | None = None
        self.origin: OwnOrigin | None = None

    def own_began(self, source: Source) -> None:
        before, self.active = self.active, source
        assert self.origin is not None
        self.origin.taken(source)
        if before is not None:
            self.origin.give_up(before)

    def own_received(self, source: Source, batch: Batch) -> None:
        raise NotImplementedError

    def own_ended(self, source: Source) -> None:
        if source is self.active:
            self.active = None

    def own_forgotten(self) -> None:
        raise NotImplementedError

    def own_closed(self, code: int, round_trip: float) -> bool:
        raise NotImplementedError


@asynccontextmanager
async def streaming(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[OwnOrigin, list[FakeConnection]]]:
    """An own origin whose first connection streams, and the connections that it makes."""
    made: list[FakeConnection] = []

    def make(*args: Any, **options: Any) -> FakeConnection:
        made.append(FakeConnection(*args, **options))
        return made[-1]

    monkeypatch.setattr(own_origin, "OriginConnection", make)
    listener = Listener()
    spec = origin_spec(renew={"everySeconds": 3600, "overlap": True})
    origin = listener.origin = OwnOrigin(spec, None, read_secrets=NotImplemented, listener=listener)
    running = asyncio.create_task(origin.run())
    await asyncio.sleep(0)
    origin.set_needed(True)
    made[0].begin()
    try:
        yield origin, made
    finally:
        await origin.close()
        await running


def test_a_renewed_connection_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with streaming(monkeypatch) as (origin, made):
            made[0].failures[Failure.LOST] = 2
            made[0].renew()
            made[1].begin()
            await until(made[0].closed.is_set)
            await asyncio.sleep(0)
            assert origin.report().connections == 2
            assert origin.attempts == 2
            assert origin.failures[Failure.LOST] == 2

    run(main())


def test_a_connection_that_is_lost_during_its_renewal_is_succeeded_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with streaming(monkeypatch) as (origin, made):
            made[0].renew()
            assert made[1].inherited is made[0]
            made[0].end()
            assert origin.report().state is OriginState.CONNECTING
            await until(made[0].closed.is_set)

    run(main())


@pytest.mark.parametrize("state", [OriginState.WAITING, OriginState.REFUSED])
def test_a_lost_connection_does_not_wait_as_long_as_a_refused_renewal(
    monkeypatch: pytest.MonkeyPatch, state: OriginState
) -> None:
    async def main() -> None:
        async with streaming(monkeypatch) as (origin, made):
            made[0].renew()
            made[1].state = state
            made[0].end()
            await until(made[1].closed.is_set)
            assert not made[0].closed.is_set()
            made[0].begin()
            assert origin.streaming

    run(main())
