"""Every reason, with its sentence for people: why an action is taken, and why a condition has its status.

Logs, metric labels, Events and Lobby.status use these tables. A sentence may have `{fields}`: the numbers that led to the
decision, which are also fields of the log line. `{n:# lobby is|# lobbies are}` is the first form for 1 and the second for any
other n (`fill_in`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from string import Formatter
from types import MappingProxyType
from typing import Any

from lobby_operator.planner.state import Hold


class _Forms(Formatter):
    def format_field(self, value: Any, format_spec: str) -> Any:  # noqa: ANN401  # as its base has it
        text = f"{value:.10g}" if isinstance(value, int | float) else str(value)
        one, _, many = format_spec.partition("|")
        return (one if value == 1 else many).replace("#", text) if format_spec else text


def fill_in(sentence: str, fields: Mapping[str, object]) -> str:
    """A sentence of these tables with its fields filled in."""
    return _Forms().vformat(sentence, (), fields)


def placeholders(sentence: str) -> str:
    """A sentence for the documentation, with names instead of numbers: `{n} lobbies are running`."""
    names = [name for _, name, _, _ in Formatter().parse(sentence) if name is not None]
    return fill_in(sentence, {name: f"{{{name}}}" for name in names})


class ActionReason(StrEnum):
    """Why an action is taken. The value is a metric label and the reason of Events."""

    # create
    BELOW_REPLICAS = "BelowReplicas"
    CLIENTS_WAIT = "ClientsWait"
    SPARE_SEATS_LOW = "SpareSeatsLow"
    # preconnect
    BEFORE_MOVES = "BeforeMoves"
    # drain
    EMPTY = "Empty"
    SPARSE = "Sparse"
    OVER_MAXIMUM = "OverMaximum"
    OUTDATED = "Outdated"
    DRAIN_UNCONFIRMED = "DrainUnheard"
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
        ActionReason.BELOW_REPLICAS: "{running:# lobby is|# lobbies are} running, {replicas} wanted (replicas)",
        ActionReason.CLIENTS_WAIT: (
            "{waiting:# client waits|# clients wait} for a seat, {moving:# is|# are} moving, "
            "{free:# seat is|# seats are} free or starting"
        ),
        ActionReason.SPARE_SEATS_LOW: (
            "{free:# seat is|# seats are} free or starting, {spare} wanted (spareSeats), {moving:# client|# clients} moving"
        ),
        ActionReason.BEFORE_MOVES: (
            "{clients:# client moves|# clients move} to it from an older revision once its origin is connected"
        ),
        ActionReason.EMPTY: "it has had no clients for {seconds} s and is not needed",
        ActionReason.SPARSE: "for {seconds} s, fuller lobbies have had room for its {clients:# client|# clients}",
        ActionReason.OVER_MAXIMUM: "{running:# lobby is|# lobbies are} running, but maxReplicas is {maximum}",
        ActionReason.DRAIN_UNCONFIRMED: "it was asked to drain {seconds} s ago but still takes clients",
        ActionReason.OUTDATED: "it is {outdated:the last lobby|one of # lobbies} of an older revision",
        ActionReason.ENDED: "it has ended",
        ActionReason.UNRESPONSIVE: "it has not responded for {seconds} s",
        ActionReason.NEVER_ANSWERED: "it did not respond within {seconds} s of its creation",
        ActionReason.DRAINED: "it is drained: it has no clients",
        ActionReason.DRAIN_OVERDUE: "it has been draining for {seconds} s, and {clients:# client is|# clients are} left",
        ActionReason.DRAIN_POINTLESS: (
            "its {clients:# client|# clients} cannot get another seat until it is gone: maxReplicas is {maximum}"
        ),
        ActionReason.NEVER_NEEDED: "it has not answered yet, and its revision is already outdated",
    }
)


class ConditionType(StrEnum):
    """The conditions of a Lobby."""

    READY = "Ready"
    ORIGIN_CONNECTED = "OriginConnected"
    SCALING = "Scaling"
    PATH_ACCEPTED = "PathAccepted"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


MEANING: Mapping[ConditionType, str] = MappingProxyType(
    {
        ConditionType.READY: (
            "A new client gets a seat: at once or, if none is kept free, as soon as a lobby has started for it."
        ),
        ConditionType.ORIGIN_CONNECTED: "Every lobby that needs the stream has it, over its own connection or another lobby.",
        ConditionType.SCALING: "There are as many lobbies as needed, or they are starting; nothing prevents it.",
        ConditionType.PATH_ACCEPTED: "Greeters serve this Lobby at its path.",
        ConditionType.RECONCILING: (
            "The current generation is not in force everywhere yet, and the operator is working on it (kstatus: InProgress)."
        ),
        ConditionType.STALLED: (
            "The current generation does not take effect until a person changes something (kstatus: Failed)."
        ),
    }
)


@dataclass(frozen=True, slots=True)
class ConditionReason:
    """Why a condition has its status.

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
class ConditionState:
    """The current state of a condition.

    Attributes:
        reason: its reason.
        fields: fields of the sentence.
    """

    reason: ConditionReason
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """For people."""
        return fill_in(self.reason.sentence, self.fields)


TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

READY = ConditionReason(
    ConditionType.READY, TRUE, "Open", "{free:# free seat|# free seats} in {open:# lobby|# lobbies}"
)
READY_AT_ZERO = ConditionReason(
    ConditionType.READY, TRUE, "ScaledToZero", "no lobby is running; the first client starts one and waits for it"
)
READY_STARTING = ConditionReason(
    ConditionType.READY, FALSE, "Starting", "no free seat; {starting:# lobby is|# lobbies are} starting"
)
READY_FULL = ConditionReason(
    ConditionType.READY,
    FALSE,
    "Full",
    "{seats:the only seat is|all # seats are} taken, and maxReplicas is {maximum}",
)
READY_DRAINING = ConditionReason(
    ConditionType.READY,
    FALSE,
    "Draining",
    "no free seat; {leaving:# lobby is|# lobbies are} draining or ending, and maxReplicas is {maximum}",
)
READY_UNRESPONSIVE = ConditionReason(
    ConditionType.READY,
    FALSE,
    "Silent",
    "no free seat; {unresponsive:# lobby is|# lobbies are} unresponsive or recovering",
)
READY_UNREACHABLE = ConditionReason(
    ConditionType.READY,
    FALSE,
    "LobbiesUnreachable",
    "no free seat; {count:# healthy lobby does|# healthy lobbies do} not answer the operator, see Scaling",
)
READY_FAILING = ConditionReason(
    ConditionType.READY, FALSE, "Failing", "no free seat; {failures:the last start|the last # starts} failed"
)
READY_NOT_CREATED = ConditionReason(
    ConditionType.READY, FALSE, "NotCreated", "no free seat; a lobby is needed but cannot be created, see Scaling"
)
READY_ON_REQUEST = ConditionReason(
    ConditionType.READY,
    TRUE,
    "OnRequest",
    "no free seat, and none is kept free; the next client starts a lobby and waits for it",
)
READY_ROLLOUT_FAILS = ConditionReason(
    ConditionType.READY,
    FALSE,
    "RolloutFails",
    "{count:# lobby of an older revision serves|# lobbies of an older revision serve} the clients, see Scaling",
)
READY_HELD = ConditionReason(
    ConditionType.READY,
    FALSE,
    "WaitingToStart",
    "no free seat; {starting:# lobby waits|# lobbies wait} to start, see Scaling",
)
READY_NO_PATH = ConditionReason(ConditionType.READY, FALSE, "PathTaken", "its path belongs to another Lobby")
READY_INVALID = ConditionReason(ConditionType.READY, FALSE, "InvalidSpec", "its spec is invalid, see Scaling")
READY_NOT_SERVED = ConditionReason(
    ConditionType.READY, FALSE, "NotServed", "no Lobby of its namespace is served, see PathAccepted"
)

