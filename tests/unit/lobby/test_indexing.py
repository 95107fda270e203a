from __future__ import annotations

import asyncio

from tests.support.sockets import run
from tests.support.streams import numbered
from tests.support.waiting import until

from lobby_gateway.lobby.indexing import IndexInTurns
from lobby_gateway.settings import IdentitySettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.ring import Exact, MessageRing, Wait


def test_other_work_gets_its_turn_while_a_ring_is_indexed() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done: list[bool] = []
        index = IndexInTurns(lambda: done.append(True))
        ring = MessageRing(index_later=index, settings=IdentitySettings(index_bytes=1))
        ring.begin_epoch(1)
        ring.append(numbered(range(200)))
        turns = 0

        def other_work() -> None:
            nonlocal turns
            turns += 1
            if not done:
                loop.call_soon(other_work)

        place = Position(7, 0, (digest(b"99"),))
        assert isinstance(ring.resume(place), Wait)
        loop.call_soon(other_work)
        await until(lambda: bool(done))
        assert turns >= 199
        assert done == [True]
        assert ring.resume(place) == Exact(100)

    run(main())
