"""A peer: the obvious program with Python's `websockets`, using its own `broadcast` between origin and clients.

    websockets_broadcast.py ORIGIN_PORT [deflate]

Prints its port once the origin is connected, and exits with the origin.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(origin_port: int, compression: str | None) -> None:
    """Serves until the origin disconnects."""
    clients: set[ServerConnection] = set()

    async def handler(client: ServerConnection) -> None:
        clients.add(client)
        try:
            await client.wait_closed()
        finally:
            clients.discard(client)

    async with (
        serve(handler, "127.0.0.1", 0, compression=compression) as server,
        connect(f"ws://127.0.0.1:{origin_port}", compression=None, max_size=None) as origin,
    ):
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        async for message in origin:
            broadcast(clients, message)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), "deflate" if "deflate" in sys.argv else None))
