"""Inputs of the property tests of the planner."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.settings import PlannerSettings

SEATS = st.sampled_from([1, 2, 5, 10])


@st.composite
def specs(draw: st.DrawFn, seats: st.SearchStrategy[int] = SEATS) -> PlannerSpec:
    """Small lobbies, so that a few clients make a difference."""
    most = draw(st.sampled_from([1, 2, 3, 6, 12, 12]))
    return PlannerSpec(
        lobby="prices",
        generation=draw(st.integers(1, 3)),
        seats=draw(seats),
        replicas=draw(st.integers(0, min(3, most))),
        max_replicas=most,
        spare_seats=draw(st.sampled_from([0, 1, 3, 12])),
        placement=draw(st.sampled_from(Placement)),
        compaction=draw(st.sampled_from([True, True, True, False])),
        stabilization_seconds=draw(st.sampled_from([0.0, 5.0, 60.0])),
        empty_seconds=draw(st.sampled_from([0.0, 5.0, 60.0])),
        drain_seconds=draw(st.sampled_from([0.0, 10.0, 300.0])),
    )


SPEC_FIELDS = (
    *("seats", "replicas", "max_replicas", "spare_seats", "placement", "compaction"),
    *("stabilization_seconds", "empty_seconds", "drain_seconds"),
)
"""Fields that a person may change; one at a time, or every change would make a different Lobby."""

PLANNER_SETTINGS = st.sampled_from([PlannerSettings(), PlannerSettings(max_starting=2, move_share=0.5)])

CLIENTS = st.builds(
    lambda lobbies, most, seed: [random.Random(seed).randint(0, most) for _ in range(lobbies)],
    st.sampled_from([0, 3, 12]),
    st.sampled_from([0, 2, 5, 10]),
    st.integers(0, 1000),
)
"""Clients of the lobbies that exist at the start. Drawn one by one, most lists would be a single empty lobby."""

PAUSES = st.sampled_from([0.05, 0.3, 1.0, 1.7, 4.0, 11.0, 70.0])
"""Seconds between two passes."""
