"""The greeters are restarted one by one (`kubectl rollout restart`). Their clients are closed and reconnect at once."""

from __future__ import annotations

from tests.cluster.failures.conftest import CLIENTS, Load
from tests.cluster.support.commands import kubectl
from tests.cluster.support.release import GREETER_DEPLOYMENT


def test_clients_are_closed_with_1012_and_no_new_client_is_refused(load: Load) -> None:
    namespace = load.cluster.namespace
    with load.disruption("greeters restarted", made=lambda count: count <= 1, lost=CLIENTS) as disruption:
        kubectl("rollout", "restart", GREETER_DEPLOYMENT, "-n", namespace)
        kubectl("rollout", "status", GREETER_DEPLOYMENT, "-n", namespace, "--timeout=150s", deadline=160)
    assert disruption.seen is not None
    assert set(disruption.seen.closed) <= {1012}, disruption.seen
