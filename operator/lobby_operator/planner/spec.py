"""What is wanted: the few fields of a Lobby that the planner reads, and the planner's own times and limits."""

from __future__ import annotations

from dataclasses import dataclass

from lobby_gateway.resource.spec import Lobby, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSpec:
    """The part of a Lobby that decides how many lobbies it has; see `crds/lobbies.yaml` for each field.

    Attributes:
        lobby: name of the Lobby; its lobbies are called `<lobby>-<n>`.
        generation: of the spec. A new one forgives failed starts: it may be their cure.
        revision: what a lobby is made from now; those of another one are replaced. Empty: nobody compares.
        seats: of a new lobby. One that runs is believed what it says of itself.
        replicas: fewest lobbies.
        max_replicas: most lobbies, of whatever phase: a starting, draining or ending one is a process, too, and may
            have an origin connection.
        spare_seats: kept free and ready.
        placement: which lobby is open, and in which order.
        compaction: whether clients of sparse lobbies are moved together.
        stabilization_seconds: how long that must have been possible.
        empty_seconds: how long an empty lobby that is not needed lives.
        drain_seconds: how long a drain may take.
    """

    lobby: str
    generation: int = 0
    revision: str = ""
    seats: int = 512
    replicas: int = 0
    max_replicas: int = 100
    spare_seats: int = 64
    placement: Placement = Placement.PACKED
    compaction: bool = True
    stabilization_seconds: float = 60.0
    empty_seconds: float = 60.0
    drain_seconds: float = 300.0

    @classmethod
    def of(cls, lobby: Lobby, revision: str = "") -> PlannerSpec:
        """The planner's part of a Lobby, and the revision of lobbies that are made from it now."""
        spec = lobby.spec
        return cls(
            lobby=lobby.name,
            generation=lobby.generation,
            revision=revision,
            seats=spec.clients.seats,
            replicas=spec.replicas,
            max_replicas=spec.max_replicas,
            spare_seats=spec.spare_seats,
            placement=spec.placement,
            compaction=spec.compaction.enabled,
            stabilization_seconds=spec.compaction.stabilization_seconds,
            empty_seconds=spec.empty_seconds,
            drain_seconds=spec.drain_seconds,
        )

    @property
    def floor(self) -> int:
        """Fewest lobbies that are to run."""
        return min(self.replicas, self.max_replicas)

    @property
    def spare(self) -> int:
        """Seats to keep free.

        With the placement Latest they are seats of the newest lobbies. To keep more than half a lobby of them would mean
        to open the next lobby before this one is half full, and to leave nearly empty ones behind: there it is the most.
        """
        return self.spare_seats if self.placement is Placement.PACKED else min(self.spare_seats, self.seats // 2)
