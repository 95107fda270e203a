"""Which actions and conditions of a Lobby become Events, under which reason. Pure; `events.py` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lobby_operator.planner.actions import Action
from lobby_operator.planner.reasons import SCALING_HELD, ActionReason, ConditionType

NORMAL, WARNING = "Normal", "Warning"

NAME_TAKEN = "NameTaken"
"""Reason of the Event about a name that someone else's pod has."""

_MAX_NAMES = 10
"""Most names in one note: a person reads no more, and `status.lobbies` has them all."""

_FAILURES = frozenset(
    {ActionReason.ENDED, ActionReason.UNRESPONSIVE, ActionReason.NEVER_ANSWERED, ActionReason.DRAIN_OVERDUE}
)
"""Reasons of actions that mean a failure."""

_WARNINGS: Mapping[tuple[str, str], str] = {
    (ConditionType.ORIGIN_CONNECTED, "Away"): "OriginLost",
    (ConditionType.ORIGIN_CONNECTED, "Refused"): "OriginRefused",
    (ConditionType.SCALING, "AtMaximum"): "AtMaximum",
    (ConditionType.SCALING, "BackingOff"): "LobbiesFailToStart",
    (ConditionType.SCALING, "RolloutStopped"): "RolloutStopped",
    **{(ConditionType.SCALING, each.name): each.name for each in SCALING_HELD.values()},
    (ConditionType.SCALING, "LobbiesUnreachable"): "LobbiesUnreachable",
    (ConditionType.SCALING, "Failing"): "ActionFailed",
    (ConditionType.SCALING, "InvalidSpec"): "InvalidSpec",
    (ConditionType.PATH_ACCEPTED, "PathTaken"): "PathTaken",
    (ConditionType.PATH_ACCEPTED, "NotServed"): "NotServed",
}
"""Reasons of conditions that deserve a Warning, and the reason of its Event."""

_RECOVERIES: Mapping[str, str] = {
    ConditionType.ORIGIN_CONNECTED: "OriginBack",
    ConditionType.SCALING: "ScalingAgain",
    ConditionType.PATH_ACCEPTED: "PathAccepted",
}
"""The reason of the Event when such a condition is True again."""


@dataclass(frozen=True, slots=True)
class LobbyEvent:
    """Something that happened to a Lobby; the fields are those of an Event.

    Attributes:
        type: `Normal` or `Warning`.
        reason: one word.
        action: what was done, or `Observe`.
        note: a sentence. Never contains a secret.
        lobby: name of the lobby, and of its pod, that it is about; empty: it is about the whole Lobby.
    """

    type: str
    reason: str
    action: str
    note: str
    lobby: str = ""


def event_of_action(action: Action, text: str, problem: str = "") -> LobbyEvent:
    """The event of an action that was taken.

    Args:
        action: what was done.
        text: the same for people, with the reason.
        problem: what the kubelet reports about the lobby's pod; empty if nothing. It explains a failure.
    """
    reason = action.reason.code
    if reason not in _FAILURES:
        return LobbyEvent(NORMAL, reason.value, type(action).__name__, text, action.name)
    note = f"{text} ({problem})" if problem else text
    return LobbyEvent(WARNING, reason.value, type(action).__name__, note, action.name)


def event_of_taken_name(name: str, problem: str) -> LobbyEvent:
    """The event of a lobby that could not have its name, because another pod has it."""
    return LobbyEvent(WARNING, NAME_TAKEN, "Create", problem, name)


def note_of(events: Sequence[LobbyEvent], most: int) -> str:
    """One note for alike events: each lobby with what happened to it, and lobbies with the same text together.

    Args:
        events: at least one; all have the same type, reason and action.
        most: largest length, in characters.
    """
    lobbies: dict[str, dict[str, None]] = {}  # by text, as an ordered set
    for event in events:
        lobbies.setdefault(event.note, {})[event.lobby] = None
    parts = [_with_names([name for name in names if name], text) for text, names in lobbies.items()]
    note = "; ".join(parts)
    if len(note) <= most:
        return note
    more = f" (and {len(events) - 1} more like it)" if len(events) > 1 else ""
    return f"{parts[0][: most - len(more)]}{more}"


def _with_names(names: Sequence[str], text: str) -> str:
    if len(names) > _MAX_NAMES:
        names = [*names[:_MAX_NAMES], f"{len(names) - _MAX_NAMES} more"]
    return f"{', '.join(names)}: {text}" if names else text


def events_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[LobbyEvent]:
    """The events that follow from a change of a Lobby's status."""
    previous = {each["type"]: each for each in before.get("conditions") or ()}
    for condition in after.get("conditions") or ():
        kind, reason = condition["type"], condition["reason"]
        old = previous.get(kind, {})
        warning = _WARNINGS.get((kind, reason))
        warned = (kind, old.get("reason", "")) in _WARNINGS
        if warning and (old.get("reason") != reason or _has_new_message(kind, old, condition)):
            yield LobbyEvent(WARNING, warning, "Observe", condition["message"])
        elif warned and not warning and condition["status"] == "True":
            yield LobbyEvent(NORMAL, _RECOVERIES[kind], "Observe", condition["message"])


def _has_new_message(kind: str, old: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Whether an unchanged reason has a new message that matters: another failure or invalid field does, a count does not."""
    return (kind, condition["reason"]) in {
        (ConditionType.SCALING, "Failing"),
        (ConditionType.SCALING, "InvalidSpec"),
        (ConditionType.SCALING, "SecretMissing"),
    } and old.get("message") != condition["message"]
