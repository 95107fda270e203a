"""Limits that a process puts on clients, independent of their Lobby: the options and their defaults."""

from __future__ import annotations

import argparse
import resource
from dataclasses import dataclass, field

from lobby_gateway.clients.rate_limit import FLOOD_LIMIT, FloodLimit
from lobby_gateway.process import arguments
from lobby_gateway.process.memory import MEMORY_SETTINGS, memory_of_group
from lobby_gateway.settings import ListenerSettings

_MIB = 1 << 20
_MAX_RESERVE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Limits of one process.

    Attributes:
        max_clients: clients of a greeter, including those waiting for a seat; 0: no limit, as in a lobby, which has seats.
        max_memory: resident bytes above which new clients are refused; 0: no limit.
        flood: how fast one client may send.
        handshakes: limits of connections that are not clients yet.
    """

    max_clients: int = 0
    max_memory: int = 0
    flood: FloodLimit = FLOOD_LIMIT
    handshakes: ListenerSettings = field(default_factory=ListenerSettings)


def raise_descriptor_limit() -> int:
    """Raises the limit of open file descriptors as far as it goes; returns the limit.

    Each client takes one. The default soft limit of 1024 exists only for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else _MAX_RESERVE * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of lobbies and greeters."""
    parser.add_argument(
        "--max-memory", type=arguments.integer(0, 1 << 24), metavar="MIB",
        help="resident memory above which no clients are accepted; 0: no limit (90 %% of the control group's limit)",
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
        help="bytes per second that a client may send on average; 0: no limit (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--trusted-proxies", default="", metavar="CIDR,CIDR", help="proxies whose X-Forwarded-For is trusted (none)"
    )


def add_max_clients(parser: argparse.ArgumentParser) -> None:
    """Adds the option of greeters; a lobby has seats instead."""
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
