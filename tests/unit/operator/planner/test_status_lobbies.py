"""Which lobbies a status names, and how large that makes it."""

from __future__ import annotations

import json

from lobby_gateway.process.reports import OriginReport, OriginState
from lobby_gateway.resource.schema import open_api_schema
from lobby_operator.planner.plan import Plan
from lobby_operator.planner.reasons import SCALING_STEADY, Finding
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase, lobby_name
from lobby_operator.planner.status import MAX_LISTED, PathClaim, lobby_status

LONGEST = "n" * 50


def lobby(index: int, phase: Phase = Phase.READY, state: OriginState | None = OriginState.CONNECTED) -> LobbyState:
    return LobbyState(
        name=lobby_name(LONGEST, index),
        index=index,
        phase=phase,
        created_at=0.0,
        address="255.255.255.255:65535",
        seats=4096,
        clients=4095,
        origin=OriginReport(state=state, reason="r" * 200) if state is not None else None,
    )


def status(*lobbies: LobbyState) -> dict[str, object]:
    planned = Plan(
        open=tuple(each for each in lobbies if each.phase is Phase.READY),
        scaling=Finding(SCALING_STEADY, {"lobbies": len(lobbies)}),
    )
    claim = PathClaim("/" + LONGEST)
    return lobby_status(
        PlannerSpec(lobby=LONGEST), Observed(lobbies=lobbies), planned, claim=claim, at="2026-01-01T00:00:00Z"
    )


def test_every_lobby_is_listed_with_its_phase_seats_and_origin() -> None:
    made = status(lobby(1), lobby(2, Phase.DRAINING, OriginState.WAITING), lobby(3, Phase.STARTING, None))
    assert made["lobbies"] == [
        {"name": f"{LONGEST}-1", "phase": "Ready", "clients": 4095, "seats": 4096, "origin": "Connected"},
        {"name": f"{LONGEST}-2", "phase": "Draining", "clients": 4095, "seats": 4096, "origin": "Waiting"},
        {"name": f"{LONGEST}-3", "phase": "Starting", "clients": 4095, "seats": 4096},
    ]


def test_an_ended_lobby_is_not_listed() -> None:
    assert status(lobby(1, Phase.ENDED))["lobbies"] == []


def test_phases_and_states_are_those_of_the_crd() -> None:
    fields = open_api_schema()["properties"]["status"]["properties"]["lobbies"]["items"]["properties"]
    assert set(fields["phase"]["enum"]) == {phase.value for phase in Phase if phase is not Phase.ENDED}
    assert set(fields["origin"]["enum"]) == {state.value for state in OriginState}


def test_a_status_with_thousands_of_lobbies_stays_below_64_kib() -> None:
    open_ones = [lobby(index) for index in range(90_000, 92_000)]
    draining = [lobby(index, Phase.DRAINING) for index in range(92_000, 94_000)]
    made = status(*open_ones, *draining)
    assert len(made["lobbies"]) == MAX_LISTED  # type: ignore[arg-type]
    assert len(json.dumps(made, separators=(",", ":"))) < 64 * 1024  # as it is sent
