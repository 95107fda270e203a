"""Programs that run beside a test, which can wait for their output; nothing of them is left afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.support.environment import ROOT
from tests.cluster.support.waiting import eventually
from tests.support.proc import marked
from tests.support.processes import WITH_PARENT, with_mark

STOP_SECONDS = 20.0


class Background:
    """A running program.

    Attributes:
        process: its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def text(self) -> str:
        """Its output so far, standard output and error."""
        return self._output.read_text(errors="replace")

    def until_line(self, pattern: str, *, deadline: float = 60.0) -> re.Match[str]:
        """Waits for a line that matches."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.text, re.MULTILINE)
            assert found or self.process.poll() is None, f"it ended: {self.text[-3000:]}"
            return found

        found = eventually(look, deadline=deadline, what=lambda: f"a line {pattern!r}; {self.text[-3000:]}")
        assert found is not None
        return found

    def ended(self, *, deadline: float = STOP_SECONDS) -> int:
        """Waits until it exits; returns the exit code."""
        return self.process.wait(timeout=deadline)


@contextlib.contextmanager
def background(*command: str) -> Iterator[Background]:
    """Runs a program during the block and ends it by SIGTERM; neither it nor a child of it may remain."""
    mark = uuid.uuid4().hex
    with tempfile.NamedTemporaryFile(prefix="lobby-test-") as output:
        process = subprocess.Popen(
            [*WITH_PARENT, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=with_mark({**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}, mark),
        )
        running = Background(process, Path(output.name))
        try:
            try:
                yield running
            except Exception as error:
                error.add_note(f"{command[-1]}: {running.text[-3000:]}")
                raise
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        eventually(lambda: not marked(mark), what=lambda: f"nothing is left; {marked(mark)}")
