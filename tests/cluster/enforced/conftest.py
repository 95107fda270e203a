"""NetworkPolicies are enforced: by the cluster itself, or from the first of these tests on, which therefore run last."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from tests.cluster.support.api import ADMIN_PORT, Api
from tests.cluster.support.cluster import GREETER_PODS, Cluster
from tests.cluster.support.commands import CommandFailedError, helm, kubectl, run
from tests.cluster.support.faults import fault, inside
from tests.cluster.support.images import Images
from tests.cluster.support.release import CHART, namespace
from tests.cluster.support.resources import origin_url, ticker
from tests.cluster.support.waiting import eventually

REDIRECTING = "lobby-gateway-redirect"
RATE = 4  # messages per second
POLICIES_DEADLINE = 420  # the first time, their part of the network is built from source
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)"


def reachable(address: str, port: int) -> bool:
    """Whether a process outside of all pods can connect to a pod."""
    try:
        run(*inside(sys.executable, "-c", REACH, address, str(port)))
    except CommandFailedError:
        return False
    return True


class Redirecting:
    """A release for clients that are redirected, in a namespace of its own.

    Attributes:
        cluster: its namespace.
        origin: URL of an origin there.
        url: `ws://` address of its greeters' Service.
    """

    def __init__(self, cluster: Cluster, origin: str, url: str) -> None:
        self.cluster = cluster
        self.origin = origin
        self.url = url


@pytest.fixture(scope="session")
def redirecting(api: Api, images: Images) -> Iterator[Redirecting]:
    """The chart with `lobby.redirect`, and NetworkPolicies that have been seen to work."""
    with namespace(REDIRECTING):
        cluster = Cluster(api, REDIRECTING)
        tags = [f"--set={each}.image.tag={images.tag}" for each in ("operator", "greeter", "lobby")]
        helm(
            *("install", "redirect", CHART, "-n", REDIRECTING, "--wait", "--timeout=150s", *tags),
            *("--set=lobby.redirect=true", "--set=fullnameOverride=redirect"),
        )
        cluster.apply(*ticker("ticker", images.lobby, cluster.kept_node(), rate=RATE))
        kubectl("wait", "--for=condition=Ready", "pod/ticker", "-n", REDIRECTING, "--timeout=60s", deadline=70)
        fault("policies", deadline=POLICIES_DEADLINE)
        greeter = cluster.labeled(GREETER_PODS)[0]["status"]["podIP"]
        eventually(
            lambda: not reachable(greeter, ADMIN_PORT) and reachable(greeter, 8000),
            deadline=60,
            what="the admin port of a greeter is closed to strangers, the client port is not",
            every=1,
        )
        service = api.get(f"/api/v1/namespaces/{REDIRECTING}/services/redirect-greeter")["spec"]
        yield Redirecting(cluster, origin_url("ticker", REDIRECTING), f"ws://{service['clusterIP']}")
        kubectl("delete", "lobbies", "--all", "-n", REDIRECTING, "--wait=true", deadline=120)
        helm("uninstall", "redirect", "-n", REDIRECTING, "--wait", "--timeout=120s")
