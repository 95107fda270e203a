"""The admin ports of thousands of lobbies in one process, which tells them apart by the address of a request.

    python -m tests.cluster.support.fake_lobbies --port 8001 --seats 512

Every lobby has no clients and an idle origin. `GET /count` of any of them returns the total number of requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys


class Lobbies(asyncio.Protocol):
    """A connection to one of the lobbies."""

    seats = 512
    asked = 0
    draining: set[str] = set()  # noqa: RUF012  # of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._address = transport.get_extra_info("sockname")[0]
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            method, path, *_ = head.split(b" ", 2)
            if method == b"POST" and path == b"/drain":
                Lobbies.draining.add(self._address)
            body = self._count() if path == b"/count" else self._report()
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )

    def _count(self) -> bytes:
        return json.dumps({"asked": Lobbies.asked}).encode()

    def _report(self) -> bytes:
        Lobbies.asked += 1
        report = {
            "name": self._address,
            "lobby": "",
            "draining": self._address in Lobbies.draining,
            "seats": Lobbies.seats,
            "clients": 0,
            "direct": 0,
            "origin": {"state": "Idle", "reason": "", "connections": 0, "retry_in_seconds": 0.0},
            "position": "",
        }
        return json.dumps(report).encode()


async def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seats", type=int, default=512)
    arguments = parser.parse_args()
    Lobbies.seats = arguments.seats
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(Lobbies, "0.0.0.0", arguments.port, backlog=4096)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
