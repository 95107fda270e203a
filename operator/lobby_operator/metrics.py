"""All metrics of the lobby host in one table, and how they are read when Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lobby_gateway.metrics import (
    NAME_OF_A_LOBBY,
    Definition,
    Label,
    LoopLag,
    Samples,
    build_info,
    loop_lag,
    read_build_info,
)
from lobby_operator.planner.actions import Create, Delete, Drain, Preconnect
from lobby_operator.planner.reasons import CONDITIONS, ActionReason, ConditionType
from lobby_operator.planner.state import Phase
from lobby_operator.reconcile.reconciler import Reconciler

_ACTIONS = (Create, Preconnect, Drain, Delete)
_REASONS = tuple(
    (action.__name__, reason.value) for action in _ACTIONS for reason in ActionReason if reason in action.ACCEPTS
)

_CONDITIONS = tuple((found.kind.value, found.name) for found in CONDITIONS)

_BY_LOBBY = (NAME_OF_A_LOBBY,)
_BY_PHASE = (NAME_OF_A_LOBBY, Label("phase", tuple(phase.value for phase in Phase)))
_BY_ACTION = (
    NAME_OF_A_LOBBY,
    Label("action", tuple(action.__name__ for action in _ACTIONS)),
    Label("reason", tuple(dict.fromkeys(reason for _, reason in _REASONS))),
)
_BY_CONDITION = (
    NAME_OF_A_LOBBY,
    Label("condition", tuple(kind.value for kind in ConditionType)),
    Label("reason", tuple(dict.fromkeys(name for _, name in _CONDITIONS))),
)

LOBBY_HOST: tuple[Definition, ...] = (
    Definition("lobby_operator_lobbies", "gauge", "Lobbies by phase.", _BY_PHASE),
    Definition(
        "lobby_operator_actions_total",
        "counter",
        "Lobbies created, preconnected, drained and deleted, by reason.",
        _BY_ACTION,
    ),
    Definition("lobby_operator_max_replicas", "gauge", "Maximum number of lobbies.", _BY_LOBBY),
    Definition(
        "lobby_operator_condition",
        "gauge",
        "1 for the current reason of each condition in a Lobby's status; other reasons are absent.",
        _BY_CONDITION,
    ),
    Definition("lobby_operator_clients", "gauge", "Seats taken, as last reported by lobbies.", _BY_LOBBY),
    Definition("lobby_operator_seats", "gauge", "Seats of ready lobbies.", _BY_LOBBY),
    Definition("lobby_operator_waiting_clients", "gauge", "Clients waiting for a seat.", _BY_LOBBY),
    Definition(
        "lobby_operator_failed_starts", "gauge", "Failed starts in a row; 0 once a lobby has lasted.", _BY_LOBBY
    ),
    Definition(
        "lobby_operator_passes_total", "counter", "Passes of the reconcile loop: observe, plan, act.", _BY_LOBBY
    ),
    Definition(
        "lobby_operator_pass_seconds_total",
        "counter",
        "Total time of those passes, calls included.",
        _BY_LOBBY,
    ),
    Definition(
        "lobby_operator_failed_passes_total",
        "counter",
        "Passes that failed, in whole or in part, and were retried.",
        _BY_LOBBY,
    ),
    Definition("lobby_operator_leader", "gauge", "1 while this process is the leader, 0 while it is a standby."),
    Definition("lobby_operator_greeters", "gauge", "Greeters that respond."),
    loop_lag("lobby_operator"),
    build_info("lobby_operator"),
)


def read(
    reconcilers: Sequence[Reconciler],
    greeters: int,
    lag: LoopLag,
    statuses: Mapping[str, Mapping[str, Any]],
    *,
    leader: bool = True,
) -> Samples:
    """Reads all metrics of the table.

    Args:
        reconcilers: one for each Lobby.
        greeters: number of greeters that respond.
        lag: lag of the event loop.
        statuses: status of each Lobby that has one, by key.
        leader: this process is the leader.
    """

    def each(figure: Callable[[Reconciler], float]) -> dict[str, float]:
        return {reconciler.lobby.key: figure(reconciler) for reconciler in reconcilers}

    lobbies: dict[tuple[str, ...], float] = {
        (reconciler.lobby.key, phase.value): len(reconciler.observed.in_phase(phase))
        for reconciler in reconcilers
        for phase in Phase
    }
    actions: dict[tuple[str, ...], float] = {
        (reconciler.lobby.key, *done): reconciler.actions[done] for reconciler in reconcilers for done in _REASONS
    }
    # A Lobby whose spec was never valid has a status but no reconciler.
    keys = dict.fromkeys([*(reconciler.lobby.key for reconciler in reconcilers), *statuses])
    current = {key: _current_reasons(statuses.get(key, {})) for key in keys}
    conditions: dict[tuple[str, ...], float] = {
        (key, *condition): 1 for key, found in current.items() for condition in _CONDITIONS if condition in found
    }
    return {
        "lobby_operator_lobbies": lobbies,
        "lobby_operator_actions_total": actions,
        "lobby_operator_max_replicas": each(lambda reconciler: reconciler.spec.max_replicas),
        "lobby_operator_condition": conditions,
        "lobby_operator_clients": each(lambda reconciler: sum(lobby.clients for lobby in reconciler.observed.lobbies)),
        "lobby_operator_seats": each(
            lambda reconciler: sum(lobby.seats for lobby in reconciler.observed.in_phase(Phase.READY))
        ),
        "lobby_operator_waiting_clients": each(lambda reconciler: reconciler.observed.waiting),
        "lobby_operator_failed_starts": each(lambda reconciler: reconciler.observed.failures.count),
        "lobby_operator_passes_total": each(lambda reconciler: reconciler.passes),
        "lobby_operator_pass_seconds_total": each(lambda reconciler: reconciler.seconds),
        "lobby_operator_failed_passes_total": each(lambda reconciler: reconciler.failures),
        "lobby_operator_leader": int(leader),
        "lobby_operator_greeters": greeters,
        "lobby_operator_event_loop_lag_seconds": lag.distribution(),
        **read_build_info("lobby_operator"),
    }


def _current_reasons(status: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(condition["type"], condition["reason"]) for condition in status.get("conditions", ())}
