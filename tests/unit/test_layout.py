"""What must hold for the tree as a whole, and what no single module's test would notice."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.support import examples

import lobby_gateway
from lobby_gateway.resource.schema import validate_and_default

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "operator").rglob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES = 400
MAX_TEST_LINES = 600
MAX_FUNCTION_LINES = 60


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and decorators."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_operator_folder_is_no_package() -> None:
    # A package `operator` would hide Python's own module of that name and break the interpreter.
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "gateway" / "__init__.py").exists()


def test_pythons_operator_module_is_found_from_the_project_folder() -> None:
    code = "import operator; assert operator.add(1, 2) == 3; print(operator.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT) not in done.stdout.replace(sys.prefix, "")


def test_layers_import_only_what_they_may() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_module_is_of_one_concept(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_test_module_is_of_one_concept(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_TEST_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_fit_on_a_screen(path: Path) -> None:
    long = {
        node.name: statements(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and statements(node) > MAX_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "crds" / "lobbies.yaml", ROOT / "Makefile"], ids=name)
def test_nothing_is_put_off(path: Path) -> None:
    assert not re.findall(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text())


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


def test_readme_shows_a_lobby() -> None:
    assert examples.lobbies(ROOT / "README.md")
