"""The chart's values: each has a comment and is used; unknown values are rejected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from tests.chart import helm

_SAMPLES: Mapping[str, Any] = {
    "nameOverride": "other",
    "greeter.clientsUrl": "wss://other.example.com",
    "fullnameOverride": "other",
    "commonLabels": {"team": "data"},
    "imagePullSecrets": [{"name": "registry"}],
    "greeter.autoscaling.keda.serverAddress": "https://other.example.com",
    "greeter.autoscaling.keda.authenticationRef": {"name": "other"},
    "lobby.resources": {"requests": {"cpu": "7m"}},
    "logLevel": "debug",
    "watch.lobbyNamespaces": ["feeds"],
    "tokenKey.existingSecret": "mine",
    "greeter.trustedProxies": ["10.0.0.0/8"],
    "greeter.service.type": "ClusterIP",
    "greeter.service.loadBalancerSourceRanges": ["10.0.0.0/8"],
    "greeter.service.externalTrafficPolicy": "Local",
    "ingress.tls": [{"secretName": "tls", "hosts": ["a.example.com"]}],
    "httpRoute.timeouts": {"request": "0s"},
    "httpRoute.parentRefs": [{"name": "other"}],
    "admission.apiServerCidrs": ["192.0.2.0/24"],
    "admission.certManager.issuerRef": {"name": "other"},
    "networkPolicy.lobbyEgress.cidrs": ["192.0.2.0/24"],
    "networkPolicy.lobbyEgress.exceptCidrs": ["192.0.2.0/24"],
    "networkPolicy.lobbyEgress.to": [{"podSelector": {}}],
    "networkPolicy.lobbyEgress.dnsTo": [{"podSelector": {}}],
    "policy.origin.denyCidrs": ["192.0.2.0/24"],
    "policy.template.env": ["OTHER"],
    "policy.template.labels": ["other"],
    "policy.template.annotations": ["other"],
    "policy.template.nodeLabels": ["other"],
    "policy.template.tolerations": ["other"],
    "policy.template.priorityClassNames": ["other"],
    "policy.template.maxResources": {"cpu": "7"},
    "lobbies": {"other": {"origin": {"url": "wss://other.example.com/"}}},
    "metrics.podMonitor.interval": "7s",
}
"""A value other than the default, if none can be derived from type or last name."""

_BY_LAST_NAME: Mapping[str, Any] = {
    "digest": f"sha256:{64 * 'a'}",
    "pullPolicy": "Always",
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 2}],
    "resources": {"requests": {"cpu": "7m"}},
    "extraEnv": [{"name": "OTHER", "value": "text"}],
    "extraVolumes": [{"name": "other", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "other", "mountPath": "/other"}],
}

_NEEDS: Mapping[str, Any] = {
    "greeter.replicas": {"greeter": {"autoscaling": {"enabled": False, "keda": {"enabled": False}}}},
    "greeter.autoscaling.enabled": {"greeter": {"autoscaling": {"keda": {"enabled": False}}}},
    "admission.certManager.issuerRef": {"admission": {"certManager": {"enabled": True}}},
    "watch.lobbyNamespaces": {"watch": {"allNamespaces": True}},
}
"""Other values that have to be set for a value to be used."""

_WHOLE = ("resources", "matchLabels", "lobbies", "maxResources")
"""Values with nested defaults that are replaced as a whole."""


def leaves(mapping: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping) and value and key not in _WHOLE and key != "labels":
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def other_than(path: str, value: Any) -> Any:
    last = path.rpartition(".")[2]
    if path in _SAMPLES:
        return _SAMPLES[path]
    if last in _BY_LAST_NAME:
        return _BY_LAST_NAME[last]
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return "other"
        case list():
            return ["--other=1"]
        case _:
            return {"other": "text"}


def comparable(text: str) -> str:
    return re.sub(r"\n  key: .*", "", text)  # the token key is a new one each time


def test_every_value_is_used() -> None:
    everything = helm.merged(helm.values(), helm.EVERYTHING)
    paths = [path for path, _ in leaves(helm.values())]

    def unused(path: str) -> str:
        base = helm.merged(helm.EVERYTHING, _NEEDS.get(path, {}))
        default = dict(leaves(everything)).get(path, dict(leaves(helm.values()))[path])
        changed = helm.merged(base, nested(path, other_than(path, default)))
        return "" if comparable(helm.text(base)) != comparable(helm.text(changed)) else path

    helm.text(helm.EVERYTHING)
    with ThreadPoolExecutor(4) as pool:
        assert not [path for path in pool.map(unused, paths) if path]


def test_every_value_is_explained() -> None:
    lines = (helm.CHART / "values.yaml").read_text().splitlines()
    above: list[tuple[int, str]] = []
    explained: dict[str, bool] = {}
    for before, line in zip(["", *lines], lines, strict=False):
        if found := re.match(r"( *)([A-Za-z]+):", line):
            above = [each for each in above if each[0] < len(found[1])]
            path = ".".join([*(name for _, name in above), found[2]])
            above.append((len(found[1]), found[2]))
            # Where it stands, or as a whole with its section; those of all pods in the first place.
            section = path.rpartition(".")[0]
            explained[path] = before.lstrip().startswith("#") or (section.count(".") > 0 and explained[section])
    names = {path.rpartition(".")[2] for path, done in explained.items() if done} | {"enabled"}
    missing = [path for path, done in explained.items() if not done and path.rpartition(".")[2] not in names]
    assert not [path for path in missing if not any(other.startswith(f"{path}.") for other in explained)]


def test_every_limit_of_the_policy_is_in_the_docs_with_its_default() -> None:
    text = (helm.ROOT / "docs" / "security.md").read_text()
    rows = dict(re.findall(r"^\| `(policy\.[\w.]+)` \| ([^|]*) \|", text, re.MULTILINE))
    defaults = dict(leaves({"policy": helm.values()["policy"]}))
    assert set(rows) == set(defaults)
    for path, default in defaults.items():
        where = text if path.endswith("denyCidrs") else rows[path]
        match default:
            case bool():
                wanted = [f"`{str(default).lower()}`"]
            case list():
                wanted = [f"`{each}`" for each in default] or ["none"]
            case Mapping():
                wanted = [f"`{name}: {most}`" for name, most in default.items()]
            case _:
                wanted = [str(default)]
        assert not [each for each in wanted if each not in where], path


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((helm.CHART / "values.schema.json").read_text())
    return loaded


def test_schema_covers_exactly_the_values() -> None:
    whole = schema()

    def compare(path: str, part: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        part = whole["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if "properties" not in part:
            return
        assert part.get("additionalProperties", True) is (path == ".global"), path
        optional = {"matchExpressions", "request", "backendRequest", "name", "kind"}
        assert set(given) <= set(part["properties"]) <= {*given, *optional}, path
        for key, below in part["properties"].items():
            if isinstance(given.get(key), Mapping) and key not in _WHOLE:
                compare(f"{path}.{key}", below, given[key])

    compare("", whole, helm.values())


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"replicas": 3}, "additional properties 'replicas' not allowed"),
        ({"greeter": {"replica": 3}}, "at '/greeter': additional properties 'replica' not allowed"),
        ({"greeter": {"service": {"typ": "NodePort"}}}, "at '/greeter/service': additional properties 'typ' not allowed"),
        ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0': got string, want object"),
        ({"imagePullSecrets": [{"names": "a"}]}, "at '/imagePullSecrets/0': missing property 'name'"),
        ({"commonLabels": {"app.kubernetes.io/name": "x"}}, "invalid propertyName 'app.kubernetes.io/name'"),
        ({"commonLabels": {"team": "a b"}}, "at '/commonLabels/team': 'a b' does not match pattern"),
        ({"global": {"imageRegistry": "https://a"}}, "at '/global/imageRegistry': 'https://a' does not match pattern"),
        ({"operator": {"extraEnv": [{"value": "x"}]}}, "at '/operator/extraEnv/0': missing property 'name'"),
        ({"lobby": {"resources": {"requests": {"gpu": 1}}}}, "additional properties 'gpu' not allowed"),
        ({"lobby": {"resources": {"requests": {"cpu": "a"}}}}, "at '/lobby/resources/requests/cpu': 'a' does not match"),
        (
            {"operator": {"extraEnv": [{"name": "LOBBY_LOG_LEVEL", "value": "x"}]}},
            "operator.extraEnv: LOBBY_LOG_LEVEL is taken; accepted: other names, and the value logLevel",
        ),
        (
            {"greeter": {"extraVolumes": [{"name": "token-key", "emptyDir": {}}]}},
            "greeter.extraVolumes: token-key is taken; accepted: other names",
        ),
        (
            {"operator": {"extraVolumes": [{"name": "admission", "emptyDir": {}}]}},
            "operator.extraVolumes: admission is taken; accepted: other names",
        ),
        (
            {"greeter": {"autoscaling": {"keda": {"enabled": True}}}},
            "greeter.autoscaling.keda.enabled: has no effect without greeter.autoscaling.enabled",
        ),
        (
            {"greeter": {"autoscaling": {"enabled": True, "keda": {"enabled": True}}}},
            "greeter.autoscaling.targetClients: 0 can't be used with keda",
        ),
        (
            {"greeter": {"autoscaling": {"enabled": True, "targetClients": 9, "keda": {"enabled": True}}}},
            "greeter.autoscaling.keda.serverAddress: no Prometheus given; accepted: a URL",
        ),
        (
            {"greeter": {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0}}},
            "greeter.autoscaling.targetClients: 0 leaves nothing to scale by",
        ),
        (
            {"greeter": {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}},
            "greeter.autoscaling.minReplicas: 9 is more than maxReplicas (3)",
        ),
        ({"greeter": {"replicas": "three"}}, "at '/greeter/replicas': got string, want integer"),
        ({"greeter": {"service": {"type": "Ingress"}}}, "at '/greeter/service/type': value must be one of"),
        ({"operator": {"image": {"digest": "latest"}}}, "at '/operator/image/digest': 'latest' does not match pattern"),
        ({"lobbies": {"Prices": {"origin": {}}}}, "invalid propertyName 'Prices'"),
        ({"lobbies": {"prices": {}}}, "at '/lobbies/prices': missing property 'origin'"),
        ({"logLevel": "loud"}, "at '/logLevel': value must be one of"),
        ({"policy": {"template": {"labels": ["a b"]}}}, "at '/policy/template/labels/0': 'a b' does not match pattern"),
        ({"policy": {"template": {"maxResources": {"gpu": 1}}}}, "additional properties 'gpu' not allowed"),
        ({"policy": {"maxReplicas": 0}}, "at '/policy/maxReplicas': minimum: got 0, want 1"),
        ({"policy": {"origin": {"denyCidrs": ["localhost"]}}}, "at '/policy/origin/denyCidrs/0': 'localhost' does not match"),
        (
            {"watch": {"lobbyNamespaces": ["feeds", "news"]}},
            "watch.lobbyNamespaces: feeds, news have no effect without watch.allNamespaces; accepted: []",
        ),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: no Gateway given; accepted: [{name: my-gateway}]"),
        ({"demo": {"enabled": True}, "lobbies": {"demo": {"origin": {}}}}, "lobbies.demo: already created by demo.enabled"),
    ],
)  # fmt: skip
def test_invalid_value_is_rejected_by_name(given: dict[str, Any], line: str) -> None:
    done = helm.template(given)
    assert done.returncode != 0
    assert line in done.stderr


def test_global_values_of_a_parent_chart_are_accepted() -> None:
    assert helm.template({"global": {"of": "others"}}).returncode == 0


def test_values_are_plain_yaml() -> None:
    assert yaml.safe_load((helm.CHART / "values.yaml").read_text())["lobbies"] == {}
