from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.operator.lobbies import SPEC

from lobby_gateway.resource.schema import default_lobby
from lobby_gateway.resource.spec import Placement, lobby_from_resource
from lobby_operator.planner.spec import PlannerSpec

FIELDS = {
    "clients": {"seats": 20},
    "replicas": 2,
    "maxReplicas": 7,
    "spareSeats": 5,
    "placement": "Latest",
    "compaction": {"enabled": False, "stabilizationSeconds": 3},
    "emptySeconds": 4,
    "drainSeconds": 6,
    "waitSeconds": 45,
}


def test_the_fields_come_from_the_lobby() -> None:
    resource = default_lobby("prices", "ws://origin.example/", spec=FIELDS)
    resource["metadata"]["generation"] = 9
    assert PlannerSpec.of(lobby_from_resource(resource)) == PlannerSpec(
        lobby="prices",
        generation=9,
        seats=20,
        replicas=2,
        max_replicas=7,
        spare_seats=5,
        placement=Placement.LATEST,
        compaction=False,
        stabilization_seconds=3,
        empty_seconds=4,
        drain_seconds=6,
        lost_seconds=45,
    )


def test_the_defaults_are_those_of_the_resource() -> None:
    lobby = lobby_from_resource(default_lobby("prices", "ws://origin.example/"))
    assert PlannerSpec.of(lobby) == replace(SPEC, generation=lobby.generation)


def test_the_minimum_is_never_above_the_maximum() -> None:
    assert replace(SPEC, replicas=3).min_replicas == 3
    assert replace(SPEC, replicas=300).min_replicas == 100


@pytest.mark.parametrize(
    ("placement", "spare", "kept"),
    [(Placement.PACKED, 1000, 1000), (Placement.LATEST, 1000, 256), (Placement.LATEST, 64, 64)],
)
def test_latest_keeps_at_most_half_a_lobby_free(placement: Placement, spare: int, kept: int) -> None:
    assert replace(SPEC, placement=placement, spare_seats=spare).spare == kept
