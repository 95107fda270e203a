"""The dashboard as Grafana's JSON."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from tools.dashboard import SCHEMA_VERSION, dashboard, render
from tools.dashboard_panels import ROWS

ROOT = Path(__file__).parents[3]
FILE = ROOT / "charts" / "lobby-gateway" / "dashboards" / "lobby-gateway.json"

PANELS: list[dict[str, Any]] = dashboard()["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    grid = panel["gridPos"]
    return set(itertools.product(range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])))


def test_the_file_is_what_the_code_says() -> None:
    assert FILE.read_text(encoding="utf-8") == render(), f"run: python -m tools.dashboard > {FILE.relative_to(ROOT)}"


def test_it_is_one_that_grafana_knows() -> None:
    made = json.loads(render())
    assert made["schemaVersion"] == SCHEMA_VERSION
    assert made["uid"]
    assert "id" not in made  # of one Grafana's database


def test_all_panels_are_there_in_their_order() -> None:
    titles = [title for row in ROWS for title in (row.title, *(panel.title for panel in row.panels))]
    assert [panel["title"] for panel in PANELS] == titles
    assert [panel["id"] for panel in PANELS] == list(range(1, len(titles) + 1))


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        covered = cells(panel)
        assert not covered & taken, panel["title"]
        assert all(0 <= x < 24 for x, _ in covered), panel["title"]
        taken |= covered


def test_every_panel_asks_the_data_source_that_was_chosen() -> None:
    for panel in SHOWN:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references == ["A", "B", "C", "D"][: len(references)]
        assert references


def test_variables_are_those_that_are_used() -> None:
    made = {variable["name"] for variable in dashboard()["templating"]["list"]}
    text = json.dumps([panel["targets"] for panel in SHOWN]) + json.dumps(dashboard()["templating"])
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == made == {"datasource", "namespace", "lobby"}


def test_a_table_is_asked_for_one_moment_and_a_line_for_a_time() -> None:
    by_title = {panel["title"]: panel for panel in SHOWN}
    (table,) = by_title["Conditions"]["targets"]
    assert (table["instant"], table["range"], table["format"]) == (True, False, "table")
    line = by_title["Clients and seats"]["targets"][0]
    assert (line["instant"], line["range"]) == (False, True)
    assert by_title["Lobbies by phase"]["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
