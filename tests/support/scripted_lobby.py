"""A stand-in for a lobby or greeter process that answers on its admin port and misbehaves according to its name.

Run as `python -m tests.support.scripted_lobby` with the command line of a lobby or a greeter. By name,
`quits` exits with code 3 before it listens, `mute` never listens, `garbled` announces no port, `stubborn` ignores SIGTERM, and
`broken` responds with 500. All others behave: they report a client until `/drain` was requested.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time

from lobby_gateway.clients.tokens import DRAIN_PATH, Purpose, key_from_hex, verify
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.lifecycle import announce, watch_stdin
from lobby_gateway.process.seat_reports import GreeterReport, LobbyReport, OriginReport, OriginState
from lobby_gateway.settings import TOKEN_KEY_VARIABLE


class _Scripted:
    def __init__(self, name: str) -> None:
        self.name = name
        self.draining = False
        self.directories: list[int] = []

    async def seats(self, _request: AdminRequest) -> AdminResponse:
        report = LobbyReport(
            name=self.name,
            lobby=self.name.rpartition("-")[0],
            draining=self.draining,
            seats=5,
            clients=0 if self.draining else 1,
            origin=OriginReport(state=OriginState.CONNECTED, connections=1),
        )
        return AdminResponse.json(report.to_json())

    async def drain(self, request: AdminRequest) -> AdminResponse:
        if self.name.startswith("broken"):
            return AdminResponse.text("can't", 500)
        verify(
            request.headers["authorization"].removeprefix("Bearer "),
            [key_from_hex(os.environ[TOKEN_KEY_VARIABLE])],
            purpose=Purpose.DRAIN,
            lobby=self.name,
            path=DRAIN_PATH,
            now=time.time(),
        )
        self.draining = True
        return AdminResponse.text("draining")

    async def waiting(self, _request: AdminRequest) -> AdminResponse:
        return AdminResponse.json(GreeterReport(waiting={"prices": len(self.directories)}).to_json())

    async def environment(self, _request: AdminRequest) -> AdminResponse:
        return AdminResponse.json(
            {"environment": dict(os.environ), "arguments": sys.argv, "directories": self.directories}
        )

    async def spin(self, _request: AdminRequest) -> AdminResponse:
        """Blocks the event loop with work for three seconds, as a flood does."""
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pass
        return AdminResponse.text("done")

    def set_directory(self, line: bytes) -> None:
        self.directories.append(len(json.loads(line)["items"]))


async def main(name: str) -> None:
    """Serves until it is stopped or its parent exits."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if name.startswith("stubborn") else stop.set)
    scripted = _Scripted(name)
    await watch_stdin(scripted.set_directory, stop.set)
    routes = {
        ("GET", "/seats"): scripted.seats,
        ("GET", "/waiting"): scripted.waiting,
        ("POST", "/drain"): scripted.drain,
        ("GET", "/environment"): scripted.environment,
        ("POST", "/spin"): scripted.spin,
    }
    admin = AdminServer(routes)
    port = await admin.start("127.0.0.1", 0)
    if name.startswith("garbled"):
        announce(port="none")
    elif not name.startswith("mute"):
        announce(port=4321, admin_port=port)
    await stop.wait()
    await admin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="greeter")
    given = parser.parse_known_args()[0].name
    if given.startswith("quits"):
        sys.exit(3)
    asyncio.run(main(given))
