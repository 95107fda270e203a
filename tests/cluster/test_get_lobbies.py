"""`kubectl get lobbies` answers "is it up, how full, where do new clients go", and is right within two seconds of a change."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import kubectl
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import RELEASE, Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

SECONDS = 2.0
PRINTING = 1.0  # time of kubectl itself on a busy machine


def row(cluster: Cluster, name: str, *options: str) -> dict[str, str]:
    """The output of `kubectl get lobby`, by column."""
    table = kubectl("get", "lobby", name, "-n", cluster.namespace, *options).splitlines()
    heads, fields = table[0].split(), table[1].split()
    return dict(zip(heads, fields, strict=False))


def test_it_is_right_within_two_seconds(installed: Release, cluster: Cluster, origin: str) -> None:
    slowest = 0.0

    def comes(what: str, right: Callable[[dict[str, str]], bool]) -> None:
        nonlocal slowest
        begun = time.monotonic()
        eventually(
            lambda: right(row(cluster, "table", "-o", "wide")),
            deadline=SECONDS + PRINTING,
            every=0.05,
            what=lambda: f"{what}: {row(cluster, 'table', '-o', 'wide')}",
        )
        slowest = max(slowest, time.monotonic() - begun)

    resource = lobby("table", origin, clients_seats=20, spareSeats=5)
    with cluster.lobby(resource) as name, Crowd(installed.url("/table")) as crowd:
        cluster.until_condition(name, "Ready", "True")
        seen = row(cluster, name, "-o", "wide")
        assert seen["ORIGIN-URL"] == origin
        assert seen["LATEST"].startswith("table-")
        assert (seen["LOBBIES"], seen["SERVING"], seen["CLIENTS"], seen["SEATS"]) == ("1", "1", "0", "20"), seen

        crowd.connect(10)
        comes("ten clients came", lambda now: now["CLIENTS"] == "10")
        crowd.leave(4)
        comes("four clients left", lambda now: now["CLIENTS"] == "6")
        crowd.connect(12)
        cluster.until_ready(name, 2)
        comes("a second lobby is there", lambda now: (now["SERVING"], now["SEATS"]) == ("2", "40"))
        kubectl(
            "delete",
            "pod",
            row(cluster, name, "-o", "wide")["LATEST"],
            "-n",
            cluster.namespace,
            "--force",
            "--grace-period=0",
        )
        eventually(lambda: len(cluster.ready_pods(name)) == 2, what="the deleted lobby is replaced", deadline=60)
        comes("a deleted lobby was replaced", lambda now: (now["SERVING"], now["CLIENTS"]) == ("2", "18"))
    FIGURES.note(
        f"kubectl get lobbies was right {slowest:.1f} s after a change, at the latest (kubectl's own time included)"
    )


def test_wide_output_and_short_name_and_category(cluster: Cluster, origin: str) -> None:
    with cluster.lobby(lobby("wide", origin)) as name:
        cluster.until_condition(name, "Ready", "True")
        seen = row(cluster, name, "-o", "wide")
        assert {"CONNECTIONS", "MAX", "MESSAGE", "ORIGIN-MESSAGE"} <= seen.keys()
        assert "lobby.lobby-gateway.io/wide" in kubectl("get", "lob", "-n", cluster.namespace, "-o", "name")
        assert "wide" in kubectl("get", "lobby-gateway", "-n", cluster.namespace)


def test_it_shows_where_clients_connect_and_why_it_is_not_ready_in_120_columns(cluster: Cluster, origin: str) -> None:
    with cluster.lobby(lobby("narrow", origin, replicas=1)) as name:
        cluster.until_condition(name, "Ready", "True")
        url = f"ws://{RELEASE}-greeter.{cluster.namespace}.svc/narrow"
        seen = row(cluster, name)
        assert {**seen, "AGE": ""} == {
            "NAME": "narrow",
            "URL": url,
            "ORIGIN": "Idle",
            "LOBBIES": "1",
            "CLIENTS": "0",
            "READY": "True",
            "REASON": "Open",
            "AGE": "",
        }
        assert (cluster.status(name)["url"], cluster.status(name)["path"]) == (url, "/narrow")
        assert max(map(len, kubectl("get", "lobby", name, "-n", cluster.namespace).splitlines())) <= 120
        cluster.merge(name, template={"nodeSelector": {"type": "nowhere"}}, replicas=2)
        cluster.until_condition(name, "Ready", "False")
        assert row(cluster, name)["REASON"] == "RolloutFails"
        kubectl("wait", f"lobby/{name}", "--for=condition=Reconciling", "-n", cluster.namespace, "--timeout=20s")


def test_it_shows_why_an_origin_refuses(cluster: Cluster, origin: str) -> None:
    """The sentence that local mode's /lobbies has, tests/integration/origins/test_feeds.py."""
    end = {"reason": '"406 connection limit exceeded"', "refused": True}
    rules = [{"contains": '"seq', "end": end}]
    with cluster.lobby(lobby("refused", origin, origin_connect="Always", origin_onMessage=rules)) as name:
        eventually(
            lambda: row(cluster, name)["ORIGIN"] == "Refused",
            deadline=60,
            what=lambda: f"refused; {row(cluster, name)}",
        )
        sentence = "the origin refuses 1 lobby; refused-1: 406 connection limit exceeded"
        assert sentence in kubectl("get", "lobby", name, "-n", cluster.namespace, "-o", "wide")
        assert cluster.until_condition(name, "OriginConnected", "False")["message"] == sentence
