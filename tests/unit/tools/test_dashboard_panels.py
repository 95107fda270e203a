"""The panels of the dashboard and their queries."""

from __future__ import annotations

import re

import pytest
from tests.support.promql import check, metrics_named
from tools.dashboard_panels import ROWS, Panel, PanelType

from lobby_gateway.metrics import GREETER, LOBBY
from lobby_operator.kube.metrics import API_CALLS, OPERATOR
from lobby_operator.metrics import LOBBY_HOST

PANELS = [panel for row in ROWS for panel in row.panels]
NOT_SHOWN = {
    # Of use to somebody who looks for a cause, by hand.
    *("lobby_draining", "lobby_stream_offset", "greeter_stream_offset", "lobby_origin_attempts_total", "lobby_trunks"),
    *("lobby_trunk_behind_messages", "lobby_trunk_missed_messages_total", "lobby_ring_messages", "lobby_ring_bytes"),
    *("lobby_resumes_total", "lobby_mailbox_high_water_messages", "greeter_mailbox_high_water_messages"),
    *("lobby_abandoned_handshakes_total", "greeter_moving_clients", "lobby_operator_waiting_clients"),
    *("lobby_client_message_bytes_total", "greeter_client_message_bytes_total"),
    # What comes over trunks is what lobbies have from origins.
    *("greeter_messages_total", "greeter_message_bytes_total"),
    # Limits; alerts compare with them.
    *("lobby_max_memory_bytes", "greeter_max_memory_bytes"),
}


def title(panel: Panel) -> str:
    return panel.title


def test_titles_tell_panels_apart() -> None:
    titles = [panel.title for panel in PANELS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    assert panel.text.endswith(".")
    assert 1 <= len(panel.queries) <= 4


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_queries_name_only_metrics_labels_and_values_that_there_are(panel: Panel) -> None:
    for query in panel.queries:
        check(query.expression)


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_a_legend_names_labels_that_the_query_keeps(panel: Panel) -> None:
    for query in panel.queries:
        used = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        kept = {label for labels in re.findall(r"by \(([^)]*)\)", query.expression) for label in labels.split(", ")}
        assert used <= kept or "by (" not in query.expression, query


@pytest.mark.parametrize("panel", [panel for panel in PANELS if panel.kind is PanelType.NUMBER], ids=title)
def test_a_number_is_one_query(panel: Panel) -> None:
    assert len(panel.queries) == 1
    assert not panel.queries[0].legend


def test_every_metric_is_on_the_dashboard_or_left_out_on_purpose() -> None:
    shown = {name for panel in PANELS for query in panel.queries for name in metrics_named(query.expression)}
    tables = (*LOBBY, *GREETER, *LOBBY_HOST, *API_CALLS, *OPERATOR)
    metrics = {f"{each.name}{'_bucket' if each.kind == 'histogram' else ''}" for each in tables}
    assert metrics - shown == NOT_SHOWN
