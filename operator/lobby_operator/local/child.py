"""One child process: start it, read its ports, write to its standard input, stop it.

A child has its own process group, so that Ctrl-C in a terminal reaches only the parent, which then stops its children in
order. Its standard input is a pipe that only the parent holds: however the parent ends, the child reads end-of-file and exits,
too. A child that is stopped (SIGSTOP) at that moment can't read; its process group is then orphaned, and the kernel sends it
SIGHUP and SIGCONT (POSIX, "orphaned process group").
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lobby_gateway.errors import LobbyGatewayError, internal_error
from lobby_gateway.websocket import proxy

logger = logging.getLogger(__name__)

LogLine = Callable[[str], None]

MAX_LINE_BYTES = 65536
"""Limit of asyncio's buffer for a child's output; a longer line is read in pieces."""

_PASSED_VARIABLES = frozenset(
    {
        *("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
        *proxy.VARIABLES,
        *("LOBBY_LOG_STYLE", "LOBBY_LOG_LEVEL", "LOBBY_PURE_PYTHON"),
        # Where this process may have found its modules, and so must the child.
        *("PYTHONPATH", "PYTHONHOME"),
    }
)


class ChildFailedError(LobbyGatewayError):
    """A child failed to start: it exited, or took too long, before it listened."""


NOT_ANNOUNCED: Final = (ChildFailedError, ValueError, TypeError, KeyError)
"""What is raised for a child that does not announce its ports, or not as ports."""
NOT_STARTED: Final = (OSError, *NOT_ANNOUNCED)
"""The same for one that may not even be started: the machine is too busy, or full."""


def child_environment(environment: Mapping[str, str], names: Iterable[str] = (), **added: str) -> dict[str, str]:
    """The few variables that a child needs: those that find its modules, and those named here.

    Args:
        environment: environment of this process.
        names: further variables to pass on, if they are set.
        added: variables to set.
    """
    passed = _PASSED_VARIABLES | set(names)
    return {**{key: value for key, value in environment.items() if key in passed}, **added}


class Child:
    """A running child process; made by `start`.

    Attributes:
        name: name for people.
        pid: its process ID.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._latest: bytes | None = None
        self._changed = asyncio.Event()
        self._announced: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._exited: asyncio.Task[int] | None = None

    @classmethod
    async def start(
        cls, name: str, arguments: Sequence[str], *, environment: Mapping[str, str], log: LogLine | None = None
    ) -> Child:
        """Starts `python <arguments>`; it never imports modules from the current directory, which may be anyone's.

        Args:
            name: name for people.
            arguments: arguments of the interpreter.
            environment: its whole environment.
            log: called with each line of its standard error; None: it inherits ours.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if log is None else asyncio.subprocess.PIPE,
            env=dict(environment),
            process_group=0,
            limit=MAX_LINE_BYTES,
        )
        child = cls(name, process)
        child._tasks = [
            asyncio.create_task(child._read_output(), name=f"output of {name}"),
            asyncio.create_task(child._write_input(), name=f"input of {name}"),
        ]
        if log is not None:
            child._tasks.append(asyncio.create_task(child._read_errors(log), name=f"log of {name}"))
        for task in child._tasks:
            task.add_done_callback(child._task_ended)
        child._exited = asyncio.create_task(child._wait(), name=f"exit of {name}")
        return child

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the number of the signal that killed it; None while it runs."""
        return self._process.returncode

    def busy(self) -> bool:
        """Whether its main thread runs, or waits for a CPU or a disk: a process that hangs or was stopped does not."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False  # it has exited
        return stat.rpartition(")")[2].split()[0] in {"R", "D"}  # proc(5): the name in parentheses may contain anything

    async def listening(self, within: float) -> dict[str, Any]:
        """Waits for the line that announces its ports.

        Args:
            within: timeout in seconds.

        Raises:
            ChildFailedError: it exited first, or took longer.
        """
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(self._announced)
        except TimeoutError:
            raise ChildFailedError(f"{self.name} did not listen within {within:g} s") from None

    def send_latest(self, line: bytes) -> None:
        """Writes a line to its standard input as soon as it reads; of several pending lines, only the last is written."""
        self._latest = line
        self._changed.set()

    def terminate(self) -> None:
        """Asks it to exit (SIGTERM)."""
        if self.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """Kills it (SIGKILL)."""
        if self.returncode is None:
            self._process.kill()

    async def wait(self) -> int:
        """Waits until it has exited; returns its exit code."""
        assert self._exited is not None  # noqa: S101  # start() made it
        return await asyncio.shield(self._exited)

    async def stop(self, grace: float) -> int:
        """Asks it to exit, and kills it after `grace` seconds; returns its exit code."""
        self.terminate()
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            logger.warning(
                "did not exit in time: killed", extra={"child": self.name, "pid": self.pid, "seconds": grace}
            )
            self.kill()
            return await self.wait()

    async def _wait(self) -> int:
        code = await self._process.wait()
        for task in self._tasks[1:2]:  # it no longer reads its input; its output is read to the end
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._announced.done():
            self._announced.set_exception(
                ChildFailedError(f"{self.name} exited before it listened: {describe_exit(code)}")
            )
            self._announced.exception()  # marks it as retrieved, in case nobody awaits it
        return code

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Kills it if its pipes are no longer served because of a bug: it would soon wait for them for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            extra = {"child": self.name, "pid": self.pid}
            logger.critical("killed: %s", internal_error(error), exc_info=error, extra=extra)
            self.kill()

    async def _read_output(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # a pipe was asked for
        async for line in _lines(self._process.stdout):
            if self._announced.done():
                continue
            with contextlib.suppress(ValueError):
                announced = json.loads(line)
                if isinstance(announced, dict) and announced.get("event") == "listening":
                    self._announced.set_result(announced)

    async def _read_errors(self, log: LogLine) -> None:
        assert self._process.stderr is not None  # noqa: S101  # a pipe was asked for
        async for line in _lines(self._process.stderr):
            log(line)

    async def _write_input(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101  # a pipe was asked for
        # At most one line is in the pipe and one is pending, even if the child never reads.
        while True:
            await self._changed.wait()
            self._changed.clear()
            line, self._latest = self._latest, None
            if line is not None:
                try:
                    stdin.write(line)
                    await stdin.drain()
                except ConnectionError:
                    return  # it exited; _wait reports that


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of a pipe until its end; a line over the limit is split."""
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            line = error.partial
        except asyncio.LimitOverrunError as error:
            line = await reader.read(error.consumed)
        if not line:
            return
        yield line.decode(errors="replace").rstrip("\n")


def describe_exit(code: int) -> str:
    """An exit code as asyncio returns it, for people."""
    return f"exit code {code}" if code >= 0 else f"{signal.Signals(-code).name} ({signal.strsignal(-code)})"
