"""Peers without sockets; tests/integration has real lobbies."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from tests.support.origins import FakeOrigin
from tests.support.sockets import run
from tests.support.specs import resolved
from tests.support.streams import numbered
from tests.support.up import lobby_resource
from tests.support.waiting import until

from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.lobby import stream as streams
from lobby_gateway.lobby.stream import LobbyStream
from lobby_gateway.lobby.stream_source import Rank, Source
from lobby_gateway.process.peer_list import Peer, PeerList, Version
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.resource.spec import Lobby, lobby_from_resource
from lobby_gateway.settings import LobbySettings, RelaySettings
from lobby_gateway.trunk.position import LiveReason
from lobby_gateway.trunk.records import Welcome
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.websocket.frames import Batch, Opcode

PEER = Peer(name="prices-2", address="127.0.0.1:1")


def told(number: int, *peers: Peer, connect: bool = False) -> PeerList:
    return PeerList(version=Version(1, number), connect=connect, peers=peers)


def lobby_of(url: str, **fields: Any) -> Lobby:
    resource = lobby_resource("prices", url, **{f"origin_{name}": value for name, value in fields.items()})
    return lobby_from_resource(validate_and_default(resource, "test"))


def stream_of(lobby: Lobby, ring: MessageRing, owner: Any, settings: LobbySettings) -> LobbyStream:
    return LobbyStream(
        lobby,
        "prices-1",
        ring,
        owner,
        keys=TokenKeys([b"k" * 32]),
        resolved=resolved(lobby.spec.origin),
        read_secrets=lambda: resolved(lobby.spec.origin),
        settings=settings,
    )


class Owner:
    """Takes the stream, and forgets it."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


class WillingPeer:
    """A trunk to a peer that has a stream; meanwhile the lobby host sends another list."""

    asked = 0

    def __init__(self, peer: Peer, owner: LobbyStream, cursor: int, **_: Any) -> None:
        self.peer = peer
        self.source = Source(Rank.PEER, peer.name)
        self.cursor = cursor
        self.subprotocol = ""
        self._owner = owner

    async def open(self, *_: Any, **__: Any) -> str:
        WillingPeer.asked += 1
        self._owner.tell(told(2, PEER))
        welcome = Welcome(False, LiveReason.NO_POSITION, True, 5, 5, 7, 0, "prices-2")
        self._owner.peer_opened(self, welcome)  # type: ignore[arg-type]
        return ""

    def close(self) -> None:
        pass


def test_no_peer_is_asked_once_the_stream_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lobby = lobby_of("ws://127.0.0.1:1", limits={"connections": 1})

    async def main() -> None:
        monkeypatch.setattr(streams, "PeerTrunk", WillingPeer)
        monkeypatch.setattr(WillingPeer, "asked", 0)
        stream = stream_of(lobby, MessageRing(), Owner(), LobbySettings())
        stream.tell(told(1, PEER))
        stream.set_needed(True)
        running = asyncio.create_task(stream.run())
        await until(lambda: stream.sources.flowing)
        for _ in range(20):  # turns in which it would ask again
            await asyncio.sleep(0)
        assert WillingPeer.asked == 1
        running.cancel()
        await asyncio.wait([running])

    run(main())


class BrokenPeer(WillingPeer):
    """A trunk whose code has a bug."""

    async def open(self, *_: Any, **__: Any) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize("others", [0, 1])
def test_a_bug_in_asking_a_peer_ends_the_stream_and_so_the_process(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """A lobby that never asks again would look alive."""
    lobby = lobby_of("ws://127.0.0.1:1", limits={"connections": 1})
    peers = [PEER, Peer(name="prices-3", address="127.0.0.1:1")][: 1 + others]

    async def main() -> None:
        monkeypatch.setattr(streams, "PeerTrunk", BrokenPeer)
        stream = stream_of(lobby, MessageRing(), Owner(), LobbySettings())
        stream.tell(told(1, *peers))
        stream.set_needed(True)
        with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError), flatten_subgroups=True):
            async with asyncio.timeout(10):
                await stream.run()

    run(main())


class RingOwner(Owner):
    """Keeps the stream."""

    def __init__(self, ring: MessageRing) -> None:
        self.ring = ring
        self.epochs = 0
        self.blamed: list[int] = []

    def begin_epoch(self) -> None:
        self.epochs += 1
        self.ring.begin_epoch(self.epochs)

    def origin_closed(self, code: int, _: float) -> bool:
        self.blamed.append(code)
        return True

    def publish(self, batch: Batch) -> None:
        self.ring.append(batch)


