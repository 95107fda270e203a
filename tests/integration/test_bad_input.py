"""Bad input prints one line that names the field, the value and what is accepted, then exits with 2 and no traceback."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import LOBBY, finished
from tests.support.sockets import run
from tests.support.up import lobby_file, lobby_resource


def lines_of(*arguments: str, env: dict[str, str] | None = None) -> list[str]:
    """Runs `lobby` with bad input; returns the lines of its standard error."""
    code, out, err = run(finished(LOBBY, *arguments, env=env), deadline=40)
    assert code == 2, (code, out, err)
    assert "Traceback" not in out + err
    assert not re.search(r"ws://127.0.0.1:\d+/\w", out), "printed a URL to connect to"
    return err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["command"]),
        (["serve"], ["serve", "up"]),
        (["up"], ["--origin", "--demo"]),
        (["up", "--origin"], ["--origin"]),
        (["up", "--origin", "http://example.com"], ["--origin", "http://example.com", "ws://"]),
        (["up", "--origin", "ws://"], ["--origin", "ws://"]),
        (["up", "--origin", "ws://example.com:70000/"], ["--origin", "70000", "65535"]),
        (["up", "--origin", "ws://me:word@example.com/"], ["--origin"]),
        (["up", "--demo", "--origin", "ws://example.com"], ["--demo", "--origin"]),
        (["up", "--demo", "--port", "70000"], ["--port", "70000", "65535"]),
        (["up", "--demo", "--port", "eight"], ["--port", "eight"]),
        (["up", "--demo", "--seats", "0"], ["--seats", "0", "1"]),
        (["up", "--demo", "--seats", "many"], ["--seats", "many"]),
        (["up", "--demo", "--greeters", "0"], ["--greeters", "0"]),
        (["up", "--demo", "--name", "No Name"], ["--name", "No Name"]),
        (["up", "--demo", "--colour", "red"], ["--colour"]),
        (["up", "-f", "/nowhere/lobby.yaml"], ["/nowhere/lobby.yaml"]),
        (["origin", "--rate", "0"], ["--rate", "0"]),
        (["bench"], ["URL"]),
        (["bench", "http://example.com"], ["URL", "http://example.com", "ws://"]),
        (["bench", "ws://example.com", "--clients", "many"], ["--clients", "many"]),
        (["bench", "ws://example.com", "--clients", "1000000"], ["--clients", "1000000", "100000"]),
        (["bench", "ws://example.com", "--seconds", "-1"], ["--seconds", "-1"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_command_line(arguments: list[str], named: list[str]) -> None:
    (line,) = lines_of(*arguments)
    for text in named:
        assert text in line


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"clients_seats": 0}, ["spec.clients.seats", "0", "1"]),
        ({"clients_seats": "many"}, ["spec.clients.seats", "many", "4096"]),
        ({"clients_seat": 5}, ["spec.clients.seat", "seats"]),
        ({"placement": "Random"}, ["spec.placement", "Random", "Packed", "Latest"]),
        ({"replicas": 5, "maxReplicas": 3}, ["spec.replicas", "maxReplicas"]),
        ({"origin_url": "https://example.com"}, ["spec.origin.url", "https://example.com", "ws://"]),
        ({"path": "prices"}, ["spec.path", "prices", "/"]),
        ({"origin_headers": [{"name": "X", "value": "1"}, {"name": "Y"}]}, ["spec.origin.headers[1]", "value"]),
        ({"clients_queue": {"overflow": "Explode"}}, ["spec.clients.queue.overflow", "Explode", "DropOldest"]),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_invalid_lobby_file(tmp_path: Path, spec: dict[str, Any], named: list[str]) -> None:
    file = lobby_file(tmp_path, lobby_resource("prices", "ws://127.0.0.1:1/", **spec))
    (line,) = lines_of("up", "-f", file)
    assert file in line
    for text in named:
        assert text in line


def test_each_problem_in_a_file_gets_its_own_line(tmp_path: Path) -> None:
    file = lobby_file(tmp_path, lobby_resource("prices", "ws://127.0.0.1:1/", clients_seats=0, emptySeconds=-1))
    first, second = sorted(lines_of("up", "-f", file))
    assert "spec.clients.seats" in first
    assert "spec.emptySeconds" in second


@pytest.mark.parametrize(
    "text", ["spec: [", "", "just a text", "\x00\x01"], ids=["broken YAML", "empty", "a text", "binary"]
)
def test_file_that_is_not_a_resource(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lobby.yaml"
    file.write_text(text)
    (line,) = lines_of("up", "-f", str(file))
    assert str(file) in line


def test_file_of_another_kind(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {}\n")
    lines = lines_of("up", "-f", str(file))
    assert all(str(file) in line for line in lines)
    (kind,) = [line for line in lines if "kind:" in line]
    assert "Pod" in kind
    assert "Lobby" in kind


def test_missing_secret_is_named_and_no_value_is_shown(tmp_path: Path) -> None:
    header = {"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "api-key"}}}
    file = lobby_file(tmp_path, lobby_resource("prices", "ws://127.0.0.1:1/", origin_headers=[header]))
    (line,) = lines_of("up", "-f", file, env={"LOBBY_SECRET_FEED_OTHER": "confidential"})
    assert "LOBBY_SECRET_FEED_API_KEY" in line
    assert "confidential" not in line


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_port_in_use(option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        other = "--admin-port" if option == "--port" else "--port"
        (line,) = lines_of("up", "--demo", option, port, other, "0")
    assert option in line
    assert port in line


def test_two_files_with_the_same_lobby(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = lobby_file(tmp_path, lobby_resource("prices", "ws://127.0.0.1:1/"))
    other = lobby_file(tmp_path / "a", lobby_resource("prices", "ws://127.0.0.1:2/"))
    (line,) = lines_of("up", "-f", file, "-f", other)
    assert "prices" in line
