"""The Lobbies shown in the documentation, so that tests run the documented ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """README and docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def lobbies(page: Path) -> list[dict[str, Any]]:
    """The Lobby resources in a page."""
    documents = [each for block in _BLOCK.findall(page.read_text()) for each in yaml.safe_load_all(block)]
    return [each for each in documents if isinstance(each, dict) and each.get("kind") == "Lobby"]


def readme_lobby(name: str) -> dict[str, Any]:
    """The Lobby of this name in the README."""
    (found,) = [each for each in lobbies(ROOT / "README.md") if each["metadata"]["name"] == name]
    return found
