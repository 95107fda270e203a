"""An origin that floods a lobby with messages that are compared with steps or rules.

The lobby stays responsive, is not replaced, and knows what came behind the flood.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path

from tests.support.lobby import lobby_process
from tests.support.origins import FakeOrigin, server_frame
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_file, lobby_resource, lobby_up

FLOOD = server_frame(1, b"{}") * 50_000
SECONDS = 8


def test_flooded_lobby_is_not_replaced_and_serves_its_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource(
                "prices", origin.url, origin_onConnect=[{"expect": {"json": {"/ok": True}, "timeoutSeconds": 60}}]
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                (client,) = await swarm.connect_all(1)
                connection = await origin.until_open(1)
                sock = connection.server.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # so that little is under way at the end
                names = set()
                end = asyncio.get_running_loop().time() + SECONDS
                while asyncio.get_running_loop().time() < end:
                    if connection.server.transport.get_write_buffer_size() < len(FLOOD):
                        origin.send_raw(FLOOD)
                    names |= set(up.lobby_processes())
                    await asyncio.sleep(0.1)
                assert names == {"prices-1"}, up.process.tail()
                origin.send_raw(server_frame(1, b'{"ok": true}') + server_frame(1, json.dumps({"seq": 1}).encode()))
                await swarm.each_has(1, deadline=60)
                assert client.is_open
                assert len(origin.connections) == 1

    run(main(), deadline=90)


def test_a_refusing_close_code_behind_a_flood_counts_though_the_origin_is_gone_before_all_is_judged() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource(
                "prices",
                origin.url,
                origin_closeCodes={"refused": [4401]},
                origin_onMessage=[{"contains": "ping", "when": "has(msg.ping)", "send": "pong", "forward": False}],
            )
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(1)
                await origin.until_open(1)
                lobby.process.send(signal.SIGSTOP)  # so that all has happened before it reads
                close = server_frame(8, (4401).to_bytes(2) + b"unknown key")
                origin.send_raw(server_frame(1, b'{"ping":1}') * 2_000 + server_frame(1, b'{"seq":1}') + close)
                origin.kill_connections()  # so the answer to the close frame fails
                await origin.until(lambda: not origin.open)
                lobby.process.send(signal.SIGCONT)
                report = await lobby.until_origin("Refused")
                assert report["reason"] == "the origin closed the connection: 4401 (unknown key)"
                await swarm.each_has(1)

    run(main(), deadline=60)
