"""The operator's command line: its settings, and one line for a mistake."""

from __future__ import annotations

import socket
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lobby_gateway.errors import UserError
from lobby_operator.kube import command
from lobby_operator.kube.command import main, parser, settings_of
from lobby_operator.settings import ORIGIN_DENY_CIDRS, OperatorSettings, PolicySettings

IMAGE = ["--lobby-image", "registry/lobby:1.0", "--token-key-file", __file__]


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
        "--master-secret": "key-of-all",
        "--lobby-namespace": "shop",
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
    assert (made.token_key_file, made.master_secret) == (key, "key-of-all")
    assert (made.lobby_namespaces, made.prefix_paths) == (("shop",), False)
    assert (made.greeter_selector, made.lease_name) == ("app.kubernetes.io/name=x,a=b", "one-of-two")
    assert (made.identity, made.admin_host, made.admin_port) == ("operator-0", "127.0.0.1", 0)


def test_labels_and_defaults_of_lobbies_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    made = settings("--lobby-labels", '{"team": "data"}', "--lobby-defaults", '{"nodeSelector": {"pool": "a"}}')
    assert (made.pods.labels, made.pods.defaults) == ({"team": "data"}, {"nodeSelector": {"pool": "a"}})
    with pytest.raises(SystemExit) as ended:
        settings("--lobby-defaults", '{"nodeSelectors": {"pool": "a"}}')
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--lobby-defaults: " in line
    assert "nodeSelectors: unknown field" in line


def test_names_of_secrets_may_contain_dots_as_in_the_chart() -> None:
    made = settings("--master-secret", "token.key", "--lobby-image-pull-secret", "registry.example.com")
    assert (made.master_secret, made.pods.image_pull_secrets) == ("token.key", ("registry.example.com",))


@pytest.mark.parametrize("name", ["", ".key", "key.", "a..b", "a.-b", "Key", "a_b", "a" * 254])
def test_other_names_of_secrets_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings("--master-secret", name)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--master-secret: " in line
    assert line.endswith("accepted: 1 to 253 of a-z, 0-9, - and ., beginning and ending with a letter or digit")


def test_the_secret_with_the_master_keys_cannot_be_one_that_the_operator_overwrites() -> None:
    with pytest.raises(UserError, match=r"^--token-secret: one is also the --master-secret; accepted: another name"):
        settings("--token-secret", "one", "--master-secret", "one")


