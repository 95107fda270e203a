"""Lobbies for tests of the planner, in one line each."""

from __future__ import annotations

from typing import Any

from lobby_gateway.process.seat_reports import LobbyReport, OriginReport, OriginState
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyReading, LobbyState, Observed, Phase

NOW = 1000.0
SPEC = PlannerSpec(lobby="prices")


def lobby_state(index: int, clients: int = 0, phase: Phase = Phase.READY, **fields: Any) -> LobbyState:
    """A lobby that has been in this state for a long time."""
    values: dict[str, Any] = {
        "name": f"prices-{index}",
        "index": index,
        "phase": phase,
        "created_at": 0.0,
        "starting_since": fields.get("created_at", 0.0),
        "address": f"10.0.0.{index}:8000",
        "seats": 512,
        "clients": clients,
        "origin": OriginReport(state=OriginState.CONNECTED if clients else OriginState.IDLE),
        "ready_at": None if phase is Phase.STARTING else 1.0,
        "unresponsive_since": NOW if phase is Phase.UNRESPONSIVE else None,
        "empty_since": None if clients else 1.0,
        "draining_since": NOW if phase is Phase.DRAINING else None,
        "drain_confirmed": phase is Phase.DRAINING,
    }
    return LobbyState(**{**values, **fields})


def observed(*lobbies: LobbyState, **fields: Any) -> Observed:
    return Observed(lobbies=lobbies, at=NOW, **fields)


def report(clients: int = 0, *, draining: bool = False, seats: int = 512) -> LobbyReport:
    return LobbyReport(name="prices-1", lobby="prices", clients=clients, seats=seats, draining=draining)


def reading(index: int = 1, clients: int | None = 0, **fields: Any) -> LobbyReading:
    """A lobby that answers or, with `clients` None, never has."""
    values: dict[str, Any] = {
        "name": f"prices-{index}",
        "created_at": 0.0,
        "address": f"10.0.0.{index}:8000",
        "report": None if clients is None else report(clients),
    }
    return LobbyReading(**{**values, **fields})
