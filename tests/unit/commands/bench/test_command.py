"""`lobby bench` as a command: its options, what it prints, its exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.support.processes import free_port
from tests.support.sockets import run
from tests.unit.commands.bench.test_swarm import server

from lobby_gateway.commands.bench import command as bench
from lobby_gateway.errors import UserError


def asked(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


def against_a_server(work: Callable[[str], int]) -> int:
    async def main() -> int:
        async with server() as url:
            return await asyncio.to_thread(work, url)

    return run(main(), deadline=60)


def test_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    code = against_a_server(lambda url: bench.main(asked(url, "--clients", "5", "--seconds", "0.3", "--ramp", "0")))
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert "5 of 5 connected" in out
    assert "p99.9" in out


def test_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    code = against_a_server(
        lambda url: bench.main(asked(url, "--clients", "3", "--seconds", "0.3", "--ramp", "0", "--json"))
    )
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    told = json.loads(line)
    assert (code, err) == (0, "")
    assert (told["clients"], told["connected"], told["gaps"], told["duplicates"]) == (3, 3, 0, 0)
    assert told["deliveries"] == told["stamped"] > 0
    assert set(told["latency_ms"]) == {"p50", "p99", "p99.9"}


def test_the_exit_code_is_1_when_nobody_got_in(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"ws://127.0.0.1:{free_port()}/"
    assert bench.main(asked(url, "--clients", "2", "--ramp", "0", "--json")) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["connected"], told["failed"], told["seconds"]) == (0, {"connection refused": 2}, 0.0)


def test_more_clients_than_there_are_descriptors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lobby_gateway.process.limits.raise_descriptor_limit", lambda: 100)
    with pytest.raises(UserError, match=r"--clients: 69 is too large here .* accepted: 1 to 68"):
        bench.main(asked("ws://127.0.0.1:1/", "--clients", "69"))


def test_ctrl_c_ends_it_with_what_there_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    url = ""
    ready, done = threading.Event(), threading.Event()

    async def serving() -> None:
        nonlocal url
        async with server() as url:
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serving(),))
    thread.start()
    ready.wait(10)

    @contextmanager
    def progress() -> Iterator[bench.ShowProgress]:
        """Where a person would see a bar: Ctrl-C comes when it has measured for a moment."""

        def show(what: str, done: float, _of: float) -> None:
            if what == "measuring" and done > 0.1:
                signal.raise_signal(signal.SIGINT)

        yield show

    monkeypatch.setattr(bench, "_progress", progress)
    try:
        code = bench.main(asked(url, "--clients", "2", "--ramp", "0", "--seconds", "60", "--json"))
    finally:
        done.set()
        thread.join(10)
    told = json.loads(capsys.readouterr().out)
    assert code == 130
    assert told["connected"] == 2
    assert 0 < told["seconds"] < 60
