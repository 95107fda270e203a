"""An origin that admits only clients that know a secret; runs in a pod, from a ConfigMap, and needs only `websockets`.

`VAULT_ACCEPTS` lists the SHA-256 of each accepted `Authorization` header. `GET /seen` returns how often each was used, as
JSON; `GET /revoke/<digest>` revokes one and closes all connections. Every connection receives the same numbered messages.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import itertools
import json
import os
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

ACCEPTED = set(os.environ.get("VAULT_ACCEPTS", "").split(","))
SECONDS = 0.25
seen: collections.Counter[str] = collections.Counter()
connections: set[ServerConnection] = set()


def check(connection: ServerConnection, request: Request) -> Response | None:
    """Answers `/seen` and `/revoke`, and refuses clients that don't know the secret."""
    if request.path.startswith("/revoke/"):
        ACCEPTED.discard(request.path.rpartition("/")[2])
        for each in connections:
            each.transport.close()
        return connection.respond(HTTPStatus.OK, "revoked\n")
    if request.path == "/seen":
        return connection.respond(HTTPStatus.OK, json.dumps(seen))
    digest = hashlib.sha256(request.headers.get("Authorization", "").encode()).hexdigest()
    seen[digest] += 1
    return None if digest in ACCEPTED else connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")


async def connected(connection: ServerConnection) -> None:
    """Keeps a connection until it ends."""
    connections.add(connection)
    try:
        async for _ in connection:
            pass
    finally:
        connections.discard(connection)


async def main() -> None:
    """Serves, and sends."""
    async with serve(connected, "0.0.0.0", 9000, process_request=check, compression=None):
        for number in itertools.count(1):
            broadcast(connections, json.dumps({"seq": number}))
            await asyncio.sleep(SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
