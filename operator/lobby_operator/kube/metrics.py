"""The metrics that only the operator in a cluster has: its calls of the API, what it writes and what it knows of."""

from __future__ import annotations

from collections.abc import Mapping

from lobby_gateway.metrics import NAME_OF_A_LOBBY, Definition, Label, Samples
from lobby_operator.kube import errors

OUTCOMES: tuple[str, ...] = (
    "ok",
    *(
        error.__name__.removesuffix("Error")
        for error in (
            errors.NotFoundError,
            errors.AlreadyExistsError,
            errors.ConflictError,
            errors.GoneError,
            errors.ForbiddenError,
            errors.InvalidError,
            errors.BusyError,
            errors.UnreachableError,
            errors.ApiError,
        )
    ),
    "Cancelled",
)
"""How a call ends; see `kube/errors.py`."""

_VERB = Label("verb", bound="kinds of calls that the operator makes")
_RESOURCE = Label("resource", bound="kinds of objects that it has to do with")

API_CALLS: tuple[Definition, ...] = (
    Definition(
        "lobby_operator_api_calls_total",
        "counter",
        "Calls of the Kubernetes API, by what was asked for and how they ended.",
        (_VERB, _RESOURCE, Label("outcome", OUTCOMES)),
    ),
    Definition(
        "lobby_operator_api_call_seconds_total",
        "counter",
        "How long those calls took together.",
        (_VERB, _RESOURCE),
    ),
)


def read_calls(calls: Mapping[tuple[str, str, str], int], seconds: Mapping[tuple[str, str], float]) -> Samples:
    """Everything in the table; what was called once has a figure for each outcome.

    Args:
        calls: `KubeApi.calls`.
        seconds: `KubeApi.seconds`.
    """
    counted: dict[tuple[str, ...], float] = {
        (verb, resource, outcome): 0 for verb, resource, _ in calls for outcome in OUTCOMES
    }
    taken: dict[tuple[str, ...], float] = {key: value for key, value in seconds.items()}  # noqa: C416  # its keys are tuples of any length
    return {
        "lobby_operator_api_calls_total": counted | dict(calls),
        "lobby_operator_api_call_seconds_total": taken,
    }


KNOWN: tuple[str, ...] = ("lobbies", "pods", "greeters")

OPERATOR: tuple[Definition, ...] = (
    Definition(
        "lobby_operator_status_writes_total",
        "counter",
        "Writes of a Lobby's status since this process acts: at most one a second.",
        (NAME_OF_A_LOBBY,),
    ),
    Definition(
        "lobby_operator_dropped_events_total",
        "counter",
        "Events that were one too many for their Lobby, and not written.",
    ),
    Definition(
        "lobby_operator_known_objects",
        "gauge",
        "Objects that the operator follows: Lobbies, pods of lobbies, pods of greeters.",
        (Label("resource", KNOWN),),
    ),
)


def read_operator(writes: Mapping[str, int], dropped_events: int, known: Mapping[str, int]) -> Samples:
    """Everything in the table.

    Args:
        writes: of each status, by key of the Lobby.
        dropped_events: that were not written.
        known: how many of each kind there are.
    """
    return {
        "lobby_operator_status_writes_total": dict(writes),
        "lobby_operator_dropped_events_total": dropped_events,
        "lobby_operator_known_objects": {name: known[name] for name in KNOWN},
    }
