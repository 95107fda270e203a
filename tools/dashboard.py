"""The Grafana dashboard: panels, their queries, and how they become Grafana's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 41
"""Grafana 12's. Grafana 10 and later read it; newer versions migrate it on load."""

_UID = "lobby-gateway"
_WIDTH = 24  # columns of Grafana's grid
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

LOBBY = 'lobby=~"$lobby"'
"""Selects metrics of lobbies: Prometheus adds the label to their pods, which may be in any namespace."""

INSTALLED = 'namespace=~"$namespace"'
"""Selects metrics of greeters and operators by namespace."""

BOTH = f"{INSTALLED}, {LOBBY}"
RATE = "[$__rate_interval]"


class PanelType(StrEnum):
    """How a panel is drawn; the value is Grafana's name."""

    LINES = "timeseries"
    NUMBER = "stat"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expression: PromQL, with Grafana's variables.
        legend: template for the names of its series.
    """

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: a short title.
        text: description: what it shows, and when to worry.
        queries: its queries.
        unit: Grafana's name of the unit; `short` is a plain number.
        kind: how it is drawn.
        stacked: whether the series are parts of a whole.
    """

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: PanelType = PanelType.LINES
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one title."""

    title: str
    panels: tuple[Panel, ...]


def _number(title: str, expression: str, text: str, unit: str = "short") -> Panel:
    return Panel(title, text, (Query(expression),), unit, PanelType.NUMBER)


def _of_processes(expression: str) -> tuple[Query, ...]:
    """Restricts metrics that any program has to our processes, by a metric that only ours have."""
    kinds = (
        f"lobby_operator_leader{{{INSTALLED}}}",
        f"greeter_trunks{{{INSTALLED}}}",
        f"lobby_seats{{{LOBBY}}}",
    )
    return tuple(Query(f"{expression} and on (instance) {kind}", "{{pod}}") for kind in kinds)


_AT_A_GLANCE = Row(
    "At a glance",
    (
        _number("Clients",
            f"sum(greeter_clients{{{BOTH}}}) + (sum(lobby_clients{{{LOBBY}, via=\"direct\"}}) or vector(0))",
            "Connected now, through greeters or directly."),
        _number("Waiting clients", f"sum(greeter_waiting_clients{{{BOTH}}})", "Clients without a seat. Usually 0."),
        _number("Free seats",
            f"sum(max by (lobby) (lobby_operator_seats{{{BOTH}}}) - max by (lobby) (lobby_operator_clients{{{BOTH}}}))",
            "In lobbies that accept clients."),
        _number("Lobbies", f"count(lobby_seats{{{LOBBY}}}) or vector(0)", "Processes that Prometheus can scrape."),
        _number("Disconnected origins", f"sum(lobby_origin_state{{{LOBBY}, state=~\"Waiting|Refused\"}}) or vector(0)",
            "Lobbies whose origin connection is lost or refused. Should be 0."),
        _number("Deliveries per second",
            f"sum(rate(greeter_deliveries_total{{{INSTALLED}}}{RATE})) + "
            f"(sum(rate(lobby_deliveries_total{{{LOBBY}}}{RATE})) or vector(0))",
            "Messages sent to clients, through greeters or directly."),
    ),
)  # fmt: skip

_SEATS = Row(
    "Clients and seats",
    (
        Panel("Clients and seats", "By Lobby: seats taken, and seats in lobbies that accept clients.", (
            Query(f"max by (lobby) (lobby_operator_clients{{{BOTH}}})", "{{lobby}} clients"),
            Query(f"max by (lobby) (lobby_operator_seats{{{BOTH}}})", "{{lobby}} seats"),
        )),
        Panel("Seat usage", "Share of seats that are taken. Above 100% while clients of draining lobbies move.", (
            Query(f"max by (lobby) (lobby_operator_clients{{{BOTH}}}) / (max by (lobby) (lobby_operator_seats{{{BOTH}}}) > 0)",
                "{{lobby}}"),
        ), "percentunit"),
        Panel("Clients waiting for a seat", "Short spikes are normal in a rush; longer waits trigger LobbyClientsWait.", (
            Query(f"sum by (lobby) (greeter_waiting_clients{{{BOTH}}})", "{{lobby}}"),
        )),
        Panel("Lobbies by phase", "Silent: unresponsive. Settling: recovering; not yet trusted with new clients.", (
            Query(f"sum by (phase) (max by (lobby, phase) (lobby_operator_lobbies{{{BOTH}}}))", "{{phase}}"),
        ), stacked=True),
        Panel("Clients of each lobby", "Shows how lobbies fill and drain.", (
            Query(f"sum by (pod) (lobby_clients{{{LOBBY}}})", "{{pod}}"),
        ), stacked=True),
        Panel("Lobbies, share of maximum", "At 100%, no more lobbies are created even if clients wait: LobbyAtMaximum.", (
            Query(f"sum by (lobby) (max by (lobby, phase) (lobby_operator_lobbies{{{BOTH}, phase!=\"Ended\"}}))"
                f" / max by (lobby) (lobby_operator_max_replicas{{{BOTH}}})", "{{lobby}}"),
        ), "percentunit"),
        Panel("Actions of the lobby host", "Lobbies created, drained and deleted, and why.", (
            Query(f"sum by (action, reason) (increase(lobby_operator_actions_total{{{BOTH}}}{RATE}))",
                "{{action}} {{reason}}"),
        )),
        Panel("Failed starts", "Consecutive lobbies that failed to start; 0 after one has started.", (
            Query(f"max by (lobby) (lobby_operator_failed_starts{{{BOTH}}})", "{{lobby}}"),
        )),
        Panel("Conditions", "Conditions in the status of each Lobby.", (
            Query(f"max by (lobby, condition, reason) (lobby_operator_condition{{{BOTH}}}) == 1"),
        ), kind=PanelType.TABLE),
    ),
)  # fmt: skip

_ORIGINS = Row(
    "Origins",
    (
        Panel("Origin connections", "Idle: no client needs it. Waiting: lost, will be retried. Refused: 401 or 403.", (
            Query(f"sum by (state) (lobby_origin_state{{{LOBBY}}})", "{{state}}"),
        ), stacked=True),
        Panel("Lobbies without an origin connection", "Waiting or refused, by Lobby.", (
            Query(f"sum by (lobby) (lobby_origin_state{{{LOBBY}, state=~\"Waiting|Refused\"}})", "{{lobby}}"),
        )),
        Panel("Source of the stream", "peer: another lobby, since its own connection is lost or not allowed.", (
            Query(f"sum by (source) (lobby_stream_source{{{LOBBY}}})", "{{source}}"),
        ), stacked=True),
        Panel("Lobbies between origin and lobby", "Of the stream with the longest way, by Lobby.", (
            Query(f"max by (lobby) (lobby_stream_depth{{{LOBBY}}})", "{{lobby}}"),
        )),
        Panel("Changes of the source", "exact: nobody noticed, for example that a connection was lost. live: a gap.", (
            Query(f"sum by (to, verdict) (increase(lobby_source_changes_total{{{LOBBY}}}{RATE}))", "{{to}} {{verdict}}"),
            Query(f"sum(increase(lobby_stream_gaps_total{{{LOBBY}}}{RATE}))", "gaps"),
        )),
        Panel("Connections made", "More connections than new lobbies mean that origins were reconnected.", (
            Query(f"sum by (lobby) (increase(lobby_origin_connections_total{{{LOBBY}}}{RATE}))", "{{lobby}}"),
        )),
        Panel("Origin failures", "Per second, by kind of failure.", (
            Query(f"sum by (failure) (rate(lobby_origin_failures_total{{{LOBBY}}}{RATE}))", "{{failure}}"),
        )),
        Panel("Messages from origins", "Per second: the maximum, since all lobbies of a Lobby receive the same.", (
            Query(f"max by (lobby) (rate(lobby_messages_total{{{LOBBY}}}{RATE}))", "{{lobby}}"),
        )),
        Panel("Bytes from origins", "Per second, over the origin connections of all lobbies.", (
            Query(f"sum by (lobby) (rate(lobby_message_bytes_total{{{LOBBY}}}{RATE}))", "{{lobby}}"),
        ), "Bps"),
    ),
)  # fmt: skip

_MESSAGES = Row(
    "Messages to clients",
    (
        Panel("Deliveries", "Messages written to client sockets per second, by process.", (
            Query(f"sum by (pod) (rate(greeter_deliveries_total{{{INSTALLED}}}{RATE}))", "{{pod}}"),
            Query(f"sum by (lobby) (rate(lobby_deliveries_total{{{LOBBY}}}{RATE}))", "{{lobby}} directly"),
        )),
        Panel("Bytes delivered", "Per second, by process.", (
            Query(f"sum by (pod) (rate(greeter_delivered_bytes_total{{{INSTALLED}}}{RATE}))", "{{pod}}"),
            Query(f"sum by (lobby) (rate(lobby_delivered_bytes_total{{{LOBBY}}}{RATE}))", "{{lobby}} directly"),
        ), "Bps"),
        Panel("Dropped messages", "Per second, by reason (see docs/dropped-messages.md).", (
            Query(f"sum by (pod, reason) (rate(greeter_dropped_messages_total{{{INSTALLED}}}{RATE}))", "{{pod}} {{reason}}"),
            Query(f"sum by (lobby, reason) (rate(lobby_dropped_messages_total{{{LOBBY}}}{RATE}))", "{{lobby}} {{reason}}"),
        )),
        Panel("Clients behind", "Clients whose socket is full: what was sent is on the way (line), or they do not read.", (
            Query(f"sum by (pod, cause) (greeter_clients_behind{{{INSTALLED}}})", "{{pod}} {{cause}}"),
            Query(f"sum by (lobby, cause) (lobby_clients_behind{{{LOBBY}}})", "{{lobby}} {{cause}}"),
        )),
        Panel("Lag of clients", "Longest that a message has waited for a client.", (
            Query(f"max by (pod) (greeter_client_lag_seconds{{{INSTALLED}}})", "{{pod}}"),
            Query(f"max by (lobby) (lobby_client_lag_seconds{{{LOBBY}}})", "{{lobby}} directly"),
        ), "s"),
        Panel("Moves", "Clients that moved or resumed. Exact: without a gap. Live: they continued with the next message.", (
            Query(f"sum by (verdict) (increase(greeter_moves_total{{{INSTALLED}}}{RATE}))", "{{verdict}}"),
            Query(f"sum by (verdict) (increase(greeter_resumes_total{{{INSTALLED}}}{RATE}))", "resumed {{verdict}}"),
            Query(f"sum(increase(greeter_trunk_losses_total{{{INSTALLED}}}{RATE}))", "trunks lost"),
        )),
        Panel("Messages missed by greeters", "Per second. The greeter was too slow for a trunk: LobbyGreeterTooSlow.", (
            Query(f"sum by (pod) (rate(greeter_trunk_missed_messages_total{{{INSTALLED}}}{RATE}))", "{{pod}}"),
        )),
    ),
)  # fmt: skip

_CONNECTIONS = Row(
    "Connections",
    (
        Panel("Handshakes", "Per second: accepted, redirected, or abandoned by the client.", (
            Query(f"sum(rate(greeter_handshakes_total{{{INSTALLED}}}{RATE}))", "greeters"),
            Query(f"sum(rate(lobby_handshakes_total{{{LOBBY}}}{RATE}))", "lobbies"),
            Query(f"sum by (form) (rate(greeter_redirects_total{{{INSTALLED}}}{RATE}))", "redirected: {{form}}"),
            Query(f"sum(rate(greeter_abandoned_handshakes_total{{{INSTALLED}}}{RATE}))", "abandoned"),
        )),
        Panel("Refusals", "Refused handshakes per second, by reason (see docs/metrics.md).", (
            Query(f"sum by (reason) (rate(greeter_refusals_total{{{INSTALLED}}}{RATE}))", "{{reason}}"),
            Query(f"sum by (reason) (rate(lobby_refusals_total{{{LOBBY}}}{RATE}))", "lobby: {{reason}}"),
        )),
        Panel("Closes", "Disconnected clients per second, by reason (see docs/metrics.md).", (
            Query(f"sum by (reason) (rate(greeter_closes_total{{{INSTALLED}}}{RATE}))", "{{reason}}"),
            Query(f"sum by (reason) (rate(lobby_closes_total{{{LOBBY}}}{RATE}))", "lobby: {{reason}}"),
        )),
        Panel("Messages from clients", "Per second, by what happened to them. Undeliverable: the origin was disconnected.", (
            Query(f"sum by (fate) (rate(greeter_client_messages_total{{{INSTALLED}}}{RATE}))", "{{fate}}"),
            Query(f"sum by (fate) (rate(lobby_client_messages_total{{{LOBBY}}}{RATE}))", "lobby: {{fate}}"),
        )),
        Panel("Trunks", "Streams from lobbies to greeters.", (
            Query(f"sum by (pod) (greeter_trunks{{{INSTALLED}}})", "{{pod}}"),
        )),
        Panel("Greeters with a current directory", "0: gets no updates about Lobbies, and continues with what it knows.", (
            Query(f"min by (pod) (greeter_directory_current{{{INSTALLED}}})", "{{pod}}"),
        )),
        Panel("Greeter usage", "Connected and waiting clients, as a share of each greeter's limit.", (
            Query(f"(sum by (pod) (greeter_clients{{{INSTALLED}}}) + sum by (pod) (greeter_waiting_clients{{{INSTALLED}}}))"
                f" / (sum by (pod) (greeter_max_clients{{{INSTALLED}}}) > 0)", "{{pod}}"),
        ), "percentunit"),
    ),
)  # fmt: skip

_LAG = (
    "histogram_quantile(0.99, sum by (pod, le) (rate({metric}_event_loop_lag_seconds_bucket{{{where}}}" + RATE + ")))"
)

_PROCESSES = Row(
    "Processes",
    (
        Panel("Event loop", "99th percentile of event loop lag. Clients see it as latency.", (
            Query(_LAG.format(metric="lobby_operator", where=INSTALLED), "{{pod}}"),
            Query(_LAG.format(metric="greeter", where=INSTALLED), "{{pod}}"),
            Query(_LAG.format(metric="lobby", where=LOBBY), "{{pod}}"),
        ), "s"),
        Panel("CPU", "Cores used by each process, at most one.",
            _of_processes(f"rate(process_cpu_seconds_total{RATE})")),
        Panel("Memory", "Resident memory.", _of_processes("process_resident_memory_bytes"), "bytes"),
        Panel("Descriptors", "Open file descriptors, as a share of the limit. Each client takes one.",
            _of_processes("process_open_fds / process_max_fds"), "percentunit"),
        Panel("Versions", "Number of processes, by kind and version: two versions of a kind are a rollout.", (
            Query(f"count by (job, version) (lobby_operator_build_info{{{INSTALLED}}})", "{{job}} {{version}}"),
            Query(f"count by (job, version) (greeter_build_info{{{INSTALLED}}})", "{{job}} {{version}}"),
            Query(f"count by (job, version) (lobby_build_info{{{LOBBY}}})", "{{job}} {{version}}"),
        )),
    ),
)  # fmt: skip

_OPERATOR = Row(
    "Operator",
    (
        Panel("Leader", "1 for the operator that holds the Lease, 0 for standbys.", (
            Query(f"max by (pod) (lobby_operator_leader{{{INSTALLED}}})", "{{pod}}"),
        )),
        Panel("Reconciliations", "Per second, by Lobby.", (
            Query(f"sum by (lobby) (rate(lobby_operator_passes_total{{{BOTH}}}{RATE}))", "{{lobby}}"),
            Query(f"sum by (lobby) (rate(lobby_operator_failed_passes_total{{{BOTH}}}{RATE}))", "{{lobby}} failed"),
        )),
        Panel("Reconciliation time", "Average by Lobby, including API calls.", (
            Query(f"sum by (lobby) (rate(lobby_operator_pass_seconds_total{{{BOTH}}}{RATE}))"
                f" / (sum by (lobby) (rate(lobby_operator_passes_total{{{BOTH}}}{RATE})) > 0)", "{{lobby}}"),
        ), "s"),
        Panel("Greeters", "Greeters that respond to the operator.", (
            Query(f"max by (namespace) (lobby_operator_greeters{{{INSTALLED}}})", "{{namespace}}"),
        )),
        Panel("API calls", "Per second, by outcome. On Kubernetes only.", (
            Query(f"sum by (outcome) (rate(lobby_operator_api_calls_total{{{INSTALLED}}}{RATE}))", "{{outcome}}"),
        )),
        Panel("API calls by resource", "Per second. On Kubernetes only.", (
            Query(f"sum by (verb, resource) (rate(lobby_operator_api_calls_total{{{INSTALLED}}}{RATE}))",
                "{{verb}} {{resource}}"),
        )),
        Panel("API call time", "Average. On Kubernetes only.", (
            Query(f"sum by (verb) (rate(lobby_operator_api_call_seconds_total{{{INSTALLED}}}{RATE}))"
                f" / sum by (verb) (rate(lobby_operator_api_calls_total{{{INSTALLED}}}{RATE}))", "{{verb}}"),
        ), "s"),
        Panel("Status writes and dropped Events", "Per second; at most one write per Lobby. On Kubernetes only.", (
            Query(f"sum by (lobby) (rate(lobby_operator_status_writes_total{{{BOTH}}}{RATE}))", "{{lobby}}"),
            Query(f"sum(rate(lobby_operator_dropped_events_total{{{INSTALLED}}}{RATE}))", "events dropped"),
        )),
        Panel("Objects", "Objects in the operator's caches. On Kubernetes only.", (
            Query(f"max by (resource) (lobby_operator_known_objects{{{INSTALLED}}})", "{{resource}}"),
        )),
        Panel("Watch lag", "How long an object has not been reported. On Kubernetes only.", (
            Query(f"max by (resource) (lobby_operator_watch_lag_seconds{{{INSTALLED}}})", "{{resource}}"),
        ), "s"),
        Panel("Watch failures", "Restarts of kopf, and deletions that it did not report. On Kubernetes only.", (
            Query(f"sum by (resource) (increase(lobby_operator_kopf_restarts_total{{{INSTALLED}}}{RATE}))",
                "{{resource}} restarts"),
            Query(f"sum by (resource) (increase(lobby_operator_ghosts_dropped_total{{{INSTALLED}}}{RATE}))",
                "{{resource}} dropped"),
        )),
    ),
)  # fmt: skip

ROWS: tuple[Row, ...] = (_AT_A_GLANCE, _SEATS, _ORIGINS, _MESSAGES, _CONNECTIONS, _PROCESSES, _OPERATOR)
"""The whole dashboard."""

_SIZES = {PanelType.NUMBER: (4, 4), PanelType.LINES: (8, 8), PanelType.TABLE: (8, 8)}


def render() -> str:
    """Renders the dashboard as JSON text."""
    return json.dumps(dashboard(), indent=2) + "\n"


def dashboard() -> dict[str, Any]:
    """The dashboard as JSON types."""
    return {
        "uid": _UID,
        "title": "Lobby Gateway",
        "description": "Clients, lobbies, origins and messages. For alerts and what to do about them, see docs/alerts.md.",
        "tags": ["lobby-gateway", "websocket"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # a shared crosshair
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(_variables())},
        "panels": list(_panels(ROWS)),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}
    yield _variable("namespace", "Installation", "label_values(lobby_operator_leader, namespace)")
    yield _variable("lobby", "Lobby", 'label_values(lobby_operator_seats{namespace=~"$namespace"}, lobby)')


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A multi-value variable. All is `.*`, which also matches the missing namespace of local mode."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: tuple[Row, ...]) -> Iterator[dict[str, Any]]:
    number = 0
    y = 0
    for row in rows:
        number += 1
        grid = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": grid, "panels": []}
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            width, height = _SIZES[panel.kind]
            if x + width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield _panel(number, panel, {"x": x, "y": y, "w": width, "h": height})
            x, tallest = x + width, max(tallest, height)
        y += tallest


def _panel(number: int, panel: Panel, grid: dict[str, int]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": grid,
        "targets": [_target(index, query, panel.kind) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }
    if panel.kind is PanelType.NUMBER:
        made["options"] = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "graphMode": "area",
        }
    elif panel.kind is PanelType.TABLE:
        hidden = {"Time": True, "Value": True}
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
        made["fieldConfig"] = {"defaults": {}, "overrides": []}
    else:
        made["options"] = {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["max"],
                "sortBy": "Max",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        stacking = {"mode": "normal", "group": "A"} if panel.stacked else {"mode": "none"}
        made["fieldConfig"]["defaults"]["custom"] = {"fillOpacity": 30 if panel.stacked else 5, "stacking": stacking}
    return made


def _target(index: int, query: Query, kind: PanelType) -> dict[str, Any]:
    target: dict[str, Any] = {
        "refId": chr(ord("A") + index),
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "range": kind is not PanelType.TABLE,
        "instant": kind is PanelType.TABLE,
    }
    return {**target, "format": "table"} if kind is PanelType.TABLE else target
