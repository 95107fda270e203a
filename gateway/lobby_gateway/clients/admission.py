"""Admission of clients, for lobbies and greeters: seats, and the limits of a process and of an address.

A client is admitted in three steps: the process has room for it (`ProcessCapacity`), its address is within the limits of the
Lobby (`Admission`), and it gets a seat (`SeatCount`, in the lobby only). Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from ipaddress import IPv6Address

from lobby_gateway import close_codes
from lobby_gateway.clients.rate_limit import RateLimiter
from lobby_gateway.close_codes import Refusal
from lobby_gateway.resource.spec import LimitsSpec
from lobby_gateway.settings import AdmissionSettings

ADMISSION_SETTINGS = AdmissionSettings()


class SeatCount:
    """The seats of one lobby. Never grants more than there are.

    Lowering `total` below `taken` closes no client: seats are refused until enough have been released.

    Attributes:
        total: seats of the lobby.
        taken: seats granted and not yet released.
        draining: no more seats are granted.
        deleted: nor will any other lobby grant one, since the Lobby was deleted.
    """

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError(f"seats: {total} is too small; accepted: at least 1")
        self.total = total
        self.taken = 0
        self.draining = False
        self.deleted = False

    @property
    def free(self) -> int:
        """Seats that would be granted now."""
        return 0 if self.draining else max(0, self.total - self.taken)

    @property
    def refusal(self) -> Refusal:
        """Why a seat would be refused now."""
        if self.deleted:
            return close_codes.LOBBY_GONE
        return close_codes.LOBBY_DRAINING if self.draining else close_codes.LOBBY_FULL

    def claim(self, count: int = 1) -> int:
        """Takes up to `count` seats; returns how many were granted."""
        if count < 0:
            raise ValueError(f"count: {count} is too small; accepted: at least 0")
        granted = min(count, self.free)
        self.taken += granted
        return granted

    def release(self, count: int = 1) -> None:
        """Returns seats.

        Raises:
            ValueError: fewer are taken.
        """
        if not 0 <= count <= self.taken:
            raise ValueError(f"count: {count} is out of range; accepted: 0 to {self.taken}")
        self.taken -= count


class ProcessCapacity:
    """How many clients a process may hold, and how much memory it may use.

    The allocator reuses the memory of clients that have left, but returns it to the kernel late: a process that was full once
    would refuse clients long after half of them have left. So above `max_memory`, clients are admitted while there are fewer
    than `refill_ratio` of those that were connected when the limit was reached; their memory is already allocated.

    Attributes:
        max_clients: most clients; 0: no limit.
        max_memory: resident bytes above which no clients are admitted; 0: no limit.
        clients: clients admitted and not yet released, including those waiting for a seat.
    """

    __slots__ = ("_clients_when_full", "_refill_ratio", "clients", "max_clients", "max_memory")

    def __init__(
        self, max_clients: int = 0, max_memory: int = 0, *, settings: AdmissionSettings = ADMISSION_SETTINGS
    ) -> None:
        self.max_clients = max_clients
        self.max_memory = max_memory
        self.clients = 0
        self._refill_ratio = settings.refill_ratio
        self._clients_when_full: int | None = None

    def observe_memory(self, resident: int) -> None:
        """Takes a sample of the resident bytes."""
        if not self.max_memory or resident < self.max_memory:
            self._clients_when_full = None
        elif self._clients_when_full is None:
            self._clients_when_full = self.clients

    def refusal(self) -> Refusal | None:
        """Why a client would be refused now; None: there is room for one more."""
        if self.max_clients and self.clients >= self.max_clients:
            return close_codes.GREETER_FULL
        if self._clients_when_full is not None and self.clients >= self._clients_when_full * self._refill_ratio:
            return close_codes.NO_MEMORY
        return None


class Admission:
    """Admits the clients of one Lobby to a process, and counts them by address until they are released.

    All clients are counted, limited or not, so that a limit set while the process runs applies at once.
    """

    __slots__ = ("_capacity", "_connections", "_connects", "_limits", "_settings")

    def __init__(
        self, limits: LimitsSpec, capacity: ProcessCapacity, *, settings: AdmissionSettings = ADMISSION_SETTINGS
    ) -> None:
        self._limits = limits
        self._capacity = capacity
        self._settings = settings
        self._connections: Counter[str] = Counter()
        self._connects = RateLimiter(settings.max_addresses)

    def update(self, limits: LimitsSpec) -> None:
        """Applies changed limits of the Lobby. Clients that were admitted stay."""
        self._limits = limits

    def admit(self, address: str, now: float) -> Permit | Refusal:
        """Admits a client if the process has room and its address is within the limits.

        Args:
            address: of the client, IPv4 or IPv6.
            now: seconds, monotonic.

        Returns:
            A permit, to be released when the client disconnects; or, with nothing counted, the refusal to answer with.
        """
        key = address_key(address)
        refusal = self._capacity.refusal() or self._address_refusal(key, now)
        if refusal is not None:
            return refusal
        self._capacity.clients += 1
        self._connections[key] += 1
        return Permit(self, address)

    def _address_refusal(self, key: str, now: float) -> Refusal | None:
        limits, settings = self._limits, self._settings
        if limits.connections_per_address and self._connections[key] >= limits.connections_per_address:
            return _too_many(settings.full_retry_seconds)
        rate = limits.connects_per_second
        if rate:
            wait = self._connects.take(key, now, rate=rate, burst=rate * settings.connect_burst_seconds)
            if wait:
                return _too_many(wait)
        return None

    def _release(self, address: str) -> None:
        key = address_key(address)
        self._capacity.clients -= 1
        self._connections[key] -= 1
        if not self._connections[key]:
            del self._connections[key]


class Permit:
    """Counts one admitted client until it is released, exactly once.

    Attributes:
        address: of the client.
    """

    __slots__ = ("_admission", "address")

    def __init__(self, admission: Admission, address: str) -> None:
        self._admission: Admission | None = admission
        self.address = address

    def release(self) -> None:
        """Makes room for another client.

        Raises:
            ValueError: it was released before.
        """
        admission, self._admission = self._admission, None
        if admission is None:
            raise ValueError(f"the permit of {self.address} was released before")
        admission._release(self.address)  # noqa: SLF001  # made by it


def address_key(address: str) -> str:
    """The key under which connections of an address are counted.

    An IPv6 address counts as its /64 network, all of which one client can have (RFC 6177); an IPv4-mapped address
    (`::ffff:192.0.2.1`, on a dual-stack socket) counts as the IPv4 address.
    """
    if ":" not in address:
        return address
    parsed = IPv6Address(address)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped is not None else parsed.packed[:8].hex(":", 2) + "::/64"


def _too_many(wait: float) -> Refusal:
    """A 429; its Retry-After has whole seconds only (RFC 9110 §10.2.3)."""
    return replace(close_codes.TOO_MANY, retry_after=max(1, math.ceil(wait)))
