"""One worker for each Lobby: observe, plan, act, tell; again when something changed or the plan says so.

Level based: every pass looks at all there is and forgets what it was woken for. What fails is logged and done again, later
each time, and holds no other Lobby up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby

from lobby_gateway.resource.spec import Lobby
from lobby_operator.planner.actions import Action
from lobby_operator.planner.expectations import Expectations
from lobby_operator.planner.history import observe_fold
from lobby_operator.planner.plan import Plan, plan
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Observed, Phase
from lobby_operator.planner.timers import earliest
from lobby_operator.reconcile.act import Told, act
from lobby_operator.reconcile.retries import Retries
from lobby_operator.reconcile.runtime import Runtime, RuntimeFailedError
from lobby_operator.settings import PlannerSettings

logger = logging.getLogger(__name__)

MIN_PASS_SECONDS = 0.05
"""Between two passes: answers of many lobbies come at the same time."""

MAX_PASS_SECONDS = 5.0
"""Without any news, a pass now and then: what was missed is found."""

MIN_RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 10.0

MAX_TOGETHER = 16
"""Actions at a time. One that tells a lobby something may wait for its answer for seconds."""

HURRIED_SECONDS = 3.0
"""So long after the last movement lobbies are still asked more often."""


class Reconciler:
    """Looks after one Lobby.

    Args:
        lobby: the Lobby.
        runtime: that runs its lobbies.
        waiting: gives how many of its clients greeters hold without a seat; is told how many seats greeters have taken.
        told: is told of each action.
        passed: is called in each pass, when it is planned and not yet done.
        settings: of the planner.
        revision: what its lobbies are made from now.

    Attributes:
        lobby: the Lobby.
        spec: the part of it that is planned by.
        observed: what was observed last.
        planned: what was planned last; None before the first pass.
        actions: how often each was done, by what was done and why.
        passes: passes that were begun.
        seconds: that they took together, calls of the platform included.
        failures: passes that failed, in whole or in part.
        problem: why something that is to be done could not be done, for a person; empty: all was done.
    """

    def __init__(
        self,
        lobby: Lobby,
        runtime: Runtime,
        *,
        waiting: Callable[[int], int],
        told: Told,
        passed: Callable[[Reconciler], None],
        settings: PlannerSettings | None = None,
        revision: str = "",
    ) -> None:
        self.lobby = lobby
        self.spec = PlannerSpec.of(lobby, revision)
        self.observed = Observed()
        self.planned: Plan | None = None
        self.actions: Counter[tuple[str, str]] = Counter()
        self.passes = 0
        self.seconds = 0.0
        self.failures = 0
        self.problem = ""
        self._runtime = runtime
        self._waiting = waiting
        self._told = told
        self._passed = passed
        self._expected = Expectations()
        self._retries = Retries(MIN_RETRY_SECONDS, MAX_RETRY_SECONDS)
        self._settings = settings or PlannerSettings()
        self._changed = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._moved_at = self._clock()

    @property
    def hurried(self) -> bool:
        """Something moves, or did a moment ago."""
        return self._clock() < self._moved_at + HURRIED_SECONDS

    def update(self, lobby: Lobby, revision: str = "") -> None:
        """The Lobby has another spec, or its lobbies are made from something else."""
        self.lobby = lobby
        self.spec = PlannerSpec.of(lobby, revision)
        self.wake()

    def wake(self) -> None:
        """Something may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        pause = 0.0
        while True:
            self._changed.clear()
            begun = self._clock()
            try:
                wake_at = await self._pass()
                pause = 0.0
                self._fares(self._retries.problem, begun)
            except Exception as error:  # whatever it is: the Lobby is looked after again, and the others all the time
                self.failures += 1
                pause = min(max(2 * pause, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
                wake_at = self._clock() + pause
                fields = {"lobby": self.lobby.key, "again_in_seconds": pause, "problem": str(error)}
                expected = isinstance(error, RuntimeFailedError)
                self._fares(str(error) if expected else "a fault of the operator, see its log", begun)
                logger.warning("a pass failed", extra=fields, exc_info=None if expected else error)
                await asyncio.sleep(pause)
            await self._wait(wake_at)

    def _fares(self, problem: str, begun: float) -> None:
        self.seconds += self._clock() - begun
        if problem != self.problem:
            self.problem = problem
            self.wake()  # whoever is told of passes is told of it in the next

    async def _wait(self, wake_at: float | None) -> None:
        await asyncio.sleep(MIN_PASS_SECONDS)
        latest = self._clock() + MAX_PASS_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(latest if wake_at is None else min(latest, wake_at)):
                await self._changed.wait()

    async def _pass(self) -> float | None:
        self.passes += 1
        now = self._clock()
        raw, self._expected = self._expected.lay_over(await self._runtime.list(self.lobby.name), now)
        reports = [lobby.report for lobby in raw if lobby.report is not None and lobby.unresponsive_since is None]
        taken = sum(report.clients - report.direct for report in reports)
        before = self.observed
        self.observed = observe_fold(
            before, raw, waiting=self._waiting(taken), spec=self.spec, now=now, settings=self._settings
        )
        self.planned = plan(self.spec, self.observed, now, self._settings)
        if self.planned.actions or _moving(before, self.observed):
            self._moved_at = now
        # Clients are told where to go before lobbies drain or end.
        self._passed(self)
        await self._act(self.planned.actions)
        return earliest(self.planned.wake_at, self._expected.wake_at(), self._retries.wake_at())

    async def _act(self, actions: Iterable[Action]) -> None:
        """Does what is due: one kind after the other, those of one kind together, so that one that hangs delays few."""
        due = self._retries.due(actions, self._clock())
        failed = False
        for _, alike in groupby(due, key=type):
            together = list(alike)
            for first in range(0, len(together), MAX_TOGETHER):
                some = together[first : first + MAX_TOGETHER]
                for done in await asyncio.gather(*map(self._try, some), return_exceptions=True):
                    if isinstance(done, BaseException):
                        raise done
                    failed = failed or not done
        self.failures += failed

    async def _try(self, action: Action) -> bool:
        try:
            await act(action, self.lobby, self._runtime, self._told)
        except RuntimeFailedError as error:  # the others are done all the same
            again = self._retries.failed(action, str(error), self._clock())
            what = f"{type(action).__name__} {action.name}"
            fields = {"lobby": self.lobby.key, "action": what, "again_in_seconds": again, "problem": str(error)}
            logger.warning("an action failed", extra=fields)
            return False
        self._retries.done(action)
        self._expected = self._expected.expect([action], self._clock())
        self.actions[type(action).__name__, action.reason.why.value] += 1
        return True


def _moving(before: Observed, now: Observed) -> bool:
    still = {(lobby.name, lobby.phase, lobby.clients) for lobby in before.lobbies}
    phases = any(lobby.phase is not Phase.READY for lobby in now.lobbies)
    return (
        phases or bool(now.waiting) or any((each.name, each.phase, each.clients) not in still for each in now.lobbies)
    )
