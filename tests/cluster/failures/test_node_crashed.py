"""A node loses its power, and comes back after a minute."""

from __future__ import annotations

from tests.cluster.failures.conftest import Load, needs_faults
from tests.cluster.support.cluster import GREETER_PODS, name_of
from tests.cluster.support.faults import node_crashed
from tests.cluster.support.waiting import eventually


@needs_faults
def test_lobbies_are_made_elsewhere_and_clients_of_the_other_greeter_stay(load: Load) -> None:
    cluster, node = load.cluster, load.cluster.other_node()
    there = {name_of(pod) for pod in load.pods() if pod["spec"]["nodeName"] == node}
    greeters = [name_of(pod) for pod in cluster.labelled(GREETER_PODS) if pod["spec"]["nodeName"] == node]
    lost = sum(cluster.clients_of_greeters()[name] for name in greeters)
    with (
        load.ordeal(
            f"node crashed ({len(there)} lobbies, {len(greeters)} greeters)",
            # The scheduler takes the node for a good one for 20 s: what it puts there has to be made again.
            made=lambda count: count <= 2 * len(there) + 1,
            lost=lost,
            refused=bool(greeters),
        ),
        node_crashed(node),
    ):
        eventually(lambda: not cluster.nodes()[node], deadline=60, what=f"{node} is not Ready")
        eventually(
            lambda: len([pod for pod in cluster.ready_pods(load.name) if pod["spec"]["nodeName"] != node]) >= 5,
            deadline=120,
            what=lambda: f"the lobbies of {node} are made elsewhere; {cluster.describe(load.name)}",
        )
