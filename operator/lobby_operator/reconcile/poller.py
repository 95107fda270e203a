"""Polls the admin ports of lobbies and greeters for their reports.

Each process is polled by its own task, so that one that hangs delays no other. A process counts as unresponsive from the
first failed poll; what follows from that is up to the planner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Generic

from lobby_gateway.errors import internal_error
from lobby_gateway.http.client import HttpClient, HttpError
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_operator.planner.state import PollResult, R
from lobby_operator.settings import PollSettings

logger = logging.getLogger(__name__)


class PollSchedule:
    """Divides the rate of polls among the pollers of this process, which all share one schedule.

    Args:
        settings: intervals and rates.

    Attributes:
        settings: intervals and rates.
        slots: held during a poll.
        pollers: number of pollers.
        unanswered: number of them that have never had an answer.
        bugs: errors that nobody expected, of all of them.
    """

    def __init__(self, settings: PollSettings | None = None) -> None:
        self.settings = settings or PollSettings()
        self.slots = asyncio.Semaphore(self.settings.max_concurrent)
        self.bugs = RepeatedFailures(time.monotonic, lapses=True)
        self.pollers = 0
        self.unanswered = 0

    def interval(self, *, answered: bool, fast: bool) -> float:
        """Seconds between two polls of one process.

        Args:
            answered: the process has answered at least once.
            fast: something is changing.
        """
        settings = self.settings
        if not answered:
            return max(settings.fast_interval_seconds, self.unanswered / settings.max_first_polls_per_second)
        interval = settings.fast_interval_seconds if fast else settings.interval_seconds
        return max(interval, self.pollers / settings.max_polls_per_second)


class Poller(Generic[R]):
    """Polls one process until it is closed.

    Args:
        name: name of the process, for logs.
        address: IP address and port of its admin port.
        path: path to request.
        parse: makes a report of JSON; raises ValueError, TypeError or KeyError.
        on_result: called after each poll, whether it succeeded or not.
        schedule: the schedule of this operator process.

    Attributes:
        address: IP address and port of the admin port.
        result: outcome of the latest poll.
        fast: poll at the fast interval.
        quiet: log no failures: the process is starting, or is being deleted.
    """

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        path: str,
        parse: Callable[[dict[str, Any]], R],
        on_result: Callable[[], None],
        *,
        schedule: PollSchedule,
    ) -> None:
        self.address = address
        self.result: PollResult[R] = PollResult()
        self.fast = True
        self.quiet = False
        self._name = name
        self._client = HttpClient(*address, timeout=schedule.settings.timeout_seconds)
        self._path = path
        self._parse: Callable[[dict[str, Any]], R] = parse
        self._on_result = on_result
        self._schedule = schedule
        self._now = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._failures = RepeatedFailures(self._clock)
        self._task = asyncio.create_task(self._run(), name=f"poll {name}")
        schedule.pollers += 1
        schedule.unanswered += 1
        self._task.add_done_callback(self._stopped)

    @property
    def interval(self) -> float:
        """Seconds between two polls."""
        return self._schedule.interval(answered=self.result.report is not None, fast=self.fast)

    def poll_now(self) -> None:
        """Polls without waiting for the interval to pass."""
        self._now.set()

    async def close(self) -> None:
        """Stops polling."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._client.close()

    async def _run(self) -> None:
        while True:
            async with self._schedule.slots:
                await self._poll()
            try:
                self._on_result()
            except Exception as error:  # a bug: it is polled again, or it would look for ever as it does now
                if (told := self._schedule.bugs.failed(internal_error(error))) is not None:
                    logger.exception("a poll failed", extra={"child": self._name, **told})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.interval):
                    await self._now.wait()
            self._now.clear()

    async def _poll(self) -> None:
        started = self._clock()
        try:
            # An answer that is not a report counts as no answer, whatever its status and type.
            report = self._parse((await self._client.get(self._path)).json())
        except Exception as error:  # noqa: BLE001  # whatever it answers: it is polled again
            expected = isinstance(error, HttpError | ValueError | TypeError | KeyError | AttributeError)
            problem = str(error) if expected else internal_error(error)
            last = self.result
            if not self.quiet and (told := self._failures.failed(problem)) is not None:
                logger.warning("not responding", extra={"child": self._name, **told})
            since = started if last.unresponsive_since is None else last.unresponsive_since
            self.result = PollResult(last.report, last.at, since, problem)
            return
        if (told := self._failures.worked()) is not None:
            logger.warning("responding again", extra={"child": self._name, **told})
        self._schedule.unanswered -= self.result.report is None
        self.result = PollResult(report, self._clock())

    def _stopped(self, _task: asyncio.Task[None]) -> None:
        self._schedule.pollers -= 1
        self._schedule.unanswered -= self.result.report is None
