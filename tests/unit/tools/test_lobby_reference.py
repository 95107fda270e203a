from __future__ import annotations

import re
from pathlib import Path

from tools.lobby_reference import render

from lobby_gateway.resource import schema

PAGE = Path(__file__).parents[3] / "docs" / "reference.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: make docs"


def test_every_field_of_the_spec_has_its_row() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", render(), re.MULTILINE)

    def names(node: object) -> set[str]:
        if isinstance(node, dict):
            own = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
            return own.union(*map(names, node.values()))
        return set()

    parts = schema.open_api_schema()["properties"]
    assert names(parts["spec"]) | names(parts["status"]) == set(rows)


def test_rows_give_limits_defaults_and_required_fields() -> None:
    page = render()
    assert "| `seats` | integer, 1 to 4096 | `512` | Maximum number of clients of one lobby." in page
    assert "| `messages` | `Ignore`, `Forward`, `Reject` | `Ignore` |" in page
    assert "| `url` | a ws:// or wss:// URL, at most 2048 characters | required |" in page
    assert "- `replicas` must be at most maxReplicas." in page
    assert "- Each must have exactly one of send, sendBytes, expect, wait and http." in page


def test_links_point_to_existing_headings() -> None:
    page = render()
    headings = {re.sub("[^a-z0-9_-]", "", heading.lower()) for heading in re.findall("^## (.*)$", page, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]*)\)", page))
    assert links
    assert links <= headings


def test_every_table_row_has_as_many_cells_as_its_header() -> None:
    cells = 0
    for line in render().splitlines():
        if not line.startswith("|"):
            cells = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line))
        assert cells in {0, count}, line
        cells = count
