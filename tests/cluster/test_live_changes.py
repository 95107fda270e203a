"""A running lobby applies new seats, queues and limits: no pod is created, and no client is closed."""

from __future__ import annotations

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually


def test_seats_change_while_clients_are_connected(installed: Release, cluster: Cluster, origin: str) -> None:
    with (
        cluster.lobby(lobby("live", origin, clients_seats=20, spareSeats=2)) as name,
        Crowd(installed.url("/live")) as crowd,
    ):
        cluster.until_condition(name, "Ready", "True")
        cluster.until_ready(name, 1)
        crowd.connect(10)
        before = [pod["metadata"]["uid"] for pod in cluster.ready_pods(name)]
        crowd.mark()
        cluster.merge(name, clients={"seats": 40, "queue": {"messages": 8}})
        eventually(lambda: cluster.status(name)["seats"] == 40, deadline=90, what=lambda: cluster.describe(name))
        crowd.connect(25)
        assert len(cluster.ready_pods(name)) == 1
        # Fewer seats than clients: the clients stay, and no new one is admitted there.
        cluster.merge(name, clients={"seats": 30})
        eventually(
            lambda: {report["seats"] for report in cluster.reports(name).values()} == {30},
            deadline=90,
            what=lambda: f"{cluster.reports(name)}",
        )
        crowd.each_gets(4)
        seen = crowd.seen()
        assert (seen.open, seen.missing, seen.duplicates) == (10, 0, 0), seen
        assert [pod["metadata"]["uid"] for pod in cluster.ready_pods(name)][:1] == before
    FIGURES.note("seats 20 -> 40 -> 30 in a running lobby: none closed, nothing missing")
