"""A node is drained, as for maintenance."""

from __future__ import annotations

from tests.cluster.failures.conftest import Load
from tests.cluster.support.cluster import GREETER_PODS, NAME, name_of
from tests.cluster.support.commands import kubectl


def test_lobbies_move_one_by_one_and_their_clients_with_them(load: Load) -> None:
    node = load.cluster.other_node()
    there = [pod for pod in load.pods() if pod["spec"]["nodeName"] == node]
    greeters = [name_of(pod) for pod in load.cluster.labeled(GREETER_PODS) if pod["spec"]["nodeName"] == node]
    lost = sum(load.cluster.clients_of_greeters()[name] for name in greeters)
    try:
        # Each of the node's lobbies is replaced elsewhere; one more may be needed while two are being replaced.
        with load.disruption(
            f"node drained ({len(there)} lobbies, {len(greeters)} greeters)",
            made=lambda count: len(there) <= count <= len(there) + 1,
            lost=lost,
            refused=bool(greeters),
        ):
            kubectl("drain", node, f"--pod-selector={NAME}", "--ignore-daemonsets", deadline=240)
    finally:
        kubectl("uncordon", node)
