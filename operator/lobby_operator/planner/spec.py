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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSettings:
    """Times (seconds) and limits of the planner that no Lobby sets.

    Attributes:
        silent_seconds: a lobby that does not answer for so long is given up. It takes no new clients from the first
            missed answer on, so this may be patient: a machine under load, a stopped and continued process.
        start_seconds: a lobby that has not answered so long after its creation is silent. Pulling an image takes time.
        settle_seconds: a lobby that answers again after a silence must do so for so long before it takes clients; twice
            as long with each silence that follows soon.
        max_settle_seconds: the most of that.
        flap_seconds: a silence within so long after the one before counts as following soon.
        steady_seconds: a lobby that ends sooner after its first answer has failed to start.
        min_backoff_seconds: after the second failed start in a row the next waits so long; twice as long with each more.
        max_backoff_seconds: the most of that.
        max_starting: most lobbies that start at a time; more would only slow each other down.
        move_share: a batch of drains moves at most this share of all clients (or one lobby full, if that is more), so that
            greeters are not asked to move everybody at once.
    """

    silent_seconds: float = 10.0
    start_seconds: float = 60.0
    settle_seconds: float = 2.0
    max_settle_seconds: float = 60.0
    flap_seconds: float = 120.0
    steady_seconds: float = 5.0
    min_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 60.0
    max_starting: int = 16
    move_share: float = 0.1
