"""The demo's origin."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from tests.support.waiting import until
from websockets.asyncio.client import connect

from lobby_operator.local import demo
from lobby_operator.local.demo import DemoOrigin


def test_it_ticks_and_is_back_at_the_same_address_after_it_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "RESTART_SECONDS", 0.01)

    async def main() -> None:
        origin = DemoOrigin(log=lambda _line: None, environment=os.environ)
        assert origin.url == ""
        url = await origin.start()
        assert url == origin.url
        async with connect(url) as client:
            assert b'"seq": ' in await client.recv(decode=False)
        child = origin._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)

        async def back() -> bool:
            try:
                async with connect(url):
                    return True
            except OSError:
                return False

        await until(lambda: origin._child is not child)
        await until(back, deadline=20)
        await origin.close(20)
        assert origin._child is not None
        assert origin._child.returncode == 0

    asyncio.run(main())


def test_closing_one_that_was_never_started_does_nothing() -> None:
    async def main() -> None:
        await DemoOrigin(log=None, environment={}).close(1)

    asyncio.run(main())
