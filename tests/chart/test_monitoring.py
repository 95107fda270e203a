"""The chart's objects for the Prometheus operator and Grafana."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml
from tests.chart import helm
from tests.chart.helm import EVERYTHING, NAMESPACE, named, objects

EVERYWHERE = {"watch": {"allNamespaces": True, "lobbyNamespaces": ["feeds"]}}


def of_kind(kind: str, given: Mapping[str, Any] = EVERYTHING) -> dict[str, Any]:
    (found,) = [each for each in objects(dict(given)) if each["kind"] == kind]
    return found


def test_default_render_needs_no_other_crds() -> None:
    assert not [each for each in objects() if each["apiVersion"].startswith("monitoring.coreos.com/")]


def test_podmonitor_selects_exactly_the_pods_with_metrics() -> None:
    spec = of_kind("PodMonitor")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert set(spec["selector"]) == {"matchExpressions"}
    name, expression = spec["selector"]["matchExpressions"]
    assert (name["key"], name["values"]) == ("app.kubernetes.io/name", ["lobby-gateway"])
    for component in ("operator", "greeter"):
        template = named(objects(dict(EVERYTHING)), "Deployment", f"-{component}")["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert labels[name["key"]] in name["values"]
        assert labels[expression["key"]] in expression["values"]
        ports = [port["name"] for container in template["spec"]["containers"] for port in container["ports"]]
        assert endpoint["port"] in ports
    assert set(expression["values"]) == {"operator", "greeter", "lobby"}


def test_podmonitor_selects_namespaces_with_lobbies() -> None:
    assert of_kind("PodMonitor")["spec"]["namespaceSelector"] == {"matchNames": [NAMESPACE]}
    everywhere = of_kind("PodMonitor", helm.merged(EVERYTHING, EVERYWHERE))
    assert set(everywhere["spec"]["namespaceSelector"]["matchNames"]) == {NAMESPACE, "feeds"}


def test_rules_and_dashboard_are_the_files_of_the_chart() -> None:
    rules = yaml.safe_load((helm.CHART / "rules" / "lobby-gateway.yaml").read_text())
    assert of_kind("PrometheusRule")["spec"] == rules
    dashboard = json.loads((helm.CHART / "dashboards" / "lobby-gateway.json").read_text())
    made = named(objects(dict(EVERYTHING)), "ConfigMap", "-dashboard")
    assert json.loads(made["data"]["lobby-gateway.json"]) == dashboard
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_each_object_has_the_configured_labels() -> None:
    labels = {"labels": {"release": "monitoring"}}
    given = helm.merged(EVERYTHING, {"metrics": {"podMonitor": labels, "prometheusRule": labels, "dashboards": labels}})
    found = [of_kind("PodMonitor", given), of_kind("PrometheusRule", given)]
    found.append(named(objects(given), "ConfigMap", "-dashboard"))
    assert all(each["metadata"]["labels"]["release"] == "monitoring" for each in found)
