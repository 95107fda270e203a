"""The greeters are restarted one by one: `kubectl rollout restart`. Their clients are closed, and get in again at once."""

from __future__ import annotations

from tests.cluster.failures.conftest import CLIENTS, Load
from tests.cluster.support.commands import kubectl
from tests.cluster.support.release import GREETER_DEPLOYMENT


def test_closed_clients_are_told_to_come_again_and_no_newcomer_is_refused(load: Load) -> None:
    namespace = load.cluster.namespace
    with load.ordeal("greeters restarted", made=lambda count: count <= 1, lost=CLIENTS) as ordeal:
        kubectl("rollout", "restart", GREETER_DEPLOYMENT, "-n", namespace)
        kubectl("rollout", "status", GREETER_DEPLOYMENT, "-n", namespace, "--timeout=150s", deadline=160)
    assert ordeal.seen is not None
    assert set(ordeal.seen.closed) <= {1001}, ordeal.seen
