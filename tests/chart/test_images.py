"""Contents of the images: those of lobby and greeter have neither kopf nor the Kubernetes client."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.chart.helm import ROOT

HEAVY = {"kopf", "kubernetes", "jsonschema", "rich", "common-expression-language"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages(*arguments: str) -> set[str]:
    """What uv installs from the lock file."""
    done = subprocess.run(
        [Path(sys.executable).parent / "uv", "export", "--frozen", "--no-hashes", "--no-header", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {found[1] for found in re.finditer(r"^([A-Za-z0-9-]+)==", done.stdout, re.MULTILINE)}


def test_images_of_lobby_and_greeter_have_few_packages() -> None:
    assert packages("--only-group", "gateway") == {
        "common-expression-language",
        "cryptography",
        "h11",
        "prometheus-client",
        "websockets",
        "cffi",  # of cryptography
        "pycparser",  # of cffi
    }


def test_operator_image_has_no_development_tools() -> None:
    carried = packages("--no-dev", "--extra", "operator")
    assert carried >= HEAVY
    assert not carried & {"pytest", "mypy", "ruff", "hypothesis"}


def test_gateway_group_is_part_of_the_project_dependencies() -> None:
    whole = project()
    assert set(whole["dependency-groups"]["gateway"]) <= set(whole["project"]["dependencies"])


@pytest.mark.parametrize("process", ["lobby.__main__", "greeter.__main__", "commands.origin", "commands.round_trip"])
def test_processes_import_only_what_their_image_has(process: str) -> None:
    missing = ["kopf", "kubernetes", "aiohttp", "yaml", "jsonschema", "rich", "cel", "rpds", "lobby_operator"]
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import lobby_gateway.{process}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["operator/Dockerfile", "gateway/Dockerfile"])
def test_images_run_as_non_root_on_a_configurable_python(file: str) -> None:
    text = (ROOT / file).read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.13-slim@sha256:[0-9a-f]{64}$", stages[0], re.MULTILINE)
    final = [stage for stage in stages[1:] if "ENTRYPOINT" in stage]
    assert final
    for stage in final:
        assert stage.startswith("${PYTHON_IMAGE}")
        assert "USER 65532:65532\n" in stage
        assert re.search(r'^ENTRYPOINT \["python", "-I", "-B", "-m", "lobby_[a-z_.]+"\]$', stage, re.MULTILINE)


@pytest.mark.parametrize("file", ["operator/Dockerfile", "gateway/Dockerfile"])
def test_whatever_an_image_installs_is_pinned_by_hash(file: str) -> None:
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    for command in re.findall(r"\bpip install [^&\n]*", text):
        assert "--require-hashes" in command or "--no-deps /wheel/*.whl" in command, command
    for command in re.findall(r"\buv sync [^&\n]*", text):
        assert "--frozen" in command, command
    (build,) = re.findall(r"\buv build [^&\n]*", text)
    assert "--no-build-isolation" in build  # with the backend of the lock file, not the newest one
    assert "uv sync --quiet --frozen --only-group build" in text
    assert re.findall(r"^FROM (?!\$\{PYTHON_IMAGE\})(\S+)", text, re.MULTILINE) in ([], ["uv", "uv"])


def test_build_backend_of_the_lock_file_is_the_one_that_the_project_asks_for() -> None:
    whole = project()
    assert whole["dependency-groups"]["build"] == whole["build-system"]["requires"]
    assert packages("--only-group", "build") >= {"hatchling", "setuptools"}


def test_makefile_installs_uv_by_hash_and_builds_without_isolation() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"pip install [^\n]*--require-hashes --requirement requirements-uv\.txt", makefile)
    assert "--no-build-isolation-package lobby-gateway" in makefile
    assert "uv==" not in makefile
