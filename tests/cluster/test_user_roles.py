"""The built-in roles `view`, `edit` and `admin` include Lobbies."""

from __future__ import annotations

import pytest
from tests.cluster.support.commands import CommandFailedError, kubectl
from tests.cluster.support.release import namespace
from tests.cluster.support.waiting import eventually

HERE = "lobby-gateway-users"
LOBBIES = "lobbies.lobby-gateway.io"
ROLES = ("view", "edit", "admin")


def may(role: str, verb: str, what: str, where: str = HERE) -> bool:
    """Whether a user with this role in one namespace may do something in another or the same."""
    try:
        return kubectl("auth", "can-i", verb, what, f"--as={role}-user", "-n", where).strip() == "yes"
    except CommandFailedError:  # "no" has the exit code 1
        return False


@pytest.mark.usefixtures("installed")
def test_users_with_built_in_roles_may_use_lobbies_in_their_namespace() -> None:
    with namespace(HERE):
        for role in ROLES:
            kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}-user", "-n", HERE)
        eventually(lambda: may("edit", "create", LOBBIES), what="the role edit includes Lobbies")
        for role in ROLES:
            assert may(role, "list", LOBBIES), role
            assert may(role, "create", LOBBIES) is (role != "view"), role
            assert may(role, "patch", f"{LOBBIES}/scale") is (role != "view"), role
            assert not may(role, "patch", f"{LOBBIES}/status"), role
            assert not may(role, "list", LOBBIES, "default"), role
