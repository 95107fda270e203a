"""Peers without sockets; tests/integration has real lobbies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.sockets import run
from tests.support.up import lobby_resource
from tests.support.waiting import until

from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.lobby import stream as streams
from lobby_gateway.lobby.stream import LobbyStream
from lobby_gateway.lobby.stream_source import Rank, Source
from lobby_gateway.process.peer_list import Peer, PeerList, Version
from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_gateway.settings import LobbySettings
from lobby_gateway.trunk.position import LiveReason
from lobby_gateway.trunk.records import Welcome
from lobby_gateway.trunk.ring import MessageRing


def told(number: int) -> PeerList:
    peers = (Peer(name="prices-2", address="127.0.0.1:1"),)
    return PeerList(version=Version(1, number), connect=False, peers=peers)


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
        self._owner.tell(told(2))
        welcome = Welcome(False, LiveReason.NO_POSITION, True, 5, 5, 7, 0, "prices-2")
        self._owner.peer_opened(self, welcome)  # type: ignore[arg-type]
        return ""

    def close(self) -> None:
        pass


def test_no_peer_is_asked_once_the_stream_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = lobby_resource("prices", "ws://127.0.0.1:1", origin_limits={"connections": 1})
    lobby = lobby_from_resource(validate_and_default(resource, "test"))

    async def main() -> None:
        monkeypatch.setattr(streams, "PeerTrunk", WillingPeer)
        monkeypatch.setattr(WillingPeer, "asked", 0)
        stream = LobbyStream(
            lobby,
            "prices-1",
            MessageRing(),
            Owner(),
            keys=TokenKeys([b"k" * 32]),
            resolved=None,
            read_secrets=NotImplemented,
            settings=LobbySettings(),
        )
        stream.tell(told(1))
        stream.set_needed(True)
        running = asyncio.create_task(stream.run())
        await until(lambda: stream.sources.flowing)
        for _ in range(20):  # turns in which it would ask again
            await asyncio.sleep(0)
        assert WillingPeer.asked == 1
        running.cancel()
        await asyncio.wait([running])

    run(main())
