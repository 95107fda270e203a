"""What must hold for the tree as a whole, and what no single module's test would notice."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kopf
import pytest
from tests.support import examples

import lobby_gateway
from lobby_gateway.resource.schema import validate_and_default

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "operator").rglob("*.py")])


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_operator_folder_is_no_package() -> None:
    # A package `operator` would hide Python's own module of that name and break the interpreter.
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "gateway" / "__init__.py").exists()


def test_pythons_operator_module_is_found_from_the_project_folder() -> None:
    code = "import operator; assert operator.add(1, 2) == 3; print(operator.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT) not in done.stdout.replace(sys.prefix, "")


def test_every_module_has_a_docstring() -> None:
    assert not [name(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))]


def test_nothing_is_left_to_do() -> None:
    marker = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    files = [*SOURCES, ROOT / "crds" / "lobbies.yaml", ROOT / "Makefile"]
    assert not [name(path) for path in files if marker.search(path.read_text())]


def test_version_in_code_is_that_of_the_distribution() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert lobby_gateway.__version__ == version


def test_changelog_begins_with_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## +\[?v?([^\s\]]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(heading for heading in headings if heading.lower() != "unreleased") == version


def test_lock_file_fits_the_project() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    locked = {package["name"]: package for package in lock["package"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert locked["lobby-gateway"]["version"] == project["version"]
    wanted = {re.split(r"[^A-Za-z0-9-]", text)[0] for text in project["dependencies"]}
    assert wanted <= {dependency["name"] for dependency in locked["lobby-gateway"]["dependencies"]}


@pytest.mark.parametrize("page", examples.pages(), ids=name)
def test_lobbies_in_the_documentation_are_accepted(page: Path) -> None:
    for lobby in examples.lobbies(page):
        assert validate_and_default(lobby, name(page))["metadata"]["name"] == lobby["metadata"]["name"]


def test_all_handlers_of_kopf_are_in_one_file() -> None:
    users = [
        name(path) for path in SOURCES if re.search(r"^@?kopf\.on\.|^\s*@kopf\.on\.", path.read_text(), re.MULTILINE)
    ]
    assert users == ["operator/lobby_operator/kube/handlers.py"]


def test_only_public_names_of_kopf_are_used() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert not re.search(r"\bkopf\._|^\s*(from|import) kopf\.", text, re.MULTILINE), name(path)
        for used in re.findall(
            r"\bkopf\.([A-Za-z_]+)", text if re.search(r"^import kopf$", text, re.MULTILINE) else ""
        ):
            assert used in {*kopf.__all__, "on", "objects"}, used


def test_readme_shows_a_lobby() -> None:
    assert examples.lobbies(ROOT / "README.md")
