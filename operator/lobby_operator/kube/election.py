"""Which of several operators acts: the one that holds the Lease. What is decided here; `lease.py` asks and writes.

Nobody trusts another's clock: a Lease has run out when it was not seen to change for its whole duration, on the own clock. The
holder gives up earlier than that: when the start of its latest successful renewal is `deadline_seconds` ago. So nobody acts
while another does, and to know that it must stop it needs no answer of anybody, only the time.
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
        holder: identity of who holds it; empty: nobody.
        duration_seconds: as the holder promised.
        acquired: since when, RFC 3339 with microseconds.
        transitions: how often it changed hands.
        version: its `resourceVersion`; changes with each renewal.
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
    """One candidate's view.

    Args:
        identity: of this candidate; no other has the same.
        settings: times.
    """

    def __init__(self, identity: str, settings: LeaseSettings | None = None) -> None:
        self.identity = identity
        self.settings = settings or LeaseSettings()
        self._seen: ObservedLease | None = None
        self._changed_at = 0.0
        self._held_since: float | None = None  # start of the latest successful renewal

    @property
    def seen(self) -> ObservedLease | None:
        """The Lease as it was seen last; None: there is none, or it was never seen."""
        return self._seen

    def holds(self, now: float) -> bool:
        """Whether this candidate may act now."""
        return self._held_since is not None and now < self._held_since + self.settings.deadline_seconds

    def lost(self, now: float) -> bool:
        """Whether it held the Lease and does so no more."""
        return self._held_since is not None and not self.holds(now)

    def observe(self, lease: ObservedLease | None, now: float) -> None:
        """The Lease was read; None: there is none."""
        if lease is None or self._seen is None or lease.version != self._seen.version:
            self._changed_at = now
        self._seen = lease
        if lease is not None and lease.holder != self.identity and self._held_since is not None:
            self._held_since = float("-inf")  # another has it: whatever we believed, it is over

    def wants(self, now: float, wall: str) -> dict[str, Any] | None:
        """The `spec` to write now in order to get or keep the Lease; None: another holds it.

        Args:
            now: on the clock of `observe`.
            wall: the time, RFC 3339 with microseconds.
        """
        lease = self._seen
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

    def wrote(self, lease: ObservedLease, started: float, now: float) -> None:
        """What `wants` gave was written.

        Args:
            lease: the answer.
            started: when the call began: by the server's clock the renewal can be no earlier.
            now: when the answer came.
        """
        self._held_since = started
        self.observe(lease, now)

    def gives_up(self, wall: str) -> dict[str, Any] | None:
        """The `spec` that lets another take the Lease at once; None: it is not ours to give."""
        lease = self._seen
        if lease is None or lease.holder != self.identity:
            return None
        return {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": wall,
            "renewTime": wall,
            "leaseTransitions": lease.transitions,
        }
