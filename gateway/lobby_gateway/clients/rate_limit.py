"""How fast something may come, and from one address how much at once: token buckets, bounded in number, without a clock.

A bucket is kept as one number, the time at which it will be full again (the "theoretical arrival time" of ITU-T I.371's
generic cell rate algorithm): to take something moves that time on, and what would move it further ahead of now than a full
bucket holds is too much. A bucket that is full is as good as none, so it can be forgotten.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address

from lobby_gateway.resource.spec import LimitsSpec

MAX_KEYS = 65_536
BURST_SECONDS = 5
"""What an address may bring at once after a pause, in seconds of its rate: a page with several streams, a team behind one
NAT that comes back when a greeter was restarted."""

FULL_RETRY_SECONDS = 5.0
_FORGOTTEN_PER_TAKE = 2


class RateLimiter:
    """A token bucket for each key.

    Full buckets are forgotten on the way. Should there be more keys than `max_keys` that are not, the one that was not
    seen for longest is forgotten, too: it gets a full bucket. So nobody can make a stranger be refused.

    Attributes:
        max_keys: most buckets that are kept.
    """

    __slots__ = ("_full_at", "max_keys")

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys: {max_keys} is too small; accepted: at least 1")
        self.max_keys = max_keys
        self._full_at: dict[str, float] = {}  # who came last is last

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float, *, rate: float, burst: float) -> float:
        """Takes one token.

        Args:
            key: whose bucket.
            now: seconds, monotonic.
            rate: tokens a second that come back; above 0.
            burst: tokens of a full bucket; at least 1.

        Returns:
            0.0, or, with nothing taken, the seconds until there is one.
        """
        table = self._full_at
        full_at = max(table.get(key, now), now) + 1 / rate
        wait = full_at - now - burst / rate
        if wait > 1e-9:  # of rounding, what comes exactly on time must not be late
            return wait
        self._forget_full(now)
        table.pop(key, None)
        table[key] = full_at
        if len(table) > self.max_keys:
            del table[next(iter(table))]
        return 0.0

    def _forget_full(self, now: float) -> None:
        for key in [key for key, _ in zip(self._full_at, range(_FORGOTTEN_PER_TAKE), strict=False)]:
            if self._full_at[key] <= now:
                del self._full_at[key]


def address_key(address: str) -> str:
    """By what an address is counted.

    An IPv6 address counts by its network of 64 bits, all of which one client can have (RFC 6177); an IPv4 address on a socket
    for both (`::ffff:192.0.2.1`) counts as what it is.
    """
    if ":" not in address:
        return address
    parsed = IPv6Address(address)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped is not None else parsed.packed[:8].hex(":", 2) + "::/64"


class AddressLimits:
    """Connections by address: how many there are, and how fast they come. One object for each Lobby in a process.

    All are counted, limited or not, so that a limit that is set while the process runs holds at once.

    Attributes:
        limits: what the Lobby says; may be replaced.
    """

    __slots__ = ("_connections", "_connects", "limits")

    def __init__(self, limits: LimitsSpec, max_keys: int = MAX_KEYS) -> None:
        self.limits = limits
        self._connections: Counter[str] = Counter()
        self._connects = RateLimiter(max_keys)

    def connections(self, address: str) -> int:
        """Connections of an address."""
        return self._connections[address_key(address)]

    def enter(self, address: str, now: float) -> float:
        """Counts a new connection, if it may be.

        Args:
            address: of the client, an IPv4 or IPv6 address.
            now: seconds, monotonic.

        Returns:
            0.0: it is in, until `leave`. Otherwise, with nothing counted, the seconds after which it may come back.
        """
        key = address_key(address)
        limits = self.limits
        if limits.connections_per_address and self._connections[key] >= limits.connections_per_address:
            return FULL_RETRY_SECONDS
        rate = limits.connects_per_second
        if rate:
            wait = self._connects.take(key, now, rate=rate, burst=rate * BURST_SECONDS)
            if wait:
                return wait
        self._connections[key] += 1
        return 0.0

    def leave(self, address: str) -> None:
        """A connection that was let in is gone.

        Raises:
            ValueError: the address has none.
        """
        key = address_key(address)
        left = self._connections[key] - 1
        if left < 0:
            raise ValueError(f"{address} has no connection that could leave")
        if left:
            self._connections[key] = left
        else:
            del self._connections[key]


def retry_after(wait: float) -> int:
    """Seconds for a Retry-After header, which has whole ones only (RFC 9110 §10.2.3)."""
    return max(1, math.ceil(wait))


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodLimit:
    """What one client may send, on average: far more than anyone does who is not out to keep us busy.

    Frames and bytes fill one bucket, each in seconds of its own rate, so that a client has one number and not two.

    Attributes:
        frames_per_second: messages, pings and pongs; 0: no limit.
        bytes_per_second: of everything, fragments that are no message yet, too; 0: no limit.
        burst_seconds: so much may come at once.
    """

    frames_per_second: int = 200
    bytes_per_second: int = 1 << 20
    burst_seconds: float = 10.0

    def cost(self, frames: int, size: int) -> float:
        """What frames and bytes take out of the bucket, in seconds."""
        cost = frames / self.frames_per_second if self.frames_per_second else 0.0
        return cost + size / self.bytes_per_second if self.bytes_per_second else cost

    def bucket(self, max_message_bytes: int) -> float:
        """Seconds that a full bucket holds. The largest message is never too much, however fast the network is."""
        if not self.bytes_per_second:
            return self.burst_seconds
        return self.burst_seconds + max_message_bytes / self.bytes_per_second


FLOOD_LIMIT = FloodLimit()
