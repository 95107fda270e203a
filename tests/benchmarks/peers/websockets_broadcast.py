"""A peer: the obvious program with Python's `websockets`, using its own `broadcast` between origin and clients.

    websockets_broadcast.py ORIGIN ADDRESS [deflate]

ORIGIN is HOST:PORT; clients connect to ADDRESS. Prints its port once the origin is connected, and exits with the origin.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(origin_address: str, address: str, compression: str | None) -> None:
    """Serves until the origin disconnects."""
    clients: set[ServerConnection] = set()

    async def handler(client: ServerConnection) -> None:
        clients.add(client)
        try:
            await client.wait_closed()
        finally:
            clients.discard(client)

    async with (
        serve(handler, address, 0, compression=compression) as server,
        connect(f"ws://{origin_address}", compression=None, max_size=None) as origin,
    ):
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        async for message in origin:
            broadcast(clients, message)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], "deflate" if "deflate" in sys.argv else None))
