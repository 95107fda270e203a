"""The time of day. For people, as the Kubernetes API writes it (RFC 3339 in UTC), and to order processes on one machine.

Decisions about durations use monotonic clocks.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def now() -> str:
    """To the second, as `metav1.Time`: conditions and annotations."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def later(seconds: float) -> str:
    """The time in so many seconds, rounded up to the next second."""
    at = datetime.now(UTC) + timedelta(seconds=seconds + 1)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_until(time: str) -> float:
    """Seconds until a time as the Kubernetes API accepts it, also with fractions or another zone; negative if it has passed.

    Raises:
        ValueError: it is not such a time.
    """
    try:
        at = datetime.fromisoformat(time.upper()).astimezone(UTC)  # `t` and `z` are accepted, too
    except OverflowError as error:
        raise ValueError(f"{time} is too long ago, or too late") from error
    return (at - datetime.now(UTC)).total_seconds()


def milliseconds() -> int:
    """Milliseconds since 1970: a process that starts later in the same pod, or on the same machine, has more."""
    return int(datetime.now(UTC).timestamp() * 1000)


def now_micro() -> str:
    """To the microsecond, as `metav1.MicroTime`: Leases and Events."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
