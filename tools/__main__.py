"""Regenerates the generated files: `python -m tools`, or `make docs`. Tests fail when one is out of date."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tools import alerts_reference, chart_reference, dashboard, lobby_reference, metrics_reference, uv_requirements

ROOT = Path(__file__).resolve().parents[1]

GENERATED: Mapping[str, Callable[[], str]] = {
    "charts/lobby-gateway/README.md": chart_reference.render,
    "charts/lobby-gateway/crds/lobbies.yaml": lambda: (ROOT / "crds" / "lobbies.yaml").read_text(encoding="utf-8"),
    "charts/lobby-gateway/dashboards/lobby-gateway.json": dashboard.render,
    "docs/alerts.md": alerts_reference.render,
    "docs/metrics.md": metrics_reference.render,
    "docs/reference.md": lobby_reference.render,
    "requirements-uv.txt": uv_requirements.render,
}
"""Each generated file and what renders its text."""


def out_of_date() -> list[str]:
    """Generated files whose content differs from what the code would write."""
    return [name for name, render in GENERATED.items() if (ROOT / name).read_text(encoding="utf-8") != render()]


def main() -> None:
    """Writes the files that are out of date, and prints their names."""
    for name in out_of_date():
        (ROOT / name).write_text(GENERATED[name](), encoding="utf-8")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
