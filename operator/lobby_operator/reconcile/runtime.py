"""What runs lobbies, as the reconciler sees it: child processes in local mode, pods on Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.process.peer_list import PeerList
from lobby_gateway.resource.spec import Lobby
from lobby_operator.planner.state import LobbyReading

INTERNAL_ERROR = "internal error in the operator, see its log"
"""What the status says about an unexpected exception, whose text may mean nothing to the owner of a Lobby."""


class RuntimeFailedError(LobbyGatewayError):
    """A call failed, and is retried. The text is one line for people."""


class LobbyNameTakenError(RuntimeFailedError):
    """Someone else has the name of a lobby that is to be created. Trying again is pointless.

    Attributes:
        name: the name.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


class Runtime(Protocol):
    """Runs lobbies. Every call is idempotent."""

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        """The lobbies of a Lobby that are starting, running or ending, each with its latest report."""

    async def create(self, lobby: Lobby, name: str) -> None:
        """Starts a lobby; returns before it listens.

        Raises:
            LobbyNameTakenError: someone else has its name.
            RuntimeFailedError: it can't be started now.
        """

    async def preconnect(self, name: str) -> None:
        """Asks a lobby to connect to its origin although it has no clients, and to stay connected for a while.

        Raises:
            RuntimeFailedError: it can't be asked now.
        """

    async def drain(self, name: str) -> None:
        """Asks a lobby to take no new clients and to send its clients elsewhere.

        Raises:
            RuntimeFailedError: it can't be asked now.
        """

    async def tell_peers(self, name: str, told: PeerList) -> None:
        """Tells a lobby its peers, and whether it may connect to the origin.

        Raises:
            RuntimeFailedError: it can't be told now.
        """

    async def delete(self, name: str) -> None:
        """Ends a lobby, gracefully if possible; returns before it is gone.

        Raises:
            RuntimeFailedError: it can't be deleted now.
        """
