from __future__ import annotations

import pytest

from lobby_gateway.greeter.command import main

KEY = "ab" * 32


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["--directory-from-stdin", "--directory-from-kubernetes"]),
        (["--directory-from-stdin", "--directory-from-kubernetes"], ["--directory-from-kubernetes", "combined"]),
        (["--directory-from-kubernetes", "--namespace", "A_b"], ["--namespace", "A_b"]),
        (["--directory-from-kubernetes", "--namespace", "a", "--all-namespaces"], ["--all-namespaces", "combined"]),
        (["--directory-from-stdin", "--stop-seconds", "0"], ["--stop-seconds", "0.1", "3600"]),
        (["--directory-from-stdin", "--port", "70000"], ["--port", "70000", "65535"]),
        (["--directory-from-stdin", "--host", "greeter.example"], ["--host", "greeter.example", "IP address"]),
        (["--directory-from-stdin", "--admin-port", "x"], ["--admin-port", "x"]),
        (["--directory-from-stdin", "--color"], ["--color", "--reuse-port"]),
        (["--directory-from-stdin", "--trusted-proxies", "10.0.0.0/64"], ["--trusted-proxies", "10.0.0.0/64"]),
        (["--directory-from-stdin", "--trusted-proxies", "10.0.0.0/8,proxy"], ["--trusted-proxies", "'proxy'"]),
    ],
)
def test_a_bad_command_line_is_reported_in_one_line(
    arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(each in line for each in named)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("", ["LOBBY_TOKEN_KEY", "missing"]),
        ("ab", ["LOBBY_TOKEN_KEY", "hex digits"]),
    ],
)
def test_a_bad_value_is_reported_in_one_line(
    key: str, named: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOBBY_TOKEN_KEY", key)
    assert main(["--directory-from-stdin"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(each in line for each in named)
    assert key == "" or key not in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--directory-from-kubernetes"], ["--namespace NAME", "--all-namespaces"]),
        (["--directory-from-kubernetes", "--all-namespaces"], ["KUBERNETES_SERVICE_HOST", "--api-server"]),
        (["--directory-from-kubernetes", "--namespace", "a", "--api-server", "https://h"], ["--api-server", "http://"]),
        (["--directory-from-stdin", "--namespace", "a"], ["--directory-from-stdin", "--namespace"]),
        (["--directory-from-stdin", "--token-key-file", "/nowhere/key"], ["--token-key-file", "/nowhere/key"]),
    ],
)
def test_conflicting_options_are_reported(
    options: list[str], named: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOBBY_TOKEN_KEY", KEY)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main(options) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(each in line for each in named)
