"""A plan under construction, shared by the passes of the planner."""

from __future__ import annotations

from math import inf

from lobby_operator.planner.actions import Action, Create, Delete, Drain
from lobby_operator.planner.placement import Capacity
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed
from lobby_operator.planner.timers import earliest
from lobby_operator.settings import PlannerSettings


class PlanBuilder:
    """The input of the planner, and what has been decided so far.

    Attributes:
        spec: desired state.
        settings: times and limits of the planner.
        observed: observed state.
        capacity: seats offered and needed.
        now: current time.
        actions: actions decided so far, in order.
        leaving: names of lobbies that will be drained or deleted.
        wake_at: when to plan again even if nothing else changes; None: not before something changes.
        missing: number of lobbies that are needed but exceed `maxReplicas`.
        backing_off: lobbies are needed but wait, because the latest ones failed to start.
        without_stream: the new lobby for which the rollout has stopped: it does not get the stream that older ones have.
    """

    def __init__(
        self, spec: PlannerSpec, settings: PlannerSettings, observed: Observed, capacity: Capacity, now: float
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.observed = observed
        self.capacity = capacity
        self.now = now
        self.actions: list[Action] = []
        self.leaving: set[str] = set()
        self.wake_at: float | None = None
        self.missing = 0
        self.backing_off = False
        self.without_stream: LobbyState | None = None

    def act(self, action: Action) -> None:
        """Adds an action."""
        self.actions.append(action)
        if isinstance(action, Drain | Delete):
            self.leaving.add(action.name)

    @property
    def resizes(self) -> bool:
        """Whether actions change the number of lobbies that take clients, so that `capacity` no longer holds."""
        return any(
            isinstance(action, Create)
            or (isinstance(action, Drain) and action.reason.code is not ActionReason.DRAIN_UNCONFIRMED)
            for action in self.actions
        )

    def wake(self, at: float | None) -> None:
        """Asks for another plan at a time; None asks for nothing."""
        self.wake_at = earliest(self.wake_at, at)

    def wake_later(self, at: float) -> None:
        """The same, unless that time is over or never comes."""
        if self.now < at < inf:
            self.wake(at)
