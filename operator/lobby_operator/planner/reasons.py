"""Every reason, with its sentence for people: of actions, of what holds a plan back, and of conditions.

Logs, metrics' labels, events and Lobby.status read these tables. A sentence may have `{fields}`, which are the numbers that
decided; the same numbers are the fields of the log line. `{n:# lobby runs|# lobbies run}` is the first form for 1 and the
second for any other n (`speak`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from string import Formatter
from types import MappingProxyType
from typing import Any


class _Forms(Formatter):
    def format_field(self, value: Any, format_spec: str) -> Any:  # noqa: ANN401  # as its base has it
        text = f"{value:.10g}" if isinstance(value, int | float) else str(value)
        one, _, many = format_spec.partition("|")
        return (one if value == 1 else many).replace("#", text) if format_spec else text


def speak(sentence: str, fields: Mapping[str, object]) -> str:
    """A sentence of these tables, with its fields put in."""
    return _Forms().vformat(sentence, (), fields)


def placeholders(sentence: str) -> str:
    """A sentence as the documentation shows it, with names where the numbers go: `{n} lobbies run`."""
    names = [name for _, name, _, _ in Formatter().parse(sentence) if name is not None]
    return speak(sentence, {name: f"{{{name}}}" for name in names})


class ActionReason(StrEnum):
    """Why an action is taken. The value is the label of metrics and the reason of events."""

    # create
    BELOW_REPLICAS = "BelowReplicas"
    CLIENTS_WAIT = "ClientsWait"
    SPARE_SEATS_LOW = "SpareSeatsLow"
    # drain
    EMPTY = "Empty"
    SPARSE = "Sparse"
    OVER_MAXIMUM = "OverMaximum"
    OUTDATED = "Outdated"
    DRAIN_UNHEARD = "DrainUnheard"
    # delete
    ENDED = "Ended"
    UNRESPONSIVE = "Silent"
    NEVER_ANSWERED = "NeverAnswered"
    DRAINED = "Drained"
    DRAIN_OVERDUE = "DrainOverdue"
    DRAIN_POINTLESS = "DrainPointless"
    NEVER_NEEDED = "NeverNeeded"


ACTION_REASONS: Mapping[ActionReason, str] = MappingProxyType(
    {
        ActionReason.BELOW_REPLICAS: "{running} of at least {replicas:# lobby runs|# lobbies run}",
        ActionReason.CLIENTS_WAIT: (
            "{waiting:# client waits|# clients wait} for a seat, {moving:# moves|# move}, "
            "{free:# seat is|# seats are} free or being made"
        ),
        ActionReason.SPARE_SEATS_LOW: (
            "{free:# seat is|# seats are} free or being made, {spare:# is|# are} to be kept free, "
            "{moving:# client moves|# clients move}"
        ),
        ActionReason.EMPTY: "it has no client since {seconds} s, and is not needed",
        ActionReason.SPARSE: "its {clients:# client fits|# clients fit} into fuller lobbies, for {seconds} s already",
        ActionReason.OVER_MAXIMUM: "{running:# lobby runs|# lobbies run}, {maximum} may",
        ActionReason.DRAIN_UNHEARD: "it was told to drain {seconds} s ago, and takes clients",
        ActionReason.OUTDATED: "it is {outdated:the last one that was|one of # that were} made from an older revision",
        ActionReason.ENDED: "its process has ended",
        ActionReason.UNRESPONSIVE: "it does not answer since {seconds} s",
        ActionReason.NEVER_ANSWERED: "it did not answer within {seconds} s of its creation",
        ActionReason.DRAINED: "its last client has left",
        ActionReason.DRAIN_OVERDUE: "it drains since {seconds} s, and {clients:# client is|# clients are} left",
        ActionReason.DRAIN_POINTLESS: (
            "its {clients:# client finds|# clients find} no seat before it is gone: "
            "no more than {maximum:# lobby|# lobbies} may run"
        ),
        ActionReason.NEVER_NEEDED: "it has not started yet, from a revision that is outdated already",
    }
)


class ConditionType(StrEnum):
    """The conditions of a Lobby."""

    READY = "Ready"
    ORIGIN_CONNECTED = "OriginConnected"
    SCALING = "Scaling"
    PATH_ACCEPTED = "PathAccepted"


MEANING: Mapping[ConditionType, str] = MappingProxyType(
    {
        ConditionType.READY: (
            "A new client gets a seat: now, or where none is kept free, as soon as a lobby has started for it."
        ),
        ConditionType.ORIGIN_CONNECTED: "Every lobby that wants a connection to the origin has one.",
        ConditionType.SCALING: "There are as many lobbies as are needed, or they are being made; nothing holds them back.",
        ConditionType.PATH_ACCEPTED: "Greeters serve this Lobby at its path.",
    }
)


@dataclass(frozen=True, slots=True)
class ConditionReason:
    """Why a condition is what it is.

    Attributes:
        kind: the condition.
        status: `True`, `False` or `Unknown`.
        name: the reason, one word.
        sentence: for people.
    """

    kind: ConditionType
    status: str
    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition as it is found now.

    Attributes:
        reason: which it is.
        fields: of its sentence.
    """

    reason: ConditionReason
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """For people."""
        return speak(self.reason.sentence, self.fields)


