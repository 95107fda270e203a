"""The machine a benchmark runs on: its hardware, its cores, and what the kernel counts for processes and sockets."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.support.proc import descendants

_PAGE = os.sysconf("SC_PAGE_SIZE")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
"""For the process that holds the clients."""
LOAD_CORE = CORES[min(1, len(CORES) - 1)]
"""For origin, clients and everything else."""


def pinned(core: int, *command: str) -> tuple[str, ...]:
    """A command pinned to one core."""
    return ("taskset", "--cpu-list", str(core), *command) if shutil.which("taskset") else command


@contextlib.contextmanager
def precedence() -> Iterator[None]:
    """Lets the processes of this session go first for the duration of a block, where that is permitted.

    The kernel shares cores among sessions before it looks at nice values (sched(7), "The autogroup feature"), so others that
    run at nice 19 take as much as we do.
    """
    group = Path("/proc/self/autogroup")
    try:
        before = group.read_text().rpartition(" ")[2]
        group.write_text("-20")
    except OSError:  # no autogroups, or not permitted
        yield
        return
    try:
        yield
    finally:
        group.write_text(before)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with all its threads and children, in nanosecond resolution."""
    total = 0
    for each in (pid, *(found.pid for found in descendants(pid))):
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            total += int(task.read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and its children."""
    return sum(_resident(each) for each in (pid, *(found.pid for found in descendants(pid))))


def _resident(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


class Others:
    """The share of all cores' time used by others since this object was created: other processes, and other guests of the host."""

    def __init__(self) -> None:
        self._before = self._now()

    def shares(self) -> tuple[float, float]:
        """For other processes, and for other guests."""
        busy, stolen, total, ours = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return max(0.0, busy - ours) / total, stolen / total

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        user, nice, system, idle, waiting, irq, soft_irq, stolen = (each / os.sysconf("SC_CLK_TCK") for each in ticks)
        busy = user + nice + system + irq + soft_irq
        return busy, stolen, busy + idle + waiting + stolen, sum(os.times()[:4])


def describe(interpreters: Iterable[str]) -> dict[str, str]:
    """What a reader needs to know about the machine; interpreters are given by path."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d"),
        "processor": f"{len(CORES)} x {model[1] if model else platform.machine()}",
        "memory": f"{int(memory[1]) / 1024**2:.0f} GiB" if memory else "",
        "kernel": f"{platform.system()} {platform.release()}",
        "interpreters": "; ".join(map(interpreter, interpreters)),
        "compiler": _first_line("gcc", "--version"),
        "node": _first_line("node", "--version"),
        "nginx": _first_line("nginx", "-v"),
    }


def interpreter(path: str) -> str:
    """The version of a Python and how it was built, which may make a tenth of its speed."""
    script = (
        "import platform, sysconfig; found = sysconfig.get_config_var('CONFIG_ARGS') or ''; "
        "print(platform.python_version(), '--enable-optimizations' in found)"
    )
    version, optimized = _first_line(path, "-c", script).split()
    if path.startswith("/usr/bin/"):
        return f"CPython {version} as built by the distribution"
    return f"CPython {version}, built with{'' if optimized == 'True' else 'out'} --enable-optimizations"


def _first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else ""
