"""A lobby that may not reach the origin takes the stream from another one, while NetworkPolicies are enforced."""

from __future__ import annotations

from typing import Any

from tests.cluster.conftest import TICKER
from tests.cluster.enforced.conftest import POLICIES_DEADLINE, reachable
from tests.cluster.support.api import ADMIN_PORT
from tests.cluster.support.cluster import GREETER_PODS, Cluster, name_of
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.faults import fault, needs_faults
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

pytestmark = needs_faults

CLIENTS = 12


def only_from(address: str) -> dict[str, Any]:
    """A policy of the origin that accepts connections from one pod only."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "origin-only-from"},
        "spec": {
            "podSelector": {"matchLabels": {"app": TICKER}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": f"{address}/32"}}]}],
        },
    }


def test_a_lobby_that_is_cut_off_from_its_origin_has_the_stream_of_its_peer(
    installed: Release, cluster: Cluster, origin: str
) -> None:
    fault("policies", deadline=POLICIES_DEADLINE)
    greeter = cluster.labeled(GREETER_PODS)[0]["status"]["podIP"]
    eventually(lambda: not reachable(greeter, ADMIN_PORT), deadline=60, what="policies are enforced", every=1)
    resource = lobby("cut", origin, replicas=1, spareSeats=0, origin_connect="Always", clients_seats=8)
    with cluster.lobby(resource) as name, Crowd(installed.url("/cut")) as crowd:
        cluster.until_condition(name, "OriginConnected", "True")
        cluster.until_ready(name, 1)
        first = cluster.ready_pods(name)[0]
        cluster.apply(only_from(first["status"]["podIP"]))
        try:
            cluster.merge(name, replicas=2)
            cluster.until_ready(name, 2)
            crowd.connect(CLIENTS)
            relayed = eventually(
                lambda: [each for each in cluster.status(name)["lobbies"] if each.get("via")],
                deadline=60,
                what=lambda: f"a lobby takes the stream of its peer; {cluster.describe(name)}",
            )
            assert [each["via"] for each in relayed] == [[name_of(first)]]
            crowd.each_gets(8)
            eventually(
                lambda: cluster.until_condition(name, "OriginConnected", "True")["reason"] == "Relayed",
                deadline=60,
                what=lambda: f"the condition says that the stream is relayed; {cluster.describe(name)}",
            )
            found = cluster.until_condition(name, "OriginConnected", "True")
            FIGURES.note(f"cut off from the origin by a policy: {found['message']}")
        finally:
            cluster.delete("networkpolicies", "origin-only-from")
        eventually(
            lambda: not any(each.get("via") for each in cluster.status(name)["lobbies"]),
            deadline=120,
            what=lambda: f"the stream comes from its own connection again; {cluster.describe(name)}",
        )
        crowd.each_gets(8)
        assert crowd.look(lambda: (crowd.swarm.gaps, crowd.swarm.disorder, crowd.swarm.closes)) == (0, 0, {})
