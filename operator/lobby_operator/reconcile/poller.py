"""Raw readings: what lobbies and greeters answer when they are asked how they are.

Each process is asked by a task of its own, so that one that is silent delays nobody. Nothing is concluded here, apart from
one thing: who does not answer is silent, from the first question that stayed without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from lobby_gateway.http.client import HttpClient, HttpError
from lobby_gateway.process.reports import GreeterReport, LobbyReport

logger = logging.getLogger(__name__)

R = TypeVar("R", LobbyReport, GreeterReport)

POLL_TIMEOUT = 1.0
"""Seconds for an answer. One on the same machine takes a millisecond; a process that takes longer serves nobody well."""

POLL_SECONDS = 1.0
HURRIED_POLL_SECONDS = 0.2

MAX_POLLS_PER_SECOND = 400.0
"""Of all pollers of this process together: about a fifth of a core. With thousands of lobbies each is asked less often."""

MAX_FIRST_POLLS_PER_SECOND = 200.0
"""Of those who never answered yet, beside the others: with thousands of lobbies, too, a new one is noticed at once."""

UNHEARD_SECONDS = 30.0
"""A greeter that does not answer counts for so long with what it said last."""

MAX_QUESTIONS = 256
"""Under way at a time. An operator that begins has thousands to ask, and none of them is silent because we are busy."""


@dataclass(frozen=True, slots=True)
class PollResult(Generic[R]):
    """What a process answered last.

    Attributes:
        report: its latest answer; None before the first.
        at: when that came.
        silent_since: when the first question was asked that stayed without an answer; None while it answers.
        problem: why there was no answer, for a person.
    """

    report: R | None = None
    at: float = 0.0
    unresponsive_since: float | None = None
    problem: str = ""


class Poller(Generic[R]):
    """Asks one process how it is, again and again.

    Args:
        name: of the process, for logs.
        address: IP address and port of its admin port.
        path: what to ask for.
        parse: makes a report of JSON; raises ValueError, TypeError or KeyError.
        answered: is called after each question, with or without an answer.

    Attributes:
        address: where it is asked.
        reading: what it answered last.
        hurried: something moves: ask more often.
        ending: it was told to end, and no answer is nothing to log.
    """

    running = 0
    """How many pollers there are in this process."""

    unanswered = 0
    """How many of them never had an answer."""

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        path: str,
        parse: Callable[[dict[str, Any]], R],
        answered: Callable[[], None],
    ) -> None:
        self.address = address
        self.reading: PollResult[R] = PollResult()
        self.hurried = True
        self.ending = False
        self._name = name
        self._client = HttpClient(*address, timeout=POLL_TIMEOUT)
        self._path = path
        self._parse: Callable[[dict[str, Any]], R] = parse
        self._answered = answered
        self._now = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._logged = False
        self._task = asyncio.create_task(self._run(), name=f"poll {name}")
        Poller.running += 1
        Poller.unanswered += 1
        self._task.add_done_callback(self._stopped)

    @property
    def pause(self) -> float:
        """Seconds between two questions."""
        if self.reading.report is None:
            return max(HURRIED_POLL_SECONDS, Poller.unanswered / MAX_FIRST_POLLS_PER_SECOND)
        return max(HURRIED_POLL_SECONDS if self.hurried else POLL_SECONDS, Poller.running / MAX_POLLS_PER_SECOND)

    def ask_now(self) -> None:
        """Asks without waiting for the next turn."""
        self._now.set()

    async def close(self) -> None:
        """Asks no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._client.close()

    async def _run(self) -> None:
        while True:
            async with _room():
                await self._ask()
            self._answered()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pause):
                    await self._now.wait()
            self._now.clear()

    async def _ask(self) -> None:
        asked = self._clock()
        try:
            # What is no report, whatever its status and type, is as good as no answer.
            report = self._parse((await self._client.get(self._path)).json())
        except (HttpError, ValueError, TypeError, KeyError, AttributeError) as error:
            last = self.reading
            if last.unresponsive_since is None and not self.ending:
                logger.warning("does not answer", extra={"child": self._name, "problem": str(error)})
                self._logged = True
            since = asked if last.unresponsive_since is None else last.unresponsive_since
            self.reading = PollResult(last.report, last.at, since, str(error))
            return
        if self.reading.unresponsive_since is not None and self._logged:
            seconds = round(self._clock() - self.reading.unresponsive_since, 1)
            logger.warning("answers again", extra={"child": self._name, "seconds": seconds})
            self._logged = False
        Poller.unanswered -= self.reading.report is None
        self.reading = PollResult(report, self._clock())

    def _stopped(self, _task: asyncio.Task[None]) -> None:
        Poller.running -= 1
        Poller.unanswered -= self.reading.report is None


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def _room() -> asyncio.Semaphore:
    """Of the running loop: a semaphore belongs to one."""
    return _rooms.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MAX_QUESTIONS))


def waiting(readings: Mapping[str, PollResult[GreeterReport]], lobby: str, taken: int, now: float) -> int:
    """Clients of a Lobby who wait for a seat, at all greeters.

    Greeters and lobbies are asked at different moments: in a burst, who waited a moment ago has a seat by now, and would be
    counted twice, as one who waits and as a seat that is taken. What a greeter says of one moment fits together, though: so
    no more can wait than it has clients of either kind beyond the seats that are taken.

    A greeter that does not answer for a moment (it is busy: just then a lobby may have ended) still has the clients it had.
    Those who have no seat any more wait; or they are gone with the greeter, and come back through another.

    Args:
        readings: of the greeters.
        lobby: key of the Lobby.
        taken: seats that its lobbies say are taken by greeters.
        now: the time, on the clock of the readings.
    """
    said = have = unheard = 0
    for reading in readings.values():
        report, silent = reading.report, reading.unresponsive_since
        if report is None or (silent is not None and now >= silent + UNHEARD_SECONDS):
            continue
        clients, waits = report.clients.get(lobby, 0), report.waiting.get(lobby, 0)
        have += clients + waits
        if silent is None:
            said += waits
        else:
            unheard += clients + waits
    without = max(0, have - taken)
    unknown = any(
        reading.report is None
        or (reading.unresponsive_since is not None and now >= reading.unresponsive_since + UNHEARD_SECONDS)
        for reading in readings.values()
    )
    # Seats of a greeter of which nothing is known are among those taken: they must hide nobody who says that he waits.
    return max(said if unknown else 0, min(said + unheard, without))
