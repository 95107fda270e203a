from __future__ import annotations

import asyncio

import pytest

from lobby_gateway.process.background import BackgroundTasks


async def fail(text: str) -> None:
    raise ZeroDivisionError(text)


def test_the_first_failure_is_the_owners_whenever_it_asks_and_the_others_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        tasks = BackgroundTasks()
        waiting = asyncio.create_task(tasks.wait_failed())
        ended = tasks.spawn(asyncio.sleep(0), "ended")
        stopped = tasks.spawn(asyncio.sleep(60), "stopped")
        await ended
        stopped.cancel()
        await asyncio.wait([stopped])
        assert not waiting.done()
        failing = [tasks.spawn(fail(text), text) for text in ("first", "second")]
        await asyncio.wait(failing)
        for asked in (waiting, tasks.wait_failed()):
            with pytest.raises(ZeroDivisionError, match="first"):
                await asked
        assert [each.__dict__["task"] for each in caplog.records] == ["second"]

    asyncio.run(main())


def test_who_stops_waiting_leaves_the_tasks_alone_and_their_failures_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        tasks = BackgroundTasks()
        task = tasks.spawn(asyncio.sleep(60), "sleep")
        waiting = asyncio.create_task(tasks.wait_failed())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not task.done()
        failing = tasks.spawn(fail("later"), "fail")
        await asyncio.wait([failing])
        assert [each.__dict__["task"] for each in caplog.records] == ["fail"]
        with pytest.raises(ZeroDivisionError):
            await tasks.wait_failed()
        task.cancel()

    asyncio.run(main())
