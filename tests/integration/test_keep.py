"""`keep`: clients that join get the messages that every client needs first, such as the ids of subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tests.support.lobby import LobbyProcess, greeter_process, lobby_process, lobby_processes, new_key, with_open
from tests.support.origins import ConnectionRecord, FakeOrigin, Refuse, reset
from tests.support.sockets import run
from tests.support.up import lobby_resource
from tests.support.waiting import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lobby_gateway.clients.resuming import hashes
from lobby_gateway.process.peer_list import Peer, PeerList, Version

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

    async def first(self) -> Any:
        """Waits for its first message."""
        await until(lambda: self.seen, deadline=SECONDS, describe="a message")
        return self.seen[0]

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
            (told,) = re.findall("(.*not kept for clients that join.*)", lobby.process.stderr.text)
            assert '"keep": "state"' in told

    run(main(), deadline=60)


# Behind greeters


def test_clients_of_two_greeters_get_what_is_kept_before_the_replay_and_the_stream() -> None:
    async def main() -> None:
        key = new_key()
        async with (
            feed() as origin,
            lobby_process(resource := keeping(origin, clients_replay=1), key=key) as lobby,
            greeter_process(key=key) as one,
            greeter_process(key=key) as other,
        ):
            for greeter in (one, other):
                greeter.set_directory(with_open(resource, lobby))
            async with client(one.url("/prices")) as first:
                await streaming(lobby)
                await first.has(subscribed(1))
                await send(origin, state(1), {"seq": 1}, state(2), {"seq": 2})
                await first.has(subscribed(1), state(1), {"seq": 1}, state(2), {"seq": 2})
                for greeter in (one, other):
                    async with client(greeter.url("/prices")) as late:
                        await late.has(subscribed(1), state(2), {"seq": 2})
            async with client(one.url("/prices")) as here, client(other.url("/prices")) as there:
                for each in (here, there):
                    await each.has(subscribed(1), state(2), {"seq": 2})
                origin.kill_connections()
                await streaming(lobby, 2)
                await send(origin, {"seq": 3})
                for each in (here, there):
                    await each.has(subscribed(1), state(2), {"seq": 2}, subscribed(2), {"seq": 3})
                async with client(f"{other.url('/prices')}?{here.resume()}") as again:
                    await again.has(EXACT)
                    await send(origin, {"seq": 4})
                    await again.has(EXACT, {"seq": 4})

    run(main(), deadline=60)


def test_a_redirected_client_gets_what_is_kept() -> None:
    async def main() -> None:
        key = new_key()
        async with feed() as origin, greeter_process(key=key) as greeter:
            resource = keeping(origin, routing={"mode": "Redirect"})
            async with lobby_process(resource, key=key) as lobby:
                greeter.set_directory(with_open(resource, lobby))
                async with client(greeter.url("/prices")) as first:
                    await streaming(lobby)
                    await first.has(subscribed(1))
                    await send(origin, state(1))
                    await first.has(subscribed(1), state(1))
                    async with client(greeter.url("/prices")) as late:
                        await late.has(subscribed(1), state(1))
                        assert (await lobby.seats())["direct"] == 2

    run(main(), deadline=60)


def test_clients_that_move_to_another_lobby_get_nothing_twice() -> None:
    async def main() -> None:
        key = new_key()
        async with feed() as origin, greeter_process(key=key) as greeter:
            resource = keeping(origin, origin_connect="Always")
            async with lobby_processes(resource, 2, key=key) as lobbies:
                for number, lobby in enumerate(lobbies, 1):
                    await origin.until_connected(number)
                    await streaming(lobby)
                greeter.set_directory(with_open(resource, *lobbies))
                numbers: list[Mapping[str, Any]] = [{"seq": number} for number in range(20)]
                async with client(greeter.url("/prices")) as moved:
                    channel = (await moved.first())["channel"]
                    await send(origin, *numbers)
                    await moved.has(subscribed(channel), *numbers)
                    (old,) = [each for each in lobbies if (await each.seats())["clients"]]
                    await old.drain()
                    (new,) = [each for each in lobbies if each is not old]
                    greeter.set_directory(with_open(resource, new, draining=(old.name,)))
                    await new.until_clients(1)
                    await old.until_clients(0)
                    await send(origin, {"seq": 20})
                    await moved.has(subscribed(channel), *numbers, {"seq": 20})
                    async with client(greeter.url("/prices")) as late:
                        await late.has(subscribed(3 - channel))

    run(main(), deadline=60)


# Lobbies that relay


async def introduce(*lobbies: LobbyProcess, connect: Sequence[bool], version: int = 1) -> None:
    """Tells each lobby of the others, and whether it may connect to the origin."""
    for lobby, allowed in zip(lobbies, connect, strict=True):
        peers = tuple(Peer(name=each.name, address=f"127.0.0.1:{each.port}") for each in lobbies if each is not lobby)
        await lobby.tell_peers(PeerList(version=Version(1, version), connect=allowed, peers=peers))


async def relaying(lobby: LobbyProcess, *via: str) -> None:
    """Waits until the stream of a lobby comes over these."""

    async def seen() -> bool:
        report = await lobby.seats()
        return bool(report["flowing"] and report["via"] == list(via))

    await until(seen, deadline=SECONDS, describe=f"via {via}; {lobby.process.tail()}")


def test_clients_of_a_lobby_that_may_not_connect_get_what_the_other_one_keeps() -> None:
    async def main() -> None:
        async with feed() as origin:
            resource = keeping(origin, origin_limits={"connections": 1})
            async with lobby_processes(resource, 2) as lobbies:
                holder, relay = lobbies
                await introduce(holder, relay, connect=(True, False))
                async with client(holder.client_url()) as first:
                    await first.has(subscribed(1))
                    await send(origin, state(1), {"seq": 1})
                    await first.has(subscribed(1), state(1), {"seq": 1})
                    async with client(relay.client_url()) as waits:
                        await relaying(relay, holder.name)
                        await waits.has(subscribed(1), state(1))
                        async with client(relay.client_url()) as late:
                            await late.has(subscribed(1), state(1))
                            await send(origin, {"seq": 2}, state(2))
                            for each in (waits, late):
                                await each.has(subscribed(1), state(1), {"seq": 2}, state(2))
                        origin.kill_connections()
                        await streaming(holder, 2)
                        await relaying(relay, holder.name)
                        await send(origin, {"seq": 3})
                        await waits.has(subscribed(1), state(1), {"seq": 2}, state(2), subscribed(2), {"seq": 3})
                        async with client(relay.client_url()) as later:
                            await later.has(subscribed(2), state(2))
                assert origin.most_open == 1

    run(main(), deadline=60)


def test_a_lobby_that_has_lost_its_connection_keeps_what_its_peer_keeps_and_nobody_gets_anything_twice() -> None:
    async def main() -> None:
        async with feed() as origin, lobby_processes(keeping(origin, origin_connect="Always"), 2) as lobbies:
            await introduce(*lobbies, connect=(True, True))
            for lobby in lobbies:
                await streaming(lobby)
            loser, other = lobbies
            async with client(loser.client_url()) as stays:
                channel = (await stays.first())["channel"]
                numbers: list[Mapping[str, Any]] = [{"seq": number} for number in range(20)]
                await send(origin, *numbers)
                await stays.has(subscribed(channel), *numbers)
                origin.refuse = Refuse(503)
                reset(origin.connections[channel - 1].server)
                await relaying(loser, other.name)
                async with client(loser.client_url()) as late:
                    await late.has(subscribed(3 - channel))
                    await send(origin, {"seq": 20})
                    await stays.has(subscribed(channel), *numbers, {"seq": 20})
                    await late.has(subscribed(3 - channel), {"seq": 20})
                    origin.refuse = None
                    await streaming(loser, 2)
                    await send(origin, *({"seq": number} for number in range(21, 41)))
                    await relaying(loser)
                    numbers = [{"seq": number} for number in range(41)]
                    await stays.has(subscribed(channel), *numbers)
                    await late.has(subscribed(3 - channel), *numbers[20:])
                async with client(loser.client_url()) as later:
                    await later.has(subscribed(3))

    run(main(), deadline=60)
