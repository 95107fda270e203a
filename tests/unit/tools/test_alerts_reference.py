"""The page on alerts."""

from __future__ import annotations

from pathlib import Path

import yaml
from tools.alerts_reference import render

ROOT = Path(__file__).parents[3]
RULES = ROOT / "charts" / "lobby-gateway" / "rules" / "lobby-gateway.yaml"
PAGE = ROOT / "docs" / "alerts.md"


def rule(**fields: object) -> dict[str, object]:
    annotations = {
        "summary": '{{ $value | printf "%.0f" }} clients of {{ $labels.lobby }} wait.',
        "description": "They are held.",
        "action": "Wait, too.",
    }
    made = {"alert": "LobbyWaits", "expr": "a\n> 1\n", "for": "1m", "labels": {"severity": "warning"}}
    return {**made, "annotations": annotations, **fields}


def test_the_page_is_what_the_rules_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(yaml.safe_load(RULES.read_text(encoding="utf-8"))), (
        f"run: python -m tools.alerts_reference < {RULES.relative_to(ROOT)} > docs/alerts.md"
    )


def test_an_alert_is_in_the_overview_and_has_a_section() -> None:
    page = render({"groups": [{"name": "lobby-gateway-seats", "rules": [rule()]}]})
    assert "| [LobbyWaits](#lobbywaits) | warning | 1m | *N* clients of *lobby* wait. |" in page
    assert "## Seats\n" in page
    assert "### LobbyWaits\n\n*N* clients of *lobby* wait. They are held.\n\n**What to do:** Wait, too.\n" in page
    assert "```promql\na\n> 1\n```" in page
