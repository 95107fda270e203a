"""Actions on the lobbies of a Lobby. An action cannot be built without a reason, or with one that does not apply to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import ClassVar, NoReturn

from lobby_operator.planner.reasons import ACTION_REASONS, ActionReason, fill_in


@dataclass(frozen=True, slots=True, init=False)
class Reason:
    """Why an action is taken, with the numbers that led to it.

    Attributes:
        code: which reason.
        numbers: fields of its sentence, as (name, value).
    """

    code: ActionReason
    numbers: tuple[tuple[str, float], ...]

    def __init__(self, code: ActionReason, **numbers: float) -> None:
        expected = {name for _, name, _, _ in Formatter().parse(ACTION_REASONS[code]) if name is not None}
        if expected != numbers.keys():
            raise ValueError(f"{code} needs the numbers {sorted(expected)}, not {sorted(numbers)}")
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "numbers", tuple(numbers.items()))

    @property
    def fields(self) -> Mapping[str, float]:
        """The numbers by name, for logs."""
        return dict(self.numbers)

    @property
    def sentence(self) -> str:
        """For people."""
        return fill_in(ACTION_REASONS[self.code], self.fields)


@dataclass(frozen=True, slots=True)
class _Action:
    """Something to do with one lobby.

    Attributes:
        name: name of the lobby.
        reason: why.
    """

    name: str
    reason: Reason

    ACCEPTS: ClassVar[frozenset[ActionReason]] = frozenset()

    def __post_init__(self) -> None:
        if not self.name:
            _refuse(self, "needs the name of a lobby")
        if getattr(self.reason, "code", None) not in self.ACCEPTS:  # or None: not every caller is type-checked
            _refuse(self, f"needs a reason of {sorted(self.ACCEPTS)}, not {self.reason!r}")


def _refuse(action: _Action, problem: str) -> NoReturn:
    raise ValueError(f"{type(action).__name__} {problem}")


@dataclass(frozen=True, slots=True)
class Create(_Action):
    """Starts a lobby."""

    ACCEPTS: ClassVar[frozenset[ActionReason]] = frozenset(
        {ActionReason.BELOW_REPLICAS, ActionReason.CLIENTS_WAIT, ActionReason.SPARE_SEATS_LOW}
    )


@dataclass(frozen=True, slots=True)
class Drain(_Action):
    """Asks a lobby to take no new clients and to send its clients elsewhere. A drain cannot be cancelled."""

    ACCEPTS: ClassVar[frozenset[ActionReason]] = frozenset(
        {
            ActionReason.EMPTY,
            ActionReason.SPARSE,
            ActionReason.OVER_MAXIMUM,
            ActionReason.OUTDATED,
            ActionReason.DRAIN_UNCONFIRMED,
        }
    )


@dataclass(frozen=True, slots=True)
class Preconnect(_Action):
    """Asks a lobby to connect to its origin although it has no clients, and to stay connected for a while."""

    ACCEPTS: ClassVar[frozenset[ActionReason]] = frozenset({ActionReason.BEFORE_MOVES})


@dataclass(frozen=True, slots=True)
class Delete(_Action):
    """Ends a lobby, gracefully if possible, and removes what is left of it."""

    ACCEPTS: ClassVar[frozenset[ActionReason]] = frozenset(
        {
            *(ActionReason.ENDED, ActionReason.UNRESPONSIVE, ActionReason.NEVER_ANSWERED, ActionReason.NEVER_NEEDED),
            *(ActionReason.DRAINED, ActionReason.DRAIN_OVERDUE, ActionReason.DRAIN_POINTLESS),
        }
    )


Action = Create | Preconnect | Drain | Delete
