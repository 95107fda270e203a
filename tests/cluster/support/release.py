"""The chart, installed once for all tests in its own namespace, which enforces the Pod Security Standard "restricted"."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

from tests.cluster.support.api import Api, ApiError
from tests.cluster.support.cluster import GREETER_PODS, OPERATOR_PODS, Cluster, is_ready
from tests.cluster.support.commands import helm, kubectl
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.images import Images
from tests.cluster.support.waiting import eventually

CHART = "charts/lobby-gateway"
RELEASE = "lobby-gateway"
NAMESPACE = "lobby-gateway-test"
GREETER_DEPLOYMENT = f"deployment/{RELEASE}-greeter"
OPERATOR_DEPLOYMENT = f"deployment/{RELEASE}-operator"
OPERATORS = 2
GREETERS = 2


def namespace_resource(name: str) -> dict[str, Any]:
    """A namespace that enforces the Pod Security Standard "restricted"."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    """A namespace that exists during the block."""
    kubectl("apply", "-f", "-", stdin=json.dumps(namespace_resource(name)))
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=true", deadline=180)


def values(images: Images, lobby: Images) -> dict[str, Any]:
    """Values of the release under test; `lobby` has the image of its lobbies."""
    return {
        "fullnameOverride": RELEASE,
        "operator": {"image": {"tag": images.tag}, "replicas": OPERATORS},
        "greeter": {
            "image": {"tag": images.tag},
            "replicas": GREETERS,
            "service": {"type": "NodePort", "nodePort": ENVIRONMENT.node_port},
        },
        "lobby": {"image": {"tag": lobby.tag}},
        # These tests see what the conditions say of Lobbies that are refused; tests/cluster/enforced has admission.
        "admission": {"enabled": False},
        "policy": {
            "maxReplicas": 3000,
            "maxLobbiesPerNamespace": 3000,
            "template": {"nodeLabels": ["type"], "tolerations": ["fake"]},  # of simulated nodes
        },
    }


class Release:
    """The installed chart.

    Attributes:
        cluster: its namespace.
        images: the images that it runs.
        address: host and port for clients.
    """

    def __init__(self, cluster: Cluster, images: Images) -> None:
        self.cluster = cluster
        self.images = images
        self.address = ENVIRONMENT.address

    def url(self, path: str) -> str:
        """`ws://` address of a path at the greeters."""
        return f"ws://{self.address}{path}"

    def install(self) -> None:
        """`helm upgrade --install`; waits until everything is ready."""
        self.upgrade(self.images)

    def upgrade(self, images: Images, *, lobby: Images | None = None) -> None:
        """`helm upgrade` to images, lobbies perhaps to another one; waits until operators and greeters are replaced."""
        arguments = [f"--set-json={key}={json.dumps(value)}" for key, value in values(images, lobby or images).items()]
        helm(
            *("upgrade", "--install", RELEASE, CHART, "--namespace", self.cluster.namespace),
            *("--wait", "--timeout=150s", *arguments),
        )
        self.images = images
        self.until_whole()

    def uninstall(self) -> None:
        """`helm uninstall`."""
        helm("uninstall", RELEASE, "--namespace", self.cluster.namespace, "--wait", "--timeout=120s")

    def answers(self) -> bool:
        """Whether a greeter answers at the clients' address."""
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except http.client.HTTPException as error:
            raise ConnectionError(f"no answer at {self.address}: {error!r}") from error
        finally:
            connection.close()

    def until_whole(self, *, deadline: float = 120.0) -> None:
        """Waits until all nodes, operators and greeters are Ready, and no more of them exist."""

        def look() -> bool:
            for labels, count in ((OPERATOR_PODS, OPERATORS), (GREETER_PODS, GREETERS)):
                pods = self.cluster.labeled(labels)
                if len(pods) != count or not all(map(is_ready, pods)):  # terminating ones count, too
                    return False
            return all(self.cluster.nodes().values()) and self.answers()

        eventually(look, deadline=deadline, what=lambda: f"the release is whole; {self.cluster.diagnosis()}")


@contextlib.contextmanager
def release(api: Api, images: Images) -> Iterator[Release]:
    """The chart installed in its namespace; afterwards both are removed."""
    cluster = Cluster(api, NAMESPACE)
    installed = Release(cluster, images)
    with namespace(NAMESPACE) if not ENVIRONMENT.keep else contextlib.nullcontext():
        if ENVIRONMENT.keep:
            kubectl("apply", "-f", "-", stdin=json.dumps(namespace_resource(NAMESPACE)))
        try:
            installed.install()
            yield installed
        except Exception as error:
            with contextlib.suppress(ApiError, OSError):
                error.add_note(cluster.diagnosis())
            raise
        finally:
            if not ENVIRONMENT.keep:
                kubectl("delete", "lobbies", "--all", "-n", NAMESPACE, "--wait=true", deadline=120)
                installed.uninstall()
