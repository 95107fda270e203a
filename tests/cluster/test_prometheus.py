"""Prometheus scrapes every pod of an installation as docs/metrics.md says, and every panel of the dashboard has data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.support.api import ADMIN_PORT
from tests.cluster.support.cluster import NAME, Cluster, name_of
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.release import GREETERS, OPERATORS, Release
from tests.cluster.support.resources import lobby
from tests.support.panels import number, panels, without_data
from tests.support.processes import ROOT
from tests.support.prometheus import Prometheus, prometheus, skip_reason
from tests.support.sockets import run
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(bool(skip_reason()), reason=skip_reason())

RULES = ROOT / "charts" / "lobby-gateway" / "rules" / "lobby-gateway.yaml"
WINDOW = "20s"
SEATS, CLIENTS = 20, 50
COMPONENT = "app.kubernetes.io/component"


def found(cluster: Cluster) -> list[dict[str, Any]]:
    """The pods as Prometheus would discover them, scraped through the API server."""
    targets = []
    for pod in cluster.labeled(NAME):
        labels, name = pod["metadata"]["labels"], name_of(pod)
        if labels[COMPONENT] not in {"operator", "greeter", "lobby"}:
            continue
        meta = {
            "namespace": cluster.namespace,
            "pod_name": name,
            "pod_phase": pod["status"]["phase"],
            "pod_container_port_name": "admin",
            **{f"pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', key)}": value for key, value in labels.items()},
        }
        path = f"/api/v1/namespaces/{cluster.namespace}/pods/{name}:{ADMIN_PORT}/proxy/metrics"
        kubernetes = {f"__meta_kubernetes_{key}": value for key, value in meta.items()}
        instance = f"{pod['status'].get('podIP')}:{ADMIN_PORT}"
        targets.append(
            {"targets": [cluster.api.address], "labels": {**kubernetes, "__metrics_path__": path, "instance": instance}}
        )
    return targets


def scrape(file: Path) -> dict[str, Any]:
    """The documented configuration for clusters, with our own service discovery."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n([^`]*kubernetes_sd_configs[^`]*)```", page, re.MULTILINE)
    (documented,) = yaml.safe_load(text)["scrape_configs"]
    del documented["kubernetes_sd_configs"]
    return {**documented, "file_sd_configs": [{"files": [str(file)]}]}


async def check(server: Prometheus, cluster: Cluster, name: str, lobbies: int) -> None:
    empty: list[str] = []

    async def all_show_data() -> bool:
        empty[:] = await without_data(server, panels(), window=WINDOW)
        return not empty

    await until(all_show_data, deadline=60, every=2, describe=lambda: "\n".join(empty))
    up = {labels["job"]: value for labels, value in await server.query("count by (job) (up == 1)")}
    assert (up["operator"], up["greeter"]) == (OPERATORS, GREETERS)
    assert await server.query("up == 0") == []

    key = f"{cluster.namespace}/{name}"
    joined = (
        f'count by (lobby) (lobby_seats{{lobby="{key}"}}) + on (lobby) max by (lobby) (lobby_operator_clients)'
        " + on (lobby) sum by (lobby) (greeter_clients)"
    )
    ((labels, value),) = await server.query(joined)
    assert (labels["lobby"], value) == (key, lobbies + 2 * CLIENTS)
    assert await number(server, "Disconnected origins", window=WINDOW) == 0

    ((_, leaders),) = await server.query("sum(lobby_operator_leader)")
    assert leaders == 1
    assert await server.query('lobby_operator_api_calls_total{outcome="Forbidden", resource!="secrets"} > 0') == []
    # An earlier test deletes the Secret with the key, which the operator may not create; since then, there is none.
    secrets = 'increase(lobby_operator_api_calls_total{outcome="Forbidden", resource="secrets"}[1m]) > 0'
    assert await server.query(secrets) == []
    assert {rule["health"] for rule in await server.rules()} == {"ok"}


def test_every_pod_is_scraped_and_every_panel_has_data(
    installed: Release, cluster: Cluster, origin: str, tmp_path: Path
) -> None:
    file = tmp_path / "pods.json"
    resource = lobby("watched", origin, clients_seats=SEATS, spareSeats=5)
    with cluster.lobby(resource) as name, Crowd(installed.url(f"/{resource['metadata']['name']}")) as crowd:
        crowd.connect(CLIENTS)
        crowd.each_gets(1)
        cluster.until_ready(name, 3)

        async def main() -> None:
            file.write_text(json.dumps(found(cluster)))
            async with prometheus(tmp_path, [scrape(file)], rules=RULES, seconds=2) as server:
                await check(server, cluster, name, 3)

        run(main(), deadline=150)
