"""The pod of a lobby, from a Lobby to a manifest. Satisfies the Pod Security standard "restricted".

Nothing here does I/O. What a pod becomes is read in `seen_pods.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lobby_gateway.origin.secrets import secret_references
from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.settings import PodSettings

Object = dict[str, Any]

STOP_SECONDS = 15
"""That a lobby which is to end serves its clients at most, while greeters look for seats elsewhere. Mostly they are gone at
once; where it was the only one, its successor has to start first (3 s on an idle node)."""

GRACE_SECONDS = STOP_SECONDS + 15
"""From SIGTERM to SIGKILL. Behind `STOP_SECONDS` it takes up to 10 s to close its origin connection in order; the rest is for
a busy node."""

_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

_MAX_AVOIDED = 32
"""Most nodes that a pod names, so that it stays small whatever happens."""

_SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def revision(lobby: Lobby, settings: PodSettings) -> str:
    """Of pods that are made now, see `revision.pod_revision`."""
    return pod_revision(lobby, pod_template(lobby, settings))


def pod_manifest(lobby: Lobby, name: str, settings: PodSettings, *, config: str, avoid: Sequence[str] = ()) -> Object:
    """The pod of a lobby.

    Args:
        lobby: the Lobby.
        name: of the lobby.
        settings: of all lobbies.
        config: digest of the live configuration.
        avoid: nodes where it is not to be put if it can be elsewhere. No part of the revision.
    """
    pod = pod_template(lobby, settings)
    digest = pod_revision(lobby, pod)
    metadata = pod["metadata"]
    metadata["name"] = name
    metadata["labels"][names.REVISION_LABEL] = digest
    metadata["annotations"] |= {names.CONFIG_ANNOTATION: config, names.SAFE_TO_EVICT_ANNOTATION: "true"}
    (container,) = pod["spec"]["containers"]
    container["args"] += ["--name", name]
    if avoid:
        pod["spec"]["affinity"] = _avoiding(pod["spec"].get("affinity", {}), avoid)
    return pod


def pod_template(lobby: Lobby, settings: PodSettings) -> Object:
    """What all pods of a Lobby that are made now have in common."""
    template = lobby.spec.template
    metadata = names.owned_metadata(lobby, "")
    metadata["labels"] = {**template.get("labels", {}), **metadata["labels"]}
    metadata["annotations"] = dict(template.get("annotations", {}))
    volumes = _volumes(lobby, settings)
    spec: Object = {
        "containers": [_container(lobby, settings, [volume["name"] for volume in volumes])],
        "volumes": volumes,
        # A lobby that ended is replaced by another, which may be elsewhere; its name tells its clients and greeters apart.
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        # It never calls the API, and needs no Service but by DNS.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": _spread(lobby),
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        if template.get(key):
            spec[key] = template[key]
    named = [*settings.image_pull_secrets, *(each["name"] for each in template.get("imagePullSecrets", ()))]
    if named:
        spec["imagePullSecrets"] = [{"name": each} for each in dict.fromkeys(named)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(lobby: Lobby, settings: PodSettings, volumes: Sequence[str]) -> Object:
    directories = {
        "config": names.CONFIG_DIRECTORY,
        "token": names.TOKEN_DIRECTORY,
        "secrets": names.SECRETS_DIRECTORY,
    }
    container: Object = {
        "name": "lobby",
        "image": settings.image,
        "command": ["python", "-m", "lobby_gateway.lobby"],
        "args": _arguments(with_secrets="secrets" in volumes),
        "env": [{"name": each["name"], "value": each["value"]} for each in lobby.spec.template.get("env", ())],
        "ports": [
            {"name": "clients", "containerPort": names.CLIENTS_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": names.ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(lobby.spec.template.get("resources", {}), settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": directories[name], "readOnly": True} for name in volumes],
        **_probes(),
    }
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    return container


def _arguments(*, with_secrets: bool) -> list[str]:
    return [
        *("--file", f"{names.CONFIG_DIRECTORY}/{names.CONFIG_KEY}", "--validated", "--follow-file"),
        *("--token-key-file", f"{names.TOKEN_DIRECTORY}/{names.TOKEN_KEY}"),
        *(("--secrets-directory", names.SECRETS_DIRECTORY) if with_secrets else ()),
        *("--host", "0.0.0.0", "--port", str(names.CLIENTS_PORT)),  # noqa: S104  # a pod has an address of its own
        *("--admin-host", "0.0.0.0", "--admin-port", str(names.ADMIN_PORT)),  # noqa: S104
        *("--stop-seconds", str(STOP_SECONDS)),
    ]


def _probes() -> Object:
    """The operator asks lobbies itself; these tell it what the kubelet finds, and end a lobby whose loop hangs for 30 s."""
    healthz = {"httpGet": {"path": "/healthz", "port": "admin"}, "timeoutSeconds": 2}
    readyz = {"httpGet": {"path": "/readyz", "port": "admin"}, "timeoutSeconds": 2}
    return {
        "startupProbe": {**healthz, "initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 60},
        "livenessProbe": {**healthz, "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**readyz, "periodSeconds": 5, "failureThreshold": 2},
    }


def _resources(wanted: Mapping[str, Mapping[str, Any]], settings: PodSettings) -> Object:
    limits = {**settings.limits, **wanted.get("limits", {})}
    return {
        "requests": {**settings.requests, **wanted.get("requests", {})},
        "limits": {name: quantity for name, quantity in limits.items() if str(quantity) != "0"},
    }


def _spread(lobby: Lobby) -> list[Object]:
    pods = {"matchLabels": names.lobby_labels(lobby.name)}
    given: list[Object] | None = lobby.spec.template.get("topologySpreadConstraints")
    if given is None:
        given = [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway"} for key in _SPREAD_OVER]
    return [{"labelSelector": pods, **each} for each in given]  # without a selector Kubernetes counts no pod at all


def _avoiding(affinity: Mapping[str, Any], nodes: Sequence[str]) -> Object:
    """An affinity that also prefers all other nodes: only prefers, since the operator may be wrong about these."""
    elsewhere = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes[:_MAX_AVOIDED]]
    of_nodes = affinity.get("nodeAffinity", {})
    preferred = [*of_nodes.get(_PREFERRED, ()), {"weight": 100, "preference": {"matchFields": elsewhere}}]
    return {**affinity, "nodeAffinity": {**of_nodes, _PREFERRED: preferred}}


def _volumes(lobby: Lobby, settings: PodSettings) -> list[Object]:
    """Directories, never single files (`subPath`): the kubelet keeps only those up to date.

    The files can be read by everybody in the pod, who is the lobby alone. With less, the pod would have to name a group, which
    some clusters assign themselves.
    """
    token = {"secretName": settings.token_secret, "items": [{"key": names.TOKEN_KEY, "path": names.TOKEN_KEY}]}
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": names.config_map_name(lobby.name)}},
        {"name": "token", "secret": token},
    ]
    sources: dict[str, dict[str, Object]] = {}
    for each in secret_references(lobby.spec.origin):
        sources.setdefault(each.name, {})[each.variable] = {"key": each.key, "path": each.variable}
    if sources:
        projected = [
            {"secret": {"name": name, "items": [items[variable] for variable in sorted(items)]}}
            for name, items in sorted(sources.items())
        ]
        volumes.append({"name": "secrets", "projected": {"sources": projected}})
    return volumes


_LIVE = ("path", "clients", "routing", "drainSeconds")
"""Fields of the spec that a running lobby takes on, and reads at all. Of the others it needs no news: with thousands of
lobbies, each `kubectl scale` would be thousands of writes."""

_DIGITS = 10
"""Of a digest: two of one Lobby's revisions are the same by chance once in 10^12."""


def pod_revision(lobby: Lobby, manifest: Mapping[str, Any]) -> str:
    """Digest of what a lobby's pod is made from; where it is another, the lobby is to be replaced.

    Args:
        lobby: the Lobby.
        manifest: of a pod without a name, a revision and a live configuration (`pods.pod_template`): what is added to it by a
            newer operator or by its settings is a reason for a new pod, too.
    """
    return _digest([asdict(lobby.spec.origin), manifest])


def live_digest(resource: Mapping[str, Any]) -> str:
    """Digest of the part of a Lobby (as JSON, defaulted) that running lobbies take on.

    Args:
        resource: the Lobby.
    """
    return _digest([resource["spec"].get(name) for name in _LIVE])


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
