"""All generated files together, as `make docs` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import __main__ as tools


def test_all_generated_files_are_up_to_date() -> None:
    assert not tools.out_of_date(), "run: make docs"


def test_files_that_are_out_of_date_are_written_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "same.md").write_text("same")
    (tmp_path / "changed.md").write_text("old")
    monkeypatch.setattr(tools, "ROOT", tmp_path)
    monkeypatch.setattr(tools, "GENERATED", {"same.md": lambda: "same", "changed.md": lambda: "new"})
    tools.main()
    assert capsys.readouterr().out == "changed.md\n"
    assert (tmp_path / "changed.md").read_text() == "new"
