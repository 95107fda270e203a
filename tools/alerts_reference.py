"""Renders `docs/alerts.md` from the alert rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parents[1] / "charts" / "lobby-gateway" / "rules" / "lobby-gateway.yaml"

_INTRODUCTION = """\
# Alerts

<!-- Generated from charts/lobby-gateway/rules/lobby-gateway.yaml by `make docs`; a test fails when it is out of date. -->

The rules are in `charts/lobby-gateway/rules/lobby-gateway.yaml`, which any Prometheus can load (`rule_files`). In a cluster
with the Prometheus operator, the chart installs them as a PrometheusRule (`metrics.prometheusRule.enabled`). All metrics are
listed in [metrics.md](metrics.md).

A **critical** alert should wake someone: clients are refused or get no messages, or soon will, and the system cannot recover
by itself. A **warning** can wait for working hours. Each alert carries the text below in its annotations `summary`,
`description` and `action`.
"""

_TITLES: Mapping[str, str] = {
    "lobby-gateway-origins": "Origins",
    "lobby-gateway-seats": "Seats",
    "lobby-gateway-lobbies": "Lobbies",
    "lobby-gateway-messages": "Messages",
    "lobby-gateway-processes": "Processes",
    "lobby-gateway-operator": "The operator",
}

_OPTIONAL_LABEL = re.compile(r"\{\{ *with \$labels\.(\w+) *\}\}(.*?)\{\{ *\. *\}\}(.*?)\{\{ *end *\}\}")
_LABEL = re.compile(r"\{\{ *\$labels\.(\w+) *\}\}")
_VALUE = re.compile(r"\{\{ *\$value[^}]*\}\}")
_PAGE = re.compile(r"\bdocs/([\w-]+\.md)")


def render(rules: Mapping[str, Any] | None = None) -> str:
    """Renders the page.

    Args:
        rules: a parsed rule file; None: the chart's.
    """
    rules = rules or yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return "\n".join([_INTRODUCTION, *_overview(rules), *_sections(rules)])


def _overview(rules: Mapping[str, Any]) -> Iterator[str]:
    yield "| alert | severity | after | summary |\n| --- | --- | --- | --- |"
    for group in rules["groups"]:
        for rule in group["rules"]:
            name, summary = rule["alert"], _text(rule["annotations"]["summary"])
            yield f"| [{name}](#{name.lower()}) | {rule['labels']['severity']} | {rule['for']} | {summary} |"
    yield ""


def _sections(rules: Mapping[str, Any]) -> Iterator[str]:
    for group in rules["groups"]:
        yield f"## {_TITLES[group['name']]}\n"
        for rule in group["rules"]:
            notes = {name: _text(text) for name, text in rule["annotations"].items()}
            yield f"### {rule['alert']}\n\n{notes['summary']} {notes['description']}\n\n**What to do:** {notes['action']}\n"
            yield f"```promql\n{rule['expr'].rstrip()}\n```\n"


def _text(text: str) -> str:
    """An annotation with Prometheus' templates replaced by words, and pages by links."""
    words = _VALUE.sub("*N*", _LABEL.sub(r"*\1*", _OPTIONAL_LABEL.sub(r"\2*\1*\3", text)))
    return _PAGE.sub(r"[\1](\1)", words).strip()
