"""The process of a lobby is killed in its pod."""

from __future__ import annotations

from tests.cluster.failures.conftest import Load
from tests.cluster.support.faults import kill_process


def test_clients_go_on_in_other_lobbies_and_the_dead_pod_is_replaced(load: Load) -> None:
    with load.ordeal("lobby's process killed", made=lambda count: 1 <= count <= 2):
        kill_process(load.fullest(), "lobby_gateway.lobby")
