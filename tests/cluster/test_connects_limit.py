"""`origin.limits.connects` over a restart of all operators, while a lobby goes, too."""

from __future__ import annotations

import re

from tests.cluster.support.cluster import OPERATOR_PODS, Cluster, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.release import NAMESPACE, OPERATOR_DEPLOYMENT, Release
from tests.cluster.support.resources import ORIGIN_PORT, lobby, origin_pod, origin_url, service
from tests.cluster.support.waiting import eventually

NAME = "counted"
COUNT, SECONDS = 2, 8
RECONNECT = {"minMilliseconds": 50, "maxMilliseconds": 50, "jitter": "None"}
# Prints when each connection came, and ends it, so that every lobby always wants the next one.
ORIGIN = f"""
import asyncio, time
from websockets.asyncio.server import serve

async def count(connection):
    print(f"attempt {{time.monotonic()}}", flush=True)
    await connection.close(1012)

async def main():
    async with serve(count, "0.0.0.0", {ORIGIN_PORT}) as server:
        await server.serve_forever()

asyncio.run(main())
"""


def attempts() -> list[float]:
    """When lobbies connected, by the origin's clock."""
    return [float(at) for at in re.findall(r"^attempt (\S+)$", kubectl("logs", NAME, "-n", NAMESPACE), re.MULTILINE)]


def test_lobbies_connect_no_more_often_than_allowed(installed: Release, cluster: Cluster) -> None:
    node, image = cluster.kept_node(), installed.images.lobby
    cluster.apply(origin_pod(NAME, image, node, ["python", "-c", ORIGIN]), service(NAME))
    kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "-n", NAMESPACE, "--timeout=30s", deadline=40)
    resource = lobby(
        NAME,
        origin_url(NAME, NAMESPACE),
        replicas=3,
        maxReplicas=3,
        spareSeats=0,
        origin_connect="Always",
        origin_reconnect=RECONNECT,
        origin_limits={"connects": {"count": COUNT, "seconds": SECONDS}},
    )
    with cluster.lobby(resource):
        eventually(lambda: len(attempts()) >= COUNT, what=lambda: f"{COUNT} attempts; {cluster.describe(NAME)}")
        kubectl("delete", "pod", "-l", OPERATOR_PODS, "-n", NAMESPACE, "--now", "--wait=false")
        cluster.delete("pod", name_of(cluster.pods(NAME)[0]))
        before = len(attempts())
        eventually(
            lambda: len(attempts()) > before + COUNT,
            deadline=60,
            what=lambda: f"more than {before + COUNT} attempts; {cluster.describe(NAME)}",
        )
        kubectl("rollout", "status", OPERATOR_DEPLOYMENT, "-n", NAMESPACE, "--timeout=60s", deadline=70)
        made = attempts()
        late = zip(made, made[COUNT:], strict=False)
        assert all(after - at >= SECONDS for at, after in late), made
    cluster.delete("pod", NAME)
    cluster.delete("service", NAME)
