"""What the loss of a node does to lobbies and clients, however it is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.cluster.failures.conftest import CLIENTS, LOBBIES, SEATS, Load
from tests.cluster.support.cluster import GREETER_PODS, name_of
from tests.cluster.support.waiting import eventually


def lose_a_node(load: Load, what: str, lost: Callable[[str], AbstractContextManager[None]]) -> None:
    """Its lobbies are replaced elsewhere, and clients of the other greeter stay.

    Args:
        load: of the cluster.
        what: what happens to the node, for the table of figures.
        lost: a block in which the node is lost.
    """
    cluster, node = load.cluster, load.cluster.other_node()
    there = {name_of(pod) for pod in load.pods() if pod["spec"]["nodeName"] == node}
    greeters = [name_of(pod) for pod in cluster.labeled(GREETER_PODS) if pod["spec"]["nodeName"] == node]
    eventually(lambda: sum(cluster.clients_of_greeters().values()) == CLIENTS, what="greeters have the clients alone")
    gone = sum(cluster.clients_of_greeters()[name] for name in greeters)
    with (
        load.disruption(
            f"{what} ({len(there)} lobbies, {len(greeters)} greeters)",
            # The scheduler considers the node healthy for 20 s: pods that it places there have to be replaced. Lobbies for the
            # clients of its greeter are deleted if these are not back after 30 s, and created again when they return.
            made=lambda count: count <= 2 * len(there) + 1 + -(-gone // SEATS),
            lost=gone,
            refused=bool(greeters),
        ),
        lost(node),
    ):
        eventually(lambda: not cluster.nodes()[node], deadline=60, what=f"{node} is not Ready")
        eventually(
            lambda: len([pod for pod in cluster.ready_pods(load.name) if pod["spec"]["nodeName"] != node]) >= LOBBIES,
            deadline=120,
            what=lambda: f"the lobbies of {node} are made elsewhere; {cluster.describe(load.name)}",
        )
        # Not earlier: some clients would hear from their old greeter again, and it would be unknown which had lost it.
        eventually(
            lambda: sum(load.crowd.seen().closed.values()) >= gone,
            deadline=120,
            what=lambda: f"the {gone} clients of {greeters} give up; {load.crowd.seen()}",
        )
