"""The README of the chart."""

from __future__ import annotations

import re

import yaml
from tools.chart_reference import CHART, read, render

CHART_YAML = "description: Shares\nkubeVersion: '>=1.30.0-0'\n"

VALUES = """\
# Comments of the file are not those of a value.

# Level of the log,
# as a word.
logLevel: info

# By name.
#
# lobbies:
#   prices: {}
lobbies: {}

# The greeters.
greeter:
  # A | B.
  type: A
  # As in a container.
  resources:
    requests: {cpu: 1}
  # Where clients may be.
  limits:
    enabled: false
    # Networks.
    cidrs: [a, b]
demo:
  enabled: true
other:
  limits:
    cidrs: []
"""


def test_every_value_of_the_chart_has_a_row_with_its_default_and_a_meaning() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \| (.*) \|$", render(), re.MULTILINE)
    paths = {path for path, _, _ in rows}

    def leaves(given: object, above: str) -> set[str]:
        if not isinstance(given, dict) or not given or above in paths:
            return {above}
        return set().union(*(leaves(below, f"{above}.{key}".lstrip(".")) for key, below in given.items()))

    assert leaves(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), "") == paths
    assert len(paths) == len(rows)
    assert not [path for path, _, meaning in rows if not meaning]


def test_rows_have_default_and_comment() -> None:
    page = render(VALUES, CHART_YAML)
    assert "Shares.\n" in page
    assert "needs Kubernetes 1.30 or newer" in page
    for row in (
        '| `logLevel` | `"info"` | Level of the log, as a word. |',
        "| `lobbies` | `{}` | By name. |",
        '| `greeter.type` | `"A"` | A \\| B. |',
        '| `greeter.resources` | `{"requests": {"cpu": 1}}` | As in a container. |',
        "| `greeter.limits.enabled` | `false` | Where clients may be. |",
        '| `greeter.limits.cidrs` | `["a", "b"]` | Networks. |',
        "| `demo.enabled` | `true` | Creates the objects of this section. |",
        "| `other.limits.cidrs` | `[]` | Networks. |",
    ):
        assert row in page.splitlines(), row
    assert "### greeter\n\nThe greeters.\n\n| value" in page
    assert "`lobbies`, for example:\n\n```yaml\nlobbies:\n  prices: {}\n```\n" in page


def test_values_are_read_in_order_with_sections_before_their_values() -> None:
    assert [(value.path, value.section) for value in read(VALUES)][2:6] == [
        ("greeter", True),
        ("greeter.type", False),
        ("greeter.resources", False),
        ("greeter.limits", True),
    ]
