"""The reconcile loop of a Lobby: observe, plan, act; again when something has changed or the plan asks for it.

Level-based: each pass considers everything there is, whatever woke it. Failures are logged and retried with a back-off; they
don't delay other Lobbies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import groupby

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.peer_list import Version
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.resource.spec import Lobby
from lobby_operator import wall_clock
from lobby_operator.planner.actions import Action, Create, Delete, Drain, Preconnect
from lobby_operator.planner.connect_permits import EarlierConnects
from lobby_operator.planner.demand import Demand
from lobby_operator.planner.history import observe
from lobby_operator.planner.peer_lists import PeerLists
from lobby_operator.planner.plan import Plan, plan
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Observed, Phase, lobby_index
from lobby_operator.planner.timers import earliest
from lobby_operator.reconcile.peers import PeerTeller
from lobby_operator.reconcile.pending_actions import Expectations, Retries
from lobby_operator.reconcile.runtime import INTERNAL_ERROR, LobbyNameTakenError, Runtime, RuntimeFailedError
from lobby_operator.settings import PeerListSettings, PlannerSettings, ReconcileSettings

logger = logging.getLogger(__name__)

OnAction = Callable[[Action, str], None]
"""Called with an action that was taken, and with a line about it for people."""


OnNameTaken = Callable[[str, str], None]
"""Called with the name of a lobby that someone else has, and with a line about it for people."""


class Reconciler:
    """Reconciles one Lobby.

    Args:
        lobby: the Lobby.
        runtime: runs its lobbies.
        demand: returns the clients that greeters hold without a seat; called with the number of seats that greeters have
            taken.
        on_action: called after each action.
        on_name_taken: called with a name that a lobby cannot have, and with a line about it for people.
        on_plan: called in each pass, after planning and before acting; and once when a pass failed before that.
        planner_settings: times and limits of the planner.
        settings: intervals and retries.
        revision: revision that its lobbies should have.
        term: of this lobby host; a later one has a greater term, or the same one and a later start (see `PeerLists`).
        peer_settings: settings of what lobbies are told about each other.
        earlier: what is known of attempts to connect before this lobby host began.
        recorded: gives the lobbies of which a later lobby host will know (see `PeerLists.update`).

    Attributes:
        lobby: the Lobby.
        spec: the fields that the planner reads.
        observed: the latest observation.
        planned: the latest plan; None before the first pass.
        actions: number of actions taken, by kind and reason.
        passes: passes begun.
        seconds: total time of the passes, calls of the platform included.
        failures: passes that failed, in whole or in part.
        problem: why an action or a whole pass failed, for people; empty if none did.
    """

    def __init__(
        self,
        lobby: Lobby,
        runtime: Runtime,
        *,
        demand: Callable[[int], Demand],
        on_action: OnAction,
        on_plan: Callable[[Reconciler], None],
        on_name_taken: OnNameTaken = lambda _name, _problem: None,
        planner_settings: PlannerSettings | None = None,
        settings: ReconcileSettings | None = None,
        revision: str = "",
        term: int = 1,
        peer_settings: PeerListSettings | None = None,
        earlier: EarlierConnects | None = None,
        recorded: Callable[[], Collection[str] | None] = lambda: None,
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
        self._demand = demand
        self._on_action = on_action
        self._on_plan = on_plan
        self._on_name_taken = on_name_taken
        self._recorded = recorded
        self._taken: dict[int, float] = {}  # until when, by the n of the name
        self._planner_settings = planner_settings or PlannerSettings()
        self._settings = settings or ReconcileSettings()
        self._expected = Expectations(settings=self._settings)
        self._retries = Retries(self._settings.min_backoff_seconds, self._settings.max_backoff_seconds)
        peer_settings = peer_settings or PeerListSettings()
        self._peer_lists = PeerLists(Version(term, wall_clock.milliseconds()), peer_settings, earlier=earlier)
        self._peer_teller = PeerTeller(self._peer_lists, runtime, changed=self.wake, settings=peer_settings)
        self._changed = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._failed_passes = RepeatedFailures(self._clock)
        self._failed_actions = RepeatedFailures(self._clock)
        self._active_at = self._clock()
        self._planned_in = 0.0  # seconds that the latest pass took, without its calls

    @property
    def active(self) -> bool:
        """Whether something is changing, or was a moment ago."""
        return self._clock() < self._active_at + self._settings.active_seconds

    @property
    def untold_connects_until(self) -> float:
        """Until when attempts to connect of lobbies that are gone count, by this process's clock; it may be in the past."""
        return self._peer_lists.untold_connects_until

    def update(self, lobby: Lobby, revision: str = "") -> None:
        """Sets the spec and the revision."""
        self.lobby = lobby
        self.spec = PlannerSpec.of(lobby, revision)
        self.wake()

    def wake(self) -> None:
        """Starts a pass soon: something may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Reconciles until it is cancelled."""
        try:
            await self._run()
        finally:
            await self._peer_teller.close()

    async def _run(self) -> None:
        settings = self._settings
        backoff = Backoff(base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds)
        while True:
            self._changed.clear()
            started = self._clock()
            try:
                wake_at = await self._pass()
                backoff.reset()
                if (told := self._failed_passes.worked()) is not None:
                    logger.warning("reconciling again", extra={"lobby": self.lobby.key, **told})
                self._passed(self._retries.problem, started)
            except Exception as error:  # any error: this Lobby is retried, and others are not affected
                self.failures += 1
                wait = backoff.next()
                wake_at = self._clock() + wait
                expected = isinstance(error, RuntimeFailedError)
                if self._passed(str(error) if expected else INTERNAL_ERROR, started):
                    self._publish_again()
                if (told := self._failed_passes.failed(str(error))) is not None:
                    fields = {"lobby": self.lobby.key, "again_in_seconds": wait, **told}
                    logger.warning("reconcile failed", extra=fields, exc_info=None if expected else error)
                await asyncio.sleep(wait)
            await self._wait(wake_at)

    def _passed(self, problem: str, started: float) -> bool:
        """Returns whether the problem is another one than before."""
        self.seconds += self._clock() - started
        if problem == self.problem:
            return False
        self.problem = problem
        self.wake()  # so that on_plan sees it
        return True

    def _publish_again(self) -> None:
        """Publishes the latest plan with the problem for which there is no newer one: the next pass may fail as early."""
        if self.planned is None:
            return
        try:
            self._on_plan(self)
        except Exception:  # perhaps this is what made the pass fail
            logger.exception("can't publish the state of a Lobby", extra={"lobby": self.lobby.key})

    async def _wait(self, wake_at: float | None) -> None:
        await asyncio.sleep(self._settings.pause_after(self._planned_in))
        latest = self._clock() + self._settings.max_interval_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(latest if wake_at is None else min(latest, wake_at)):
                await self._changed.wait()

    async def _pass(self) -> float | None:
        self.passes += 1
        now = self._clock()
        readings, self._expected = self._expected.overlay(await self._runtime.list(self.lobby.name), now)
        reports = [
            reading.report for reading in readings if reading.report is not None and reading.unresponsive_since is None
        ]
        taken = sum(report.clients - report.direct for report in reports)
        before, demand = self.observed, self._demand(taken)
        self.observed, capacity = observe(
            before,
            readings,
            waiting=demand.waiting,
            lost=demand.lost,
            taken=self._taken_now(now),
            spec=self.spec,
            now=now,
            settings=self._planner_settings,
        )
        self.planned = plan(self.spec, self.observed, now, self._planner_settings, capacity=capacity)
        if self.planned.actions or _changing(before, self.observed):
            self._active_at = now
        complete = self.planned.complete
        lists = self._peer_lists.update(self.spec, self.observed, recorded=self._recorded()) if complete else {}
        # Before acting, so that clients know where to go before lobbies drain or end.
        self._on_plan(self)
        if complete:
            self._peer_teller.send(lists)
        self._planned_in = self._clock() - now
        await self._act(self.planned.actions)
        return earliest(
            self.planned.wake_at, self._expected.wake_at(), self._retries.wake_at(), self._peer_teller.wake_at()
        )

    def _taken_now(self, now: float) -> frozenset[int]:
        self._taken = {index: until for index, until in self._taken.items() if now < until}
        return frozenset(self._taken)

    async def _act(self, actions: Iterable[Action]) -> None:
        """Takes the actions that are due, kind by kind; those of a kind concurrently, so that a slow one delays few others."""
        due = self._retries.due(actions, self._clock())
        failed = False
        at_once = self._settings.max_concurrent_actions
        for _, group in groupby(due, key=type):
            alike = list(group)
            for first in range(0, len(alike), at_once):
                batch = alike[first : first + at_once]
                for done in await asyncio.gather(*map(self._try, batch), return_exceptions=True):
                    if isinstance(done, BaseException):
                        raise done
                    failed = failed or not done
        self.failures += failed

    async def _try(self, action: Action) -> bool:
        try:
            await act(action, self.lobby, self._runtime, self._on_action)
        except LobbyNameTakenError as error:  # the next pass takes another
            self._taken[lobby_index(error.name)] = self._clock() + self._settings.taken_seconds
            logger.warning("a name is taken", extra={"lobby": error.name, "problem": str(error)})
            self._on_name_taken(error.name, str(error))
            self.wake()
            return True
        except RuntimeFailedError as error:  # the other actions are taken anyway
            wait = self._retries.failed(action, str(error), self._clock())
            what = f"{type(action).__name__} {action.name}"
            if (told := self._failed_actions.failed(f"{type(action).__name__}: {error}")) is not None:
                fields = {
                    "lobby": self.lobby.key,
                    "action": what,
                    "again_in_seconds": wait,
                    **told,
                    "problem": str(error),
                }
                logger.warning("an action failed", extra=fields)
            return False
        self._retries.done(action)
        self._expected = self._expected.expect([action], self._clock())
        self.actions[type(action).__name__, action.reason.code.value] += 1
        if not self._retries.problem and (told := self._failed_actions.worked()) is not None:
            logger.warning("actions succeed again", extra={"lobby": self.lobby.key, **told})
        return True


