"""`clients.batchMilliseconds`: clients get every message, in bundles, and none of them late."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up

RATE = 200
"""Messages per second."""


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_clients_get_every_message_in_bundles_and_none_late(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with ticker(rate=RATE) as origin:
            resource = lobby_resource("prices", origin.url, clients_batchMilliseconds=100, routing={"mode": mode})
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
            ):
                clients = await swarm.connect_all(20)
                await swarm.each_has(2 * RATE)
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                silences = [client.longest_silence for client in clients]
                assert min(silences) > 0.08  # between two bundles; without batching there are 5 ms between two messages
                assert max(silences) < 0.1 + 10  # ten seconds for a busy machine

    run(main(), deadline=60)
