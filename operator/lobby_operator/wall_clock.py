"""The time as the Kubernetes API writes it: RFC 3339 in UTC. Nothing is decided by it; that is done on monotonic clocks."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """To the second, as `metav1.Time`: conditions, annotations."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    """To the microsecond, as `metav1.MicroTime`: Leases, Events."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
