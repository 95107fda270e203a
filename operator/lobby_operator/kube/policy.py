"""What a Lobby may ask of the cluster: the limits that its administrator sets, in addition to those of the CRD. Pure.

The CRD says what a Lobby can express, and is the same in every cluster. Who may create Lobbies in a namespace need not be
allowed to create pods there, so whatever a template could do to other pods of the cluster is refused unless it is listed in
`PolicySettings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from lobby_operator.settings import PolicySettings


def violations(spec: Mapping[str, Any], policy: PolicySettings) -> list[str]:
    """What a spec asks for and may not have: one line each, with the field, the value and what is accepted.

    Args:
        spec: the spec of a Lobby, valid and with defaults.
        policy: the limits.
    """
    template = spec.get("template", {})
    found: list[str] = []
    if spec["maxReplicas"] > policy.max_replicas:
        found.append(
            f"spec.maxReplicas: {spec['maxReplicas']} is too large; accepted here: at most {policy.max_replicas}"
        )
    if spec.get("replicas", 0) > policy.max_lobbies:
        found.append(
            f"spec.replicas: {spec['replicas']} is too large; accepted here: at most {policy.max_lobbies}, the lobbies that a "
            "namespace may have"
        )
    for name, given, allowed in (
        ("labels", template.get("labels", {}), policy.labels),
        ("annotations", template.get("annotations", {}), policy.annotations),
        ("env", [each["name"] for each in template.get("env", ())], policy.env),
        ("nodeSelector", template.get("nodeSelector", {}), policy.node_labels),
        ("tolerations", [each.get("key", "") for each in template.get("tolerations", ())], policy.tolerations),
        ("priorityClassName", [name for name in [template.get("priorityClassName")] if name], policy.priority_classes),
    ):
        found += _not_allowed(f"spec.template.{name}", given, allowed)
    found += _affinity(template.get("affinity", {}), policy)
    found += _resources(template.get("resources", {}), policy.max_resources)
    return found


def _not_allowed(
    field: str, given: Iterator[str] | Sequence[str] | Mapping[str, Any], allowed: Sequence[str]
) -> list[str]:
    accepted = ", ".join(allowed) or "nothing"
    return [
        f"{field}: {each or 'every key'} is not allowed; accepted here: {accepted}"
        for each in dict.fromkeys(given)
        if not any(_matches(each, pattern) for pattern in allowed)
    ]


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _affinity(affinity: Mapping[str, Any], policy: PolicySettings) -> list[str]:
    """Affinity to nodes is a selection of nodes. That to pods can keep others' pods away from a node, or from all."""
    field = "spec.template.affinity"
    found = [] if policy.pod_affinity else [
        f"{field}.{kind}: is not allowed; accepted here: nodeAffinity, and topologySpreadConstraints of the template"
        for kind in ("podAffinity", "podAntiAffinity")
        if affinity.get(kind)
    ]  # fmt: skip
    keys = [*_selected_labels(affinity.get("nodeAffinity"))]
    return [*found, *_not_allowed(f"{field}.nodeAffinity", keys, policy.node_labels)]


def _selected_labels(value: object) -> Iterator[str]:
    """The node labels that an affinity depends on, however it is nested; fields of nodes, such as the name, are among them."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            if name in ("matchExpressions", "matchFields") and isinstance(below, list):
                yield from (str(each.get("key", "")) for each in below if isinstance(each, Mapping))
            else:
                yield from _selected_labels(below)
    elif isinstance(value, list):
        for each in value:
            yield from _selected_labels(each)


def _resources(resources: Mapping[str, Mapping[str, Any]], most: Mapping[str, str]) -> list[str]:
    found = []
    for kind in ("requests", "limits"):
        for name, given in resources.get(kind, {}).items():
            if name not in most:
                continue
            field = f"spec.template.resources.{kind}.{name}"
            if _quantity(given) > _quantity(most[name]):
                found.append(f"{field}: {given} is too large; accepted here: at most {most[name]}")
            elif (
                kind == "limits" and name != "cpu" and not _quantity(given)
            ):  # without it a lobby takes what the node has
                found.append(f"{field}: {given} removes the limit; accepted here: more than 0, at most {most[name]}")
    return found


def quantity(value: str | int) -> Decimal:
    """The number that a quantity such as `500m` or `128Mi` stands for.

    Raises:
        ValueError: it is not a quantity.
    """
    return Decimal(parse_quantity(value))  # type: ignore[no-untyped-call]


def _quantity(value: str | int) -> Decimal:
    try:
        return quantity(value)
    except ValueError:  # the CRD checked its form, so its exponent is beyond any machine's
        return Decimal("Infinity")
