"""aiohttp. Prints a line of JSON when it connects and for each message, and echoes small messages.

Arguments: URL, `compress` or `plain`, subprotocols.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys

from aiohttp import ClientSession, WSMsgType

ECHOED = 100_000


def say(*values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def main(url: str, compression: str, *subprotocols: str) -> None:
    compress = 15 if compression == "compress" else 0
    async with (
        ClientSession() as session,
        session.ws_connect(url, compress=compress, protocols=subprotocols, max_msg_size=0) as client,
    ):
        say("open", client.protocol, "permessage-deflate" if client.compress else "")
        while (message := await client.receive()).type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            text = message.type is WSMsgType.TEXT
            data = message.data.encode() if text else message.data
            say("text" if text else "binary", len(data), hashlib.sha256(data).hexdigest())
            if len(data) <= ECHOED:
                await (client.send_str(message.data) if text else client.send_bytes(data))
        say("closed", client.close_code)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
