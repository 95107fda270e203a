"""The time of day. For people, as the Kubernetes API writes it (RFC 3339 in UTC), and to order processes on one machine.

Decisions about durations use monotonic clocks.
"""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """To the second, as `metav1.Time`: conditions and annotations."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds() -> int:
    """Milliseconds since 1970: a process that starts later in the same pod, or on the same machine, has more."""
    return int(datetime.now(UTC).timestamp() * 1000)


def now_micro() -> str:
    """To the microsecond, as `metav1.MicroTime`: Leases and Events."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
