"""Several test processes on one cluster (pytest-xdist): what they share, and which tests run alone.

Most tests wait for their own Lobby, so several processes run them, file by file. The others run in one process, once all those
are over: what disturbs others, what measures, and what shares thousands of clients.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

FOLDER = "tests/cluster"
ALONE = {
    "test_chart.py": "changes the definition of Lobbies, and the release",
    "test_connects_limit.py": "ends the operators",
    "test_ethereum_node.py": "has 1,100 clients",
    "test_events.py": "starts must not take long",
    "test_get_lobbies.py": "measures how soon a table is right",
    "test_install.py": "has 1,100 clients",
    "test_missing_objects.py": "no lobby can start while the Secret of token keys is missing",
    "test_prometheus.py": "every pod of the namespace must answer",
    "test_secrets.py": "reads the logs of every pod of the namespace",
    "test_times.py": "measures",
}
"""The files in `tests/cluster` itself that run alone, and why; all in its folders do."""
LOOK_EVERY = 0.2
OTHERS_SECONDS = 400.0
_GIVEN_UP = "given up"


def is_one_of_several() -> bool:
    """Whether this is one of several test processes."""
    return "PYTEST_XDIST_WORKER" in os.environ


def is_alone(test: str) -> bool:
    """Whether no other test may run while this one does; by its node ID."""
    folder, _, file = test.partition("::")[0].rpartition("/")
    return folder != FOLDER or file in ALONE


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """One file after the other to the next free process, and at last all that run alone to one."""

    def _split_scope(self, nodeid: str) -> str:
        return "alone" if is_alone(nodeid) else nodeid.partition("::")[0]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """A file that one process at a time reads, from its start, and appends to."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file
        file.flush()


class Users:
    """The processes that use something that the first of them makes and the last one removes.

    Args:
        path: a file in a folder that they share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def joining(self) -> Iterator[bool]:
        """Tells whether this process is the first; the others wait for the end of the block."""
        with self._changed("+") as before:
            yield before == 0

    @contextlib.contextmanager
    def leaving(self) -> Iterator[bool]:
        """Tells whether this process is the last; one that joins waits for the end of the block."""
        with self._changed("-") as before:
            yield before == 1

    @contextlib.contextmanager
    def _changed(self, change: str) -> Iterator[int]:
        with locked(self._path) as file:
            text = file.read()
            file.write(change)
            file.flush()
            yield text.count("+") - text.count("-")


class Finished:
    """The tests that are over, in all processes.

    Args:
        path: a file in a folder that they share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, test: str) -> None:
        """A test is over, with all its tries."""
        with locked(self._path) as file:
            file.write(f"{test}\n")

    def wait(self, tests: set[str], *, seconds: float = OTHERS_SECONDS) -> None:
        """Waits until these are over.

        Raises:
            TimeoutError: they are not in time, perhaps because a process crashed. All who wait later get that at once.
        """
        end = time.monotonic() + seconds
        while True:
            with locked(self._path) as file:
                over = set(file.read().splitlines())
                if tests <= over:
                    return
                if _GIVEN_UP in over or time.monotonic() > end:
                    file.write(f"{_GIVEN_UP}\n")
                    raise TimeoutError(f"not over yet: {', '.join(sorted(tests - over))}")
            time.sleep(LOOK_EVERY)
