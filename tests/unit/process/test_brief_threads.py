from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from lobby_gateway.process.brief_threads import BriefThreads

DEADLINE = 10.0


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def alive(threads: list[threading.Thread]) -> bool:
    return any(each.is_alive() for each in threads)


def test_a_thread_ends_with_its_call() -> None:
    executor = BriefThreads()
    for _ in range(3):
        thread = executor.submit(threading.current_thread).result(DEADLINE)
        assert thread is not threading.current_thread()
        assert eventually(lambda thread=thread: not thread.is_alive())  # type: ignore[misc]


def test_threads_of_calls_at_the_same_time_end_after_the_last_of_them() -> None:
    executor = BriefThreads()
    together, go_on = threading.Barrier(4), threading.Event()

    def call() -> threading.Thread:
        together.wait(DEADLINE)
        go_on.wait(DEADLINE)
        return threading.current_thread()

    calls = [executor.submit(call) for _ in range(3)]
    together.wait(DEADLINE)
    go_on.set()
    threads = [each.result(DEADLINE) for each in calls]
    assert len(set(threads)) == 3
    assert eventually(lambda: not alive(threads))


def test_many_calls_share_a_bounded_number_of_threads() -> None:
    executor = BriefThreads()
    go_on = threading.Event()

    def call() -> threading.Thread:
        go_on.wait(DEADLINE)
        return threading.current_thread()

    before = threading.active_count()
    calls = [executor.submit(call) for _ in range(200)]
    assert threading.active_count() - before <= 32
    go_on.set()
    assert not {each.result(DEADLINE) for each in calls} & {threading.current_thread()}


def test_an_exception_is_passed_on_and_the_next_call_works() -> None:
    executor = BriefThreads()
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda: 1 / 0).result(DEADLINE)
    assert executor.submit(max, 1, 2).result(DEADLINE) == 2


def test_shutdown_waits_for_calls_under_way() -> None:
    executor = BriefThreads()
    begun, done = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        release.result(DEADLINE)
        done.set()

    release: Future[None] = Future()
    executor.submit(call)
    assert begun.wait(DEADLINE)
    threading.Timer(0.01, release.set_result, (None,)).start()
    executor.shutdown()
    assert done.is_set()


def test_asyncio_uses_it_and_keeps_no_thread() -> None:
    async def main() -> threading.Thread:
        asyncio.get_running_loop().set_default_executor(BriefThreads())
        thread = await asyncio.to_thread(threading.current_thread)
        thread.join(DEADLINE)
        return thread

    thread = asyncio.run(main())
    assert thread is not threading.current_thread()
    assert not thread.is_alive()
