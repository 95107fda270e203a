"""What one would write with the `websockets` library: `broadcast` to all clients. Argument: the origin's port."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(origin_port: int) -> None:
    """Serves until the origin closes."""

    async def client(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with (
        connect(f"ws://127.0.0.1:{origin_port}/", compression=None, max_size=None, ping_interval=None) as origin,
        serve(client, "127.0.0.1", 0, compression=None, ping_interval=None) as server,
    ):
        print(server.sockets[0].getsockname()[1], flush=True)
        async for message in origin:
            broadcast(server.connections, message)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
