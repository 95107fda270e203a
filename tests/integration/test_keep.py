"""`keep`: clients that join get the messages that every client needs first, such as the ids of subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.support.lobby import LobbyProcess, lobby_process
from tests.support.origins import ConnectionRecord, FakeOrigin
from tests.support.sockets import run
from tests.support.up import lobby_resource
from tests.support.waiting import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lobby_gateway.clients.resuming import hashes

SECONDS = 20.0
EXACT = {"lobby-gateway": {"resume": "exact"}}


async def _subscribed(origin: FakeOrigin, record: ConnectionRecord) -> None:
    """The answers of a feed to a subscription: with another channel on each connection."""
    assert await record.server.recv() == "subscribe"
    await record.server.send(json.dumps(subscribed(len(origin.connections))))


def subscribed(channel: int) -> dict[str, Any]:
    """What the origin says on its connection of this number."""
    return {"event": "subscribed", "channel": channel}


def state(number: int) -> dict[str, Any]:
    """A message that the rule of the tests keeps."""
    return {"state": number}


def keeping(origin: FakeOrigin, **spec: Any) -> dict[str, Any]:
    """A Lobby that keeps the answer to its subscription, and the newest state."""
    return lobby_resource(
        "prices",
        origin.url,
        origin_onConnect=[{"send": "subscribe"}, {"expect": {"json": {"/event": "subscribed"}, "keep": "channel"}}],
        origin_onMessage=[{"contains": '"state"', "keep": "state"}],
        origin_reconnect={"minMilliseconds": 100, "maxMilliseconds": 100},
        **spec,
    )


def feed() -> FakeOrigin:
    """An origin that answers a subscription."""
    return FakeOrigin(on_open=_subscribed)


async def send(origin: FakeOrigin, *messages: Mapping[str, Any]) -> None:
    await origin.send(*map(json.dumps, messages))


class Client:
    """A client that remembers what it got."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[Any] = []
        self.texts: list[str | bytes] = []
        self.closed = ""

    async def read(self) -> None:
        try:
            async for message in self.connection:
                self.texts.append(message)
                self.seen.append(json.loads(message))
        except ConnectionClosed:
            pass
        self.closed = self.connection.close_reason or "closed"

    async def has(self, *messages: Mapping[str, Any]) -> None:
        """Waits until it got as many messages; they are these, and no others."""
        await until(
            lambda: len(self.seen) >= len(messages), deadline=SECONDS, describe=lambda: f"{messages}, not {self.seen}"
        )
        assert self.seen == list(messages)

    def resume(self) -> str:
        """What it says when it connects again."""
        return "resume=" + hashes([each.encode() for each in self.texts[-16:] if isinstance(each, str)])


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """A connected client."""
    async with connect(url, ping_interval=None) as connection:
        made = Client(connection)
        reading = asyncio.create_task(made.read())
        try:
            yield made
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def streaming(lobby: LobbyProcess, connections: int = 1) -> None:
    """Waits for the stream of the origin's connection of this number."""

    async def begun() -> bool:
        report = (await lobby.seats())["origin"]
        return bool(report["state"] == "Connected" and report["connections"] == connections)

    await until(begun, deadline=SECONDS, describe=f"connection {connections}; {lobby.process.tail()}")


def test_direct_clients_get_what_is_kept_before_the_replay_and_the_stream() -> None:
    async def main() -> None:
        async with (
            feed() as origin,
            lobby_process(keeping(origin, clients_replay=1)) as lobby,
            client(lobby.client_url()) as first,
        ):
            await streaming(lobby)
            await first.has(subscribed(1))  # it came before the stream
            await send(origin, state(1), {"seq": 1}, state(2), {"seq": 2})
            await first.has(subscribed(1), state(1), {"seq": 1}, state(2), {"seq": 2})
            async with client(lobby.client_url()) as late:
                await late.has(subscribed(1), state(2), {"seq": 2})
                await send(origin, {"seq": 3}, state(3))
                await late.has(subscribed(1), state(2), {"seq": 2}, {"seq": 3}, state(3))
            async with client(lobby.client_url()) as later:  # the replay has the state
                await later.has(subscribed(1), state(3))
                await send(origin, {"seq": 4})
                await later.has(subscribed(1), state(3), {"seq": 4})

    run(main(), deadline=60)


def test_after_a_reconnect_of_the_origin_everybody_gets_what_has_changed_once() -> None:
    async def main() -> None:
        async with feed() as origin, lobby_process(keeping(origin)) as lobby, client(lobby.client_url()) as first:
            await streaming(lobby)
            await send(origin, state(1), {"seq": 1})
            await first.has(subscribed(1), state(1), {"seq": 1})
            origin.kill_connections()
            await streaming(lobby, 2)
            await send(origin, {"seq": 2})
            await first.has(subscribed(1), state(1), {"seq": 1}, subscribed(2), {"seq": 2})
            async with client(lobby.client_url()) as late:
                await send(origin, {"seq": 3})
                await late.has(subscribed(2), state(1), {"seq": 3})  # this connection has told no state yet

    run(main(), deadline=60)


def test_a_direct_client_that_resumes_exactly_gets_nothing_of_what_is_kept() -> None:
    async def main() -> None:
        async with feed() as origin, lobby_process(keeping(origin)) as lobby, client(lobby.client_url()) as stays:
            await streaming(lobby)
            await send(origin, {"seq": 1})
            async with client(lobby.client_url()) as joined:
                await joined.has(subscribed(1))
                await send(origin, {"seq": 2})
                await joined.has(subscribed(1), {"seq": 2})
            await send(origin, {"seq": 3})
            await stays.has(subscribed(1), *({"seq": number} for number in range(1, 4)))
            async with client(
                f"{lobby.client_url()}&{joined.resume()}"
            ) as again:  # also with what has no place in the stream
                await again.has(EXACT, {"seq": 3})
                await lobby.drain()
                await until(lambda: again.closed, deadline=SECONDS, describe="closed, since the lobby drains")
                assert again.closed.startswith("resume=")
                assert again.closed == stays.closed

    run(main(), deadline=60)


def test_nothing_is_kept_of_a_connection_that_was_closed_because_nobody_was_there() -> None:
    async def main() -> None:
        async with feed() as origin, lobby_process(keeping(origin)) as lobby:
            async with client(lobby.client_url()) as first:
                await first.has(subscribed(1))
            await origin.until_closed(origin.connections[0], deadline=30)  # 10 s after its last client disconnected
            async with client(lobby.client_url()) as second:
                await second.has(subscribed(2))

    run(main(), deadline=60)


def test_a_message_that_is_too_large_is_not_kept_and_that_is_said_once() -> None:
    async def main() -> None:
        async with feed() as origin, lobby_process(keeping(origin)) as lobby, client(lobby.client_url()) as first:
            await streaming(lobby)
            large = [{"state": number, "pad": "x" * 65536} for number in range(3)]
            await send(origin, state(1), *large)
            await first.has(subscribed(1), state(1), *large)
            async with client(lobby.client_url()) as late:
                await send(origin, {"seq": 1})
                await late.has(subscribed(1), {"seq": 1})
            (told,) = re.findall("(.*too large to be kept.*)", lobby.process.stderr.text)
            assert '"keep": "state"' in told

    run(main(), deadline=60)
