"""Waiting clients without sockets; test_handshakes.py has real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tests.support.sockets import run
from tests.support.streams import numbered
from tests.support.waiting import until

from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.lobby.resuming import ResumingClients
from lobby_gateway.settings import LobbySettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import NO_EPOCH, Position
from lobby_gateway.trunk.ring import Exact, Live, MessageRing, Wait
from lobby_gateway.websocket.frames import Batch


class CountingRing(MessageRing):
    """Counts the searches."""

    searches = 0

    def resume(self, position: Position) -> Exact | Live | Wait:
        self.searches += 1
        return super().resume(position)


def test_clients_that_wait_for_the_same_place_cost_one_search_together() -> None:
    async def main() -> None:
        ring = CountingRing()
        ring.begin_epoch(7)
        ring.append(numbered(range(3)))
        joined: list[Any] = []

        def join(client: ClientConnection, _: Sequence[Batch]) -> None:
            joined.append(client)

        settings = LobbySettings(resume_poll_seconds=0.01, resume_wait_seconds=0.05)
        resuming = ResumingClients(ring, join, latest=list, settings=settings)
        ahead = Position(NO_EPOCH, 0, (digest(b"far ahead"),), of_payloads=True)
        clients = [cast("ClientConnection", object()) for _ in range(1000)]
        for client in clients:
            resuming.add(client, ahead)
        assert ring.searches == len(clients)
        await until(lambda: len(joined) == len(clients))
        assert joined == clients
        assert ring.searches <= len(clients) + 10
        assert resuming.verdicts == {"exact": 0, "live": 1000}

    run(main())
