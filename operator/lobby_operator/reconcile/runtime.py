"""What runs lobbies: child processes in local mode, pods on Kubernetes. The reconciler knows them by this protocol alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.process.reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator.planner.state import LobbyReading, PollResult


class RuntimeFailedError(LobbyGatewayError):
    """A call could not be completed now, and is retried. The text is one line for people."""


class Runtime(Protocol):
    """Runs lobbies. Every call is idempotent."""

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        """The lobbies of a Lobby that are starting, running or ending, each with its latest report."""

    async def create(self, lobby: Lobby, name: str) -> None:
        """Starts a lobby; returns before it listens.

        Raises:
            RuntimeFailedError: it can't be started now.
        """

    async def drain(self, name: str) -> None:
        """Tells a lobby to take no new clients and to send its clients elsewhere.

        Raises:
            RuntimeFailedError: the lobby could not be told.
        """

    async def delete(self, name: str) -> None:
        """Ends a lobby, gracefully if it still can; returns before it is gone."""

    async def read(self, name: str) -> PollResult[LobbyReport] | None:
        """What polling a lobby has shown; None if it does not exist."""
