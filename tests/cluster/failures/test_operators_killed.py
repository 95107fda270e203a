"""Both operators are killed at once, and clients connect while there is none."""

from __future__ import annotations

from tests.cluster.failures.conftest import Load
from tests.cluster.support.cluster import OPERATOR_PODS, name_of
from tests.cluster.support.faults import kill_process
from tests.cluster.support.waiting import eventually


def test_nobody_notices_and_no_lobby_is_made(load: Load) -> None:
    operators = [name_of(pod) for pod in load.cluster.labeled(OPERATOR_PODS)]
    with load.disruption("both operators killed", made=lambda count: count == 0):
        for operator in operators:
            kill_process(operator, "lobby_operator.kube")
        load.crowd.each_gets(8)
        eventually(
            lambda: (
                sum(
                    pod["status"]["containerStatuses"][0]["restartCount"] for pod in load.cluster.labeled(OPERATOR_PODS)
                )
                >= len(operators)
            ),
            what="the operators are started again",
        )
