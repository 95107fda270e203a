"""Many lobbies with few clients each drain into others, and empty ones are deleted. No client is closed."""

from __future__ import annotations

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby

SEATS = 10
CLIENTS = 60
STAY = 12


def test_they_drain_into_others(installed: Release, cluster: Cluster, origin: str) -> None:
    resource = lobby(
        "runaway",
        origin,
        clients_seats=SEATS,
        spareSeats=1,
        emptySeconds=2,
        compaction={"enabled": True, "stabilizationSeconds": 2},
    )
    with cluster.lobby(resource) as name, Crowd(installed.url("/runaway")) as crowd:
        cluster.until_condition(name, "Ready", "True")
        crowd.connect(CLIENTS, concurrency=8)
        cluster.until_ready(name, 7)
        # Every fifth client stays: two in each lobby, so that no lobby is empty and only two are needed.
        crowd.thin(lambda number: number % (CLIENTS // STAY) == 0)
        crowd.mark()
        cluster.until_ready(name, 2, deadline=120)
        crowd.each_gets(4)
        seen = crowd.seen()
    assert (seen.clients, seen.open) == (STAY, STAY), seen
    assert seen.duplicates == 0, seen
    FIGURES.note(
        f"compaction of 7 lobbies into 2: {STAY} clients, none closed, {seen.missing} messages missing, "
        f"longest silence {seen.longest_silence:.1f} s"
    )