async def act(action: Action, lobby: Lobby, runtime: Runtime, on_action: OnAction) -> None:
    """Takes one action: one call of the runtime, and no decision.

    Args:
        action: what to do.
        lobby: the Lobby.
        runtime: runs its lobbies.
        on_action: called when it is done, with the reason as a sentence.

    Raises:
        RuntimeFailedError: it can't be done now.
    """
    match action:
        case Create():
            await runtime.create(lobby, action.name)
            done = "starting"
        case Preconnect():
            await runtime.preconnect(action.name)
            return  # repeated while a rollout waits, so it is neither logged nor an Event
        case Drain():
            await runtime.drain(action.name)
            done = "draining"
        case Delete():
            await runtime.delete(action.name)
            done = "deleting"
    where = {"namespace": lobby.namespace} if lobby.namespace else {}
    fields = {"lobby": action.name, **where, "why": action.reason.code.value, **action.reason.fields}
    logger.info(done, extra=fields)
    on_action(action, f"{done}: {action.reason.sentence}")


def _changing(before: Observed, now: Observed) -> bool:
    known = {(lobby.name, lobby.phase, lobby.clients) for lobby in before.lobbies}
    return (
        bool(now.waiting)
        or any(lobby.phase is not Phase.READY for lobby in now.lobbies)
        or any((lobby.name, lobby.phase, lobby.clients) not in known for lobby in now.lobbies)
    )
