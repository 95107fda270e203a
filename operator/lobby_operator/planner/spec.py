"""The desired state: the few fields of a Lobby that the planner reads."""

from __future__ import annotations

from dataclasses import dataclass

from lobby_gateway.resource.spec import Lobby, Placement
from lobby_gateway.settings import SeatQueueSettings

_SEAT_QUEUE = SeatQueueSettings()


@dataclass(frozen=True, slots=True)
class ConnectLimit:
    """`origin.limits.connects`.

    Attributes:
        count: most attempts to connect of all lobbies together.
        seconds: within this time.
    """

    count: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSpec:
    """The fields of a Lobby that decide how many lobbies it has; `crds/lobbies.yaml` describes each.

    Attributes:
        lobby: name of the Lobby; its lobbies are named `<lobby>-<n>`.
        generation: generation of the spec. A new one resets failed starts, since it may fix them.
        revision: revision of new lobbies; lobbies of another revision are replaced. Empty: revisions are not compared.
        seats: seats of a new lobby. A running lobby reports its own number.
        replicas: minimum number of lobbies; see `min_replicas`.
        max_replicas: maximum number of lobbies in any phase: one that is starting, draining or ending is a process, too,
            and may have an origin connection.
        spare_seats: seats to keep free and ready.
        placement: which lobby is open, and in which order.
        compaction: whether clients of sparse lobbies are moved together.
        stabilization_seconds: how long that must have been possible before it is done.
        empty_seconds: how long an empty lobby that is not needed is kept.
        drain_seconds: how long a drain may take.
        start_seconds: how long a lobby may take from the start of its process to its first answer.
        lost_seconds: how long greeters hold a client whose lobby is gone until it gets another seat.
        connections: most connections to the origin; 0: one for each lobby.
        connects: limit of attempts to connect; None: there is none.
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
    start_seconds: float = 60.0
    lost_seconds: float = 30.0
    connections: int = 0
    connects: ConnectLimit | None = None

    @classmethod
    def of(cls, lobby: Lobby, revision: str = "") -> PlannerSpec:
        """The planner's part of a Lobby, and the revision of its new lobbies."""
        spec = lobby.spec
        connects = spec.origin.limits.connects
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
            start_seconds=spec.start_seconds,
            lost_seconds=_SEAT_QUEUE.lost_seconds(spec.wait_seconds),
            connections=spec.origin.limits.connections,
            connects=None if connects is None else ConnectLimit(connects.count, connects.seconds),
        )

    @property
    def min_replicas(self) -> int:
        """Minimum number of lobbies: `replicas`, limited by `max_replicas`."""
        return min(self.replicas, self.max_replicas)

    @property
    def spare(self) -> int:
        """Seats to keep free.

        With placement Latest these are seats of the newest lobbies. Keeping more than half a lobby free there would open
        the next lobby before this one is half full, and leave nearly empty ones behind; so half a lobby is the maximum.
        """
        return self.spare_seats if self.placement is Placement.PACKED else min(self.spare_seats, self.seats // 2)
