"""`docs/alerts.md`, made from the rules: `python -m tools.alerts_reference < RULES > docs/alerts.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_INTRODUCTION = """\
# Alerts

<!-- Made from charts/lobby-gateway/rules/lobby-gateway.yaml by `python -m tools.alerts_reference < that file`; a
test fails when they differ. -->

The rules are `charts/lobby-gateway/rules/lobby-gateway.yaml`, a file that any Prometheus loads (`rule_files`). In a cluster
with the Prometheus operator the chart brings them as a PrometheusRule: `metrics.prometheusRule.enabled`. All metrics are in
[metrics.md](metrics.md).

Wake somebody for what is **critical**: clients are turned away or get no messages, or soon will, and nothing mends it by
itself. What is a **warning** is to be looked at by day. Each alert brings along what is written here: `summary`,
`description`, `action`.
"""

_TITLES: Mapping[str, str] = {
    "lobby-gateway-origins": "Origins",
    "lobby-gateway-seats": "Seats",
    "lobby-gateway-lobbies": "Lobbies",
    "lobby-gateway-messages": "Messages",
    "lobby-gateway-processes": "Processes",
    "lobby-gateway-operator": "The operator",
}

_LABEL = re.compile(r"\{\{ *\$labels\.(\w+) *\}\}")
_VALUE = re.compile(r"\{\{ *\$value[^}]*\}\}")


def render(rules: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        rules: a rule file of Prometheus.
    """
    return "\n".join([_INTRODUCTION, *_overview(rules), *_sections(rules)])


def _overview(rules: Mapping[str, Any]) -> Iterator[str]:
    yield "| alert | severity | after | what is wrong |\n| --- | --- | --- | --- |"
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
    """An annotation without Prometheus' templates."""
    return _VALUE.sub("*N*", _LABEL.sub(r"*\1*", text)).strip()


if __name__ == "__main__":
    sys.stdout.write(render(yaml.safe_load(sys.stdin)))
