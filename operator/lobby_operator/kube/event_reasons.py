"""What a person should know of a Lobby, in the words of its actions and conditions. Pure; `events.py` writes it down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lobby_operator.planner.actions import Action
from lobby_operator.planner.reasons import ActionReason, ConditionType

NORMAL, WARNING = "Normal", "Warning"

_UNWANTED = frozenset(
    {ActionReason.ENDED, ActionReason.UNRESPONSIVE, ActionReason.NEVER_ANSWERED, ActionReason.DRAIN_OVERDUE}
)
"""Of the reasons of actions: nobody wants these."""

_TROUBLE: Mapping[tuple[str, str], str] = {
    (ConditionType.ORIGIN_CONNECTED, "Away"): "OriginLost",
    (ConditionType.ORIGIN_CONNECTED, "Refused"): "OriginRefused",
    (ConditionType.SCALING, "AtMaximum"): "AtMaximum",
    (ConditionType.SCALING, "BackingOff"): "LobbiesFailToStart",
    (ConditionType.SCALING, "Failing"): "ActionFailed",
    (ConditionType.SCALING, "InvalidSpec"): "InvalidSpec",
    (ConditionType.PATH_ACCEPTED, "PathTaken"): "PathTaken",
}
"""Reasons of conditions that a person should know of, and what the event is called."""

_OVER: Mapping[str, str] = {
    ConditionType.ORIGIN_CONNECTED: "OriginBack",
    ConditionType.SCALING: "ScalingAgain",
    ConditionType.PATH_ACCEPTED: "PathAccepted",
}
"""What the event is called when a condition with such a reason is True again."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a Lobby.

    Attributes:
        kind: `Normal` or `Warning`.
        reason: one word.
        action: what was done, or was found to be so, one word.
        note: a sentence. Never holds a secret.
    """

    kind: str
    reason: str
    action: str
    note: str


def of_action(action: Action, text: str) -> Happening:
    """An action was taken.

    Args:
        action: what was done.
        text: the same for a person, with the reason.
    """
    reason = action.reason.code
    kind = WARNING if reason in _UNWANTED else NORMAL
    return Happening(kind, reason.value, type(action).__name__, f"{action.name}: {text}")


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Happening]:
    """What happened between two statuses of a Lobby."""
    were = {each["type"]: each for each in before.get("conditions") or ()}
    for condition in after.get("conditions") or ():
        kind, reason = condition["type"], condition["reason"]
        was = were.get(kind, {})
        trouble = _TROUBLE.get((kind, reason))
        troubled = (kind, was.get("reason", "")) in _TROUBLE
        if trouble and (was.get("reason") != reason or _said_anew(kind, was, condition)):
            yield Happening(WARNING, trouble, "Observe", condition["message"])
        elif troubled and not trouble and condition["status"] == "True":
            yield Happening(NORMAL, _OVER[kind], "Observe", condition["message"])


def _said_anew(kind: str, was: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Whether the same reason has another message that is news: what failed or is invalid; counts are not."""
    return (kind, condition["reason"]) in {
        (ConditionType.SCALING, "Failing"),
        (ConditionType.SCALING, "InvalidSpec"),
    } and was.get("message") != condition["message"]