def test_policy_and_denied_networks_have_safe_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    made = settings()
    assert made.policy == PolicySettings()
    assert made.pods.origin_deny_cidrs == ORIGIN_DENY_CIDRS
    networks = [ip_network(each) for each in made.pods.origin_deny_cidrs]
    for address in ("127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "fe80::1", "fd00:ec2::254"):
        assert any(ip_address(address) in network for network in networks), address
    for address in ("10.96.0.10", "192.168.0.1", "203.0.113.1", "2001:db8::1"):
        assert not any(ip_address(address) in network for network in networks), address


def test_every_option_of_the_policy_replaces_its_default() -> None:
    options = {
        "--allowed-env": "MALLOC_ARENA_MAX,TZ",
        "--allowed-labels": "team,example.com/*",
        "--allowed-annotations": "*",
        "--allowed-node-labels": "",
        "--allowed-tolerations": "dedicated",
        "--allowed-priority-classes": "feeds",
        "--max-resources": "cpu=500m,memory=1Gi",
        "--max-replicas": "7",
        "--max-lobbies": "9",
    }
    made = settings("--allow-pod-affinity", *(text for pair in options.items() for text in pair))
    assert made.policy == PolicySettings(
        max_replicas=7,
        max_lobbies=9,
        env=("MALLOC_ARENA_MAX", "TZ"),
        labels=("team", "example.com/*"),
        annotations=("*",),
        node_labels=(),
        tolerations=("dedicated",),
        priority_classes=("feeds",),
        pod_affinity=True,
        max_resources={"cpu": "500m", "memory": "1Gi"},
    )


@pytest.mark.parametrize(
    ("host", "options", "denied"),
    [
        ("10.96.0.1", ["--origin-deny-cidrs", "192.0.2.0/24"], ("192.0.2.0/24", "10.96.0.1/32")),
        ("fd00:10:96::1", ["--origin-deny-cidrs", "192.0.2.0/24"], ("192.0.2.0/24", "fd00:10:96::1/128")),
        ("10.96.0.1", [], (*ORIGIN_DENY_CIDRS, "10.96.0.1/32")),
        ("api.example.com", ["--origin-deny-cidrs", "192.0.2.0/24"], ("192.0.2.0/24",)),
        ("10.96.0.1", ["--origin-deny-cidrs", ""], ()),
    ],
)
def test_api_server_is_no_origin_unless_nothing_is_denied(
    host: str, options: list[str], denied: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    assert settings(*options).pods.origin_deny_cidrs == denied


def test_namespaces_that_may_have_lobbies_are_named_once_each() -> None:
    options = [text for each in ("shop", "lab", "shop") for text in ("--lobby-namespace", each)]
    made = settings("--all-namespaces", "--prefix-paths", "--clients-url=wss://prices.example.com:8443", *options)
    assert made.clients_url == "wss://prices.example.com:8443"
    assert (made.lobby_namespaces, made.prefix_paths) == (("shop", "lab"), True)


def test_namespaces_of_lobbies_need_an_operator_of_all_namespaces(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*IMAGE, "--lobby-namespace", "shop"]) == 2
    assert capsys.readouterr().err == (
        "--lobby-namespace: can't be used without --all-namespaces; accepted: both, or --namespace NAME alone\n"
    )


def test_a_restarted_pod_keeps_its_identity_and_two_on_a_machine_differ(own: Path) -> None:
    assert settings().identity == settings().identity == socket.gethostname()
    own.unlink()
    assert settings().identity != settings().identity


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "--lobby-image, --token-key-file: is missing"),
        (IMAGE[:2], "--token-key-file: is missing; accepted: a file with at least 32 bytes in hex"),
        (["--lobby-image", "a b"], "--lobby-image: a b is not the name of an image"),
        ([*IMAGE, "--namespace", "A"], "--namespace: A is not a valid name"),
        (
            [*IMAGE, "--namespace", "a", "--all-namespaces"],
            "--all-namespaces: can't be combined with --namespace",
        ),
        ([*IMAGE, "--lobby-namespace", "A"], "--lobby-namespace: A is not a valid name"),
        ([*IMAGE, "--greeter-selector", "a in (b)"], "--greeter-selector: a in (b) is not a label selector"),
        ([*IMAGE, "--token-key-file", "/not/there"], "--token-key-file: /not/there is not a file"),
        ([*IMAGE, "--identity", "a b"], "--identity: a b is not an identity"),
        ([*IMAGE, "--admin-port", "70000"], "--admin-port: 70000 is too large"),
        ([*IMAGE, "--lobby-image-pull-policy", "Often"], "--lobby-image-pull-policy: Often is unknown"),
        ([*IMAGE, "--allowed-env", "A,B C"], "--allowed-env: A,B C contains 'B C', which is not a name; accepted: "),
        ([*IMAGE, "--max-replicas", "0"], "--max-replicas: 0 is too small; accepted: 1 to 10000"),
        ([*IMAGE, "--max-resources", "gpu=1"], "gpu=1 contains 'gpu', which is not cpu, memory or ephemeral-storage"),
        ([*IMAGE, "--max-resources", "cpu=much"], "cpu=much contains 'much', which is not a quantity; accepted: "),
        ([*IMAGE, "--origin-deny-cidrs", "localhost"], "--origin-deny-cidrs: localhost is not a list of networks"),
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
