"""The built-in roles `view`, `edit` and `admin` include Lobbies."""

from __future__ import annotations

import pytest
from tests.cluster.support.commands import CommandFailedError, kubectl
from tests.cluster.support.release import namespace
from tests.cluster.support.waiting import eventually

HERE = "lobby-gateway-users"
LOBBIES = "lobbies.lobby-gateway.io"
ROLES = ("view", "edit", "admin")


def may(role: str, verb: str, *, subresource: str = "", where: str = HERE) -> bool:
    """Whether a user with this role in one namespace may do something with Lobbies in another or the same."""
    part = [f"--subresource={subresource}"] if subresource else []
    try:
        return kubectl("auth", "can-i", verb, LOBBIES, *part, f"--as={role}-user", "-n", where).strip() == "yes"
    except CommandFailedError:  # "no" has the exit code 1
        return False


@pytest.mark.usefixtures("installed")
def test_users_with_built_in_roles_may_use_lobbies_in_their_namespace() -> None:
    with namespace(HERE):
        for role in ROLES:
            kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}-user", "-n", HERE)
        eventually(lambda: may("edit", "create"), what="the role edit includes Lobbies")
        for role in ROLES:
            assert may(role, "list"), role
            assert may(role, "create") is (role != "view"), role
            assert may(role, "patch", subresource="scale") is (role != "view"), role
            assert not may(role, "patch", subresource="status"), role
            assert not may(role, "list", where="default"), role