T, F, U = "True", "False", "Unknown"

READY = ConditionReason(ConditionType.READY, T, "Open", "{free:# seat is|# seats are} free in {open:# lobby|# lobbies}")
READY_AT_ZERO = ConditionReason(
    ConditionType.READY, T, "ScaledToZero", "no lobby runs; the first client starts one and waits for it"
)
READY_STARTING = ConditionReason(
    ConditionType.READY, F, "Starting", "no seat is free; {starting:# lobby is|# lobbies are} starting"
)
READY_FULL = ConditionReason(
    ConditionType.READY,
    F,
    "Full",
    "{seats:its only seat is|all # seats are} taken, and no more than {maximum:# lobby|# lobbies} may run",
)
READY_SILENT = ConditionReason(
    ConditionType.READY, F, "Silent", "no seat is free; {silent:# lobby does|# lobbies do} not answer"
)
READY_FAILING = ConditionReason(
    ConditionType.READY, F, "Failing", "no seat is free; {failures:# lobby|# lobbies in a row} failed to start"
)
READY_ON_REQUEST = ConditionReason(
    ConditionType.READY,
    T,
    "OnRequest",
    "no seat is free and none is kept free; the next client starts a lobby and waits for it",
)
READY_NO_PATH = ConditionReason(ConditionType.READY, F, "PathTaken", "its path is served for another Lobby")
READY_INVALID = ConditionReason(ConditionType.READY, F, "InvalidSpec", "its spec can't be used, see Scaling")

ORIGIN_CONNECTED = ConditionReason(
    ConditionType.ORIGIN_CONNECTED, T, "Connected", "{connected:# connection is|# connections are} up"
)
ORIGIN_IDLE = ConditionReason(
    ConditionType.ORIGIN_CONNECTED, U, "Idle", "there is no client, so nobody connects: whether it could is not known"
)
ORIGIN_NO_LOBBY = ConditionReason(ConditionType.ORIGIN_CONNECTED, U, "NoLobby", "no lobby runs that could connect")
ORIGIN_CONNECTING = ConditionReason(ConditionType.ORIGIN_CONNECTED, F, "Connecting", "{lobby} is connecting")
ORIGIN_AWAY = ConditionReason(
    ConditionType.ORIGIN_CONNECTED,
    F,
    "Away",
    "{count:# lobby has no connection and tries|# lobbies have no connection and try} again; {lobby}: {problem}",
)
ORIGIN_REFUSED = ConditionReason(
    ConditionType.ORIGIN_CONNECTED, F, "Refused", "the origin refuses {count:# lobby|# lobbies}; {lobby}: {problem}"
)

SCALING_STEADY = ConditionReason(
    ConditionType.SCALING, T, "AsNeeded", "{lobbies:# lobby|# lobbies}, as many as are needed"
)
SCALING_UP = ConditionReason(ConditionType.SCALING, T, "Growing", "{count:# lobby is|# lobbies are} being made")
SCALING_ROLLING = ConditionReason(
    ConditionType.SCALING,
    T,
    "RollingOut",
    "{count:# lobby of an older revision is|# lobbies of an older revision are} left",
)
SCALING_DOWN = ConditionReason(
    ConditionType.SCALING,
    T,
    "Shrinking",
    "{count:# lobby drains|# lobbies drain}, {clients:# client moves|# clients move}",
)
SCALING_LIMITED = ConditionReason(
    ConditionType.SCALING,
    F,
    "AtMaximum",
    "{missing:# more lobby is|# more lobbies are} needed, but no more than {maximum} may run",
)
SCALING_BACKOFF = ConditionReason(
    ConditionType.SCALING, F, "BackingOff", "{failures:# lobby|# lobbies in a row} failed to start; the next try waits"
)
SCALING_FAILING = ConditionReason(ConditionType.SCALING, F, "Failing", "{problem}; it is tried again")
SCALING_INVALID = ConditionReason(ConditionType.SCALING, F, "InvalidSpec", "the spec is not used: {problem}")

PATH_ACCEPTED = ConditionReason(ConditionType.PATH_ACCEPTED, T, "Accepted", "clients reach it at {path}")
PATH_TAKEN = ConditionReason(ConditionType.PATH_ACCEPTED, F, "PathTaken", "{path} is that of the older Lobby {other}")
PATH_UNKNOWN = ConditionReason(ConditionType.PATH_ACCEPTED, U, "NotCompared", "the other Lobbies are not known yet")

CONDITIONS: tuple[ConditionReason, ...] = (
    *(READY, READY_AT_ZERO, READY_STARTING, READY_FULL, READY_SILENT, READY_FAILING, READY_ON_REQUEST, READY_NO_PATH),
    READY_INVALID,
    *(ORIGIN_CONNECTED, ORIGIN_IDLE, ORIGIN_NO_LOBBY, ORIGIN_CONNECTING, ORIGIN_AWAY, ORIGIN_REFUSED),
    *(SCALING_STEADY, SCALING_UP, SCALING_ROLLING, SCALING_DOWN, SCALING_LIMITED, SCALING_BACKOFF),
    *(SCALING_FAILING, SCALING_INVALID),
    *(PATH_ACCEPTED, PATH_TAKEN, PATH_UNKNOWN),
)
"""All of them, in the order of the documentation."""
