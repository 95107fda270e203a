"""What clients of a greeter send and get, for several test modules."""

from __future__ import annotations

import asyncio
from typing import Any

from lobby_gateway.clients.resuming import hashes

WAIT_SECONDS = 15  # for which a client waits for a seat, by default; a loaded machine is quicker than half of it
REDIRECT: Any = {"routing": {"mode": "Redirect", "redirect": {"urlTemplate": "ws://{ip}:{port}/"}}}
SUBPROTOCOLS = {"url": "ws://origin.example/", "subprotocols": ["v2", "v1"]}
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
EXACT = '{"lobby-gateway":{"resume":"exact"}}'
LIVE = '{{"lobby-gateway":{{"resume":"live","reason":"{}"}}}}'


def numbered(first: int, count: int) -> list[str]:
    return [str(number) for number in range(first, first + count)]


def both_publish(running: Any, *texts: str) -> None:
    for lobby in running.lobbies:
        lobby.publish(*texts)


async def http_get(port: int, path: str = "/prices?symbol=x", /, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The status, the header fields by name in lower case, and the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: h", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    fields = (line.split(": ", 1) for line in rest)
    return int(status.split()[1]), {name.lower(): value for name, value in fields}, body


def asking(*seen: str) -> str:
    """The path for a client that saw these messages last."""
    return f"/prices?resume={hashes(text.encode() for text in seen)}"
