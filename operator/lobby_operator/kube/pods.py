"""The pod of a lobby and the ConfigMap that it mounts, as manifests made from a Lobby. Pure; `pod_state.py` reads pods back.

What a change of a Lobby costs depends on which part changes. The **revision** is a digest of everything that needs a new pod:
the origin, the template, and the operator's settings. Everything else is **live**: it is in the ConfigMap, which running
lobbies watch.

Pods meet the Pod Security Standard "restricted".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lobby_gateway.origin.secrets import secret_references
from lobby_gateway.process.bind import ALL_ADDRESSES
from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.lobby_defaults import merged_template
from lobby_operator.kube.names import Object
from lobby_operator.kube.pod_state import LOBBY_CONTAINER, owner_of
from lobby_operator.settings import PodSettings

_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

_SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")

_LIVE = ("path", "clients", "routing", "drainSeconds")
"""Fields of the spec whose changes reach running lobbies. Others don't: with thousands of lobbies, each `kubectl scale` would
cause thousands of writes."""

_MAX_START_SECONDS = 3600
"""Largest `startSeconds`."""

_DIGITS = 10
"""Length of a digest: two revisions of one Lobby are equal by chance once in 10^12."""

_COMMAND = ("python", "-I", "-B", "-m", "lobby_gateway.lobby")
"""Isolated: variables of the template that begin with PYTHON have no effect. -B: the root file system is read-only."""

_CONFIG_METADATA = ("name", "namespace", "uid", "generation")


def revision(lobby: Lobby, settings: PodSettings) -> str:
    """The revision of pods that are created now. A lobby with another revision is replaced."""
    return _revision(lobby, _template(lobby, settings))


def live_digest(resource: Mapping[str, Any]) -> str:
    """Digest of the configuration that running lobbies watch.

    Args:
        resource: the Lobby as JSON, with defaults.
    """
    return _digest([resource["spec"].get(name) for name in _LIVE])


def config_map(lobby: Lobby, resource: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Object:
    """The ConfigMap with a Lobby's configuration as a file. It does not change with the status or labels of the Lobby.

    Args:
        lobby: the Lobby.
        resource: the same as JSON, validated and with defaults.
        labels: further labels of the ConfigMap.
    """
    document = {
        "apiVersion": resource.get("apiVersion"),
        "kind": resource.get("kind"),
        "metadata": {key: resource["metadata"][key] for key in _CONFIG_METADATA if key in resource["metadata"]},
        # A lobby need not know how its pod is created.
        "spec": {**resource["spec"], "template": {}},
    }
    template = json.dumps(resource["spec"].get("template", {}), sort_keys=True)
    return {
        "apiVersion": names.CONFIG_MAPS.api_version,
        "kind": names.CONFIG_MAPS.kind,
        "metadata": {
            **names.owned_metadata(lobby, names.owned_name(lobby.name), labels),
            "annotations": {names.TEMPLATE_ANNOTATION: template},
        },
        "data": {names.CONFIG_KEY: json.dumps(document, sort_keys=True, indent=1) + "\n"},
    }


def configured(stored: Mapping[str, Any], uid: str) -> Object | None:
    """The Lobby that a ConfigMap was made from, as JSON; None: it is not that of this Lobby, or it does not have all of it.

    Args:
        stored: the ConfigMap.
        uid: uid of the Lobby.
    """
    try:
        resource: Object = json.loads(stored["data"][names.CONFIG_KEY])
        resource["spec"]["template"] = json.loads(stored["metadata"]["annotations"][names.TEMPLATE_ANNOTATION])
        ours = owner_of(stored["metadata"]) == resource["metadata"]["uid"] == uid and resource["spec"]["path"]
    except (KeyError, TypeError, ValueError):  # of an earlier version, or somebody has edited it
        return None
    return resource if ours else None


def pod_manifest(lobby: Lobby, name: str, settings: PodSettings, *, config: str, avoid: Sequence[str] = ()) -> Object:
    """The pod of a lobby.

    Args:
        lobby: the Lobby.
        name: name of the lobby.
        settings: settings of all pods.
        config: digest of the live configuration.
        avoid: nodes on which the pod should not run if it can run elsewhere. Not part of the revision.
    """
    pod = _template(lobby, settings)
    digest = _revision(lobby, pod)
    metadata = pod["metadata"]
    metadata["name"] = name
    metadata["labels"][names.REVISION_LABEL] = digest
    metadata["annotations"] |= {names.CONFIG_ANNOTATION: config, names.SAFE_TO_EVICT_ANNOTATION: "true"}
    (container,) = pod["spec"]["containers"]
    container["args"] += ["--name", name]
    if avoid:
        nodes = avoid[: settings.max_avoided_nodes]
        pod["spec"]["affinity"] = _avoiding(pod["spec"].get("affinity", {}), nodes)
    return pod


def _template(lobby: Lobby, settings: PodSettings) -> Object:
    """The part that all pods created now for a Lobby have in common."""
    template = merged_template(settings.defaults, lobby.spec.template)
    metadata = names.owned_metadata(lobby, "", {**settings.labels, **template["labels"]})
    metadata["annotations"] = template["annotations"]
    volumes = _volumes(lobby, settings)
    spec: Object = {
        "containers": [_container(template, settings, [volume["name"] for volume in volumes])],
        "volumes": [*volumes, *template.get("volumes", ())],
        # A lobby that ended is replaced by another, perhaps elsewhere, whose name differs.
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": settings.lobby_stop_seconds + settings.grace_margin_seconds,
        # A lobby never calls the API, and finds Services by DNS only.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": _spread(lobby.name, template.get("topologySpreadConstraints")),
    }
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        if template.get(key):
            spec[key] = template[key]
    pull_secrets = [*settings.image_pull_secrets, *(each["name"] for each in template.get("imagePullSecrets", ()))]
    if pull_secrets:
        spec["imagePullSecrets"] = [{"name": each} for each in dict.fromkeys(pull_secrets)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(template: Object, settings: PodSettings, volumes: Sequence[str]) -> Object:
    directories = {
        "config": names.CONFIG_DIRECTORY,
        "token": names.TOKEN_DIRECTORY,
        "secrets": names.SECRETS_DIRECTORY,
    }
    container: Object = {
        "name": LOBBY_CONTAINER,
        "image": settings.image,
        "command": list(_COMMAND),
        "args": _arguments(settings, with_secrets="secrets" in volumes),
        "env": template["env"],
        "ports": [
            {"name": "clients", "containerPort": names.CLIENTS_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": names.ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(template["resources"], settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *({"name": name, "mountPath": directories[name], "readOnly": True} for name in volumes),
            *template.get("volumeMounts", ()),
        ],
        **_probes(),
    }
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    return container


def _arguments(settings: PodSettings, *, with_secrets: bool) -> list[str]:
    return [
        *("--file", f"{names.CONFIG_DIRECTORY}/{names.CONFIG_KEY}", "--validated", "--follow-file"),
        *("--token-key-file", f"{names.TOKEN_DIRECTORY}/{names.TOKEN_KEY}"),
        *(("--secrets-directory", names.SECRETS_DIRECTORY) if with_secrets else ()),
        *("--host", ALL_ADDRESSES, "--port", str(names.CLIENTS_PORT)),  # a pod has its own addresses
        *("--admin-host", ALL_ADDRESSES, "--admin-port", str(names.ADMIN_PORT)),
        *("--stop-seconds", str(settings.lobby_stop_seconds)),
        *(("--origin-deny-cidrs", ",".join(settings.origin_deny_cidrs)) if settings.origin_deny_cidrs else ()),
    ]


def _probes() -> Object:
    """The operator polls lobbies itself. Probes add the kubelet's view, and kill a lobby whose event loop hangs for 30 s.

    A lobby that does not start is replaced by the operator, after `startSeconds`; the startup probe only shows that it has.
    The first one waits until a lobby usually listens: each one that fails is a Warning in the Events of the pod.
    """
    healthz = {"httpGet": {"path": "/healthz", "port": "admin"}, "timeoutSeconds": 2}
    readyz = {"httpGet": {"path": "/readyz", "port": "admin"}, "timeoutSeconds": 2}
    return {
        "startupProbe": {
            **healthz,
            "initialDelaySeconds": 3,
            "periodSeconds": 1,
            "failureThreshold": _MAX_START_SECONDS,
        },
        "livenessProbe": {**healthz, "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**readyz, "periodSeconds": 5, "failureThreshold": 2},
    }


def _resources(template: Mapping[str, Mapping[str, Any]], settings: PodSettings) -> Object:
    limits = {**settings.limits, **template["limits"]}
    return {
        "requests": {**settings.requests, **template["requests"]},
        "limits": {name: quantity for name, quantity in limits.items() if str(quantity) != "0"},
    }


def _spread(lobby: str, constraints: Sequence[Object] | None) -> list[Object]:
    if constraints is None:
        constraints = [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway"} for key in _SPREAD_OVER
        ]
    # Without a selector Kubernetes counts no pods. Each revision is spread by itself: in a rollout, old lobbies, which are
    # about to go, do not count.
    counted = {"labelSelector": {"matchLabels": names.lobby_labels(lobby)}, "matchLabelKeys": [names.REVISION_LABEL]}
    return [each if "labelSelector" in each else {**counted, **each} for each in constraints]


def _avoiding(affinity: Mapping[str, Any], nodes: Sequence[str]) -> Object:
    """An affinity that also prefers all other nodes. It only prefers them, since the operator may be wrong about these."""
    elsewhere = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]
    node_affinity = affinity.get("nodeAffinity", {})
    preferred = [*node_affinity.get(_PREFERRED, ()), {"weight": 100, "preference": {"matchFields": elsewhere}}]
    return {**affinity, "nodeAffinity": {**node_affinity, _PREFERRED: preferred}}


def _volumes(lobby: Lobby, settings: PodSettings) -> list[Object]:
    """Directories, never single files (`subPath`), which the kubelet does not update.

    Any process in the pod can read the files, but only the lobby runs there. Stricter modes would need a group in the pod's
    spec, which some clusters assign themselves.
    """
    token = {"secretName": settings.token_secret, "items": [{"key": names.TOKEN_KEY, "path": names.TOKEN_KEY}]}
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": names.owned_name(lobby.name)}},
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


def _revision(lobby: Lobby, template: Mapping[str, Any]) -> str:
    """Includes the whole template, so that changes by a newer operator or its settings replace pods, too."""
    return _digest([asdict(lobby.spec.origin), template])


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
