from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left

import pytest
from prometheus_client import generate_latest
from tests.support.waiting import until

from lobby_gateway import metrics

TABLES = {"lobby": metrics.LOBBY, "greeter": metrics.GREETER}


@pytest.mark.parametrize("prefix", TABLES)
def test_names_follow_the_prometheus_conventions(prefix: str) -> None:
    names = [definition.name for definition in TABLES[prefix]]
    assert len(set(names)) == len(names)
    for definition in TABLES[prefix]:
        assert re.fullmatch(rf"{prefix}_[a-z_]+[a-z]", definition.name)
        assert definition.name.endswith("_total") == (definition.kind == "counter")
        assert definition.name.endswith("_seconds") or definition.kind != "histogram"
        assert definition.text.endswith(".")
        assert all(bool(label.values) != bool(label.bound) for label in definition.labels)


def test_a_sample_without_a_definition_is_an_error() -> None:
    registry = metrics.registry((), lambda: {"stray": 1.0})
    with pytest.raises(KeyError, match="no definition for stray"):
        generate_latest(registry)


def test_a_definition_without_a_sample_is_an_error() -> None:
    registry = metrics.registry((metrics.Definition("a", "gauge", "A."),), dict)
    with pytest.raises(KeyError):
        generate_latest(registry)


def test_each_value_of_a_label_is_a_line() -> None:
    reason = metrics.Label("reason", ("lost", "normal"))
    table = (metrics.Definition("closes_total", "counter", "Closes.", (reason,)),)
    text = generate_latest(metrics.registry(table, lambda: {"closes_total": {"lost": 2, "normal": 0}})).decode()
    assert 'closes_total{reason="lost"} 2.0' in text
    assert 'closes_total{reason="normal"} 0.0' in text


def test_each_combination_of_labels_is_a_line() -> None:
    labels = (metrics.Label("lobby", bound="Lobbies"), metrics.Label("phase", ("up", "down")))
    table = (metrics.Definition("lobbies", "gauge", "Lobbies.", labels),)
    counted: dict[tuple[str, ...], float] = {("prices", "up"): 3}
    text = generate_latest(metrics.registry(table, lambda: {"lobbies": counted})).decode()
    assert 'lobbies{lobby="prices",phase="up"} 3.0' in text


def test_lag_falls_into_buckets_that_add_up() -> None:
    lag = metrics.LoopLag()
    for seconds in (0.0, 0.001, 0.0011, 0.3, 99.0):
        lag.observe(seconds)
    text = generate_latest(
        metrics.registry((metrics.loop_lag("a"),), lambda: {"a_event_loop_lag_seconds": lag.distribution()})
    )
    lines = text.decode().splitlines()
    for bound, count in (("0.001", 2), ("0.0025", 3), ("0.25", 3), ("0.5", 4), ("2.5", 4), ("+Inf", 5)):
        assert f'a_event_loop_lag_seconds_bucket{{le="{bound}"}} {count}.0' in lines
    assert "a_event_loop_lag_seconds_count 5.0" in lines
    assert "a_event_loop_lag_seconds_sum 99.3021" in lines


def test_a_blocked_loop_is_late() -> None:
    async def main() -> list[int]:
        lag = metrics.LoopLag()
        watching = asyncio.create_task(lag.watch())
        await asyncio.sleep(0)
        time.sleep(0.6)  # noqa: ASYNC251  # it is due after half a second
        await until(lambda: sum(lag.distribution().counts))
        watching.cancel()
        return list(lag.distribution().counts)

    assert sum(asyncio.run(main())[bisect_left(metrics.LAG_BUCKETS, 0.09) :]) == 1
