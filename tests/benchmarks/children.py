"""Child processes of a benchmark: pinned to a core, read line by line, ended by pid."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.benchmarks.build import CACHE
from tests.benchmarks.machine import pinned
from tests.benchmarks.place import HERE, Place
from tests.support.processes import ROOT, WITH_PARENT

END_SECONDS = 10.0
LINE_SECONDS = 60.0


class Child:
    """A running process.

    Attributes:
        name: for error messages.
        pid: its process id.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log
        self._rest = b""

    def write(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def line(self, seconds: float = LINE_SECONDS) -> str:
        """The next line of its standard output.

        Raises:
            RuntimeError: it ended, or wrote nothing for that long.
        """
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
            data = os.read(fd, 65536) if ready else b""
            if not data:
                what = "ended" if ready else f"wrote nothing for {seconds:g} s"
                raise RuntimeError(f"{self.name} {what}: {self._log.read_text()[-2000:]}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def last_line(self) -> str:
        """Closes its standard input and returns what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.line()

    def end(self) -> None:
        """Closes its standard input and terminates it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def child(
    name: str, *command: str, core: int | None, env: Mapping[str, str] | None = None, place: Place = HERE
) -> Iterator[Child]:
    """A process for the duration of a block; it also ends with this process.

    Args:
        name: for error messages and its log file.
        command: what to run.
        core: to run on; None: any.
        env: additional environment variables.
        place: in which network it runs.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / f"{name}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*WITH_PARENT, *place.command(*(command if core is None else pinned(core, *command)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
        )
    running = Child(name, process, log)
    try:
        yield running
    finally:
        running.end()
