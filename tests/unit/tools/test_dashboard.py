"""The dashboard: its panels, their queries, and Grafana's JSON."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.promql import check, metrics_named
from tools.dashboard import ROWS, SCHEMA_VERSION, Panel, PanelType, dashboard, render

from lobby_gateway.metrics import GREETER, LOBBY
from lobby_operator.kube.metrics import API_CALLS, OPERATOR
from lobby_operator.metrics import LOBBY_HOST

ROOT = Path(__file__).parents[3]
FILE = ROOT / "charts" / "lobby-gateway" / "dashboards" / "lobby-gateway.json"

GRID: list[dict[str, Any]] = dashboard()["panels"]
SHOWN = [panel for panel in GRID if panel["type"] != "row"]
PANELS = [panel for row in ROWS for panel in row.panels]


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    grid = panel["gridPos"]
    return set(itertools.product(range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])))


def test_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == render(), "run: make docs"


def test_json_has_what_grafana_needs() -> None:
    made = json.loads(render())
    assert made["schemaVersion"] == SCHEMA_VERSION
    assert made["uid"]
    assert "id" not in made  # of one Grafana's database


def test_all_panels_are_rendered_in_order() -> None:
    titles = [title for row in ROWS for title in (row.title, *(panel.title for panel in row.panels))]
    assert [panel["title"] for panel in GRID] == titles
    assert [panel["id"] for panel in GRID] == list(range(1, len(titles) + 1))


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in GRID:
        covered = cells(panel)
        assert not covered & taken, panel["title"]
        assert all(0 <= x < 24 for x, _ in covered), panel["title"]
        taken |= covered


def test_every_panel_queries_the_chosen_data_source() -> None:
    for panel in SHOWN:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references == ["A", "B", "C", "D"][: len(references)]
        assert references


def test_variables_are_exactly_those_used() -> None:
    made = {variable["name"] for variable in dashboard()["templating"]["list"]}
    text = json.dumps([panel["targets"] for panel in SHOWN]) + json.dumps(dashboard()["templating"])
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == made == {"datasource", "namespace", "lobby"}


def test_tables_use_instant_queries_and_lines_use_range_queries() -> None:
    by_title = {panel["title"]: panel for panel in SHOWN}
    (table,) = by_title["Conditions"]["targets"]
    assert (table["instant"], table["range"], table["format"]) == (True, False, "table")
    line = by_title["Clients and seats"]["targets"][0]
    assert (line["instant"], line["range"]) == (False, True)
    assert by_title["Lobbies by phase"]["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"


NOT_SHOWN = {
    # For troubleshooting by hand.
    *("lobby_draining", "lobby_stream_offset", "greeter_stream_offset", "lobby_origin_attempts_total", "lobby_trunks"),
    *("lobby_relays", "lobby_stream_skipped_messages_total", "lobby_origin_suspensions_total"),
    *("lobby_trunk_behind_messages", "lobby_trunk_missed_messages_total", "lobby_ring_messages", "lobby_ring_bytes"),
    *(
        "lobby_resumes_total",
        "lobby_tokens_total",
        "lobby_mailbox_high_water_messages",
        "lobby_client_lag_messages",
        "greeter_client_lag_messages",
        "greeter_mailbox_high_water_messages",
    ),
    *("lobby_abandoned_handshakes_total", "greeter_moving_clients", "lobby_operator_waiting_clients"),
    *("lobby_client_message_bytes_total", "greeter_client_message_bytes_total"),
    # Messages on trunks are those of origins.
    *("greeter_messages_total", "greeter_message_bytes_total"),
    # Limits, used by alerts.
    *("lobby_max_memory_bytes", "greeter_max_memory_bytes"),
}


def title(panel: Panel) -> str:
    return panel.title


def test_titles_are_unique() -> None:
    titles = [panel.title for panel in PANELS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_every_panel_has_a_description(panel: Panel) -> None:
    assert panel.text.endswith(".")
    assert 1 <= len(panel.queries) <= 4


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_queries_use_existing_metrics_labels_and_values(panel: Panel) -> None:
    for query in panel.queries:
        check(query.expression)


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_legends_use_labels_that_the_query_keeps(panel: Panel) -> None:
    for query in panel.queries:
        used = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        kept = {label for labels in re.findall(r"by \(([^)]*)\)", query.expression) for label in labels.split(", ")}
        assert used <= kept or "by (" not in query.expression, query


@pytest.mark.parametrize("panel", [panel for panel in PANELS if panel.kind is PanelType.NUMBER], ids=title)
def test_number_panels_have_one_query(panel: Panel) -> None:
    assert len(panel.queries) == 1
    assert not panel.queries[0].legend


def test_every_metric_is_shown_or_left_out_on_purpose() -> None:
    shown = {name for panel in PANELS for query in panel.queries for name in metrics_named(query.expression)}
    tables = (*LOBBY, *GREETER, *LOBBY_HOST, *API_CALLS, *OPERATOR)
    metrics = {f"{each.name}{'_bucket' if each.kind == 'histogram' else ''}" for each in tables}
    assert metrics - shown == NOT_SHOWN
