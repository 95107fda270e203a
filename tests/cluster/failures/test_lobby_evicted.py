"""A lobby's pod is evicted through the API, as by a node drain or the cluster autoscaler."""

from __future__ import annotations

from tests.cluster.failures.conftest import Load
from tests.cluster.support.api import ApiError
from tests.cluster.support.waiting import eventually


def test_clients_go_on_in_other_lobbies(load: Load) -> None:
    namespace, victim = load.cluster.namespace, load.fullest()
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": victim, "namespace": namespace},
    }

    def evict() -> bool:
        try:
            load.cluster.api.request("POST", f"/api/v1/namespaces/{namespace}/pods/{victim}/eviction", eviction)
        except ApiError as error:
            if error.status != 429:  # its PodDisruptionBudget does not permit it now
                raise AssertionError(victim) from error
            return False
        return True

    with load.disruption("lobby evicted", made=lambda count: 1 <= count <= 2):
        eventually(evict, deadline=60, what=f"eviction of {victim} is allowed", every=1)
