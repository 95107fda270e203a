"""A plan in the making: what the passes of the planner share."""

from __future__ import annotations

from lobby_operator.planner.actions import Action, Create, Drain
from lobby_operator.planner.placement import Balance
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Observed
from lobby_operator.planner.timers import earliest
from lobby_operator.settings import PlannerSettings


class PlanBuilder:
    """What is wanted and observed, and what was decided so far.

    Attributes:
        spec: what is wanted.
        settings: the planner's own times and limits.
        seen: what was observed.
        balance: of seats and clients.
        now: when it is.
        actions: decided so far, in order.
        leaving: names of lobbies that will be drained or deleted.
        wake_at: the earliest time at which the clock alone makes a difference; None: never.
        missing: lobbies that are needed and can't be made because of `maxReplicas`.
        backing_off: lobbies are needed and wait because the last ones failed to start.
    """

    def __init__(
        self, spec: PlannerSpec, settings: PlannerSettings, seen: Observed, balanced: Balance, now: float
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.seen = seen
        self.balance = balanced
        self.now = now
        self.actions: list[Action] = []
        self.leaving: set[str] = set()
        self.wake_at: float | None = None
        self.missing = 0
        self.backing_off = False

    def act(self, action: Action) -> None:
        """Adds an action."""
        self.actions.append(action)
        if not isinstance(action, Create):
            self.leaving.add(action.name)

    @property
    def resizes(self) -> bool:
        """Whether it was decided that there will be more or fewer lobbies that take clients: `balance` no longer holds."""
        return any(
            isinstance(action, Create)
            or (isinstance(action, Drain) and action.reason.code is not ActionReason.DRAIN_UNHEARD)
            for action in self.actions
        )

    def wake(self, at: float | None) -> None:
        """Asks to be planned again at a time; None asks for nothing."""
        self.wake_at = earliest(self.wake_at, at)
