"""The process of a lobby is killed in its pod."""

from __future__ import annotations

from tests.cluster.failures.conftest import Load
from tests.cluster.support.cluster import name_of
from tests.cluster.support.faults import kill_process
from tests.cluster.support.waiting import eventually


def test_clients_go_on_in_other_lobbies_and_the_dead_pod_is_replaced(load: Load) -> None:
    with load.disruption("lobby's process killed", made=lambda count: 1 <= count <= 2):
        victim = load.fullest()
        kill_process(victim, "lobby_gateway.lobby")
        # Its kubelet takes a moment to report it: until then everything looks as before.
        eventually(lambda: victim not in map(name_of, load.pods()), what=f"{victim} is taken away")
