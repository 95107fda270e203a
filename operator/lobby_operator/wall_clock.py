"""The time as the Kubernetes API writes it: RFC 3339 in UTC. For people only; decisions use monotonic clocks."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """To the second, as `metav1.Time`: conditions and annotations."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    """To the microsecond, as `metav1.MicroTime`: Leases and Events."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
