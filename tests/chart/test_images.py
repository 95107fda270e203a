"""What the images carry: that of a lobby neither kopf nor the Kubernetes client, that of a greeter only the client."""

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


def test_an_image_of_a_lobby_carries_three_packages() -> None:
    assert packages("--only-group", "lobby") == {"h11", "prometheus-client", "websockets"}


def test_an_image_of_a_greeter_carries_the_kubernetes_client_beside_them() -> None:
    carried = packages("--only-group", "greeter")
    assert carried >= {"h11", "prometheus-client", "websockets"}
    assert carried & HEAVY == {"kubernetes"}


def test_an_image_of_the_operator_carries_no_tools_for_development() -> None:
    carried = packages("--no-dev", "--extra", "operator")
    assert carried >= HEAVY
    assert not carried & {"pytest", "mypy", "ruff", "hypothesis"}


def test_the_groups_ask_for_what_the_project_asks_for() -> None:
    whole = project()
    wanted = {*whole["project"]["dependencies"], *whole["project"]["optional-dependencies"]["gateway"]}
    groups = whole["dependency-groups"]
    assert set(groups["lobby"]) <= wanted
    assert groups["greeter"][0] == {"include-group": "lobby"}
    assert set(groups["greeter"][1:]) <= wanted


@pytest.mark.parametrize(
    ("process", "kubernetes"),
    [("lobby.__main__", False), ("greeter.__main__", True), ("commands.ticker", False), ("commands.round_trip", False)],
)
def test_a_process_imports_nothing_that_its_image_lacks(process: str, *, kubernetes: bool) -> None:
    missing = [
        "kopf",
        "jsonschema",
        "rich",
        "cel",
        "rpds",
        "lobby_operator",
        *([] if kubernetes else ["kubernetes", "yaml"]),
    ]
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import lobby_gateway.{process}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["operator/Dockerfile", "gateway/Dockerfile"])
def test_an_image_runs_as_no_root_from_a_chosen_python(file: str) -> None:
    text = (ROOT / file).read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    assert "ARG PYTHON_IMAGE=python:3.13-slim\n" in stages[0]
    final = [stage for stage in stages[1:] if "ENTRYPOINT" in stage]
    assert final
    for stage in final:
        assert stage.startswith("${PYTHON_IMAGE}")
        assert "USER 65532:65532\n" in stage
        assert "ENV PYTHONDONTWRITEBYTECODE=1\n" in stage


def test_images_and_make_have_one_version_of_uv() -> None:
    versions = {
        version
        for file in ("Makefile", "operator/Dockerfile", "gateway/Dockerfile")
        for version in re.findall(r"(?:UV_VERSION := |uv==)([0-9.]+)", (ROOT / file).read_text())
    }
    assert len(versions) == 1