ORIGIN_CONNECTED = ConditionReason(
    ConditionType.ORIGIN_CONNECTED, TRUE, "Connected", "{connected:# connection is|# connections are} up"
)
ORIGIN_SHARED = ConditionReason(
    ConditionType.ORIGIN_CONNECTED,
    TRUE,
    "Shared",
    "{connected:# connection is|# connections are} up, as many as origin.limits.connections allows; {count:# more lobby "
    "takes|# more lobbies take} the stream from there",
)
ORIGIN_RELAYED = ConditionReason(
    ConditionType.ORIGIN_CONNECTED,
    TRUE,
    "Relayed",
    "{connected:# connection is|# connections are} up, and lobbies without one take the stream from there; {lobby}: "
    "{problem}",
)
ORIGIN_NOT_RENEWED = ConditionReason(
    ConditionType.ORIGIN_CONNECTED,
    TRUE,
    "NotRenewed",
    "{connected:# connection is|# connections are} up, but {count} can't be renewed (origin.renew); {lobby}: {problem}",
)
ORIGIN_IDLE = ConditionReason(
    ConditionType.ORIGIN_CONNECTED, UNKNOWN, "Idle", "there are no clients, so no lobby connects"
)
ORIGIN_NO_LOBBY = ConditionReason(
    ConditionType.ORIGIN_CONNECTED, UNKNOWN, "NoLobby", "no lobby reports the state of its connection"
)
ORIGIN_NO_PERMIT = ConditionReason(
    ConditionType.ORIGIN_CONNECTED,
    FALSE,
    "NoPermit",
    "{count:# lobby with clients has|# lobbies with clients have} neither a stream nor a permit to connect "
    "(origin.limits.connections); a lobby that does not answer may still be connected",
)
ORIGIN_CONNECTING = ConditionReason(ConditionType.ORIGIN_CONNECTED, FALSE, "Connecting", "{lobby} is connecting")
ORIGIN_LOST = ConditionReason(
    ConditionType.ORIGIN_CONNECTED,
    FALSE,
    "Away",
    "{count:# lobby has no connection and is|# lobbies have no connection and are} retrying; {lobby}: {problem}",
)
ORIGIN_REFUSED = ConditionReason(
    ConditionType.ORIGIN_CONNECTED, FALSE, "Refused", "the origin refuses {count:# lobby|# lobbies}; {lobby}: {problem}"
)

SCALING_STEADY = ConditionReason(
    ConditionType.SCALING, TRUE, "AsNeeded", "{lobbies:# lobby|# lobbies}, as many as needed"
)
SCALING_UP = ConditionReason(ConditionType.SCALING, TRUE, "Growing", "{count:# lobby is|# lobbies are} starting")
SCALING_ROLLING = ConditionReason(
    ConditionType.SCALING,
    TRUE,
    "RollingOut",
    "replacing {count:# lobby|# lobbies} of an older revision",
)
SCALING_ROLLOUT_STOPPED = ConditionReason(
    ConditionType.SCALING,
    FALSE,
    "RolloutStopped",
    "{lobby}, of the new revision, has no connection to its origin ({problem}), so {count:# older lobby that has one stays|"
    "# older lobbies that have one stay}; change or revert spec.origin (or, if the origin accepts only one connection, "
    "set maxReplicas to 1)",
)
SCALING_DOWN = ConditionReason(
    ConditionType.SCALING,
    TRUE,
    "Shrinking",
    "{count:# lobby is|# lobbies are} draining, {clients:# client|# clients} moving",
)
SCALING_LIMITED = ConditionReason(
    ConditionType.SCALING,
    FALSE,
    "AtMaximum",
    "needs {missing:# more lobby|# more lobbies}, but maxReplicas is {maximum}",
)
SCALING_BACKOFF = ConditionReason(
    ConditionType.SCALING,
    FALSE,
    "BackingOff",
    "{failures:the last start|the last # starts} failed; retrying with a back-off",
)
SCALING_UNREACHABLE = ConditionReason(
    ConditionType.SCALING,
    FALSE,
    "LobbiesUnreachable",
    "{count:# lobby is|# lobbies are} healthy but {count:does|do} not answer the operator ({lobby}): does a NetworkPolicy, "
    "service mesh or firewall block its admin port, or is a node lost?",
)
SCALING_HELD: Mapping[Hold, ConditionReason] = MappingProxyType(
    {
        Hold.UNSCHEDULABLE: ConditionReason(
            ConditionType.SCALING, FALSE, "Unschedulable", "{lobby} waits for a node: {problem}"
        ),
        Hold.SECRET_MISSING: ConditionReason(
            ConditionType.SCALING, FALSE, "SecretMissing", "{problem}; {lobby} starts as soon as it is there"
        ),
        Hold.VOLUME_UNAVAILABLE: ConditionReason(
            ConditionType.SCALING, FALSE, "VolumeUnavailable", "{lobby} waits for a volume: {problem}"
        ),
        Hold.IMAGE_UNAVAILABLE: ConditionReason(
            ConditionType.SCALING, FALSE, "ImageUnavailable", "{lobby} waits for its image: {problem}"
        ),
        Hold.CONTAINER_NOT_CREATED: ConditionReason(
            ConditionType.SCALING, FALSE, "ContainerNotCreated", "the container of {lobby} can't be created: {problem}"
        ),
    }
)
"""The reason for each hold that is a problem. A lobby that is held is left alone: another one would wait for the same."""

