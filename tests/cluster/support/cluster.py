"""The cluster as the tests see it: Lobbies and their pods, nodes, and diagnoses of them after a failure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.cluster.support.api import LOBBIES, Api, ApiError
from tests.cluster.support.commands import CommandFailedError, apply, kubectl
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.waiting import eventually
from tests.support.web import Metrics

NAME = "app.kubernetes.io/name=lobby-gateway"
LOBBY_PODS = f"{NAME},app.kubernetes.io/component=lobby"
GREETER_PODS = f"{NAME},app.kubernetes.io/component=greeter"
OPERATOR_PODS = f"{NAME},app.kubernetes.io/component=operator"
OF_LOBBY = "lobby-gateway.io/lobby"

Pod = dict[str, Any]


def name_of(pod: Pod) -> str:
    """Name of a pod."""
    return str(pod["metadata"]["name"])


def is_ready(pod: Pod) -> bool:
    """Whether a pod is Ready and not terminating."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def condition(lobby: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A condition of a Lobby; empty if it is not set yet."""
    found = [each for each in lobby.get("status", {}).get("conditions", []) if each["type"] == kind]
    return found[0] if found else {}


class Cluster:
    """A namespace of the cluster.

    Attributes:
        api: the API server.
        namespace: where the tests work.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def apply(self, *resources: dict[str, Any]) -> str:
        """`kubectl apply`."""
        return apply(*resources, namespace=self.namespace)

    def delete(self, kind: str, *names: str, deadline: float = 90.0) -> None:
        """`kubectl delete`; waits until the objects are gone."""
        kubectl("delete", kind, *names, "-n", self.namespace, "--ignore-not-found", "--wait=true", deadline=deadline)

    @contextlib.contextmanager
    def lobby(self, resource: dict[str, Any], *, deadline: float = 90.0) -> Iterator[str]:
        """A Lobby that exists during the block; afterwards neither it nor a pod of it remains. Yields its name."""
        name = str(resource["metadata"]["name"])
        self.apply(resource)
        try:
            yield name
        finally:
            self.delete("lobby", name)
            eventually(
                lambda: not self.pods(name),
                deadline=deadline,
                what=lambda: f"no pod of the deleted Lobby {name} is left; {self.describe(name)}",
            )

    def get(self, name: str) -> dict[str, Any]:
        """A Lobby."""
        return self.api.lobby(name, self.namespace)

    def status(self, name: str) -> dict[str, Any]:
        """Status of a Lobby; empty while it has none."""
        status: dict[str, Any] = self.get(name).get("status") or {}
        return status

    def merge(self, name: str, **spec: Any) -> None:
        """Changes fields of the spec of a Lobby."""
        self.api.merge(f"{LOBBIES.format(namespace=self.namespace)}/{name}", {"spec": spec})

    def pods(self, lobby: str) -> list[Pod]:
        """Pods of a Lobby, including terminating ones."""
        return self.api.list("pods", self.namespace, labels=f"{OF_LOBBY}={lobby}")

    def ready_pods(self, lobby: str) -> list[Pod]:
        """Pods of a Lobby that are Ready and not terminating."""
        return [pod for pod in self.pods(lobby) if is_ready(pod)]

    def labeled(self, labels: str) -> list[Pod]:
        """Pods with these labels."""
        return self.api.list("pods", self.namespace, labels=labels)

    def reports(self, lobby: str) -> dict[str, dict[str, Any]]:
        """`/seats` of each Ready lobby."""
        return {name_of(pod): self.api.seats(self.namespace, name_of(pod)) for pod in self.ready_pods(lobby)}

    def metrics(self, pod: str) -> Metrics:
        """`/metrics` of a pod."""
        return self.api.metrics(self.namespace, pod)

    def clients_of_greeters(self, lobby: str = "") -> dict[str, int]:
        """Number of clients of each Ready greeter; of one Lobby, or of all."""
        labels = {"lobby": f"{self.namespace}/{lobby}"} if lobby else {}
        greeters = [name_of(pod) for pod in self.labeled(GREETER_PODS) if is_ready(pod)]
        return {name: int(self.metrics(name)("greeter_clients", **labels)) for name in greeters}

    def until_ready(self, lobby: str, count: int, *, deadline: float = 60.0) -> None:
        """Waits until exactly this many lobbies run, and all are Ready."""
        eventually(
            lambda: len(self.ready_pods(lobby)) == count == len(self.pods(lobby)),
            deadline=deadline,
            what=lambda: f"{count} lobbies of {lobby}; {self.describe(lobby)}",
        )

    def until_condition(self, lobby: str, kind: str, status: str, *, deadline: float = 60.0) -> dict[str, Any]:
        """Waits until a condition of a Lobby has this status; returns the condition."""

        def look() -> dict[str, Any]:
            found = condition(self.get(lobby), kind)
            return found if found.get("status") == status else {}

        return eventually(
            look, deadline=deadline, what=lambda: f"{kind} of {lobby} is {status}; {self.describe(lobby)}"
        )

    def describe(self, lobby: str) -> str:
        """A Lobby's status and pods in a few lines, for failures."""
        try:
            status = json.dumps(self.status(lobby))
        except ApiError as error:
            status = str(error)
        try:
            pods = ", ".join(
                f"{name_of(pod)} {pod['status'].get('phase')}{'' if is_ready(pod) else ' not ready'} on "
                f"{pod['spec'].get('nodeName')}"
                for pod in self.pods(lobby)
            )
        except ApiError as error:
            pods = str(error)
        return f"status {status[:1500]}; pods: {pods or 'none'}"

    def diagnosis(self) -> str:
        """Events, pods and the ends of logs of the namespace, for failures."""
        parts = []
        for command in (
            ("get", "lobbies,pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "-l", OPERATOR_PODS, "--tail=60", "--prefix"),
            ("logs", "-l", GREETER_PODS, "--tail=30", "--prefix"),
            ("logs", "-l", LOBBY_PODS, "--tail=10", "--prefix", "--max-log-requests=50"),
        ):
            try:
                text = kubectl(*command, "-n", self.namespace)
            except CommandFailedError as error:
                text = str(error)
            parts.append(f"$ kubectl {' '.join(command)}\n" + "\n".join(line[:400] for line in text.splitlines()[-80:]))
        return "\n".join(parts)

    def nodes(self) -> dict[str, bool]:
        """Whether each real node is Ready, by name."""
        items = self.api.get("/api/v1/nodes")["items"]
        return {
            name_of(node): any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
            for node in items
            if node["metadata"]["labels"].get("type") != "fake"
            and "node-role.kubernetes.io/control-plane" not in node["metadata"]["labels"]
        }

    def node_address(self, node: str) -> str:
        """Address of a node inside the cluster's network."""
        addresses = self.api.get(f"/api/v1/nodes/{node}")["status"]["addresses"]
        return next(str(each["address"]) for each in addresses if each["type"] == "InternalIP")

    def kept_node(self) -> str:
        """The node to which clients connect: never disturbed."""
        return ENVIRONMENT.kept_node or min(self.nodes())

    def other_node(self) -> str:
        """The node that tests disturb."""
        return next(name for name in sorted(self.nodes()) if name != self.kept_node())
