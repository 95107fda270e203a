"""A pod and a Lobby are deleted while the operators' watches are cut, and then nobody can tell them any more.

Etcd is compacted and the API server restarted, so a watch can't be resumed: it is begun anew, which tells what there is, and
not what there was.
"""

from __future__ import annotations

import pytest
from tests.cluster.failures.conftest import Load
from tests.cluster.support.api import LOBBIES
from tests.cluster.support.cluster import LOBBY_PODS, OPERATOR_PODS, Cluster, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.faults import api_refused, api_server_stopped, compact_etcd, needs_faults
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

DELETED, SHRUNK = "deleted-unseen", "shrunk-unseen"


def known(cluster: Cluster, operator: str) -> tuple[int, int]:
    """Number of Lobbies and pods that an operator knows."""
    metrics = cluster.metrics(operator)
    lobbies, pods = (metrics("lobby_operator_known_objects", resource=each) for each in ("lobbies", "pods"))
    return int(lobbies), int(pods)


def there(cluster: Cluster) -> tuple[int, int]:
    """Number of Lobbies and pods that exist."""
    return len(cluster.api.get(LOBBIES.format(namespace=cluster.namespace))["items"]), len(cluster.labeled(LOBBY_PODS))


@pytest.mark.slow  # tests/integration/test_api_server_faults.py has this and more against a simulated API server
@needs_faults
@pytest.mark.timeout(300)
def test_both_operators_end_exact_and_no_client_is_closed(load: Load, origin: str) -> None:
    cluster = load.cluster
    operators = [name_of(pod) for pod in cluster.labeled(OPERATOR_PODS)]
    with cluster.lobby(lobby(SHRUNK, origin, path="/shrunk")):
        cluster.apply(lobby(DELETED, origin, path="/deleted"))
        for name in (SHRUNK, DELETED):
            cluster.until_ready(name, 1)
        with load.disruption("deletions unseen, etcd compacted, API server restarted", made=lambda count: count == 0):
            with api_refused(operators):
                kubectl(
                    "delete", "pod", *map(name_of, cluster.pods(SHRUNK)), "-n", cluster.namespace, "--grace-period=0"
                )
                cluster.delete("lobby", DELETED)
                eventually(lambda: not cluster.pods(DELETED), what="its pods are deleted, too")
                compact_etcd()
                with api_server_stopped():
                    load.crowd.each_gets(4)
            cluster.until_ready(SHRUNK, 1, deadline=150)  # kubelets come back to a restarted API server one by one
            eventually(
                lambda: {known(cluster, each) for each in operators} == {there(cluster)},
                deadline=60,
                what=lambda: f"the operators know {[known(cluster, each) for each in operators]} of {there(cluster)}",
            )
        dropped = sorted(cluster.metrics(each)("lobby_operator_ghosts_dropped_total") for each in operators)
        FIGURES.note(f"deleted unseen: {dropped} dropped by the operators; one that lost the Lease has started anew")
