from __future__ import annotations

import pytest

from lobby_operator.planner.actions import Action, Create, Delete, Drain, Preconnect, Reason
from lobby_operator.planner.reasons import ActionReason

REASONS = {
    ActionReason.BELOW_REPLICAS: Reason(ActionReason.BELOW_REPLICAS, running=0, replicas=2),
    ActionReason.EMPTY: Reason(ActionReason.EMPTY, seconds=60.04),
    ActionReason.DRAINED: Reason(ActionReason.DRAINED),
}


@pytest.mark.parametrize(
    ("action", "why"),
    [(Create, ActionReason.BELOW_REPLICAS), (Drain, ActionReason.EMPTY), (Delete, ActionReason.DRAINED)],
)
def test_an_action_accepts_only_its_own_reasons(action: type[Action], why: ActionReason) -> None:
    assert action("prices-1", REASONS[why]).reason.code is why
    for other in REASONS.keys() - {why}:
        with pytest.raises(ValueError, match=f"^{action.__name__} needs a reason of"):
            action("prices-1", REASONS[other])


@pytest.mark.parametrize("action", [Create, Drain, Delete])
@pytest.mark.parametrize("nothing", [None, "because"])
def test_an_action_cannot_be_built_without_a_reason(action: type[Action], nothing: object) -> None:
    with pytest.raises(ValueError, match="needs a reason of"):
        action("prices-1", nothing)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        action("prices-1")  # type: ignore[call-arg]


def test_an_action_needs_a_name() -> None:
    with pytest.raises(ValueError, match="Delete needs the name of a lobby"):
        Delete("", REASONS[ActionReason.DRAINED])


def test_every_reason_belongs_to_exactly_one_action() -> None:
    accepted = [why for action in (Create, Preconnect, Drain, Delete) for why in action.ACCEPTS]
    assert sorted(accepted) == sorted(ActionReason)


def test_a_reason_needs_exactly_the_numbers_of_its_sentence() -> None:
    with pytest.raises(ValueError, match=r"Empty needs the numbers \['seconds'\], not \[\]"):
        Reason(ActionReason.EMPTY)
    with pytest.raises(ValueError, match=r"not \['clients'\]"):
        Reason(ActionReason.DRAINED, clients=3)


def test_a_reason_is_a_sentence_for_people_and_fields_for_logs() -> None:
    reason = REASONS[ActionReason.EMPTY]
    assert reason.sentence == "it has had no clients for 60.04 s and is not needed"
    assert reason.fields == {"seconds": 60.04}
    assert Reason(ActionReason.CLIENTS_WAIT, waiting=1000000, moving=0, free=0).sentence.startswith(
        "1000000 clients wait"
    )
