"""Without clients no lobby runs. The first clients wait for one, and none is refused."""

from __future__ import annotations

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby


def test_scale_to_zero_and_back(installed: Release, cluster: Cluster, origin: str) -> None:
    resource = lobby("zero", origin, replicas=0, spareSeats=0, emptySeconds=2, waitSeconds=30)
    with cluster.lobby(resource) as name, Crowd(installed.url("/zero")) as crowd:
        ready = cluster.until_condition(name, "Ready", "True")
        assert ready["reason"] == "ScaledToZero"
        assert cluster.pods(name) == []
        for _ in range(2):
            crowd.connect(20)
            wait = crowd.look(lambda: max(client.handshake_seconds for client in crowd.swarm.clients))
            FIGURES.note(f"scaled to zero: 20 clients at once waited {wait:.1f} s for the first lobby, none refused")
            crowd.each_gets(2)
            cluster.until_ready(name, 1)
            crowd.leave(20)
            cluster.until_ready(name, 0)
