"""What clients send: ignored, forwarded to the origin, or a reason to close."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support import web
from tests.support.origins import ConnectionRecord, FakeOrigin, ticking
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

MODES = ["Proxy", "Redirect"]


@pytest.mark.parametrize("mode", MODES)
def test_forwarded_messages_reach_the_origin_whole_and_in_order(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, clients_messages="Forward", routing={"mode": mode})
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
            ):
                first, second = await swarm.connect_all(2)
                connection = await origin.until_open(1)
                await up.until_origin("Connected")
                sent: list[str | bytes] = ["hello", b"\x00\xff", "", "€ 🦊", "x" * 60000]
                for message in sent:
                    first.send(message)
                await origin.until(lambda: len(connection.messages) == len(sent))
                assert connection.messages == sent
                second.send("from the other")
                await origin.until(lambda: connection.messages[-1] == "from the other")
                await origin.send("answer")
                await until(lambda: all(client.tally.other == 1 for client in swarm.clients), describe=swarm.summary)

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", MODES)
def test_ignored_messages_are_not_forwarded(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, routing={"mode": mode}))
            async with lobby_up("-f", file) as up, Swarm(up.url, follow_redirects=True) as swarm:
                (client,) = await swarm.connect_all(1)
                connection = await origin.until_open(1)
                client.send("hello")
                client.send(b"x" * 60000)

                async def counted() -> bool:
                    holders = up.lobby_processes().values() if mode == "Redirect" else up.greeter_processes()
                    metrics = [await web.metrics(f"{await up.admin_of(each.pid)}/metrics") for each in holders]
                    name = "lobby_client_messages_total" if mode == "Redirect" else "greeter_client_messages_total"
                    return sum(each(name, fate="ignored") for each in metrics) == 2

                await until(counted, describe="two messages to be counted as ignored")
                await origin.send("after")
                await until(lambda: client.tally.other == 1, describe=swarm.summary)
                assert connection.messages == []
                assert client.is_open

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", MODES)
def test_rejected_message_closes_only_its_sender(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, clients_messages="Reject", routing={"mode": mode})
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
            ):
                sender, other = await swarm.connect_all(2)
                connection = await origin.until_open(1)
                sender.send("hello")
                await until(lambda: sender.close_code is not None, describe=swarm.summary)
                assert sender.close_code == 1008
                assert sender.close_reason
                await up.until_clients(1)
                await origin.send("after")
                await until(lambda: other.tally.other == 1, describe=swarm.summary)
                assert connection.messages == []

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", MODES)
def test_messages_sent_before_the_origin_is_connected_reach_it_in_order(tmp_path: Path, mode: str) -> None:
    async def login(origin: FakeOrigin, _: ConnectionRecord) -> None:
        await asyncio.sleep(0.5)  # the client has long sent its messages
        await origin.send("welcome")

    async def main() -> None:
        async with FakeOrigin(on_open=login) as origin:
            resource = lobby_resource(
                "prices",
                origin.url,
                origin_onConnect=[{"expect": {"timeoutSeconds": 5}}],
                clients_messages="Forward",
                routing={"mode": mode},
            )
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
            ):
                (client,) = await swarm.connect_all(1)
                for number in range(3):
                    client.send(f"subscribe {number}")
                connection = await origin.until_open(1)
                await origin.until(lambda: len(connection.messages) == 3)
                assert connection.messages == ["subscribe 0", "subscribe 1", "subscribe 2"]

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", MODES)
def test_clients_whose_messages_the_origin_objects_to_are_closed_and_others_keep_their_stream(
    tmp_path: Path, mode: str
) -> None:
    async def main() -> None:
        closes: list[asyncio.Task[None]] = []

        def object_to(_: str | bytes) -> Sequence[str]:
            closes.append(asyncio.create_task(origin.close_connections(1008, "no such method")))
            return ()

        async with FakeOrigin(on_message=object_to) as origin:
            resource = lobby_resource(
                "prices",
                origin.url,
                origin_reconnect={"minMilliseconds": 100, "maxMilliseconds": 30000},
                clients_messages="Forward",
                routing={"mode": mode},
            )
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
                Swarm(up.url, follow_redirects=True) as senders,
            ):
                (bystander,) = await swarm.connect_all(1)
                clients = await senders.connect_all(10)
                await origin.until_open(1)
                await up.until_origin("Connected")
                async with ticking(origin, interval=0.05):
                    await swarm.each_has(1)
                    before = asyncio.get_running_loop().time()
                    for client in clients:
                        if client.is_open:
                            client.send("bad")
                        await asyncio.sleep(1)
                    seconds = asyncio.get_running_loop().time() - before
                await asyncio.gather(*closes)
                closed = [client for client in clients if client.close_code is not None]
                assert len(closed) in {4, 5}, senders.summary()  # then forwarding pauses
                for client in closed:
                    assert client.close_code == 1008
                    assert "because of a message of this client" in client.close_reason
                assert bystander.is_open
                received = bystander.tally.count + bystander.tally.other
                assert received > 0.8 * seconds / 0.06, (received, seconds, swarm.summary())

    run(main(), deadline=90)
