"""Calls that were made and rights that exist, both as (verb, API group, resource)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.cluster.support.api import Api

Right = tuple[str, str, str]
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def right_of(method: str, target: str) -> Right | None:
    """The right that a call needs; None for a call without a resource (versions, discovery)."""
    parts = urlsplit(target)
    path = parts.path.strip("/").split("/")
    group, rest = ("", path[2:]) if path[0] == "api" else (path[1] if len(path) > 1 else "", path[3:])
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    if not rest:
        return None
    resource = rest[0] if len(rest) < 3 else f"{rest[0]}/{rest[2]}"
    if method == "GET":
        query = parse_qs(parts.query)
        verb = "watch" if query.get("watch") in (["true"], ["1"]) else "get" if len(rest) > 1 else "list"
    else:
        verb = VERBS[method]
    return verb, group, resource


def calls(file: Path) -> dict[Right, set[int]]:
    """The calls that a saboteur recorded, with the status of each answer."""
    found: dict[Right, set[int]] = {}
    for line in file.read_text().splitlines():
        method, target, status = line.split()
        right = right_of(method, target)
        if right is not None:
            found.setdefault(right, set()).add(int(status))
    return found


def rights_of(api: Api, namespace: str, account: str) -> set[Right]:
    """The rights that the roles bound to a service account grant in its namespace."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    roles: dict[str, Any] = {role["metadata"]["name"]: role for role in api.get(f"{rbac}/roles")["items"]}
    found: set[Right] = set()
    for binding in api.get(f"{rbac}/rolebindings")["items"]:
        if any(each["name"] == account for each in binding.get("subjects", [])):
            for rule in roles[binding["roleRef"]["name"]]["rules"]:
                found |= {
                    (verb, group, resource)
                    for verb in rule["verbs"]
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                }
    return found
