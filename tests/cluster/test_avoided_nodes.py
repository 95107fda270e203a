"""A lobby's pod avoids a node, as after the loss of a node that Kubernetes still considers healthy."""

from __future__ import annotations

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import apply, kubectl
from tests.cluster.support.release import namespace
from tests.cluster.support.resources import SMALL
from tests.cluster.support.waiting import eventually
from tests.support.up import lobby_resource

from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_operator.kube.pods import pod_manifest
from lobby_operator.settings import PodSettings

AWAY = "lobby-gateway-away"
SETTINGS = PodSettings(
    image="no-such-image", token_secret="none"
)  # it need not run: the node shows when it is scheduled


def test_the_pod_is_scheduled_on_another_node(cluster: Cluster) -> None:
    resource = validate_and_default(lobby_resource("away", "ws://origin:9000/", template=SMALL), "test")
    resource["metadata"] |= {"namespace": AWAY, "uid": "0c2f1f5e-7d0e-4a37-8f2c-3c5c1b9f6b1e"}
    lobby = lobby_from_resource(resource)
    nodes = sorted(cluster.nodes())
    with namespace(AWAY):
        # Two for each node: the second one violates the spread.
        for node in nodes:
            for index in range(2):
                pod = pod_manifest(lobby, f"not-on-{node}-{index}", SETTINGS, config="0", avoid=[node])
                del pod["metadata"]["ownerReferences"]  # it would be garbage collected: there is no such Lobby
                apply(pod, namespace=AWAY)
        placed = "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{'\\n'}{end}"

        def where() -> list[list[str]]:
            return [line.split() for line in kubectl("get", "pods", "-n", AWAY, "-o", placed).splitlines()]

        eventually(lambda: len([pod for pod in where() if len(pod) == 2]) == 2 * len(nodes), what="all are placed")
        assert not [name for name, node in where() if name.startswith(f"not-on-{node}-")]
