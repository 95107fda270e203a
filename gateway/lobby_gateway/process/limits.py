"""What a process takes from clients, whatever their Lobby says: its options, and where their defaults come from."""

from __future__ import annotations

import argparse
import resource
from dataclasses import dataclass, field

from lobby_gateway.clients.rate_limit import FLOOD_LIMIT, FloodLimit
from lobby_gateway.process import arguments
from lobby_gateway.process.memory import SHARE_OF_GROUP, memory_of_group
from lobby_gateway.settings import ListenerSettings

_MIB = 1 << 20
_MAX_RESERVE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Limits of one process.

    Attributes:
        max_clients: clients of a greeter, and those who wait for a seat; 0: no limit, as for a lobby, which has seats.
        max_memory: bytes that may be resident before new clients are refused; 0: no limit.
        flood: how fast one client may send.
        handshakes: what a connection may cost before it is a client.
    """

    max_clients: int = 0
    max_memory: int = 0
    flood: FloodLimit = FLOOD_LIMIT
    handshakes: ListenerSettings = field(default_factory=ListenerSettings)


def raise_descriptor_limit() -> int:
    """Takes as many descriptors as this process may have; returns how many.

    Each client is one; the soft limit of 1024 is kept only for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else _MAX_RESERVE * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of both processes."""
    parser.add_argument(
        "--max-memory", type=arguments.whole(0, 1 << 24), metavar="MIB",
        help="no new clients above so many MiB of resident memory; 0: no limit (90 %% of the control group's)",
    )  # fmt: skip
    parser.add_argument(
        "--handshake-seconds", type=arguments.number(0.1, 600), default=ListenerSettings().timeout_seconds,
        metavar="SECONDS", help="for a whole request (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--client-frames", type=arguments.whole(0, 10_000_000), default=FLOOD_LIMIT.frames_per_second, metavar="NUMBER",
        help="frames a second that a client may send on average; 0: no limit (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--client-bytes", type=arguments.whole(0, 1 << 40), default=FLOOD_LIMIT.bytes_per_second, metavar="NUMBER",
        help="bytes a second that a client may send on average; 0: no limit (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--trusted-proxies", default="", metavar="CIDR,CIDR", help="whose X-Forwarded-For is believed; else nobody's"
    )


def add_max_clients(parser: argparse.ArgumentParser) -> None:
    """Adds the option of a greeter; a lobby has seats."""
    parser.add_argument(
        "--max-clients", type=arguments.whole(1, 10_000_000), metavar="NUMBER",
        help="clients and those who wait for a seat (what `ulimit -n` leaves room for)",
    )  # fmt: skip


def reserve(descriptors: int) -> int:
    """Descriptors that are kept for what is no client: handshakes, trunks, the admin port, the origin."""
    return max(64, min(_MAX_RESERVE, descriptors // 4))


def from_arguments(given: argparse.Namespace, descriptors: int) -> ProcessLimits:
    """The limits that were asked for; where nothing was said, what the system allows.

    Args:
        given: the command line.
        descriptors: that this process may have.
    """
    kept = reserve(descriptors)
    defaults = ListenerSettings()
    max_memory = given.max_memory
    max_clients = 0
    if hasattr(given, "max_clients"):
        max_clients = given.max_clients or max(1, descriptors - kept)
    return ProcessLimits(
        max_clients=max_clients,
        max_memory=int(memory_of_group() * SHARE_OF_GROUP) if max_memory is None else max_memory * _MIB,
        flood=FloodLimit(frames_per_second=given.client_frames, bytes_per_second=given.client_bytes),
        # So that half-open handshakes and refused clients never take the descriptors of trunks and of the admin port.
        handshakes=ListenerSettings(
            timeout_seconds=given.handshake_seconds,
            max_pending=min(defaults.max_pending, kept // 2),
            max_lingering=min(defaults.max_lingering, kept // 8),
        ),
    )
