from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.sockets import run
from tests.support.waiting import until
from websockets.asyncio.client import ClientConnection as WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from lobby_gateway import close_codes
from lobby_gateway.clients.admission import ProcessCapacity, SeatCount
from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.clients.resuming import hashes
from lobby_gateway.clients.tokens import DRAIN_PATH, RESULTS, Purpose, TokenError, TokenKeys, sign
from lobby_gateway.lobby.handshakes import LobbyHandshakes
from lobby_gateway.process.arguments import networks
from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.resource.spec import Lobby, lobby_from_resource
from lobby_gateway.trunk import records as trunk
from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.websocket.frames import AsideBatch, Batch, Opcode, frame
from lobby_gateway.websocket.listener import Handshake, Listener, listen

KEY = b"k" * 32
EPOCH = 7
EXACT = '{"lobby-gateway":{"resume":"exact"}}'
LIVE = '{{"lobby-gateway":{{"resume":"live","reason":"{}"}}}}'


def lobby_of(clients: dict[str, Any], subprotocols: Sequence[str] = ()) -> Lobby:
    resource = {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": "prices"},
        "spec": {"origin": {"url": "ws://origin.example/", "subprotocols": list(subprotocols)}, "clients": clients},
    }
    return lobby_from_resource(validate_and_default(resource, "test"))


