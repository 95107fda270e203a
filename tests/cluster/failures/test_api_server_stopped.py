"""The API server is down for up to two minutes, and is killed when it has just started."""

from __future__ import annotations

import time

from tests.cluster.failures.conftest import Load
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.faults import api_server_stopped, fault, needs_faults
from tests.cluster.support.waiting import eventually

SECONDS = 120 if ENVIRONMENT.long else 20


@needs_faults
def test_greeters_and_lobbies_go_on_without_it(load: Load) -> None:
    with load.disruption(f"no API server for {SECONDS} s, killed 3 times at its start", made=lambda count: count == 0):
        with api_server_stopped():
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                load.crowd.each_gets(8, deadline=20)
            for messages in (4, 16, 40):  # the operators meet it in different states of its start
                fault("start", "apiserver")
                load.crowd.each_gets(messages, deadline=20)
                fault("kill", "apiserver")
        eventually(
            lambda: load.cluster.status(load.name).get("clients", 0) >= 2000, deadline=60, what="status tells the truth"
        )
