"""The metrics of the lobby host, and the page on all metrics."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tools.metrics_reference import render

from lobby_gateway.metrics import GREETER, LOBBY, PROCESS, LoopLag, registry
from lobby_operator.local.lobby_sources import from_url
from lobby_operator.metrics import LOBBY_HOST, read
from lobby_operator.planner.demand import Demand
from lobby_operator.planner.reasons import ActionReason
from lobby_operator.planner.state import Failures, Observed, Phase
from lobby_operator.reconcile.reconciler import Reconciler

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def reconciler(name: str) -> Reconciler:
    lobby = from_url("ws://h/", name=name, seats=None, option="test").lobby

    async def make() -> Reconciler:
        return Reconciler(lobby, None, demand=lambda _taken: Demand(), on_action=print, on_plan=print)  # type: ignore[arg-type]

    return asyncio.run(make())


def test_every_definition_has_a_value_and_every_value_a_definition() -> None:
    reconcilers = [reconciler("prices"), reconciler("books")]
    text = generate_latest(registry(LOBBY_HOST, lambda: read(reconcilers, 1, LoopLag(), {}))).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    for definition in LOBBY_HOST:
        family = found[definition.name.removesuffix("_total")]
        assert family.type == definition.kind
        samples = [sample for sample in family.samples if not sample.name.endswith(("_bucket", "_sum"))]
        named = not definition.name.endswith(("_condition", "_build_info"))
        for label in definition.labels if named else ():
            seen = {sample.labels[label.name] for sample in samples}
            assert seen == ({"prices", "books"} if label.bound else set(label.values))


def test_each_action_has_the_reasons_that_it_accepts() -> None:
    figures = read([reconciler("prices")], 1, LoopLag(), {})["lobby_operator_actions_total"]
    assert isinstance(figures, dict)
    assert ("prices", "Create", "ClientsWait") in figures
    assert ("prices", "Create", "Drained") not in figures
    assert {reason for _, _, reason in figures} == {reason.value for reason in ActionReason}


def test_failed_starts_are_counted_in_a_row() -> None:
    failing = reconciler("prices")
    failing.observed = Observed(failures=Failures(3, 1.0))
    assert read([failing], 1, LoopLag(), {})["lobby_operator_failed_starts"] == {"prices": 3}


def test_lobbies_are_counted_in_every_phase() -> None:
    figures = read([reconciler("prices")], 1, LoopLag(), {})["lobby_operator_lobbies"]
    assert figures == {("prices", phase.value): 0 for phase in Phase}


def test_a_condition_has_one_reason_even_without_a_reconciler() -> None:
    conditions = [{"type": "Ready", "reason": "Starting"}, {"type": "PathAccepted", "reason": "Accepted"}]
    statuses = {
        "prices": {"conditions": conditions},
        "invalid": {"conditions": [{"type": "Scaling", "reason": "InvalidSpec"}]},
    }
    figures = read([reconciler("prices"), reconciler("books")], 1, LoopLag(), statuses)["lobby_operator_condition"]
    assert isinstance(figures, dict)
    assert figures == {
        ("prices", "Ready", "Starting"): 1,
        ("prices", "PathAccepted", "Accepted"): 1,
        ("invalid", "Scaling", "InvalidSpec"): 1,
    }


def test_passes_and_max_replicas_are_those_of_the_reconciler() -> None:
    busy = reconciler("prices")
    busy.passes, busy.failures = 7, 2
    figures = read([busy], 1, LoopLag(), {})
    assert figures["lobby_operator_passes_total"] == {"prices": 7}
    assert figures["lobby_operator_failed_passes_total"] == {"prices": 2}
    assert figures["lobby_operator_max_replicas"] == {"prices": 100}


def test_a_standby_is_not_the_leader() -> None:
    assert read([], 0, LoopLag(), {})["lobby_operator_leader"] == 1
    assert read([], 0, LoopLag(), {}, leader=False)["lobby_operator_leader"] == 0


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: make docs"


def test_every_metric_and_every_value_of_a_label_is_on_the_page() -> None:
    page = render()
    for definition in (*LOBBY, *GREETER, *LOBBY_HOST, *PROCESS):
        assert f"| `{definition.name}` | {definition.kind} |" in page
        for label in definition.labels:
            assert all(f"`{value}`" in page for value in label.values)
            assert label.bound in page


def test_expressions_name_metrics_that_exist() -> None:
    page = render()
    section = page[page.index("## Useful queries") : page.index("## Scraping")]
    used = set(re.findall(r"\b(?:lobby|greeter)_\w+", section))
    known = {
        f"{definition.name}{suffix}"
        for definition in (*LOBBY, *GREETER, *LOBBY_HOST)
        for suffix in (("_bucket",) if definition.kind == "histogram" else ("",))
    }
    assert used
    assert used <= known


def test_every_table_row_has_as_many_cells_as_its_head() -> None:
    cells = 0
    for line in render().splitlines():
        if not line.startswith("|"):
            cells = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line))
        assert cells in {0, count}, line
        cells = count
