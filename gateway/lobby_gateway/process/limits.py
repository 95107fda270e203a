"""Limits of a process, independent of its Lobbies: the options, their defaults, and what the system allows.

A process at its memory limit accepts no new clients and keeps serving those it has (see `clients/admission.py`); otherwise the
kernel would kill it, and disconnect all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lobby_gateway.clients.rate_limit import FLOOD_LIMIT, FloodLimit
from lobby_gateway.process import arguments
from lobby_gateway.settings import ListenerSettings, MemorySettings

MEMORY_SETTINGS = MemorySettings()

_MIB = 1 << 20
_MAX_RESERVE = 8192
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Limits of one process.

    Attributes:
        max_clients: clients of a greeter, including those waiting for a seat; 0: no limit, as in a lobby, which has seats.
        max_memory: resident bytes above which new clients are refused; 0: no limit.
        flood: limit on what one client may send.
        handshakes: limits of connections that are not clients yet.
    """

    max_clients: int = 0
    max_memory: int = 0
    flood: FloodLimit = FLOOD_LIMIT
    handshakes: ListenerSettings = field(default_factory=ListenerSettings)


def raise_descriptor_limit() -> int:
    """Raises the limit on open file descriptors to the hard limit; returns it.

    Each client takes one. The default soft limit of 1024 exists only for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else _MAX_RESERVE * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that lobbies and greeters have in common."""
    parser.add_argument(
        "--max-memory", type=arguments.integer(0, 1 << 24), metavar="MIB",
        help="resident memory above which no clients are accepted; 0: no limit (90%% of the control group's limit)",
    )  # fmt: skip
    parser.add_argument(
        "--handshake-seconds", type=arguments.number(0.1, 600), default=ListenerSettings().timeout_seconds,
        metavar="SECONDS", help="how long a request may take to arrive (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--client-frames", type=arguments.integer(0, 10_000_000), default=FLOOD_LIMIT.frames_per_second, metavar="NUMBER",
        help="frames per second that a client may send on average; 0: no limit (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--client-bytes", type=arguments.integer(0, 1 << 40), default=FLOOD_LIMIT.bytes_per_second, metavar="NUMBER",
        help="bytes per second that a client may send on average, inflated if that is more; 0: no limit (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--trusted-proxies", type=arguments.networks(), default=(), metavar="CIDR,CIDR",
        help="proxies whose X-Forwarded-For is trusted (none)",
    )  # fmt: skip


def add_max_clients(parser: argparse.ArgumentParser) -> None:
    """Adds the option that only greeters have; a lobby has seats instead."""
    parser.add_argument(
        "--max-clients", type=arguments.integer(1, 10_000_000), metavar="NUMBER",
        help="most clients, including those waiting for a seat (as many as `ulimit -n` allows)",
    )  # fmt: skip


def reserve(descriptors: int) -> int:
    """Descriptors reserved for anything but clients: handshakes, trunks, the admin port, the origin."""
    return max(64, min(_MAX_RESERVE, descriptors // 4))


def from_arguments(given: argparse.Namespace, descriptors: int) -> ProcessLimits:
    """The limits given on the command line; by default, what the system allows.

    Args:
        given: the parsed arguments.
        descriptors: most file descriptors that this process may open.
    """
    reserved = reserve(descriptors)
    defaults = ListenerSettings()
    max_memory = given.max_memory
    max_clients = 0
    if hasattr(given, "max_clients"):
        max_clients = given.max_clients or max(1, descriptors - reserved)
    return ProcessLimits(
        max_clients=max_clients,
        max_memory=int(memory_of_group() * MEMORY_SETTINGS.group_share) if max_memory is None else max_memory * _MIB,
        flood=FloodLimit(frames_per_second=given.client_frames, bytes_per_second=given.client_bytes),
        # Incomplete handshakes and refused clients never use up the descriptors of trunks and the admin port.
        handshakes=ListenerSettings(
            timeout_seconds=given.handshake_seconds,
            max_pending=min(defaults.max_pending, reserved // 2),
            max_lingering=min(defaults.max_lingering, reserved // 8),
        ),
    )


class MemoryWatch:
    """Samples the resident memory of this process.

    Args:
        observe: called with each sample, in bytes.
        settings: how often to sample.
    """

    def __init__(self, observe: Callable[[int], None], *, settings: MemorySettings = MEMORY_SETTINGS) -> None:
        self._observe = observe
        self._sample_seconds = settings.sample_seconds
        self._file = -1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Takes the first sample."""
        self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._sample()

    def close(self) -> None:
        """Stops sampling. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _sample(self) -> None:
        # Does not block: the kernel generates the contents. Field 2 is the resident set size in pages (proc(5)).
        self._observe(int(os.pread(self._file, 128, 0).split()[1]) * _PAGE)
        self._timer = asyncio.get_running_loop().call_later(self._sample_seconds, self._sample)


def memory_of_group(own: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> int:
    """The memory limit of this process's control group, or of the strictest one above it, in bytes; 0: no known limit.

    Reads control groups of versions 1 and 2 (cgroups(7)). In a container, the path in `own` may exist on the host only;
    then the groups that do exist count, the outermost of which is the container's.
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
            continue  # the group does not exist here, or is the root, which has no limit
        if text.isdecimal() and int(text) < _NO_LIMIT:
            found.append(int(text))
    return found
