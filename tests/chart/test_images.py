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

HEAVY = {"kubernetes", "jsonschema", "rich", "common-expression-language"}


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


def test_images_of_lobby_and_greeter_have_three_packages() -> None:
    assert packages("--only-group", "gateway") == {"h11", "prometheus-client", "websockets"}


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
    assert "ARG PYTHON_IMAGE=python:3.13-slim\n" in stages[0]
    final = [stage for stage in stages[1:] if "ENTRYPOINT" in stage]
    assert final
    for stage in final:
        assert stage.startswith("${PYTHON_IMAGE}")
        assert "USER 65532:65532\n" in stage
        assert re.search(r'^ENTRYPOINT \["python", "-I", "-B", "-m", "lobby_[a-z_.]+"\]$', stage, re.MULTILINE)


def test_images_and_makefile_use_one_version_of_uv() -> None:
    versions = {
        version
        for file in ("Makefile", "operator/Dockerfile", "gateway/Dockerfile")
        for version in re.findall(r"(?:UV_VERSION := |uv==)([0-9.]+)", (ROOT / file).read_text())
    }
    assert len(versions) == 1
