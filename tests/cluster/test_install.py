"""After `helm install` and `kubectl apply`: 1,100 clients through the greeters' Service."""

from __future__ import annotations

import pytest
from tests.cluster.support.cluster import GREETER_PODS, OPERATOR_PODS, Cluster, name_of
from tests.cluster.support.commands import CommandFailedError, kubectl
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually
from tests.support.up import summary

CLIENTS = 1100


def test_1100_clients_share_three_lobbies_and_none_is_refused(
    installed: Release, cluster: Cluster, origin: str
) -> None:
    with cluster.lobby(lobby("prices", origin)) as name, Crowd(installed.url("/prices")) as crowd:
        cluster.until_condition(name, "Ready", "True")
        crowd.connect(CLIENTS)  # fails if a client is refused
        eventually(
            lambda: sum(report["clients"] for report in cluster.reports(name).values()) == CLIENTS,
            what=lambda: f"{CLIENTS} seats are taken; {summary(cluster.reports(name))}",
        )
        cluster.until_ready(name, 3)
        reports = cluster.reports(name)
        assert sorted(report["clients"] for report in reports.values()) == [76, 512, 512], summary(reports)
        assert all(report["origin"]["connections"] == 1 for report in reports.values()), summary(reports)

        crowd.each_gets(8)
        seen = crowd.look(lambda: (len(crowd.swarm.open), crowd.swarm.gaps, crowd.swarm.disorder))
        assert seen == (CLIENTS, 0, 0), crowd.summary()


def test_kopf_is_in_the_operators_image_and_no_other(cluster: Cluster, origin: str) -> None:
    def imports_kopf(pod: str) -> None:
        kubectl("exec", pod, "-n", cluster.namespace, "--", "python", "-c", "import kopf")

    imports_kopf(name_of(cluster.labeled(OPERATOR_PODS)[0]))
    with cluster.lobby(lobby("without", origin, replicas=1)) as name:
        cluster.until_ready(name, 1)
        for pod in (cluster.labeled(GREETER_PODS)[0], cluster.pods(name)[0]):
            with pytest.raises(CommandFailedError, match="No module named 'kopf'"):
                imports_kopf(name_of(pod))
