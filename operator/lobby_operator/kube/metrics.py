"""Metrics that only the operator on Kubernetes has: API calls, writes, known objects, and how well kopf reports them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lobby_gateway.metrics import NAME_OF_A_LOBBY, Definition, Label, Samples
from lobby_operator.kube import client
from lobby_operator.kube.watch import Watch

OUTCOMES: tuple[str, ...] = (
    "ok",
    *(
        error.__name__.removesuffix("Error")
        for error in (
            client.NotFoundError,
            client.AlreadyExistsError,
            client.ConflictError,
            client.GoneError,
            client.ForbiddenError,
            client.InvalidError,
            client.BusyError,
            client.UnreachableError,
            client.ApiError,
        )
    ),
    "Cancelled",
)
"""How a call ends; see `kube/client.py`."""

_VERB = Label("verb", bound="kinds of calls that the operator makes")
_RESOURCE = Label("resource", bound="kinds of objects that it reads or writes")

API_CALLS: tuple[Definition, ...] = (
    Definition(
        "lobby_operator_api_calls_total",
        "counter",
        "Calls of the Kubernetes API, by verb, resource and outcome.",
        (_VERB, _RESOURCE, Label("outcome", OUTCOMES)),
    ),
    Definition(
        "lobby_operator_api_call_seconds_total",
        "counter",
        "Total duration of those calls.",
        (_VERB, _RESOURCE),
    ),
)


def read_calls(calls: Mapping[tuple[str, str, str], int], seconds: Mapping[tuple[str, str], float]) -> Samples:
    """Values of `API_CALLS`; a verb and resource that was called once has a value for each outcome.

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
        "Writes of a Lobby's status since this process became active: at most one per second.",
        (NAME_OF_A_LOBBY,),
    ),
    Definition(
        "lobby_operator_dropped_events_total",
        "counter",
        "Events that exceeded the rate of their Lobby and were not written.",
    ),
    Definition(
        "lobby_operator_known_objects",
        "gauge",
        "Objects that the operator watches: Lobbies, pods of lobbies, pods of greeters.",
        (Label("resource", KNOWN),),
    ),
    Definition(
        "lobby_operator_kopf_restarts_total",
        "counter",
        "Times that kopf was started again, since it had ended or did not report what the API server has.",
        (Label("resource", KNOWN),),
    ),
    Definition(
        "lobby_operator_ghosts_dropped_total",
        "counter",
        "Objects whose deletion kopf did not report, and that a list no longer had.",
        (Label("resource", KNOWN),),
    ),
    Definition(
        "lobby_operator_watch_lag_seconds",
        "gauge",
        "How long the API server has had an object, or a version of one, that kopf has not reported. 0: it has reported all.",
        (Label("resource", KNOWN),),
    ),
)


def read_operator(
    writes: Mapping[str, int], dropped_events: int, known: Mapping[str, int], watches: Sequence[Watch]
) -> Samples:
    """Values of `OPERATOR`.

    Args:
        writes: number of writes of each status, by key of the Lobby.
        dropped_events: number of Events that were not written.
        known: number of known objects of each kind.
        watches: all watches; there may be several of a kind, in different namespaces.
    """
    of_kind = {name: [watch for watch in watches if watch.name == name] for name in KNOWN}
    return {
        "lobby_operator_status_writes_total": dict(writes),
        "lobby_operator_dropped_events_total": dropped_events,
        "lobby_operator_known_objects": {name: known[name] for name in KNOWN},
        "lobby_operator_kopf_restarts_total": {
            name: sum(watch.restarts for watch in found) for name, found in of_kind.items()
        },
        "lobby_operator_ghosts_dropped_total": {
            name: sum(watch.ghosts for watch in found) for name, found in of_kind.items()
        },
        "lobby_operator_watch_lag_seconds": {
            name: max((watch.lag_seconds for watch in found), default=0.0) for name, found in of_kind.items()
        },
    }
