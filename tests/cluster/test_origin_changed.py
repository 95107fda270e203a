"""A wrong origin moves no client and ends no working lobby; a corrected one does."""

from __future__ import annotations

import json
import time

from tests.cluster.support.cluster import Cluster, condition, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

CLIENTS = 30
WRONG = "ws://nobody-has-this-name.invalid:9000/"
WATCHED_SECONDS = 20.0


def has_event(cluster: Cluster, name: str, reason: str) -> bool:
    """Whether there is an Event with this reason about a Lobby."""
    events = json.loads(kubectl("get", "events", "-n", cluster.namespace, "-o", "json"))["items"]
    return any(each["reason"] == reason and each["involvedObject"]["name"] == name for each in events)


def test_a_wrong_url_stops_the_rollout_and_a_right_one_goes_on(
    installed: Release, cluster: Cluster, origin: str
) -> None:
    resource = lobby("changed", origin, clients_seats=20, spareSeats=5, compaction={"enabled": False})
    with cluster.lobby(resource) as name, Crowd(installed.url("/changed")) as crowd:
        cluster.until_condition(name, "Ready", "True")
        crowd.connect(CLIENTS, concurrency=4)
        cluster.until_ready(name, 2)
        old = {name_of(pod): pod["metadata"]["uid"] for pod in cluster.ready_pods(name)}
        crowd.mark()
        changed_at = time.monotonic()
        cluster.merge(name, origin={"url": WRONG})
        eventually(
            lambda: condition(cluster.get(name), "Scaling").get("reason") == "RolloutStopped",
            deadline=90,
            what=lambda: f"the rollout stops; {cluster.describe(name)}",
        )
        seconds = time.monotonic() - changed_at
        seen = cluster.get(name)
        message = condition(seen, "Scaling")["message"]
        assert "has no connection to its origin" in message
        assert "nobody-has-this-name.invalid" in message or "DNS" in message or "name" in message
        assert condition(seen, "Ready")["status"] == "False"
        assert condition(seen, "Stalled")["status"] == "True"
        assert condition(seen, "Reconciling")["status"] == "False"
        generations = {each["observedGeneration"] for each in seen["status"]["conditions"]}
        assert generations == {seen["metadata"]["generation"]} == {seen["status"]["observedGeneration"]}
        eventually(lambda: has_event(cluster, name, "RolloutStopped"), deadline=20, what="an Event says so")

        most = 0
        until = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < until:
            pods = cluster.pods(name)
            most = max(most, len(pods))
            assert old.items() <= {name_of(pod): pod["metadata"]["uid"] for pod in pods}.items()
            crowd.each_gets(4)
        assert most <= len(old) + 2
        reports = cluster.reports(name)
        assert sum(reports[each]["clients"] for each in old) == CLIENTS
        at_rest = crowd.seen()
        assert (at_rest.open, at_rest.missing, at_rest.duplicates) == (CLIENTS, 0, 0), at_rest

        cluster.merge(name, origin={"url": f"{origin}?corrected"})
        eventually(
            lambda: not set(old.values()) & {pod["metadata"]["uid"] for pod in cluster.pods(name)},
            deadline=180,
            what=lambda: f"the corrected origin rolls out; {cluster.describe(name)}",
        )
        cluster.until_condition(name, "Ready", "True")
        cluster.until_condition(name, "Stalled", "False")
        crowd.each_gets(4)
        assert crowd.seen().open == CLIENTS
    FIGURES.note(
        f"wrong origin.url: named after {seconds:.0f} s, at most {most} lobbies beside {len(old)} working ones, no client "
        f"moved; corrected: {CLIENTS} clients, none closed"
    )
