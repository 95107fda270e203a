"""A change of template or origin replaces the lobbies one after the other; their clients stay connected."""

from __future__ import annotations

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import SMALL, lobby
from tests.cluster.support.waiting import eventually

LOBBIES = 4
SEATS = 10
CLIENTS = 35


def test_every_lobby_is_replaced_and_no_client_is_closed(installed: Release, cluster: Cluster, origin: str) -> None:
    most = 0
    resource = lobby(
        "rolling", origin, clients_seats=SEATS, spareSeats=2, emptySeconds=1, compaction={"enabled": False}
    )
    with cluster.lobby(resource) as name, Crowd(installed.url("/rolling")) as crowd:
        cluster.until_condition(name, "Ready", "True")
        crowd.connect(CLIENTS, concurrency=4)
        cluster.until_ready(name, LOBBIES)
        old = {pod["metadata"]["uid"] for pod in cluster.pods(name)}
        crowd.mark()

        def replaced() -> bool:
            nonlocal most
            pods = cluster.pods(name)
            most = max(most, len(pods))
            return not old & {pod["metadata"]["uid"] for pod in pods}

        with crowd.new_clients() as new_clients:
            cluster.merge(name, template={**SMALL, "env": [{"name": "LOBBY_LOG_LEVEL", "value": "debug"}]})
            eventually(replaced, deadline=180, what=lambda: f"all are replaced; {cluster.describe(name)}")
            cluster.until_condition(name, "Ready", "True")
        crowd.each_gets(4)
        seen = crowd.seen()
        assert (seen.clients, seen.open) == (CLIENTS, CLIENTS), seen
        assert seen.duplicates == 0, seen
        assert not new_clients.refused, new_clients
        for pod in cluster.ready_pods(name):
            assert {"name": "LOBBY_LOG_LEVEL", "value": "debug"} in pod["spec"]["containers"][0]["env"]
    FIGURES.note(
        f"template changed: {LOBBIES} lobbies replaced, at most {most} at a time; {CLIENTS} clients, none closed, "
        f"{seen.missing} messages missing, longest silence {seen.longest_silence:.1f} s"
    )
