from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest

from lobby_gateway import metrics

TABLES = {"lobby": metrics.LOBBY, "greeter": metrics.GREETER}


@pytest.mark.parametrize("prefix", TABLES)
def test_names_follow_the_conventions_of_prometheus(prefix: str) -> None:
    names = [definition.name for definition in TABLES[prefix]]
    assert len(set(names)) == len(names)
    for definition in TABLES[prefix]:
        assert re.fullmatch(rf"{prefix}_[a-z_]+[a-z]", definition.name)
        assert definition.name.endswith("_total") == (definition.kind == "counter")
        assert definition.text.endswith(".")


def test_a_reading_without_a_definition_is_an_error() -> None:
    registry = metrics.registry((), lambda: {"stray": 1.0})
    with pytest.raises(KeyError, match="no definition for stray"):
        generate_latest(registry)


def test_a_definition_without_a_reading_is_an_error() -> None:
    registry = metrics.registry((metrics.Definition("a", "gauge", "A."),), dict)
    with pytest.raises(KeyError):
        generate_latest(registry)


def test_each_value_of_a_label_is_a_line() -> None:
    table = (metrics.Definition("closes_total", "counter", "Closes.", "reason"),)
    text = generate_latest(metrics.registry(table, lambda: {"closes_total": {"lost": 2, "normal": 0}})).decode()
    assert 'closes_total{reason="lost"} 2.0' in text
    assert 'closes_total{reason="normal"} 0.0' in text