class Served:
    """Lobby handshakes behind a listener, with a ring that the test fills."""

    def __init__(self, lobby: Lobby, proxies: str) -> None:
        self.lobby = lobby
        self.key = KEY
        self.keys = TokenKeys([KEY])
        self.capacity = ProcessCapacity(max_memory=1000)
        self.seat_count = SeatCount(self.lobby.spec.clients.seats)
        self.ring = MessageRing()
        self.ring.begin_epoch(EPOCH)
        self.forwarded: list[tuple[ClientConnection, int, bytes]] = []
        self.trunks: list[Handshake] = []
        self.subprotocol: str | None = None
        self.handshakes = LobbyHandshakes(
            self.lobby,
            "prices-1",
            self.keys,
            seat_count=self.seat_count,
            capacity=self.capacity,
            ring=self.ring,
            forward=self._forward,
            origin_subprotocol=lambda: self.subprotocol,
            seats_changed=lambda: None,
            trunk_arrived=self._trunk_arrived,
            proxies=TrustedProxies(networks()(proxies)),
        )
        self.listener = Listener(listen("127.0.0.1", 0), self.handshakes)

    def _forward(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
        self.forwarded.append((client, opcode, payload))

    def _trunk_arrived(self, handshake: Handshake) -> None:
        self.trunks.append(handshake)
        handshake.respond(200, (), b"")

    def publish(self, *texts: str) -> None:
        batch = Batch.of([frame(Opcode.TEXT, text.encode()) for text in texts])
        self.ring.append(batch)
        self.handshakes.bus.publish(batch)

    def url(
        self,
        *,
        query: str = "",
        lobby: str = "prices-1",
        path: str = "/prices",
        expires_in: float = 30,
        host: str = "",
    ) -> str:
        expires = time.time() + expires_in
        token = sign(self.key, purpose=Purpose.SEAT, lobby=lobby, path=path, expires=expires, host=host)
        return f"ws://127.0.0.1:{self.listener.port}/prices?token={token}{query}"


@asynccontextmanager
async def served(
    *, proxies: str = "", origin_subprotocols: Sequence[str] = (), **clients: Any
) -> AsyncIterator[Served]:
    made = Served(await asyncio.to_thread(lobby_of, clients, origin_subprotocols), proxies)  # reading the CRD blocks
    made.listener.start()
    try:
        yield made
    finally:
        made.listener.close()
        for client in list(made.handshakes.clients):
            client.abort()


async def refused(url: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, **options)
    return caught.value.response.status_code


async def closed(websocket: WebSocket) -> tuple[int, str]:
    try:
        while True:
            await websocket.recv()
    except ConnectionClosed as error:
        assert error.rcvd is not None  # noqa: PT017  # the messages before it are read away
        return error.rcvd.code, error.rcvd.reason


def test_a_client_with_a_token_receives_messages() -> None:
    async def main() -> None:
        async with served() as lobby, connect(lobby.url()) as client:
            lobby.publish("a", "b")
            assert [await client.recv(), await client.recv()] == ["a", "b"]
            assert lobby.seat_count.taken == 1
            await client.close()
            await until(lambda: lobby.seat_count.taken == 0)
            assert lobby.handshakes.closes["by_client"] == 1

    run(main())


@pytest.mark.parametrize("wrong", [{"lobby": "prices-2"}, {"path": "/other"}, {"expires_in": -1000}])
def test_a_token_for_something_else_or_an_expired_one_is_refused(wrong: dict[str, Any]) -> None:
    async def main() -> None:
        async with served() as lobby:
            assert await refused(lobby.url(**wrong)) == 401
            assert lobby.seat_count.taken == 0

    run(main())


def test_a_token_that_expired_because_clocks_differ_is_accepted_and_counted() -> None:
    async def main() -> None:
        async with served() as lobby:
            async with connect(lobby.url(expires_in=-30)):  # this node's clock is a minute ahead of the greeter's
                pass
            async with connect(lobby.url()):
                pass
            assert await refused(lobby.url(expires_in=-1000)) == 401
            assert await refused(lobby.url(lobby="prices-2")) == 401
            counts = lobby.handshakes.tokens
            assert set(counts) == set(RESULTS)
            assert {result: count for result, count in counts.items() if count} == {
                "late": 1, "accepted": 1, "expired": 1, "wrong_lobby": 1,
            }  # fmt: skip

    run(main())


def test_a_drain_needs_a_token_for_it() -> None:
    async def main() -> None:
        async with served() as lobby:

            def token(purpose: Purpose, path: str = DRAIN_PATH, key: bytes = KEY) -> str:
                expires = time.time() + 30
                return f"Bearer {sign(key, purpose=purpose, lobby='prices-1', path=path, expires=expires)}"

            good = token(Purpose.DRAIN)
            lobby.handshakes.check_request_token(good, Purpose.DRAIN, DRAIN_PATH)
            for bad in (
                good,
                "",
                "Bearer",
                "Basic YTpi",
                token(Purpose.SEAT),
                token(Purpose.TRUNK),
                token(Purpose.PRECONNECT),
                token(Purpose.PEERS),
                token(Purpose.DRAIN, "/prices"),
                token(Purpose.DRAIN, key=bytes(32)),
            ):
                with pytest.raises(TokenError):
                    lobby.handshakes.check_request_token(bad, Purpose.DRAIN, DRAIN_PATH)

    run(main())


def test_a_missing_a_forged_and_a_used_token_are_refused() -> None:
    async def main() -> None:
        async with served() as lobby:
            url = lobby.url()
            assert await refused(url.partition("?")[0]) == 401
            assert await refused(url[:-2] + ("AA" if not url.endswith("AA") else "BB")) == 401
            async with connect(url):
                assert await refused(url) == 401

    run(main())


def test_another_path_is_not_found() -> None:
    async def main() -> None:
        async with served() as lobby:
            assert await refused(lobby.url().replace("/prices?", "/other?")) == 404

    run(main())


def test_a_client_is_refused_without_a_free_seat_and_accepted_once_there_is_one() -> None:
    async def main() -> None:
        async with served(seats=2) as lobby:
            first, second = await connect(lobby.url()), await connect(lobby.url())
            assert await refused(lobby.url()) == 503
            await first.close()
            await until(lambda: lobby.seat_count.free == 1)
            async with connect(lobby.url()):
                assert lobby.seat_count.taken == 2
            await second.close()

    run(main())


def test_a_client_that_joins_gets_the_latest_messages() -> None:
    async def main() -> None:
        async with served(replay=2) as lobby:
            lobby.publish("a", "b", "c")
            async with connect(lobby.url()) as client:
                lobby.publish("d")
                assert [await client.recv() for _ in range(3)] == ["b", "c", "d"]

    run(main())


def test_a_moved_client_resumes_where_it_was() -> None:
    async def main() -> None:
        async with served(seats=2) as lobby:
            client = await connect(lobby.url())
            lobby.publish("a", "b")
            assert [await client.recv(), await client.recv()] == ["a", "b"]
            lobby.handshakes.move_clients(0)
            code, reason = await closed(client)
            assert (code, reason) == (1012, f"resume={EPOCH:016x}-2")
            lobby.publish("c", "d")
            async with connect(lobby.url(query=f"&{reason}")) as again:
                lobby.publish("e")
                assert [await again.recv() for _ in range(4)] == [EXACT, "c", "d", "e"]
            assert lobby.handshakes.resuming.verdicts["exact"] == 1

    run(main())


def test_a_moved_client_gets_what_was_gathered_before_its_position() -> None:
    async def main() -> None:
        async with served(batchMilliseconds=1000) as lobby:
            client = await connect(lobby.url())
            lobby.publish("a")
            lobby.publish("b")
            lobby.handshakes.move_clients(0)
            assert [await client.recv(), await client.recv()] == ["a", "b"]
            assert await closed(client) == (1012, f"resume={EPOCH:016x}-2")

    run(main())


def test_a_changed_batch_time_applies_to_connected_clients() -> None:
    async def main() -> None:
        async with served(batchMilliseconds=1000) as lobby, connect(lobby.url()) as client:
            lobby.publish("a")
            lobby.handshakes.update(await asyncio.to_thread(lobby_of, {"batchMilliseconds": 0}))
            lobby.publish("b")
            assert lobby.handshakes.bus.stats.deliveries == 2
            assert [await client.recv(), await client.recv()] == ["a", "b"]

    run(main())


def test_a_client_with_an_unknown_position_continues_live_and_is_counted() -> None:
    async def main() -> None:
        async with served() as lobby:
            lobby.publish("a")
            async with connect(lobby.url(query="&resume=00000000000000ff-3")) as client:
                assert await client.recv() == LIVE.format("unknown")
                lobby.publish("b")
                assert await client.recv() == "b"
            assert lobby.handshakes.resuming.verdicts["live"] == 1

    run(main())


def asking(*texts: str) -> str:
    """The query of a client that saw these messages last."""
    return f"&resume={hashes(text.encode() for text in texts)}"


def test_a_client_resumes_after_the_messages_that_it_hashed() -> None:
    async def main() -> None:
        async with served(replay=2) as lobby:
            lobby.publish("a", "b", "c")
            lobby.publish("d")
            async with connect(lobby.url(query=asking("a", "b"))) as client:
                lobby.publish("e")
                assert [await client.recv() for _ in range(4)] == [EXACT, "c", "d", "e"]
            async with connect(lobby.url(query=asking("e"))) as client:
                lobby.publish("f")
                assert [await client.recv() for _ in range(2)] == [EXACT, "f"]
            assert lobby.handshakes.resuming.verdicts == {"exact": 2, "live": 0}

    run(main())


def test_a_compressed_client_resumes_like_any_other() -> None:
    async def main() -> None:
        async with served(compression="Shared") as lobby:
            lobby.publish("a" * 500, "b" * 500, "c" * 500)
            async with connect(lobby.url(query=asking("a" * 500, "b" * 500)), compression="deflate") as client:
                assert [await client.recv() for _ in range(2)] == [EXACT, "c" * 500]

    run(main())


def test_hashes_are_of_payloads_whatever_identifies_messages_of_other_connections() -> None:
    async def main() -> None:
        async with served() as lobby:
            lobby.ring.identity = identity_of("/id")
            lobby.publish('{"id": 1}', '{"id": 1}', '{"id": 2}', '{"id": 3}')
            async with connect(lobby.url(query=asking('{"id": 2}'))) as client:
                assert [await client.recv() for _ in range(2)] == [EXACT, '{"id": 3}']

    run(main())


@pytest.mark.parametrize(("seen", "reason"), [(("x",), "unknown"), (("a",), "ambiguous"), (("b", "x"), "unknown")])
def test_a_client_whose_place_is_not_known_learns_why_and_joins_like_a_new_one(
    seen: tuple[str, ...], reason: str
) -> None:
    async def main() -> None:
        async with served(replay=1) as lobby:
            lobby.publish("a", "b", "a", "c")
            async with connect(lobby.url(query=asking(*seen))) as client:
                assert [await client.recv() for _ in range(2)] == [LIVE.format(reason), "c"]
                lobby.publish("d")
                assert await client.recv() == "d"
            assert lobby.handshakes.resuming.verdicts == {"exact": 0, "live": 1}

    run(main())


def test_a_client_whose_place_is_at_a_gap_gets_everything_after_the_gap() -> None:
    async def main() -> None:
        async with served(replay=1) as lobby:
            lobby.publish("a", "b")
            lobby.ring.begin_epoch(EPOCH + 1)  # the origin connected again
            lobby.publish("c", "d")
            async with connect(lobby.url(query=asking("a", "b"))) as client:
                assert [await client.recv() for _ in range(3)] == [LIVE.format("gone"), "c", "d"]

    run(main())


def test_a_client_that_is_ahead_of_the_lobby_waits_for_it() -> None:
    async def main() -> None:
        async with served() as lobby:
            lobby.publish("a", "b")
            async with connect(lobby.url(query=asking("b", "c"))) as client:
                await until(lambda: lobby.handshakes.clients)
                [waiting] = lobby.handshakes.clients
                assert waiting in lobby.handshakes.resuming
                lobby.publish("c", "d")
                assert [await client.recv() for _ in range(2)] == [EXACT, "d"]
                lobby.publish("e")
                assert await client.recv() == "e"
            assert lobby.handshakes.resuming.verdicts == {"exact": 1, "live": 0}

    run(main())


def test_a_client_waits_only_for_so_long() -> None:
    async def main() -> None:
        async with served() as lobby:
            lobby.publish("a", "b")
            async with connect(lobby.url(query=asking("b", "x"))) as client:
                assert await client.recv() == LIVE.format("ahead")
                lobby.publish("c")
                assert await client.recv() == "c"

    run(main())


def test_a_client_that_leaves_or_is_moved_while_it_waits_is_forgotten() -> None:
    async def main() -> None:
        async with served() as lobby:
            lobby.publish("a", "b")
            leaving = await connect(lobby.url(query=asking("b", "x")))
            moved = await connect(lobby.url(query=asking("b", "x")))
            await until(lambda: len(lobby.handshakes.clients) == 2)
            await leaving.close()
            lobby.handshakes.move_clients(0)
            assert await closed(moved) == (1012, "the server is restarting")
            await until(lambda: not lobby.handshakes.clients)
            assert lobby.seat_count.taken == 0
            await until(lambda: lobby.handshakes.resuming._timer is None)
            assert lobby.handshakes.resuming.verdicts == {"exact": 0, "live": 0}

    run(main())


def test_a_malformed_position_is_refused_with_the_reason() -> None:
    async def main() -> None:
        async with served() as lobby:
            with pytest.raises(InvalidStatus) as caught:
                await connect(lobby.url(query="&resume=here"))
            assert caught.value.response.status_code == 400
            assert b"'here' is neither a position" in caught.value.response.body
            assert lobby.seat_count.taken == 0

    run(main())


@pytest.mark.parametrize(("mode", "fate"), [("Ignore", "ignored"), ("Reject", "rejected")])
def test_messages_from_clients_are_handled_as_the_lobby_says(mode: str, fate: str) -> None:
    async def main() -> None:
        async with served(messages=mode) as lobby, connect(lobby.url()) as client:
            await client.send("hello")
            await until(lambda: lobby.handshakes.fates[fate] == 1)
            assert lobby.forwarded == []
            if mode == "Reject":
                assert (await closed(client))[0] == 1008

    run(main())


def test_messages_are_forwarded_with_their_sender() -> None:
    async def main() -> None:
        async with served(messages="Forward") as lobby, connect(lobby.url()) as client:
            await client.send("hello")
            await until(lambda: lobby.forwarded)
            assert lobby.forwarded == [(next(iter(lobby.handshakes.clients)), Opcode.TEXT, b"hello")]

    run(main())


def test_a_client_that_sends_too_many_messages_to_the_origin_is_closed() -> None:
    async def main() -> None:
        forward = {"messagesPerSecondPerClient": 10}
        async with served(messages="Forward", forward=forward) as lobby, connect(lobby.url()) as client:
            for _ in range(150):
                await client.send("x")
            assert (await closed(client))[0] == 1008
            assert 90 <= len(lobby.forwarded) <= 100
            await until(lambda: lobby.handshakes.closes["flooded"] == 1)

    run(main())


def test_a_client_may_send_as_many_messages_as_the_flood_limit_allows_without_a_limit_of_its_own() -> None:
    async def main() -> None:
        forward = {"messagesPerSecondPerClient": 0}
        async with served(messages="Forward", forward=forward) as lobby, connect(lobby.url()) as client:
            for _ in range(150):
                await client.send("x")
            await until(lambda: len(lobby.forwarded) == 150)

    run(main())


def test_a_draining_lobby_refuses_with_retry_after() -> None:
    async def main() -> None:
        async with served() as lobby:
            lobby.seat_count.draining = True
            with pytest.raises(InvalidStatus) as caught:
                await connect(lobby.url())
            assert caught.value.response.status_code == 503
            assert caught.value.response.headers["Retry-After"] == "1"

    run(main())


def test_shared_compression_is_only_for_clients_that_negotiated_it() -> None:
    async def main() -> None:
        async with (
            served(compression="Shared") as lobby,
            connect(lobby.url()) as deflated,
            connect(lobby.url(), compression=None) as plain,
        ):
            assert deflated.response is not None
            assert plain.response is not None
            assert "permessage-deflate" in deflated.response.headers["Sec-WebSocket-Extensions"]
            assert "Sec-WebSocket-Extensions" not in plain.response.headers
            lobby.publish("x" * 2000, "ü")
            for client in (deflated, plain):
                assert [await client.recv(), await client.recv()] == ["x" * 2000, "ü"]

    run(main())


def test_a_trunk_needs_a_trunk_token() -> None:
    async def main() -> None:
        async with served() as lobby:
            url = f"ws://127.0.0.1:{lobby.listener.port}{trunk.PATH}"
            token = sign(KEY, purpose=Purpose.SEAT, lobby="prices-1", path=trunk.PATH, expires=time.time() + 30)
            options = {"subprotocols": [trunk.SUBPROTOCOL], "additional_headers": {"Authorization": f"Bearer {token}"}}
            assert await refused(url, **options) == 401
            token = sign(KEY, purpose=Purpose.TRUNK, lobby="prices-1", path=trunk.PATH, expires=time.time() + 30)
            options["additional_headers"] = {"Authorization": f"Bearer {token}"}
            assert await refused(url, **options) == 200
            assert len(lobby.trunks) == 1

    run(main())


def test_a_client_that_disconnects_during_its_handshake_keeps_no_seat() -> None:
    async def main() -> None:
        async with served() as lobby:
            reader, writer = await asyncio.open_connection("127.0.0.1", lobby.listener.port)
            target = lobby.url().partition("127.0.0.1")[2].partition("/")[2]
            writer.write(
                f"GET /{target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
            await until(lambda: lobby.seat_count.taken == 0)
            assert lobby.handshakes.closes["lost"] == 1

    run(main())


def test_an_address_has_a_limited_number_of_connections_and_each_that_ends_makes_room() -> None:
    async def main() -> None:
        async with served(limits={"connectionsPerAddress": 1}) as lobby:
            async with connect(lobby.url()):
                url = lobby.url()
                with pytest.raises(InvalidStatus) as caught:
                    await connect(url)
                assert caught.value.response.status_code == 429
                assert caught.value.response.headers["Retry-After"] == "5"
            await until(lambda: lobby.seat_count.taken == 0)
            async with connect(url):  # its token was not used up by the refusal
                pass
            assert lobby.listener.stats.refused["too_many"] == 1

    run(main())


def test_an_address_connects_at_a_limited_rate() -> None:
    async def main() -> None:
        async with served(limits={"connectsPerSecond": 1}) as lobby:
            for _ in range(5):
                async with connect(lobby.url()):
                    pass
            with pytest.raises(InvalidStatus) as caught:
                await connect(lobby.url())
            assert caught.value.response.status_code == 429
            assert caught.value.response.headers["Retry-After"] == "1"

    run(main())


def test_a_client_refused_for_another_reason_is_not_counted() -> None:
    async def main() -> None:
        async with served(limits={"connectionsPerAddress": 1}, seats=1) as lobby:
            assert await refused(lobby.url(lobby="prices-2")) == 401
            assert await refused(lobby.url(query="&resume=x")) == 400
            async with connect(lobby.url()):
                pass

    run(main())


def test_the_client_is_counted_behind_a_trusted_proxy_and_the_peer_behind_any_other() -> None:
    async def main() -> None:
        for proxies, status in (("127.0.0.0/8", 101), ("", 429)):
            async with (
                served(proxies=proxies, limits={"connectionsPerAddress": 1}) as lobby,
                connect(lobby.url(), additional_headers={"X-Forwarded-For": "192.0.2.1"}),
            ):
                other = {"X-Forwarded-For": "192.0.2.2"}
                if status == 101:
                    async with connect(lobby.url(), additional_headers=other):
                        pass
                else:
                    assert await refused(lobby.url(), additional_headers=other) == status

    run(main())


def test_a_lobby_without_memory_accepts_no_clients_and_keeps_those_it_has() -> None:
    async def main() -> None:
        async with served() as lobby, connect(lobby.url()) as client:
            lobby.capacity.observe_memory(1000)
            assert await refused(lobby.url()) == 503
            assert lobby.listener.stats.refused["no_memory"] == 1
            lobby.publish("still here")
            assert await client.recv() == "still here"
            lobby.capacity.observe_memory(999)
            async with connect(lobby.url()):
                pass

    run(main())


def test_a_page_of_another_site_is_refused() -> None:
    async def main() -> None:
        async with served(allowedOrigins=["https://page.example"]) as lobby:
            assert await refused(lobby.url(), origin="https://evil.example") == 403
            async with connect(lobby.url(), origin="https://page.example"):  # type: ignore[arg-type]  # a NewType
                pass

    run(main())


def test_the_token_admits_pages_of_the_greeters_host_and_no_others() -> None:
    async def main() -> None:
        async with served() as lobby:
            for page in ("https://evil.example", "null", f"http://127.0.0.1:{lobby.listener.port}"):
                url = lobby.url(host="greeter.example")
                assert await refused(url, origin=Origin(page)) == 403
                async with connect(url, origin=Origin("https://greeter.example:8443")):  # it was not used up
                    pass
            assert await refused(lobby.url(), origin=Origin("https://greeter.example")) == 403
            async with connect(lobby.url()):  # no browser
                pass

    run(main())


# A Lobby that is changed


def test_a_changed_lobby_applies_to_new_and_connected_clients() -> None:
    async def main() -> None:
        async with served() as lobby, connect(lobby.url(), compression="deflate") as first:
            changed = await asyncio.to_thread(
                lobby_of,
                {"queue": {"messages": 3}, "messages": "Reject", "replay": 1, "limits": {"connectionsPerAddress": 2}},
            )
            lobby.handshakes.update(changed)
            (client,) = lobby.handshakes.clients
            assert client.policy.queue.messages == lobby.handshakes.bus.limits.messages == 3
            lobby.publish("a", "b")
            async with connect(lobby.url()) as second:
                assert await second.recv() == "b"
                assert await refused(lobby.url()) == 429
            await first.send("hello")
            assert (await closed(first))[0] == 1008

    run(main())


def test_changed_compression_and_allowed_origins_apply_to_new_clients() -> None:
    async def main() -> None:
        async with served() as lobby, connect(lobby.url()) as first:
            page = "https://example.com"
            changed = await asyncio.to_thread(lobby_of, {"compression": "Shared", "allowedOrigins": [page]})
            lobby.handshakes.update(changed)
            async with connect(lobby.url(), origin=Origin(page)) as second:
                assert await refused(lobby.url(), origin=Origin("https://example.net")) == 403
                lobby.publish("a")
                assert [await first.recv(), await second.recv()] == ["a", "a"]
                assert (first.protocol.extensions, len(second.protocol.extensions)) == ([], 1)

    run(main())


def test_old_and_new_keys_verify_during_a_rotation() -> None:
    async def main() -> None:
        async with served() as lobby:
            old = lobby.url()
            lobby.keys.replace([b"n" * 32], asyncio.get_running_loop().time())
            async with connect(old):
                pass
            lobby.key = b"n" * 32
            async with connect(lobby.url()):
                pass

    run(main())


# Subprotocols

OFFERED = [Subprotocol("v2"), Subprotocol("v1")]


@pytest.mark.parametrize(("chosen", "told"), [("v1", "v1"), ("", None)])
def test_a_client_waits_for_the_subprotocol_that_the_origin_chooses(chosen: str, told: str | None) -> None:
    async def main() -> None:
        async with served(origin_subprotocols=["v2", "v1"]) as lobby:
            first = asyncio.ensure_future(connect(lobby.url(), subprotocols=OFFERED).__aenter__())
            await until(lambda: lobby.handshakes._undecided)
            assert lobby.seat_count.taken == 1
            lobby.subprotocol = chosen
            lobby.handshakes.origin_connected()
            async with connect(lobby.url(), subprotocols=OFFERED) as second:
                assert [(await first).subprotocol, second.subprotocol] == [told, told]
            await (await first).close()

    run(main())


def test_a_client_that_disconnects_while_the_origin_chooses_returns_its_seat() -> None:
    async def main() -> None:
        async with served(origin_subprotocols=["v2"]) as lobby:
            leaving = asyncio.ensure_future(connect(lobby.url(), subprotocols=OFFERED).__aenter__())
            await until(lambda: lobby.handshakes._undecided)
            leaving.cancel()
            await until(lambda: lobby.seat_count.taken == 0)
            assert not lobby.handshakes._undecided

    run(main())


def test_a_client_that_waits_for_the_origins_choice_is_refused_when_the_lobby_drains() -> None:
    async def main() -> None:
        async with served(origin_subprotocols=["v2"]) as lobby:
            waiting = asyncio.ensure_future(connect(lobby.url(), subprotocols=OFFERED).__aenter__())
            await until(lambda: lobby.handshakes._undecided)
            lobby.seat_count.draining = True
            lobby.handshakes.move_clients(10.0)
            with pytest.raises(InvalidStatus) as refused:
                await waiting
            assert refused.value.response.status_code == 503
            assert lobby.seat_count.taken == 0
            lobby.handshakes.origin_connected()
            assert not lobby.handshakes.clients

    run(main())


def test_a_deleted_lobby_closes_its_clients_and_refuses_others_for_good() -> None:
    async def main() -> None:
        async with served(origin_subprotocols=["v2"]) as lobby:
            clients = [await connect(lobby.url()) for _ in range(2)]
            waiting = asyncio.ensure_future(connect(lobby.url(), subprotocols=OFFERED).__aenter__())
            await until(lambda: lobby.handshakes._undecided)
            lobby.seat_count.draining = lobby.seat_count.deleted = True
            lobby.handshakes.close_clients(close_codes.LOBBY_DELETED)
            lobby.handshakes.move_clients(0.0)
            for client in clients:
                assert await closed(client) == (1001, "the Lobby was deleted")
            with pytest.raises(InvalidStatus) as refusal:
                await waiting
            assert refusal.value.response.status_code == 410
            assert "retry-after" not in refusal.value.response.headers
            assert await refused(lobby.url()) == 410
            await until(lambda: lobby.seat_count.taken == 0)
            assert lobby.handshakes.closes["lobby_deleted"] == 2

    run(main())


def test_a_client_that_offers_none_of_the_origins_subprotocols_does_not_wait() -> None:
    async def main() -> None:
        async with served(origin_subprotocols=["v2"]) as lobby:
            async with connect(lobby.url(), subprotocols=[Subprotocol("x")]) as client:
                assert client.subprotocol is None
            async with connect(lobby.url()) as client:
                assert client.subprotocol is None

    run(main())


def kept(**texts: str) -> dict[str, KeptFrame]:
    return {name: KeptFrame(frame(Opcode.TEXT, text.encode())) for name, text in texts.items()}


def test_a_client_that_joins_gets_what_is_kept_then_the_replay_then_the_stream() -> None:
    async def main() -> None:
        async with served(replay=2) as lobby:
            lobby.publish("a", "b", "state")
            lobby.ring.kept.put(kept(id="id", state="state"))
            async with connect(lobby.url()) as client:
                assert [await client.recv() for _ in range(3)] == ["id", "b", "state"]  # which is not repeated
                lobby.publish("c")
                assert await client.recv() == "c"

    run(main())


def test_nothing_is_replayed_from_before_what_is_kept_changed_because_the_stream_broke() -> None:
    async def main() -> None:
        async with served(replay=9) as lobby:
            lobby.ring.kept.put(kept(id="1"), cursor=0, tell=True)
            lobby.publish("a", "b")
            lobby.ring.begin_epoch(EPOCH + 1)
            lobby.ring.kept.put(kept(id="1"), cursor=2, tell=True)  # as before
            lobby.publish("c")
            async with connect(lobby.url()) as client:
                assert [await client.recv() for _ in range(4)] == ["1", "a", "b", "c"]
            lobby.ring.begin_epoch(EPOCH + 2)
            lobby.ring.kept.put(kept(id="2"), cursor=3, tell=True)
            lobby.publish("d")
            async with connect(lobby.url()) as client:
                lobby.publish("e")
                assert [await client.recv() for _ in range(3)] == ["2", "d", "e"]

    run(main())


@pytest.mark.parametrize("compression", ["Off", "Shared"])
def test_a_client_that_continues_exactly_gets_nothing_of_what_is_kept(compression: str) -> None:
    async def main() -> None:
        async with served(compression=compression) as lobby:
            lobby.publish("a", "b")
            lobby.ring.kept.put(kept(id="id" * 200))
            async with connect(lobby.url(query=asking("a"))) as client:
                lobby.publish("c")
                assert [await client.recv() for _ in range(3)] == [EXACT, "b", "c"]
            async with connect(lobby.url(query=asking("id" * 200, "b"))) as client:  # joined before "c"
                assert [await client.recv() for _ in range(2)] == [EXACT, "c"]

    run(main())


def test_a_client_that_continues_live_gets_what_is_kept() -> None:
    async def main() -> None:
        async with served(replay=1) as lobby:
            lobby.publish("a", "b")
            lobby.ring.begin_epoch(EPOCH + 1)
            lobby.publish("c", "state")
            lobby.ring.kept.put(kept(id="id", state="state"))
            async with connect(lobby.url(query=asking("a", "b"))) as client:  # at a gap, after which it lacks nothing
                assert [await client.recv() for _ in range(4)] == [LIVE.format("gone"), "id", "c", "state"]
            async with connect(lobby.url(query=asking("x"))) as client:
                assert [await client.recv() for _ in range(3)] == [LIVE.format("unknown"), "id", "state"]

    run(main())


def test_what_a_slow_client_did_not_get_of_the_kept_messages_does_not_count_for_its_position() -> None:
    async def main() -> None:
        async with served() as lobby:
            lobby.publish("a", "b")
            lobby.ring.kept.put(kept(id="id" * 20_000))
            async with connect(lobby.url(), max_queue=1) as client:
                assert await client.recv() == "id" * 20_000
                (served_client,) = lobby.handshakes.clients
                while not served_client.waiting_messages:
                    lobby.publish("x" * 60_000)
                await until(lambda: served_client.mailbox is not None)
                lobby.handshakes.bus.tell(AsideBatch.of([frame(Opcode.TEXT, b"id2")]))
                offset = lobby.ring.offset - (served_client.waiting_messages - 1)
                lobby.handshakes.move_clients(0)
                assert await closed(client) == (1012, f"resume={EPOCH:016x}-{offset}")

    run(main())
