"""Does what was planned: one call of the runtime for each action. Nothing is decided here."""

from __future__ import annotations

import logging
from collections.abc import Callable

from lobby_gateway.resource.spec import Lobby
from lobby_operator.planner.actions import Action, Create, Delete, Drain
from lobby_operator.reconcile.runtime import Runtime

logger = logging.getLogger(__name__)

Told = Callable[[Action, str], None]
"""Is called with what was done, and with a line for people about it."""


async def act(action: Action, lobby: Lobby, runtime: Runtime, told: Told) -> None:
    """Does one action.

    Args:
        action: what to do.
        lobby: the Lobby.
        runtime: that runs its lobbies.
        told: is told what was done, and why.

    Raises:
        RuntimeFailedError: it could not be done now.
    """
    match action:
        case Create():
            await runtime.create(lobby, action.name)
            done = "starting"
        case Drain():
            await runtime.drain(action.name)
            done = "told to drain"
        case Delete():
            await runtime.delete(action.name)
            done = "told to end"
    where = {"namespace": lobby.namespace} if lobby.namespace else {}
    fields = {"lobby": action.name, **where, "why": action.reason.why.value, **action.reason.fields}
    logger.info(done, extra=fields)
    told(action, f"{done}: {action.reason.sentence}")
