"""Commands whose output is closed early (`lobby check … | head -1`) end quietly; servers go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import proc
from tests.support.origins import FakeOrigin
from tests.support.processes import LOBBY
from tests.support.sockets import run
from tests.support.up import lobby_file, lobby_resource
from tests.support.waiting import until
from websockets.asyncio.client import connect

READER_GONE = 128 + signal.SIGPIPE


@contextlib.asynccontextmanager
async def unread(*arguments: str, unbuffered: bool = False) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process whose standard output nobody reads."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    process = await asyncio.create_subprocess_exec(
        LOBBY,
        *arguments,
        env={**environment, "PYTHONUNBUFFERED": "1"} if unbuffered else environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=write,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(write)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", ["version", "check", "check --connect", "simulate", "bench --json"])
def test_a_command_ends_quietly(tmp_path: Path, command: str, unbuffered: bool) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            name, *options = command.split()
            arguments = {
                "version": [],
                "check": ["-f", lobby_file(tmp_path, lobby_resource("prices", origin.url))],
                "simulate": ["flash-crowd", "--clients", "10"],
                "bench": [origin.url, "--clients", "1", "--seconds", "0.1"],
            }[name]
            async with unread(name, *arguments, *options, unbuffered=unbuffered) as process:
                _, error = await process.communicate()
                assert (process.returncode, error.decode()) == (READER_GONE, "")

    run(main(), deadline=60)


def test_help_ends_quietly() -> None:
    async def main() -> None:
        async with unread("check", "--help") as process:
            _, error = await process.communicate()
            assert (process.returncode, error.decode()) == (READER_GONE, "")

    run(main(), deadline=60)


def test_an_attempt_ends_quietly_when_its_reader_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            read, write = os.pipe()
            process = await asyncio.create_subprocess_exec(
                LOBBY, "check", "-f", file, "--connect", stdout=write, stderr=asyncio.subprocess.PIPE
            )
            os.close(write)
            said = b""
            while b"the stream begins" not in said:
                said += await asyncio.to_thread(os.read, read, 4096)
            os.close(read)
            await origin.send("1", "2", "3")
            _, error = await process.communicate()
            assert (process.returncode, error.decode()) == (READER_GONE, "")
            assert len(origin.attempts) == 1

    run(main(), deadline=60)


def test_an_origin_whose_address_nobody_reads_serves_and_ends_quietly() -> None:
    async def main() -> None:
        async with unread("origin", "--port", "0") as process:
            (port,) = await until(lambda: proc.listening_ports(process.pid))
            async with connect(f"ws://127.0.0.1:{port}") as client:
                await client.recv()
                await client.recv()
            process.terminate()
            _, error = await process.communicate()
            assert process.returncode == 0
            assert "BrokenPipe" not in error.decode()

    run(main(), deadline=60)
