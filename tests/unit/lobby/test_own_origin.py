"""Own connections with a fake `OriginConnection`; tests/integration has real ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
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
from lobby_gateway.settings import OriginSettings
from lobby_gateway.trunk.kept import KeptFrame
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
        self.reason = ""
        self.retry_in_seconds = 0.0
        self.closed = asyncio.Event()
        self.permits: list[bool] = []
        self.reconnects = 0
        self.reconnecting = False

    def reconnect(self) -> None:
        self.reconnects += 1
        self.reconnecting = True  # it waits for a permit

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

    def set_permitted(self, permitted: bool) -> None:
        self.permits.append(permitted)

    def end(self) -> None:
        self.state = OriginState.WAITING
        self.ended()

    def report(self) -> OriginReport:
        return OriginReport(
            state=self.state,
            reason=self.reason,
            connections=self.connections,
            retry_in_seconds=self.retry_in_seconds,
        )

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

    def own_kept(self, source: Source, messages: Mapping[str, KeptFrame]) -> None:
        raise NotImplementedError

    def own_ended(self, source: Source) -> None:
        if source is self.active:
            self.active = None

    def own_forgotten(self) -> None:
        raise NotImplementedError

    def own_starved(self) -> None:
        raise NotImplementedError

    def own_closed(self, code: int, round_trip: float) -> bool:
        raise NotImplementedError


@asynccontextmanager
async def streaming(
    monkeypatch: pytest.MonkeyPatch, *, stable_seconds: float = 0.0, overlap: bool = True
) -> AsyncIterator[tuple[OwnOrigin, list[FakeConnection]]]:
    """An own origin whose first connection streams, and the connections that it makes."""
    made: list[FakeConnection] = []

    def make(*args: Any, **options: Any) -> FakeConnection:
        made.append(FakeConnection(*args, **options))
        return made[-1]

    monkeypatch.setattr(own_origin, "OriginConnection", make)
    listener = Listener()
    spec = origin_spec(renew={"everySeconds": 3600, "overlap": overlap})
    settings = OriginSettings(stable_seconds=stable_seconds)
    origin = listener.origin = OwnOrigin(spec, None, read_secrets=NotImplemented, listener=listener, settings=settings)
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


def test_the_report_says_why_a_renewal_fails_while_the_connection_works(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with streaming(monkeypatch) as (origin, made):
            made[0].renew()
            made[1].state, made[1].reason, made[1].retry_in_seconds = OriginState.REFUSED, "HTTP 403", 60.0
            report = origin.report()
            assert (report.state, report.reason) == (OriginState.CONNECTED, "renewal: HTTP 403")
            made[1].reason = ""
            made[1].begin()
            assert origin.report().reason == ""

    run(main())


def test_a_refused_renewal_is_not_begun_again_by_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on at its own pace; see the back-off of `OriginSession`."""

    async def main() -> None:
        async with streaming(monkeypatch) as (_, made):
            made[0].renew()
            made[1].state = OriginState.REFUSED
            for _ in range(100):
                made[0].renew()
            assert len(made) == 2

    run(main())


def test_a_renewal_that_was_refused_is_not_begun_sooner_because_the_connection_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with streaming(monkeypatch) as (_, made):
            made[0].renew()
            made[1].state, made[1].retry_in_seconds = OriginState.REFUSED, 0.2
            refused = asyncio.get_running_loop().time()
            made[0].end()
            made[0].begin()
            made[0].renew()
            assert len(made) == 2
            await until(lambda: len(made) == 3)
            assert asyncio.get_running_loop().time() - refused >= 0.2

    run(main())


def test_an_origin_that_asks_for_a_renewal_at_once_is_not_hammered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with streaming(monkeypatch, stable_seconds=0.2) as (_, made):
            began = asyncio.get_running_loop().time()
            for _ in range(100):
                made[0].renew()
            assert len(made) == 1
            await until(lambda: len(made) == 2)
            assert asyncio.get_running_loop().time() - began >= 0.2
            made[1].begin()
            made[1].renew()
            await until(made[0].closed.is_set)
            assert len(made) == 2

    run(main())


def test_without_overlap_a_renewal_that_waits_for_a_permit_is_begun_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with streaming(monkeypatch, overlap=False) as (_, made):
            for _ in range(3):
                made[0].renew()
            assert made[0].reconnects == len(made) == 1

    with caplog.at_level("INFO"):
        run(main())
    assert [each.getMessage() for each in caplog.records] == ["origin: renewing the connection"]


def test_a_suspended_origin_has_no_connection_and_says_why_until_it_is_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with streaming(monkeypatch) as (origin, made):
            made[0].renew()
            origin.suspend(60.0)
            await until(made[1].closed.is_set)
            made[0].state = OriginState.IDLE
            report = origin.report()
            assert report.state is OriginState.WAITING
            assert "do not continue the stream" in report.reason
            assert 59 < report.retry_in_seconds <= 60
            origin.set_permitted(False)
            assert origin.report().state is OriginState.IDLE
            origin.set_permitted(True)
            assert not any(made[0].permits)
            origin.resume()
            assert made[0].permits[-1]
            assert origin.report().state is OriginState.IDLE

    run(main())
