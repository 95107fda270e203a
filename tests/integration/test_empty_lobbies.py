"""Empty lobbies are deleted, down to the number that the Lobby asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up


@pytest.mark.parametrize(
    ("spec", "left"),
    [({"spareSeats": 0, "replicas": 0}, 0), ({"spareSeats": 3, "replicas": 0}, 1), ({"replicas": 2}, 2)],
    ids=["nothing asked for", "spare seats", "floor of replicas"],
)
def test_empty_lobbies_are_deleted(tmp_path: Path, spec: dict[str, Any], left: int) -> None:
    async def main() -> None:
        async with ticker() as origin:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=5, emptySeconds=1, **{"spareSeats": 5, **spec}
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(15)
                assert len(up.lobby_processes()) >= 3
                await swarm.close()
                await up.until_lobbies(left)
                # Later clients are accepted as usual.
                (client,) = await swarm.connect_all(1)
                await swarm.each_has(2, of=[client])

    run(main(), deadline=90)
