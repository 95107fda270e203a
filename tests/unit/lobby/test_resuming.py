"""Waiting clients without sockets; test_handshakes.py has real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from tests.support.sockets import run
from tests.support.streams import numbered, numbers
from tests.support.waiting import until

from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.lobby.indexing import IndexInTurns
from lobby_gateway.lobby.resuming import ResumingClients
from lobby_gateway.settings import IdentitySettings, LobbySettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.position import NO_EPOCH, Position
from lobby_gateway.trunk.ring import Exact, Live, MessageRing, Wait
from lobby_gateway.websocket.frames import Batch, Opcode, frame


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


@pytest.mark.parametrize("more", [[], [3]])
@pytest.mark.parametrize("behind", [0, 1])
def test_a_client_that_missed_a_break_gets_what_is_kept_there(more: list[int], behind: int) -> None:
    """Like those that had the stream when it broke."""

    async def main() -> None:
        ring = MessageRing()
        ring.begin_epoch(7)
        ring.append(numbered(range(2)))
        ring.append(numbered([2]))
        ring.begin_epoch(8)
        ring.kept.put({"id": KeptFrame(frame(Opcode.TEXT, b"100"))}, cursor=ring.cursor)
        if more:
            ring.append(numbered(more))
        joined: list[list[int]] = []

        def join(_: ClientConnection, batches: Sequence[Batch]) -> None:
            joined.append([number for batch in batches[1:] for number in numbers(batch)])

        resuming = ResumingClients(ring, join, latest=list, settings=LobbySettings())
        resuming.add(cast("ClientConnection", object()), Position(7, 3 - behind))
        resuming.add(cast("ClientConnection", object()), Position(8, 0))
        assert joined == [[*[2][:behind], 100, *more], more]
        assert resuming.verdicts == {"exact": 2, "live": 0}

    run(main())


def test_a_client_is_answered_late_but_exact_if_identities_take_long() -> None:
    async def main() -> None:
        turns: list[MessageRing] = []
        ring = MessageRing(index_later=turns.append, settings=IdentitySettings(index_bytes=1, index_seconds=60))
        ring.begin_epoch(7)
        ring.append(numbered(range(300)))
        joined: list[Sequence[Batch]] = []
        settings = LobbySettings(resume_poll_seconds=0.001, resume_wait_seconds=0.001)
        resuming = ResumingClients(ring, lambda _, batches: joined.append(batches), latest=list, settings=settings)
        place = Position(NO_EPOCH, 0, tuple(digest(b"%d" % number) for number in range(250, 260)), of_payloads=True)
        resuming.add(cast("ClientConnection", object()), place)
        assert turns == [ring]
        looks = asyncio.get_running_loop().time() + 0.05
        await until(lambda: asyncio.get_running_loop().time() > looks)
        assert joined == []
        IndexInTurns(lambda: None)(ring)
        await until(lambda: bool(joined))
        assert resuming.verdicts == {"exact": 1, "live": 0}
        assert [number for batch in joined[0][1:] for number in numbers(batch)] == list(range(260, 300))

    run(main())
