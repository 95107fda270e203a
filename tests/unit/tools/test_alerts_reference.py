"""The page on alerts."""

from __future__ import annotations

from pathlib import Path

from tools.alerts_reference import render

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "alerts.md"


def rule(**fields: object) -> dict[str, object]:
    annotations = {
        "summary": '{{ $value | printf "%.0f" }} clients of {{ $labels.lobby }} wait.',
        "description": "They are held.",
        "action": "Wait, too.",
    }
    made = {"alert": "LobbyWaits", "expr": "a\n> 1\n", "for": "1m", "labels": {"severity": "warning"}}
    return {**made, "annotations": annotations, **fields}


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: make docs"


def test_every_alert_is_in_the_overview_and_has_a_section() -> None:
    page = render({"groups": [{"name": "lobby-gateway-seats", "rules": [rule()]}]})
    assert "| [LobbyWaits](#lobbywaits) | warning | 1m | *N* clients of *lobby* wait. |" in page
    assert "## Seats\n" in page
    assert "### LobbyWaits\n\n*N* clients of *lobby* wait. They are held.\n\n**What to do:** Wait, too.\n" in page
    assert "```promql\na\n> 1\n```" in page


def test_optional_labels_and_pages_become_words_and_links() -> None:
    annotations = {
        "summary": "{{ $labels.job }}{{ with $labels.lobby }} {{ . }}{{ end }} waits.",
        "description": "It is held.",
        "action": "See docs/some-page.md.",
    }
    page = render({"groups": [{"name": "lobby-gateway-seats", "rules": [rule(annotations=annotations)]}]})
    assert (
        "### LobbyWaits\n\n*job* *lobby* waits. It is held.\n\n**What to do:** See [some-page.md](some-page.md).\n"
        in page
    )
