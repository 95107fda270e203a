"""Every metric of the lobby host: one table, and how its figures are read when Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lobby_gateway.metrics import NAME_OF_A_LOBBY, Definition, Label, LoopLag, Readings, loop_lag
from lobby_operator.actions import Create, Delete, Drain
from lobby_operator.reasons import Why
from lobby_operator.state import Phase
from lobby_operator.worker import Worker

_ACTIONS = (Create, Drain, Delete)
_REASONS = tuple((action.__name__, why.value) for action in _ACTIONS for why in Why if why in action.ACCEPTS)

_BY_LOBBY = (NAME_OF_A_LOBBY,)
_BY_PHASE = (NAME_OF_A_LOBBY, Label("phase", tuple(phase.value for phase in Phase)))
_BY_ACTION = (
    NAME_OF_A_LOBBY,
    Label("action", tuple(action.__name__ for action in _ACTIONS)),
    Label("reason", tuple(dict.fromkeys(why for _, why in _REASONS))),
)

LOBBY_HOST: tuple[Definition, ...] = (
    Definition("lobby_operator_lobbies", "gauge", "Lobbies, by Lobby and phase.", _BY_PHASE),
    Definition("lobby_operator_actions_total", "counter", "Lobbies created, drained, deleted, and why.", _BY_ACTION),
    Definition("lobby_operator_clients", "gauge", "Seats taken, as lobbies said last.", _BY_LOBBY),
    Definition("lobby_operator_seats", "gauge", "Seats of lobbies that take clients.", _BY_LOBBY),
    Definition("lobby_operator_waiting_clients", "gauge", "Clients without a seat.", _BY_LOBBY),
    Definition(
        "lobby_operator_failed_starts", "gauge", "Lobbies in a row that did not start; 0 once one did.", _BY_LOBBY
    ),
    Definition(
        "lobby_operator_failed_passes_total",
        "counter",
        "Passes over a Lobby that failed and were done again.",
        _BY_LOBBY,
    ),
    Definition("lobby_operator_greeters", "gauge", "Greeters that answer."),
    loop_lag("lobby_operator"),
)


def read(workers: Sequence[Worker], greeters: int, lag: LoopLag) -> Readings:
    """Everything in the table.

    Args:
        workers: one for each Lobby.
        greeters: how many answer.
        lag: of the event loop.
    """

    def each(figure: Callable[[Worker], float]) -> dict[str, float]:
        return {worker.lobby.key: figure(worker) for worker in workers}

    lobbies: dict[tuple[str, ...], float] = {
        (worker.lobby.key, phase.value): len(worker.observed.in_phase(phase)) for worker in workers for phase in Phase
    }
    actions: dict[tuple[str, ...], float] = {
        (worker.lobby.key, *done): worker.actions[done] for worker in workers for done in _REASONS
    }
    return {
        "lobby_operator_lobbies": lobbies,
        "lobby_operator_actions_total": actions,
        "lobby_operator_clients": each(lambda worker: sum(lobby.clients for lobby in worker.observed.lobbies)),
        "lobby_operator_seats": each(
            lambda worker: sum(lobby.seats for lobby in worker.observed.in_phase(Phase.READY))
        ),
        "lobby_operator_waiting_clients": each(lambda worker: worker.observed.waiting),
        "lobby_operator_failed_starts": each(lambda worker: worker.observed.failures.count),
        "lobby_operator_failed_passes_total": each(lambda worker: worker.failures),
        "lobby_operator_greeters": greeters,
        "lobby_operator_event_loop_lag_seconds": lag.reading(),
    }
