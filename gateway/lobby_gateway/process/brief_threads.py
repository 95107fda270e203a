"""Threads that end as soon as nothing is left for them.

asyncio looks up names and reads files in threads, a few times a minute, and keeps idle ones. But while a process has more than
one thread, the kernel counts references to the socket in every system call, so an idle thread makes each send to a client 5 %
dearer (measured).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class BriefThreads(ThreadPoolExecutor):
    """An executor without idle threads: it uses one pool as long as calls are under way, and a new one afterwards.

    A subclass, because asyncio accepts no other default executor; the limit of threads is that of its pools.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._unfinished = 0

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Calls a function in a thread."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor()
            future = self._pool.submit(fn, *args, **kwargs)
            self._unfinished += 1
        future.add_done_callback(self._finished)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the threads; waits for the calls under way if asked."""
        with self._lock:
            pool, self._pool = self._pool, None
        super().shutdown(wait, cancel_futures=cancel_futures)
        if pool is not None:
            pool.shutdown(wait, cancel_futures=cancel_futures)

    def _finished(self, _future: Future[Any]) -> None:
        with self._lock:
            self._unfinished -= 1
            if self._unfinished or self._pool is None:
                return
            pool, self._pool = self._pool, None
        pool.shutdown(wait=False)
