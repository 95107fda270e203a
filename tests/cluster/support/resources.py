"""Resources that the tests apply: Lobbies and origins."""

from __future__ import annotations

from typing import Any

from tests.support.up import lobby_resource

ORIGIN_PORT = 9000
# What the Pod Security Standard "restricted" requires of every pod.
POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# Small requests: five lobbies, and more while a node is down, have to fit on one node of a small machine.
SMALL = {"resources": {"requests": {"cpu": "20m", "memory": "48Mi"}}}


def lobby(name: str, origin: str, **spec: Any) -> dict[str, Any]:
    """A Lobby with short times: empty lobbies are deleted after some seconds. Keywords as for `lobby_resource`."""
    return lobby_resource(name, origin, **{"template": SMALL, "emptySeconds": 5, **spec})


def service(name: str) -> dict[str, Any]:
    """The Service of an origin's pod."""
    spec = {"selector": {"app": name}, "ports": [{"port": ORIGIN_PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def origin_url(name: str, namespace: str) -> str:
    """Address of an origin inside the cluster."""
    return f"ws://{name}.{namespace}.svc:{ORIGIN_PORT}/"


def origin_pod(
    name: str, image: str, node: str, command: list[str], *, files: str = "", **container: Any
) -> dict[str, Any]:
    """A pod that is an origin, on a given node: if it failed together with a node, it would hide what the lobbies do.

    Args:
        name: of pod and Service.
        image: its image.
        node: its node.
        command: its command.
        files: ConfigMap to mount at /files.
        container: further fields of the container.
    """
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "securityContext": {**POD_SECURITY, "runAsUser": 65532},
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "origin",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "securityContext": SECURITY,
                    "readinessProbe": {"tcpSocket": {"port": ORIGIN_PORT}, "periodSeconds": 1},
                    "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
                    **container,
                }
            ],
        },
    }
    if files:
        pod["spec"]["volumes"] = [{"name": "files", "configMap": {"name": files}}]
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "files", "mountPath": "/files"}]
    return pod


def ticker(name: str, image: str, node: str, *, rate: float) -> list[dict[str, Any]]:
    """An origin that sends numbered messages, the same to every connection."""
    options = ["--host", "0.0.0.0", "--port", str(ORIGIN_PORT), "--rate", str(rate)]
    command = ["python", "-m", "lobby_gateway.commands.origin", *options]
    return [origin_pod(name, image, node, command), service(name)]