class ExactPeer(WillingPeer):
    """A trunk to a peer that continues the stream where it stopped."""

    made: ClassVar[list[ExactPeer]] = []

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.forwarded: list[tuple[object, int, bytes]] = []

    async def open(self, *_: Any, **__: Any) -> str:
        ExactPeer.made.append(self)
        welcome = Welcome(True, LiveReason.NONE, True, 5, 5, 7, 0, "prices-2")
        self._owner.peer_opened(self, welcome)  # type: ignore[arg-type]
        return ""

    def forward(self, sender: object, opcode: int, payload: bytes) -> bool:
        self.forwarded.append((sender, opcode, payload))
        return True


def test_an_own_connection_without_the_place_is_closed_until_the_peers_stream_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Real connections to the origin, beside a peer's stream that goes on."""
    relay = RelaySettings(own_seconds=0.05, own_messages=20)

    async def main() -> None:
        monkeypatch.setattr(streams, "PeerTrunk", ExactPeer)
        monkeypatch.setattr(ExactPeer, "made", [])
        async with FakeOrigin() as origin:
            reconnect = {"minMilliseconds": 10, "maxMilliseconds": 20}
            lobby = lobby_of(origin.url, connect="Always", reconnect=reconnect)
            ring = MessageRing()
            owner = RingOwner(ring)
            stream = stream_of(lobby, ring, owner, LobbySettings(relay=relay))
            stream.tell(told(1, connect=True))
            running = asyncio.create_task(stream.run())
            await origin.until_open()
            await origin.send(*(f"first {number}" for number in range(20)))
            await until(lambda: ring.cursor == 20)
            stream.tell(told(2, PEER, connect=True))
            origin.end_connections()
            await until(lambda: stream.sources.via == ("prices-2",))
            (peer,) = (each for each in ExactPeer.made if each.source is stream.sources.active)

            await origin.until_connected(2)
            await origin.until_open()
            await origin.send(*(f"second {number}" for number in range(20)))
            await until(lambda: not origin.open)
            report = stream.own.report()
            assert (report.state, stream.own.permitted) == (OriginState.WAITING, True)
            assert report.retry_in_seconds > 20
            stream.peer_received(peer, numbered(range(3)))  # type: ignore[arg-type]
            assert (ring.cursor, owner.epochs) == (23, 1)

            stream.tell(told(3, connect=True))
            stream.peer_lost(peer, "gone")  # type: ignore[arg-type]
            await origin.until_connected(3)
            await origin.until_open()
            await origin.send("third")
            await until(lambda: ring.cursor == 24)
            assert origin.most_open == 1
            assert stream.sources.suspensions == 1
            running.cancel()
            await asyncio.wait([running])

    with caplog.at_level("INFO"):
        run(main())
    assert "origin: the connection does not continue the stream, and is closed" in caplog.messages


def test_messages_of_clients_go_where_the_stream_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """An own connection beside a peer's stream may be open for an hour, and what it answers reaches nobody."""

    async def main() -> None:
        monkeypatch.setattr(streams, "PeerTrunk", ExactPeer)
        monkeypatch.setattr(ExactPeer, "made", [])
        async with FakeOrigin() as origin:
            lobby = lobby_of(origin.url, connect="Always", reconnect={"minMilliseconds": 10, "maxMilliseconds": 20})
            ring = MessageRing()
            owner = RingOwner(ring)
            stream = stream_of(lobby, ring, owner, LobbySettings())
            running = asyncio.create_task(stream.run())
            await origin.until_open()
            await origin.send("1")
            await until(lambda: ring.cursor == 1)
            assert stream.send_to_origin(Opcode.TEXT, b"here", "client")
            await until(lambda: origin.connections[0].messages == ["here"])
            stream.tell(told(1, PEER, connect=True))
            origin.end_connections()
            await until(lambda: stream.sources.via == ("prices-2",) and stream.own.streaming)
            (peer,) = (each for each in ExactPeer.made if each.source is stream.sources.active)

            assert stream.streaming
            assert stream.send_to_origin(Opcode.TEXT, b"there", "client")
            assert peer.forwarded == [("client", Opcode.TEXT, b"there")]
            await origin.open[0].server.close(1003)
            await origin.until_connected(3)
            assert owner.blamed == []

            stream.tell(told(2, connect=True))
            stream.peer_lost(peer, "gone")  # type: ignore[arg-type]
            await until(lambda: stream.sources.via == ())
            assert stream.send_to_origin(Opcode.TEXT, b"here again", "client")
            await until(lambda: [each.messages for each in origin.connections] == [["here"], [], ["here again"]])
            running.cancel()
            await asyncio.wait([running])

    run(main())
