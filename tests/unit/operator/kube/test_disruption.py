"""How many lobbies an eviction may take at a time."""

from __future__ import annotations

import pytest
from tests.unit.operator.kube.lobbies import UID, lobby

from lobby_operator.kube.disruption import LOWER_SECONDS, Budget, disruption_budget, least_available


@pytest.mark.parametrize(("lobbies", "stay"), [(0, 0), (1, 0), (2, 1), (10, 9), (19, 18), (20, 18), (2000, 1800)])
def test_a_tenth_may_go_but_always_one(lobbies: int, stay: int) -> None:
    assert least_available(lobbies) == stay


def test_the_budget_is_for_the_pods_of_the_lobby_and_goes_with_it() -> None:
    budget = disruption_budget(lobby(), 2)
    assert budget["metadata"]["name"] == "prices-lobby"
    assert budget["metadata"]["ownerReferences"][0]["uid"] == UID
    assert budget["spec"]["minAvailable"] == 2
    assert budget["spec"]["selector"]["matchLabels"]["lobby-gateway.io/lobby"] == "prices"
    assert "maxUnavailable" not in budget["spec"]


def test_a_draining_lobby_may_always_be_evicted() -> None:
    assert disruption_budget(lobby(), 2)["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_nothing_is_changed_before_it_is_known() -> None:
    assert Budget().wanted(5, 0.0) is None


def test_it_is_raised_at_once() -> None:
    budget = Budget()
    budget.written(0)
    assert budget.wanted(3, 0.0) == 2
    budget.written(2)
    assert budget.wanted(3, 0.0) is None


def test_it_is_lowered_when_there_were_fewer_for_long() -> None:
    budget = Budget()
    budget.written(2)
    assert budget.wanted(2, 10.0) is None
    assert budget.wanted(2, 10.0 + LOWER_SECONDS - 1) is None
    assert budget.wanted(2, 10.0 + LOWER_SECONDS) == 1


def test_an_evicted_lobby_that_is_replaced_lowers_nothing() -> None:
    budget = Budget()
    budget.written(2)
    assert budget.wanted(2, 10.0) is None  # evicted
    assert budget.wanted(3, 12.0) is None  # replaced
    assert budget.wanted(2, 13.0) is None  # the next
    assert budget.wanted(2, 13.0 + LOWER_SECONDS - 1) is None
