"""Metrics of calls of the API."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import cast

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lobby_gateway.metrics import registry
from lobby_operator.kube import client
from lobby_operator.kube.metrics import API_CALLS, OUTCOMES, read_calls, read_operator
from lobby_operator.kube.watch import Watch

CALLS = Counter({("get", "pods", "ok"): 2, ("patch", "lobbies/status", "Conflict"): 1})
SECONDS = {("get", "pods"): 0.5, ("patch", "lobbies/status"): 0.25}


def test_a_call_has_a_value_for_each_outcome() -> None:
    figures = read_calls(CALLS, SECONDS)["lobby_operator_api_calls_total"]
    assert isinstance(figures, dict)
    assert {key for key, value in figures.items() if value} == set(CALLS)
    assert figures["get", "pods", "ok"] == 2
    assert figures["get", "pods", "Forbidden"] == 0
    assert len(figures) == 2 * len(OUTCOMES)


def test_every_error_of_a_call_is_an_outcome() -> None:
    found = {
        name.removesuffix("Error")
        for name, value in vars(client).items()
        if isinstance(value, type) and issubclass(value, client.ApiError)
    }
    assert found - {"NotHolder"} == set(OUTCOMES) - {"ok", "Cancelled"}


def test_every_definition_has_a_value() -> None:
    text = generate_latest(registry(API_CALLS, lambda: read_calls(CALLS, SECONDS))).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for definition in API_CALLS:
        family = families[definition.name.removesuffix("_total")]
        assert family.type == definition.kind
        assert {*family.samples[0].labels} == {label.name for label in definition.labels}


def test_there_is_no_value_before_the_first_call() -> None:
    assert read_calls({}, {}) == {"lobby_operator_api_calls_total": {}, "lobby_operator_api_call_seconds_total": {}}


def test_watches_of_one_kind_in_several_namespaces_are_one_value() -> None:
    watches = [
        SimpleNamespace(name="pods", restarts=1, ghosts=2, lag_seconds=0.0),
        SimpleNamespace(name="pods", restarts=3, ghosts=4, lag_seconds=7.5),
        SimpleNamespace(name="greeters", restarts=0, ghosts=1, lag_seconds=0.0),
    ]
    values = read_operator({}, 0, {"lobbies": 0, "pods": 0, "greeters": 0}, cast("list[Watch]", watches))
    assert values["lobby_operator_kopf_restarts_total"] == {"lobbies": 0, "pods": 4, "greeters": 0}
    assert values["lobby_operator_ghosts_dropped_total"] == {"lobbies": 0, "pods": 6, "greeters": 1}
    assert values["lobby_operator_watch_lag_seconds"] == {"lobbies": 0.0, "pods": 7.5, "greeters": 0.0}
