"""Token buckets without a clock: one for each of many keys, bounded in number, and one for what a single client sends.

A bucket is kept as one number, the time at which it will be full again (the "theoretical arrival time" of ITU-T I.371's
generic cell rate algorithm). Taking a token moves that time forward; a token is refused if the time would then be
further ahead than a full bucket lasts. A full bucket is equivalent to none, so it can be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

_FORGOTTEN_PER_TAKE = 2


class RateLimiter:
    """A token bucket for each key.

    Full buckets are forgotten as others are used. If more than `max_keys` are not full, the least recently used is
    forgotten, too, and its key starts again with a full bucket. So no client can cause another one to be refused.

    Attributes:
        max_keys: most buckets kept.
    """

    __slots__ = ("_full_at", "max_keys")

    def __init__(self, max_keys: int) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys: {max_keys} is too small; accepted: at least 1")
        self.max_keys = max_keys
        self._full_at: dict[str, float] = {}  # in order of use

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float, *, rate: float, burst: float) -> float:
        """Takes one token.

        Args:
            key: of the bucket.
            now: seconds, monotonic.
            rate: tokens added per second; above 0.
            burst: tokens in a full bucket; at least 1.

        Returns:
            0.0, or, with nothing taken, the seconds until a token is available.
        """
        table = self._full_at
        full_at = max(table.get(key, now), now) + 1 / rate
        wait = full_at - now - burst / rate
        if wait > 1e-9:  # a client that comes exactly on time must not be refused because of rounding
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodLimit:
    """What one client may send, on average: far more than any client needs that isn't trying to overload the process.

    Frames and bytes share one bucket, measured in seconds, so that a client stores one number instead of two.

    Attributes:
        frames_per_second: messages, pings and pongs; 0: no limit.
        bytes_per_second: all bytes, including fragments of incomplete messages; of a compressed message, its inflated size if
            that is larger. 0: no limit.
        burst_seconds: how many seconds' worth may arrive at once: a client that subscribes to many topics when it connects
            sends that much in one go.
    """

    frames_per_second: int = 200
    bytes_per_second: int = 1 << 20
    burst_seconds: float = 10.0

    def cost(self, frames: int, size: int) -> float:
        """What frames and bytes (as sent, or inflated if that is more) take out of the bucket, in seconds."""
        cost = frames / self.frames_per_second if self.frames_per_second else 0.0
        return cost + size / self.bytes_per_second if self.bytes_per_second else cost

    def bucket(self, max_message_bytes: int) -> float:
        """Seconds that a full bucket holds. A message of the largest size always fits, however fast it arrives."""
        if not self.bytes_per_second:
            return self.burst_seconds
        return self.burst_seconds + max_message_bytes / self.bytes_per_second


FLOOD_LIMIT = FloodLimit()
