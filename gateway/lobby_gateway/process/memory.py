"""How much memory this process uses, and how much it may: Linux's `/proc` and control groups.

A process that reaches its bound takes no new clients and serves those that it has (see `clients/admission.py`); otherwise the
kernel would end it, and all its clients with it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

SAMPLE_SECONDS = 1.0
SHARE_OF_GROUP = 0.9
"""Of what the control group may use, by default: the rest is for what is under way when the bound is reached."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # version 1 says "none" as the largest multiple of a page


class MemoryWatch:
    """Looks once a second how much memory is resident.

    Args:
        seen: is called with the bytes; not before `start`.
    """

    def __init__(self, seen: Callable[[int], None]) -> None:
        self._seen = seen
        self._file = -1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Looks now, and from now on."""
        self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._look()

    def close(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _look(self) -> None:
        # The kernel makes the answer up at once; field 2 is the resident set, in pages (proc(5)).
        self._seen(int(os.pread(self._file, 128, 0).split()[1]) * _PAGE)
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_SECONDS, self._look)


def memory_of_group(own: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> int:
    """Bytes that this process's control group may use, or the strictest above it; 0: no limit is known.

    Version 2 and version 1 of control groups are read (cgroups(7)). In a container the path in `own` may be one that only
    the host has; then the groups that are there count, of which the outermost is the container's.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return 0
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits(groups, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(groups / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=0)


def _limits(root: Path, path: str, name: str) -> list[int]:
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    found = []
    for length in range(len(parts) + 1):
        try:
            text = root.joinpath(*parts[:length], name).read_text().strip()
        except OSError:
            continue  # no such group here, or the root, which has no limit
        if text.isdecimal() and int(text) < _NO_LIMIT:
            found.append(int(text))
    return found
