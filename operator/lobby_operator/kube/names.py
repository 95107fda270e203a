"""Kinds, names, labels and annotations of the objects that the operator reads and writes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lobby_gateway.resource.spec import Lobby

Object = dict[str, Any]
"""An object of the API, as JSON."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object.

    Attributes:
        group: API group; empty: the core group.
        version: version of the group.
        plural: as in URLs and RBAC rules.
        kind: as in manifests.
    """

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As in manifests: `policy/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the objects in one namespace or in all, of one object, or of its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        parts += ["namespaces", namespace] if namespace else []
        return "/".join([*parts, self.plural, *([name] if name else []), *([subresource] if subresource else [])])


LOBBIES = Resource("lobby-gateway.io", "v1alpha1", "lobbies", "Lobby")
PODS = Resource("", "v1", "pods", "Pod")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
SECRETS = Resource("", "v1", "secrets", "Secret")
WEBHOOKS = Resource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"
)

GROUP = LOBBIES.group

APP = "lobby-gateway"
MANAGER = "lobby-operator"

NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
LOBBY_LABEL = f"{GROUP}/lobby"
REVISION_LABEL = f"{GROUP}/revision"

LOBBY_COMPONENT = "lobby"

DRAINING_ANNOTATION = f"{GROUP}/draining"
"""When a lobby was asked to drain, in RFC 3339. Survives a restart of the operator."""

CONFIG_ANNOTATION = f"{GROUP}/config"
"""Digest of the live configuration. A change makes the kubelet update the pod's volumes at once."""

TEMPLATE_ANNOTATION = f"{GROUP}/template"
"""`spec.template`, which lobbies have no use for: with it, a Lobby's ConfigMap has its whole last valid spec."""

SAFE_TO_EVICT_ANNOTATION = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""`false` while a lobby has clients, so that the cluster autoscaler keeps its node."""

CLIENTS_PORT = 8000
ADMIN_PORT = 8001

CONFIG_DIRECTORY = "/etc/lobby/config"
CONFIG_KEY = "lobby.json"
TOKEN_DIRECTORY = "/etc/lobby/token"  # noqa: S105  # its path, not its content
TOKEN_KEY = "key"  # noqa: S105  # the key in the Secret, not its content
SECRETS_DIRECTORY = "/etc/lobby/secrets"


TOKEN_SECRET_LABELS = {NAME_LABEL: APP, COMPONENT_LABEL: "lobby-token-key"}
"""Labels by which the Secret with the key of a namespace is known as ours, whether the chart or the operator created it."""


def lobby_labels(lobby: str) -> dict[str, str]:
    """Labels of every object that belongs to a Lobby; together they select its pods."""
    return {NAME_LABEL: APP, COMPONENT_LABEL: LOBBY_COMPONENT, LOBBY_LABEL: lobby}


def selector(labels: dict[str, str]) -> str:
    """The label selector that matches objects with these labels."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def owned_name(lobby: str) -> str:
    """Name of the objects that a Lobby owns besides its pods: its ConfigMap and its PodDisruptionBudget."""
    return f"{lobby}-lobby"


def owned_metadata(lobby: Lobby, name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Metadata of an object that a Lobby owns and that is garbage collected with it.

    Args:
        lobby: the Lobby.
        name: name of the object.
        labels: further labels.
    """
    owner = {
        "apiVersion": LOBBIES.api_version,
        "kind": LOBBIES.kind,
        "name": lobby.name,
        "uid": lobby.uid,
        "controller": True,
        "blockOwnerDeletion": False,  # would need the right to change finalizers of Lobbies
    }
    return {
        "name": name,
        "namespace": lobby.namespace,
        "labels": {**(labels or {}), **lobby_labels(lobby.name), MANAGED_BY_LABEL: MANAGER},
        "ownerReferences": [owner],
    }
