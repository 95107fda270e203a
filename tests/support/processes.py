"""Processes of tests: started, read, stopped by process ID, and checked to leave no children behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from tests.support.proc import ProcessInfo, marked
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
LOBBY = str(Path(sys.executable).parent / "lobby")
KEEP_LINES = 400
MAX_SHOWN = 500
TERMINATE_DEADLINE = 20.0
# If the test process is killed, the kernel kills these processes. Lobbies and greeters exit with their parent by
# themselves, which is tested, so they are started without this.
WITH_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


class Lines:
    """The lines of one output of a process.

    Attributes:
        lines: the latest lines.
        ended: whether the output was closed.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.lines: list[str] = []
        self.ended = False
        self._reader = reader

    async def pump(self) -> None:
        """Collects lines until the output is closed."""
        rest = b""
        while data := await self._reader.read(65536):
            *whole, rest = (rest + data).split(b"\n")
            self.lines += [line.decode(errors="replace") for line in whole]
            del self.lines[:-KEEP_LINES]
        if rest:
            self.lines.append(rest.decode(errors="replace"))
        self.ended = True

    def find(self, pattern: str) -> re.Match[str] | None:
        """The first match in the lines so far."""
        return next((found for line in self.lines if (found := re.search(pattern, line))), None)

    @property
    def text(self) -> str:
        """The kept lines as one text."""
        return "\n".join(self.lines)


def with_mark(environment: Mapping[str, str], mark: str) -> dict[str, str]:
    """An environment by which the descendants of a process are found.

    `lobby up` passes only a few variables on to its children. The mark is in one of them, as a folder that does not exist.
    """
    paths = [each for each in (environment.get("LD_LIBRARY_PATH"), f"/nonexistent/{mark}") if each]
    return {**environment, "LD_LIBRARY_PATH": ":".join(paths)}


class Process:
    """A running process.

    Attributes:
        name: name for failure messages.
        mark: text in the environment of the process and of all its descendants.
        stdout: its standard output.
        stderr: its standard error.
    """

    def __init__(self, name: str, mark: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.name = name
        self.mark = mark
        self.stdout = Lines(process.stdout)
        self.stderr = Lines(process.stderr)
        self._process = process
        self._pumps = [asyncio.create_task(lines.pump()) for lines in (self.stdout, self.stderr)]

    @classmethod
    async def start(
        cls, name: str, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Starts a command; its standard input stays open until `stop`."""
        mark = uuid.uuid4().hex
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd or ROOT,
            env=with_mark({**os.environ, **(env or {})}, mark),
        )
        return cls(name, mark, process)

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs, negative for a signal."""
        return self._process.returncode

    async def line(self, pattern: str, *, deadline: float = 20.0) -> re.Match[str]:
        """Waits for a line of standard output that matches."""

        def look() -> re.Match[str] | None:
            found = self.stdout.find(pattern)
            if found is None and self.stdout.ended:
                raise AssertionError(f"no line matches {pattern!r}: {self.tail()}")
            return found

        found: re.Match[str] = await until(
            look, deadline=deadline, describe=lambda: f"a line {pattern!r}; {self.tail()}"
        )
        return found

    async def logged(self, pattern: str, *, deadline: float = 20.0) -> re.Match[str]:
        """Waits for a line of standard error that matches."""
        found: re.Match[str] = await until(
            lambda: self.stderr.find(pattern), deadline=deadline, describe=lambda: f"a log {pattern!r}; {self.tail()}"
        )
        return found

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to this process alone."""
        self._process.send_signal(number)

    def close_stdin(self) -> None:
        """Closes its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def write(self, text: str) -> None:
        """Writes to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    async def exited(self, *, deadline: float = TERMINATE_DEADLINE) -> int:
        """Waits for it to exit; returns the exit code."""
        try:
            async with asyncio.timeout(deadline):
                code = await self._process.wait()
                await asyncio.gather(*self._pumps)
        except TimeoutError:
            raise AssertionError(f"runs after {deadline:g} s: {self.tail()}") from None
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, deadline: float = TERMINATE_DEADLINE) -> int:
        """Sends a signal and waits for it to exit; returns the exit code."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.send(number)
        return await self.exited(deadline=deadline)

    def left(self) -> list[ProcessInfo]:
        """The process and its descendants that still run."""
        return marked(self.mark)

    async def until_nothing_left(self, *, deadline: float = 10.0) -> None:
        """Waits until the process and all its descendants have exited."""
        await until(lambda: not self.left(), deadline=deadline, describe=lambda: f"left of {self.name}: {self.left()}")

    async def destroy(self) -> None:
        """Kills the process and its descendants, so that a failure does not disturb the next test."""
        for found in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
        await self._process.wait()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def tail(self, lines: int = 40) -> str:
        """The end of both outputs, for failure messages."""
        out, err = ("\n".join(line[:MAX_SHOWN] for line in each.lines[-lines:]) for each in (self.stdout, self.stderr))
        return f"{self.name} (pid {self.pid}, exit code {self.returncode})\n--- stdout\n{out}\n--- stderr\n{err}\n---"


def free_port() -> int:
    """A free TCP port on loopback, for programs that can't choose one themselves.

    It is outside the ephemeral range, so no client takes it before the program does.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(10_000, lowest - 1000), lowest)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@contextlib.asynccontextmanager
async def running(
    name: str,
    *command: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ends_with: Sequence[int] | None = (0,),
    deadline: float = TERMINATE_DEADLINE,
) -> AsyncIterator[Process]:
    """Runs a process for the duration of a block; then it is ended by SIGTERM and must leave no descendants.

    Args:
        name: name for failure messages.
        command: command to run.
        env: additional environment variables.
        cwd: working directory; by default the project folder.
        ends_with: expected exit codes; None: any.
        deadline: seconds to exit.
    """
    process = await Process.start(name, *command, env=env, cwd=cwd)
    try:
        try:
            yield process
        except Exception as error:
            error.add_note(process.tail())
            raise
        code = await process.stop(deadline=deadline)
        assert ends_with is None or code in ends_with, f"exit code {code}: {process.tail()}"
        await process.until_nothing_left()
    finally:
        await process.destroy()


async def finished(*command: str, env: Mapping[str, str] | None = None, deadline: float = 30.0) -> tuple[int, str, str]:
    """Runs a command until it exits; returns exit code, standard output and standard error."""
    process = await Process.start(command[0], *command, env=env)
    try:
        process.close_stdin()
        code = await process.exited(deadline=deadline)
        return code, process.stdout.text, process.stderr.text
    finally:
        await process.destroy()
