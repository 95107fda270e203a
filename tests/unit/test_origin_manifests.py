"""The manifests in docs/origins are valid, name themselves after their file, and are listed on their page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lobby_gateway.resource.schema import load_file
from lobby_gateway.resource.spec import lobby_from_resource

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "origins"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_valid_and_says_what_it_is(path: Path) -> None:
    made = lobby_from_resource(load_file(path))
    assert made.name == path.stem
    assert path.read_text().startswith("# ")


def test_the_page_lists_every_manifest() -> None:
    page = (FOLDER / "README.md").read_text()
    assert sorted(re.findall(r"\]\(([a-z0-9-]+\.yaml)\)", page)) == [path.name for path in MANIFESTS]
