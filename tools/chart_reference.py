"""Renders `charts/lobby-gateway/README.md` from the comments of `values.yaml` and from `Chart.yaml`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1] / "charts" / "lobby-gateway"

_INTRODUCTION = """\
# Helm chart lobby-gateway

<!-- Generated from values.yaml and Chart.yaml by `make docs`; a test fails when this page is out of date. -->

{description}.

The chart installs the operator, the greeters and the Lobby resource. It needs Kubernetes {kubernetes} or newer and Helm 3.14
or newer:

    helm install lobby-gateway charts/lobby-gateway --namespace lobby-gateway --create-namespace --wait
    helm test lobby-gateway --namespace lobby-gateway

`docs/kubernetes.md` explains how to build the images, install, upgrade and uninstall. Unknown and invalid values are refused
with a line that names them (`values.schema.json`).

## Values

Names are paths: `greeter.service.type` is `--set greeter.service.type=...`.
"""

_ENABLED = "Creates the objects of this section."


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the chart.

    Attributes:
        path: its path: `greeter.service.type`.
        default: its default.
        comment: the paragraphs of the comment above it.
        section: it has values below it, and no default of its own.
    """

    path: str
    default: Any
    comment: tuple[str, ...]
    section: bool


def read(text: str) -> list[Value]:
    """All values of a file with their comments, in its order."""
    return list(_values(yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text), text.splitlines()))


def _values(node: yaml.Node | None, loaded: dict[str, Any], lines: Sequence[str], above: str = "") -> Iterator[Value]:
    assert isinstance(node, yaml.MappingNode)  # noqa: S101  # a values file, and those of its values that are sections
    for key, value in node.value:
        path, found = f"{above}{key.value}", loaded[key.value]
        comment = _paragraphs(lines, key.start_mark.line)
        below: list[Value] = []
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            below = list(_values(value, found, lines, f"{path}."))
        if above and comment and not any(each.comment for each in below):
            below = []  # one value, which its comment explains as a whole
        yield Value(path, found, comment, section=bool(below))
        yield from below


def _paragraphs(lines: Sequence[str], at: int) -> tuple[str, ...]:
    """The comment that ends above a line. Lines are joined, except those of an example."""
    start = at
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    said = [line.strip().removeprefix("#").removeprefix(" ") for line in lines[start:at]]
    paragraphs = "\n".join(said).strip("\n").split("\n\n")
    return tuple(_joined(paragraph) for paragraph in paragraphs if paragraph)


def _joined(paragraph: str) -> str:
    example = any(line.startswith("  ") for line in paragraph.splitlines())
    return f"```yaml\n{paragraph}\n```" if example else " ".join(paragraph.splitlines())


def render(text: str | None = None, chart: str | None = None) -> str:
    """Renders the page.

    Args:
        text: a values file; None: the chart's.
        chart: a `Chart.yaml`; None: the chart's.
    """
    values = read(text if text is not None else (CHART / "values.yaml").read_text(encoding="utf-8"))
    about = yaml.safe_load(chart if chart is not None else (CHART / "Chart.yaml").read_text(encoding="utf-8"))
    kubernetes = str(about["kubeVersion"]).removeprefix(">=").removesuffix(".0-0")
    introduction = _INTRODUCTION.format(description=about["description"], kubernetes=kubernetes)
    return "\n".join([introduction, *_general(values), *_sections(values)])


def _general(values: Sequence[Value]) -> Iterator[str]:
    plain = [value for value in values if "." not in value.path and not value.section]
    if plain:
        yield from ("### General\n", _table(plain, values))
        for value in plain:
            yield from (f"`{value.path}`, for example:\n\n{each}\n" for each in value.comment if each.startswith("```"))


def _sections(values: Sequence[Value]) -> Iterator[str]:
    for section in values:
        if "." in section.path or not section.section:
            continue
        yield f"### {section.path}\n"
        yield from (f"{paragraph}\n" for paragraph in section.comment)
        below = [value for value in values if value.path.startswith(f"{section.path}.") and not value.section]
        yield _table(below, values)


def _table(rows: Sequence[Value], values: Sequence[Value]) -> str:
    table = ["| value | default | meaning |", "| --- | --- | --- |"]
    for row in rows:
        default = json.dumps(row.default, ensure_ascii=False)
        table.append(f"| `{row.path}` | {_cell(f'`{default}`')} | {_cell(_meaning(row, values))} |")
    return "\n".join(table) + "\n"


def _meaning(row: Value, values: Sequence[Value]) -> str:
    """The comment of a value or, if it has none, that of the first one of the same name; that of its section for `enabled`."""
    section, _, name = row.path.rpartition(".")
    comments = [row.comment]
    if name == "enabled":
        comments += [value.comment for value in values if value.path == section and "." in section] + [(_ENABLED,)]
    comments += [value.comment for value in values if value.path.endswith(f".{name}")]
    found = next((comment for comment in comments if comment), ())
    return " ".join(paragraph for paragraph in found if not paragraph.startswith("```"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
