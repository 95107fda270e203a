"""The chart as Helm renders it."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "lobby-gateway"
KUBE_VERSION = "1.34.0"
RELEASE = "trial"
NAMESPACE = "gateway"

Object = dict[str, Any]

EVERYTHING: Mapping[str, Any] = {
    "demo": {"enabled": True},
    "greeter": {
        "autoscaling": {
            "enabled": True,
            "targetClients": 5000,
            "keda": {"enabled": True, "serverAddress": "http://prometheus.monitoring.svc:9090"},
        },
        "service": {"type": "LoadBalancer"},
    },
    "ingress": {"enabled": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "web"}]},
    "lobbies": {"prices": {"origin": {"url": "wss://feed.example.com/"}}},
    "networkPolicy": {"lobbyEgress": {"enabled": True}},
    "metrics": {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    },
}
"""Values that enable everything that is off by default."""


def values() -> dict[str, Any]:
    """The chart's own values."""
    loaded: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return loaded


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`one` overridden by `other`, as Helm merges values."""
    result = dict(one)
    for key, value in other.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def run(*arguments: str, given: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Helm with values on standard input; skips the test if Helm is not installed."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not installed")
    return subprocess.run(
        [helm, *arguments, "--values", "-"],
        input=json.dumps(given or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def template(given: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Renders the chart."""
    return run(
        "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBE_VERSION, given=given
    )  # fmt: skip


@functools.cache
def _text(given: str) -> str:
    done = template(json.loads(given))
    assert done.returncode == 0, done.stderr
    return done.stdout


def text(given: Mapping[str, Any] | None = None) -> str:
    """The rendered text."""
    return _text(json.dumps(given or {}, sort_keys=True))


def objects(given: Mapping[str, Any] | None = None) -> list[Object]:
    """The rendered objects."""
    return [loaded for loaded in yaml.safe_load_all(text(given)) if loaded]


def named(found: Iterable[Object], kind: str, ending: str) -> Object:
    """The only object of a kind whose name has this suffix."""
    (one,) = (each for each in found if each["kind"] == kind and each["metadata"]["name"].endswith(ending))
    return one


def pod_specs(found: Iterable[Object]) -> dict[str, Object]:
    """The specs of all pods, by kind and name."""
    specs = {}
    for each in found:
        where = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Pod":
            specs[where] = each["spec"]
        elif "template" in each.get("spec", {}) and each["kind"] != "Lobby":
            specs[where] = each["spec"]["template"]["spec"]
    return specs
