"""What runs lobbies: child processes in local mode, pods in Kubernetes. The lobby host knows no more of them than this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.process.reports import LobbyReport
from lobby_gateway.resource.spec import Lobby
from lobby_operator.planner.state import LobbyReading
from lobby_operator.reconcile.poller import PollResult


class RuntimeFailedError(LobbyGatewayError):
    """Something that was asked for could not be done now; it is tried again. The text is one line for a person."""


class Runtime(Protocol):
    """Runs lobbies. All of it may be asked again at any time: what is done already is done."""

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        """The lobbies of a Lobby that run, start or end, with what each said of itself last."""

    async def create(self, lobby: Lobby, name: str) -> None:
        """Starts a lobby; returns before it listens.

        Raises:
            RuntimeFailedError: it can't be started now.
        """

    async def drain(self, name: str) -> None:
        """Tells a lobby to take no more clients and to send those that it has elsewhere.

        Raises:
            RuntimeFailedError: it could not be told.
        """

    async def delete(self, name: str) -> None:
        """Ends a lobby, in order if it still can; returns before it is gone."""

    async def read(self, name: str) -> PollResult[LobbyReport] | None:
        """What a lobby said of itself last; None if there is no such lobby."""
