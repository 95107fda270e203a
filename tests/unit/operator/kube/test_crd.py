"""Upgrades of the CRD of Lobby, against a fake server on a real socket."""

from __future__ import annotations

import asyncio
import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi, fake_kube_api, status

from lobby_gateway.resource.schema import crd
from lobby_operator.kube.crd import main

ROOT = Path(__file__).resolve().parents[4]
PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lobbies.lobby-gateway.io"
OURS = crd()


def there() -> dict[str, Any]:
    return copy.deepcopy({"metadata": dict(OURS["metadata"]), "spec": dict(OURS["spec"])})


def run(prepare: Callable[[FakeKubeApi], object], folder: Path) -> tuple[int, FakeKubeApi]:
    async def serve() -> tuple[int, FakeKubeApi]:
        async with fake_kube_api() as server:
            prepare(server)
            file = server.write_kubeconfig(folder / "config")
            return await asyncio.to_thread(main, ["--kubeconfig", file]), server

    return asyncio.run(serve())


def test_an_older_crd_is_upgraded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def older(server: FakeKubeApi) -> None:
        old = there()
        old["metadata"]["annotations"] = {"of": "somebody"}
        old["spec"]["conversion"] = {"strategy": "None"}
        (version,) = old["spec"]["versions"]
        version["schema"]["openAPIV3Schema"]["properties"]["dropped"] = {"type": "string"}
        server.put(PATH, old)

    code, server = run(older, tmp_path)
    assert code == 0
    now = server.objects[PATH]
    assert now["spec"]["versions"] == OURS["spec"]["versions"]  # a dropped field is gone
    assert now["spec"]["conversion"] == {"strategy": "None"}
    assert now["metadata"]["annotations"] == {"of": "somebody"}
    assert "upgraded the CRD of Lobby" in capsys.readouterr().err


def test_a_current_crd_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, server = run(lambda server: server.put(PATH, there()), tmp_path)
    assert code == 0
    assert server.objects[PATH]["spec"] == OURS["spec"]
    assert "is up to date" in capsys.readouterr().err


def test_without_a_crd_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(lambda _server: None, tmp_path)
    assert code == 2
    assert "kubectl create -f crds/lobbies.yaml" in capsys.readouterr().err


def test_a_refusing_server_gives_one_line_and_the_exit_code_for_a_retry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidding(server: FakeKubeApi) -> None:
        server.put(PATH, there())
        server.instead = lambda asked: status(403, "Forbidden", "not you") if asked.method == "PATCH" else None

    code, _ = run(forbidding, tmp_path)
    assert code == 75
    assert capsys.readouterr().err.splitlines() == ["patch customresourcedefinitions lobbies.lobby-gateway.io: not you"]


def test_an_image_without_the_operator_says_so_in_one_line() -> None:
    paths = os.pathsep.join(str(ROOT / each) for each in ("gateway", "operator"))
    command = [sys.executable, "-S", "-m", "lobby_operator.kube.crd"]  # -S: without installed packages
    ended = subprocess.run(command, env={"PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("the operator on Kubernetes is not installed here; accepted: ")
    assert len(ended.stderr.splitlines()) == 1


def test_a_missing_cluster_gives_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kubeconfig", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("KUBECONFIG: ")
