from __future__ import annotations

from tests.unit.operator.lobbies import NOW, SPEC, observed

from lobby_operator.planner.actions import Action, Create, Delete, Drain, Reason
from lobby_operator.planner.placement import measure_capacity
from lobby_operator.planner.plan_builder import PlanBuilder
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.settings import PlannerSettings

CREATE = Create("prices-1", Reason(ActionReason.BELOW_REPLICAS, running=0, replicas=1))
DRAIN = Drain("prices-2", Reason(ActionReason.EMPTY, seconds=1))
DRAIN_AGAIN = Drain("prices-3", Reason(ActionReason.DRAIN_UNCONFIRMED, seconds=1))
DELETE = Delete("prices-4", Reason(ActionReason.ENDED))


def builder(*actions: Action) -> PlanBuilder:
    made = PlanBuilder(SPEC, PlannerSettings(), observed(), measure_capacity(SPEC, observed()), NOW)
    for action in actions:
        made.act(action)
    return made


def test_keeps_actions_in_order_and_knows_leaving_lobbies() -> None:
    made = builder(DELETE, CREATE, DRAIN)
    assert made.actions == [DELETE, CREATE, DRAIN]
    assert made.leaving == {"prices-2", "prices-4"}


def test_resizes_if_lobbies_are_created_or_drained() -> None:
    assert builder(CREATE).resizes
    assert builder(DRAIN).resizes
    assert not builder(DELETE, DRAIN_AGAIN).resizes


def test_wakes_at_the_earliest_requested_time() -> None:
    made = builder()
    made.wake(None)
    assert made.wake_at is None
    for at in (30.0, 10.0, None, 20.0):
        made.wake(at)
    assert made.wake_at == 10.0
