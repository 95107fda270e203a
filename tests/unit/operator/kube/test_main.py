"""The operator's command line: its settings, and one line for a mistake."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lobby_operator.kube import __main__ as command
from lobby_operator.kube.__main__ import main, parser, settings_of
from lobby_operator.settings import OperatorSettings

IMAGE = ["--lobby-image", "registry/lobby:1.0"]


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a pod of the namespace `system`."""
    path = tmp_path / "namespace"
    path.write_text("system")
    monkeypatch.setattr(command, "NAMESPACE_FILE", path)
    return path


def settings(*options: str) -> OperatorSettings:
    return settings_of(parser().parse_args([*IMAGE, *options]))


def test_the_default_is_its_own_namespace() -> None:
    made = settings()
    assert (made.namespace, made.own_namespace) == ("system", "system")
    made = settings("--namespace", "shop")
    assert (made.namespace, made.own_namespace) == ("shop", "system")
    made = settings("--all-namespaces", "--own-namespace", "elsewhere")
    assert (made.namespace, made.own_namespace) == ("", "elsewhere")


def test_outside_a_pod_its_namespace_is_that_of_its_lobbies(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.unlink()
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    made = settings("--namespace", "shop")
    assert (made.namespace, made.own_namespace) == ("shop", "shop")
    assert settings().namespace == "default"
    monkeypatch.setenv("POD_NAMESPACE", "here")
    assert settings().own_namespace == "here"


def test_every_option_has_its_setting(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    options = {
        "--lobby-image-pull-policy": "Always",
        "--lobby-image-pull-secret": "registry",
        "--lobby-service-account": "lobby",
        "--token-secret": "key-of-tokens",
        "--token-key-file": str(key),
        "--greeter-selector": "app.kubernetes.io/name=x,a=b",
        "--lease-name": "one-of-two",
        "--identity": "operator-0",
        "--admin-host": "127.0.0.1",
        "--admin-port": "0",
    }
    made = settings("--all-namespaces", *(text for pair in options.items() for text in pair))
    assert made.pods.image == "registry/lobby:1.0"
    assert (made.pods.image_pull_policy, made.pods.image_pull_secrets) == ("Always", ("registry",))
    assert (made.pods.service_account, made.pods.token_secret) == ("lobby", "key-of-tokens")
    assert made.token_key_file == key
    assert (made.greeter_selector, made.lease_name) == ("app.kubernetes.io/name=x,a=b", "one-of-two")
    assert (made.identity, made.admin_host, made.admin_port) == ("operator-0", "127.0.0.1", 0)


def test_in_one_namespace_the_charts_secret_is_used(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    assert settings("--token-key-file", str(key)).token_key_file is None


def test_a_restarted_pod_keeps_its_identity_and_two_on_a_machine_differ(own: Path) -> None:
    assert settings().identity == settings().identity == socket.gethostname()
    own.unlink()
    assert settings().identity != settings().identity


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "--lobby-image: is missing; accepted: a name such as registry/lobby:1.0"),
        (["--lobby-image", "a b"], "--lobby-image: a b is not the name of an image"),
        ([*IMAGE, "--namespace", "A"], "--namespace: A is not a valid name"),
        (
            [*IMAGE, "--namespace", "a", "--all-namespaces"],
            "--all-namespaces: can't be combined with --namespace",
        ),
        ([*IMAGE, "--greeter-selector", "a in (b)"], "--greeter-selector: a in (b) is not a label selector"),
        ([*IMAGE, "--token-key-file", "/not/there"], "--token-key-file: /not/there is not a file"),
        ([*IMAGE, "--identity", "a b"], "--identity: a b is not an identity"),
        ([*IMAGE, "--admin-port", "70000"], "--admin-port: 70000 is too large"),
        ([*IMAGE, "--lobby-image-pull-policy", "Often"], "--lobby-image-pull-policy: Often is unknown"),
        ([*IMAGE, "--unknown"], "--unknown: is unknown"),
    ],
)
def test_a_wrong_option_gives_one_line_and_exit_code_2(
    options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(options)
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert line in err


def test_a_missing_cluster_gives_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/not/there")
    assert main(IMAGE) == 2
    assert "KUBECONFIG: /not/there" in capsys.readouterr().err


def test_without_the_kubernetes_client_it_says_what_to_install() -> None:
    hidden = "import runpy, sys; sys.modules['kubernetes.aio'] = None"
    code = f"{hidden}; runpy.run_module('lobby_operator.kube', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "python -m lobby_operator.kube: kubernetes.aio is not installed; install lobby-gateway"
    )
    assert done.stderr.count("\n") == 1
