"""Python's `websockets`. Prints a line of JSON when it connects and for each message, and echoes small messages.

Arguments: URL, `compress` or `plain`, subprotocols.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

ECHOED = 100_000


def say(*values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def main(url: str, compression: str, *subprotocols: str) -> None:
    async with connect(
        url,
        compression="deflate" if compression == "compress" else None,
        subprotocols=[Subprotocol(each) for each in subprotocols] or None,
        max_size=None,
        proxy=None,
    ) as client:
        assert client.response is not None
        say("open", client.subprotocol, client.response.headers.get("Sec-WebSocket-Extensions", ""))
        try:
            while True:
                message = await client.recv()
                data = message.encode() if isinstance(message, str) else message
                say("text" if isinstance(message, str) else "binary", len(data), hashlib.sha256(data).hexdigest())
                if len(data) <= ECHOED:
                    await client.send(message)
        except ConnectionClosed as closed:
            say("closed", closed.rcvd.code if closed.rcvd is not None else 1006)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
