"""The script that measures the tree, on a small one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import structure


@pytest.fixture
def root(tmp_path: Path) -> Path:
    texts = {
        "gateway/lobby_gateway/__init__.py": "",
        "gateway/lobby_gateway/core/__init__.py": "",
        "gateway/lobby_gateway/core/session.py": "class OriginSession:\n    pass\n",
        "gateway/lobby_gateway/core/backoff.py": "class Backoff:\n    pass\n" + 100 * "\n",
        "gateway/lobby_gateway/net.py": "from lobby_gateway.core import session, backoff\n",
        "operator/lobby_operator/__init__.py": "",
        "operator/lobby_operator/host.py": "import lobby_gateway.core.backoff\n\ndef dial():\n    import os\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_modules_sizes_and_importers_are_counted(root: Path) -> None:
    rows = dict(structure.totals(root))
    assert rows["modules"] == "4"
    assert rows["modules with `__init__`"] == "7"
    assert rows["median lines"] == "3"
    assert rows["modules of 100 to 400 lines"] == "25%"
    assert rows["modules imported by only one other"] == "1"  # session; backoff has two importers


def test_concerns_list_folders_and_names_that_were_not_found(root: Path) -> None:
    concern, files, folders, missing = next(iter(structure.concerns(root)))
    assert (concern, files) == ("origin", "3")
    assert folders == "2: lobby_gateway/core, lobby_operator"
    assert "OriginScript" in missing
    assert "Backoff" not in missing


def test_tables_are_markdown(root: Path) -> None:
    page = structure.render(root)
    assert "| measure | value |\n| --- | --- |\n| modules | 4 |" in page
    assert "| concern | files | folders | not found |" in page
