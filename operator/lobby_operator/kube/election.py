"""Which of several operators acts: the holder of the Lease. Pure; `lease.py` reads and writes the Lease.

No process trusts another's clock: to an observer, a Lease has expired if it did not change for its whole duration by the
observer's own clock. The holder stops earlier: `deadline_seconds` after the start of its latest successful renewal. So no two
processes act at once, and the holder knows when it must stop without an answer from anyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lobby_operator.settings import LeaseSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedLease:
    """A Lease as the server has it.

    Attributes:
        holder: identity of the holder; empty: nobody.
        duration_seconds: as the holder declared it.
        acquired: when the holder acquired it, RFC 3339 with microseconds.
        transitions: how often its holder changed.
        version: its `resourceVersion`, which changes with each renewal.
    """

    holder: str = ""
    duration_seconds: float = 0.0
    acquired: str = ""
    transitions: int = 0
    version: str = ""

    @classmethod
    def of(cls, lease: Mapping[str, Any]) -> ObservedLease:
        """Reads an object of the API."""
        spec = lease.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            duration_seconds=float(spec.get("leaseDurationSeconds") or 0),
            acquired=spec.get("acquireTime") or "",
            transitions=int(spec.get("leaseTransitions") or 0),
            version=lease["metadata"]["resourceVersion"],
        )


class Election:
    """The election as one candidate sees it.

    Args:
        identity: identity of this candidate, unique among all.
        settings: times.
    """

    def __init__(self, identity: str, settings: LeaseSettings | None = None) -> None:
        self.identity = identity
        self.settings = settings or LeaseSettings()
        self._observed: ObservedLease | None = None
        self._changed_at = 0.0
        self._held_since: float | None = None  # start of the latest successful renewal

    @property
    def observed(self) -> ObservedLease | None:
        """The Lease as last observed; None: there is none, or it was never read."""
        return self._observed

    def holds(self, now: float) -> bool:
        """Whether this candidate may act now."""
        return self._held_since is not None and now < self._held_since + self.settings.deadline_seconds

    def lost(self, now: float) -> bool:
        """Whether it held the Lease and no longer does."""
        return self._held_since is not None and not self.holds(now)

    def observe(self, lease: ObservedLease | None, now: float) -> None:
        """Records the Lease as it was read; None: there is none."""
        if lease is None or self._observed is None or lease.version != self._observed.version:
            self._changed_at = now
        self._observed = lease
        if lease is not None and lease.holder != self.identity and self._held_since is not None:
            self._held_since = float("-inf")  # another holds it, whatever we believed

    def spec_to_write(self, now: float, wall: str) -> dict[str, Any] | None:
        """The `spec` to write now in order to acquire or renew the Lease; None: another holds it.

        Args:
            now: on the clock of `observe`.
            wall: the time, RFC 3339 with microseconds.
        """
        lease = self._observed
        mine = lease is not None and lease.holder == self.identity
        if lease is not None and lease.holder and not mine and now < self._changed_at + lease.duration_seconds:
            return None
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.settings.duration_seconds,
            "acquireTime": lease.acquired if lease is not None and mine and lease.acquired else wall,
            "renewTime": wall,
            "leaseTransitions": 0 if lease is None else lease.transitions + (not mine),
        }

    def written(self, lease: ObservedLease, started: float, now: float) -> None:
        """Records that the spec of `spec_to_write` was written.

        Args:
            lease: the Lease in the answer.
            started: when the call began: the server cannot have renewed it earlier.
            now: when the answer came.
        """
        self._held_since = started
        self.observe(lease, now)

    def spec_to_release(self, wall: str) -> dict[str, Any] | None:
        """The `spec` that lets another acquire the Lease at once; None: it is not ours to release."""
        lease = self._observed
        if lease is None or lease.holder != self.identity:
            return None
        return {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": wall,
            "renewTime": wall,
            "leaseTransitions": lease.transitions,
        }
