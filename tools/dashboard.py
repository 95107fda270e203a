"""The Grafana dashboard, made from its panels: `python -m tools.dashboard > FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from tools.dashboard_panels import ROWS, Panel, PanelType, Query, Row

SCHEMA_VERSION = 41
"""Of Grafana 12. Older ones, from 10 on, read it, too; newer ones bring it up to date as they load it."""

_UID = "lobby-gateway"
_WIDTH = 24  # of Grafana's grid
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SIZES = {PanelType.NUMBER: (4, 4), PanelType.LINES: (8, 8), PanelType.TABLE: (8, 8)}


def render() -> str:
    """The dashboard as JSON text."""
    return json.dumps(dashboard(), indent=2) + "\n"


def dashboard() -> dict[str, Any]:
    """The dashboard as JSON types."""
    return {
        "uid": _UID,
        "title": "Lobby Gateway",
        "description": "Clients, lobbies, origins and messages. Alerts and what to do: docs/alerts.md.",
        "tags": ["lobby-gateway", "websocket"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
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
    """Any of the values, or all of them; in local mode nothing has a namespace, which `.*` fits, too."""
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


if __name__ == "__main__":
    sys.stdout.write(render())
