"""What a wheel has, with a C compiler and without."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from build_hook import MODULES, SUFFIX, compile_into

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = [f"{module}{SUFFIX}" for module in MODULES]


def wheel(folder: Path) -> Path:
    [path] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(path)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="compiling takes gcc")
def test_a_wheel_has_the_compiled_modules_for_all_later_pythons(tmp_path: Path) -> None:
    built = wheel(tmp_path)
    assert "-cp311-abi3-linux_" in built.name
    with zipfile.ZipFile(built) as archive:
        assert sorted(name for name in archive.namelist() if name.endswith(".so")) == MEMBERS


def test_without_a_compiler_a_wheel_is_pure_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    built = wheel(tmp_path)
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    assert "lobby_gateway/clients/fan_out.py" in names
    assert not [name for name in names if name.endswith(".so")]  # of an editable installation
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"lobby_gateway", "lobby_operator"}
    assert not [name for name in names if "dashboard" in name or "reference" in name]


def test_what_can_not_be_compiled_any_more_is_not_left_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    for module in MODULES:
        old = tmp_path / f"{Path(module).name}{SUFFIX}"
        old.write_bytes(b"old")
        assert compile_into(tmp_path, ROOT / "gateway" / f"{module}.c") is None
        assert not old.exists()


def test_every_c_file_is_compiled() -> None:
    files = (ROOT / "gateway" / "lobby_gateway").rglob("*.c")
    assert sorted(str(each.relative_to(ROOT / "gateway").with_suffix("")) for each in files) == sorted(MODULES)
