from __future__ import annotations

import pytest

from lobby_gateway.greeter.__main__ import main

KEY = "ab" * 32


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["--directory-from-stdin"]),
        (["--directory-from-stdin", "--port", "70000"], ["--port", "70000", "65535"]),
        (["--directory-from-stdin", "--host", "greeter.example"], ["--host", "greeter.example", "IP address"]),
        (["--directory-from-stdin", "--admin-port", "x"], ["--admin-port", "x"]),
        (["--directory-from-stdin", "--color"], ["--color", "--reuse-port"]),
    ],
)
def test_a_bad_command_line_is_one_line(
    arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(each in line for each in named)


@pytest.mark.parametrize(
    ("proxies", "key", "named"),
    [
        ("10.0.0.0/64", KEY, ["--trusted-proxies", "10.0.0.0/64"]),
        ("10.0.0.0/8,proxy", KEY, ["--trusted-proxies", "'proxy'"]),
        ("", "", ["LOBBY_TOKEN_KEY", "missing"]),
        ("", "ab", ["LOBBY_TOKEN_KEY", "hex digits"]),
    ],
)
def test_what_is_wrong_with_a_value_is_said_in_one_line(
    proxies: str, key: str, named: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOBBY_TOKEN_KEY", key)
    assert main(["--directory-from-stdin", "--trusted-proxies", proxies]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(each in line for each in named)
    assert key == "" or key not in line
