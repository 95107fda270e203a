"""Ports of `lobby up`, and how it is told to end; whole runs of it are in tests/integration."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import until

from lobby_gateway.errors import UserError
from lobby_gateway.process.lifecycle import Shutdown
from lobby_operator.local.up import UpSettings, _check_free, _environment, _reserved_port, _Up, run


def listening(*options: int) -> socket.socket:
    sock = socket.socket()
    for option in options:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


def test_reserved_port_can_be_used_only_by_greeters() -> None:
    with _reserved_port("127.0.0.1", 0) as port:
        assert port > 0
        with socket.socket() as stranger, pytest.raises(OSError, match="in use") as refused:
            stranger.bind(("127.0.0.1", port))
        assert refused.value.errno == errno.EADDRINUSE
        with socket.socket() as greeter:
            greeter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            greeter.bind(("127.0.0.1", port))
            greeter.listen()
            with socket.create_connection(("127.0.0.1", port)) as client:  # it comes to the greeter, not to who holds
                accepted, _ = greeter.accept()
                accepted.close()
                assert client.recv(1) == b""


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEPORT,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
def test_port_in_use_is_one_line_even_if_it_could_be_shared(options: tuple[int, ...]) -> None:
    with listening(*options) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as refused, _reserved_port("127.0.0.1", port):
            pass
        assert str(refused.value) == f"--port: {port} is in use on 127.0.0.1; accepted: a free port"
        with pytest.raises(UserError, match=f"--admin-port: {port} is in use"):
            _check_free("127.0.0.1", port, "--admin-port")


def test_port_reserved_by_another_process_is_in_use() -> None:
    with _reserved_port("127.0.0.1", 0) as port, pytest.raises(UserError), _reserved_port("127.0.0.1", port):
        pass


@pytest.mark.parametrize("options", [(socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
def test_port_with_connections_in_time_wait_can_be_reserved(options: tuple[int, ...]) -> None:
    with listening(*options) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # who closes first is left in TIME_WAIT
            assert client.recv(1) == b""
    with _reserved_port("127.0.0.1", port) as held:
        assert held == port


def test_address_of_another_machine_is_one_line() -> None:
    with (
        pytest.raises(UserError, match=r"--host: 192\.0\.2\.1 is not an address of this machine"),
        _reserved_port("192.0.2.1", 0),
    ):
        pass


def test_ipv6_port_can_be_reserved() -> None:
    with _reserved_port("::1", 0) as port:
        assert port > 0


class Idle:
    """A lobby host without a Lobby, and a terminal that shows nothing."""

    closed = False

    async def start(self) -> None:
        pass

    async def close(self, _grace: float) -> None:
        self.closed = True

    def addresses(self) -> list[str]:
        return []

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def test_a_bug_in_a_task_ends_the_process_in_order() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        host, up = Idle(), _Up(UpSettings(origin="ws://127.0.0.1:1", admin_port=0), Shutdown())
        serving = asyncio.create_task(up._serve(host, Idle()))  # type: ignore[arg-type]
        await until(lambda: isinstance(host.admin, str))
        up._background.spawn(fail(), "fail")
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(10):
                await serving
        assert host.closed

    asyncio.run(main())


def test_name_with_a_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--name: can't be combined with --file"):
        run(UpSettings(files=(str(tmp_path / "a.yaml"),), name="prices"))


def test_port_in_use_exits_with_one_line_and_code_2(capfd: pytest.CaptureFixture[str]) -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
        assert run(UpSettings(origin="ws://127.0.0.1:9/", port=port, admin_port=0)) == 2
        assert run(UpSettings(origin="ws://127.0.0.1:9/", port=0, admin_port=port)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"lobby up: --port: {port} is in use on 127.0.0.1; accepted: a free port",
        f"lobby up: --admin-port: {port} is in use on 127.0.0.1; accepted: a free port",
    ]


class Stderr:
    """A standard error that is a terminal, or none."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_children_log_text_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    monkeypatch.setattr(sys, "stderr", Stderr(terminal=False))
    assert _environment() == {"PATH": "/bin"}
    monkeypatch.setattr(sys, "stderr", Stderr(terminal=True))
    assert _environment() == {"PATH": "/bin", "LOBBY_LOG_STYLE": "text", "LOBBY_LOG_LEVEL": "warning"}
    monkeypatch.setattr(os, "environ", {"LOBBY_LOG_LEVEL": "debug"})
    assert _environment()["LOBBY_LOG_LEVEL"] == "debug"


@pytest.fixture(autouse=True)
def _logging_as_before() -> object:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
