"""Someone deletes the pod of a lobby, with its grace period or without."""

from __future__ import annotations

import pytest
from tests.cluster.failures.conftest import Load
from tests.cluster.support.commands import kubectl


@pytest.mark.parametrize("options", [(), ("--grace-period=0", "--force")], ids=["graceful", "force"])
def test_clients_go_on_in_other_lobbies(load: Load, options: tuple[str, ...]) -> None:
    how = "forced" if options else "graceful"
    with load.disruption(f"lobby deleted, {how}", made=lambda count: 1 <= count <= 2):
        kubectl("delete", "pod", load.fullest(), "-n", load.cluster.namespace, "--wait=false", *options)
