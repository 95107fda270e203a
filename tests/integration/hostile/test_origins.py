"""Whatever an origin answers or sends, the lobby stays, its clients stay connected, and the next attempt succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from tests.support.lobby import lobby_process
from tests.support.origins import server_frame
from tests.support.peers import acceptance
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_resource
from tests.support.waiting import until

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
RETRY_AFTER = (
    b"Mon, 01 Jan 2020 00:00:00 +99999999999999999999",
    b"99999999999999999999 Jan 2020 00.00.00 +",
    b"Mon, 99 Foo 0000 99:99:99",
    b"\xff\xfe",
    b"-1",
    b"1e-9",
)
RESPONSES = (
    *(b"HTTP/1.1 503 \r\nRetry-After: " + value + b"\r\n\r\n" for value in RETRY_AFTER),
    b"",
    b"\x00" * 100,
    b"HTTP/1.1 101\r\n\r\n",
    b"HTTP/1.1 999 \r\n\r\n",
    b"HTTP/1.1 000 \r\n\r\n",
    b"HTTP/1.1 1000000000000000000000000 \r\n\r\n",
    b"HTTP/9.9 101 Switching\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: //[::1\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: \x1b[31m\x00http://\xe2\x80\xae\r\n\r\n",
    b"HTTP/1.1 103 Early\r\n\r\n" * 5000,
    SWITCH + b"Sec-WebSocket-Accept: \xff\r\n\r\n",
    SWITCH + b"Sec-WebSocket-Accept: a\r\nSec-WebSocket-Accept: b\r\n\r\n",
    SWITCH + b"Connection: " + b"," * 60000 + b"\r\n\r\n",
    SWITCH + b'Sec-WebSocket-Extensions: a; b="\\\r\n\r\n',
    SWITCH + b"X-Endless: " + b"x" * 100_000,
    SWITCH + b":\r\n\xff\r\n\r\n",
)
FRAMES = (
    server_frame(8, b"\x03"),
    server_frame(8, b"\x03\xed"),
    server_frame(8, b"\xff\xff\xff"),
    server_frame(8, b"\x0f\xa0\x1b[2J\x00\xe2\x80\xae{0} %s {problem}"),
    server_frame(9, b"x" * 126),
    server_frame(0, b"never begun"),
    server_frame(1, b"\xed\xa0\x80"),
    b"\xf1\x00",
    b"\x81\x7f" + b"\xff" * 8,
    server_frame(1, b"[" * 200_000),
    server_frame(1, b'{"ok": ' + b"9" * 100_000 + b"}"),
    server_frame(2, b""),
)


class HostileOrigin:
    """Answers each connection with the next bytes and closes it; answers properly after the last."""

    def __init__(self) -> None:
        self.scripts = [(False, data) for data in RESPONSES] + [(True, data) for data in FRAMES]
        self.answered = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HostileOrigin]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            accept = acceptance(request.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0])
            number, self.answered = self.answered, self.answered + 1
            opens, data = (
                self.scripts[number] if number < len(self.scripts) else (True, server_frame(1, b'{"ok": true}'))
            )
            writer.write(accept + data if opens else data)
            await writer.drain()
            if number < len(self.scripts):
                writer.write_eof()
            await reader.read()
        writer.close()


def test_lobby_and_clients_outlive_any_answer_of_the_origin() -> None:
    async def main() -> None:
        async with HostileOrigin().running() as origin:
            resource = lobby_resource(
                "prices",
                origin.url,
                origin_reconnect={"minMilliseconds": 10, "maxMilliseconds": 20},
                origin_onConnect=[{"send": "hello"}, {"expect": {"json": {"/ok": True}, "timeoutSeconds": 1}}],
                origin_maxMessageBytes=1 << 20,
            )
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(5)
                reasons: set[str] = set()

                async def look() -> bool:
                    reasons.add((await lobby.seats())["origin"]["reason"])
                    return origin.answered > len(origin.scripts)

                await until(look, deadline=60, describe=lambda: f"{origin.answered} answers; {lobby.process.tail()}")
                await lobby.until_origin("Connected")
                assert len(swarm.open) == 5, swarm.summary()
                assert lobby.process.returncode is None
                metrics = await lobby.metrics()
                assert metrics("lobby_origin_failures_total", failure="internal") == 0
                assert all(reason.isprintable() and len(reason) <= 200 for reason in reasons)
                log = [json.loads(line) for line in lobby.process.stderr.lines]
                assert [line for line in log if line["level"] in {"error", "critical"}] == []

    run(main(), deadline=90)
