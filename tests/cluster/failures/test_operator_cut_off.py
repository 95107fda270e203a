"""The operator is cut off from the admin ports of lobbies that the kubelets find ready, for up to two minutes.

A NetworkPolicy or a service mesh may do that, for hours. Neither may it cost more than one pod per Lobby, nor the clients that
are connected.
"""

from __future__ import annotations

import contextlib
import time

import pytest
from tests.cluster.support.api import Api
from tests.cluster.support.cluster import GREETER_PODS, LOBBY_PODS, OF_LOBBY, OPERATOR_PODS, Cluster, condition, name_of
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.faults import admin_ports_dropped, needs_faults
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.pod_watch import PodWatch
from tests.cluster.support.release import NAMESPACE, Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually, stays

HEARD, NEVER_HEARD = "heard", "never-heard"
CLIENTS = 20
SECONDS = 120.0 if ENVIRONMENT.long else 50.0
MOST_PODS = 2  # one is needed, and one more is created in case that one is broken


@needs_faults
@pytest.mark.timeout(300)
def test_a_lobby_gets_one_surplus_pod_at_most_and_a_condition_says_why(
    installed: Release, cluster: Cluster, origin: str, api: Api
) -> None:
    def watched(name: str) -> PodWatch:
        return PodWatch(api, NAMESPACE, labels=f"{LOBBY_PODS},{OF_LOBBY}={name}")

    with (
        watched(HEARD) as heard,
        watched(NEVER_HEARD) as never_heard,
        cluster.lobby(lobby(HEARD, origin)),
        Crowd(installed.url(f"/{HEARD}")) as crowd,
        contextlib.ExitStack() as stack,
    ):
        cluster.until_condition(HEARD, "Ready", "True")
        crowd.fill(CLIENTS)
        crowd.mark()
        operators = [name_of(pod) for pod in cluster.labeled(OPERATOR_PODS)]
        greeters = [str(pod["status"]["podIP"]) for pod in cluster.labeled(GREETER_PODS)]
        began = time.monotonic()
        with admin_ports_dropped(operators, but=greeters):
            stack.enter_context(cluster.lobby(lobby(NEVER_HEARD, origin)))
            eventually(
                lambda: len(cluster.ready_pods(NEVER_HEARD)) == MOST_PODS,
                deadline=30,
                what=lambda: f"a second pod; {cluster.describe(NEVER_HEARD)}",
            )
            for name in (HEARD, NEVER_HEARD):
                scaling = cluster.until_condition(name, "Scaling", "False", deadline=30)
                assert scaling["reason"] == "LobbiesUnreachable", scaling
                assert "NetworkPolicy" in scaling["message"], scaling
            assert condition(cluster.get(NEVER_HEARD), "Ready")["reason"] == "LobbiesUnreachable"
            crowd.connect(1)  # greeters still reach the lobby that was heard
            stays(
                lambda: len(heard.mark()) <= MOST_PODS and len(never_heard.mark()) == MOST_PODS,
                seconds=began + SECONDS - time.monotonic(),
                what=lambda: f"pods {heard.names}, {never_heard.names}; {cluster.describe(NEVER_HEARD)}",
            )
        for name in (HEARD, NEVER_HEARD):
            cluster.until_condition(name, "Scaling", "True")
            cluster.until_condition(name, "Ready", "True")
            cluster.until_ready(name, 1)
        crowd.each_gets(2)
        seen = crowd.seen()
        assert (seen.open, seen.duplicates) == (CLIENTS, 0), str(seen)
        pods = len(heard.mark()), len(never_heard.mark())
        FIGURES.note(f"operator cut off from lobbies for {SECONDS:g} s: {pods} pods of two Lobbies; {seen}")