SCALING_FAILING = ConditionReason(ConditionType.SCALING, FALSE, "Failing", "{problem}; retrying")
SCALING_INVALID = ConditionReason(ConditionType.SCALING, FALSE, "InvalidSpec", "the spec is ignored: {problem}")

RECONCILING_ROLLOUT = ConditionReason(
    ConditionType.RECONCILING, TRUE, "RollingOut", "{count:# lobby runs|# lobbies run} an older revision"
)
RECONCILING_START = ConditionReason(ConditionType.RECONCILING, TRUE, "Starting", "not ready yet: {problem}")
RECONCILING_RETRY = ConditionReason(ConditionType.RECONCILING, TRUE, "Retrying", "{problem}")
RECONCILED = ConditionReason(ConditionType.RECONCILING, FALSE, "InForce", "every lobby runs the current revision")
RECONCILING_STALLED = ConditionReason(ConditionType.RECONCILING, FALSE, "Stalled", "see Stalled")

PATH_ACCEPTED = ConditionReason(ConditionType.PATH_ACCEPTED, TRUE, "Accepted", "served at {path}")
PATH_TAKEN = ConditionReason(
    ConditionType.PATH_ACCEPTED, FALSE, "PathTaken", "{path} belongs to the older Lobby {other}"
)
PATH_UNKNOWN = ConditionReason(
    ConditionType.PATH_ACCEPTED, UNKNOWN, "NotCompared", "the other Lobbies are not known yet"
)
PATH_NOT_SERVED = ConditionReason(
    ConditionType.PATH_ACCEPTED,
    FALSE,
    "NotServed",
    "Lobbies in namespace {namespace} are not served; accepted: a namespace of watch.lobbyNamespaces (chart)",
)

NOT_STALLED = ConditionReason(ConditionType.STALLED, FALSE, "Progressing", "no intervention is needed")
STALLED: Mapping[ConditionReason, ConditionReason] = MappingProxyType(
    {
        cause: ConditionReason(ConditionType.STALLED, TRUE, cause.name, "{problem}")
        for cause in (
            *(SCALING_INVALID, SCALING_ROLLOUT_STOPPED, SCALING_BACKOFF, PATH_TAKEN, PATH_NOT_SERVED),
            *(reason for hold, reason in SCALING_HELD.items() if hold is not Hold.UNSCHEDULABLE),
        )
    }
)
"""The reasons of other conditions for which a Lobby is stalled, and its own reason then."""

CONDITIONS: tuple[ConditionReason, ...] = (
    *(
        READY,
        READY_AT_ZERO,
        READY_STARTING,
        READY_FULL,
        READY_DRAINING,
        READY_UNRESPONSIVE,
        READY_UNREACHABLE,
        READY_FAILING,
        READY_NOT_CREATED,
        READY_ON_REQUEST,
        READY_HELD,
        READY_ROLLOUT_FAILS,
        READY_NO_PATH,
    ),
    READY_INVALID,
    READY_NOT_SERVED,
    *(
        ORIGIN_CONNECTED,
        ORIGIN_SHARED,
        ORIGIN_RELAYED,
        ORIGIN_NOT_RENEWED,
        ORIGIN_IDLE,
        ORIGIN_NO_LOBBY,
        ORIGIN_NO_PERMIT,
        ORIGIN_CONNECTING,
        ORIGIN_LOST,
        ORIGIN_REFUSED,
    ),
    *(
        SCALING_STEADY,
        SCALING_UP,
        SCALING_ROLLING,
        SCALING_ROLLOUT_STOPPED,
        SCALING_DOWN,
        SCALING_LIMITED,
        SCALING_BACKOFF,
    ),
    SCALING_UNREACHABLE,
    *SCALING_HELD.values(),
    *(SCALING_FAILING, SCALING_INVALID),
    *(PATH_ACCEPTED, PATH_TAKEN, PATH_UNKNOWN, PATH_NOT_SERVED),
    *(RECONCILING_ROLLOUT, RECONCILING_START, RECONCILING_RETRY, RECONCILED, RECONCILING_STALLED),
    *(NOT_STALLED, *STALLED.values()),
)
"""All condition reasons, in the order of the documentation."""
