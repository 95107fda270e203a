"""Attempts without sockets; tests/integration has real lobbies."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from tests.support.sockets import run

from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.lobby import peer_trunk
from lobby_gateway.lobby.peer_trunk import PeerTrunk, PeerTrunkOwner
from lobby_gateway.process.peer_list import Peer
from lobby_gateway.trunk.position import LiveReason
from lobby_gateway.trunk.records import Welcome


def test_a_bug_while_a_peer_is_asked_is_logged_and_counts_as_a_refusal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    async def main() -> str:
        monkeypatch.setattr(peer_trunk, "connect_trunk", broken)
        trunk = PeerTrunk(Peer(name="prices-2", address="127.0.0.1:1"), cast("PeerTrunkOwner", None), 0, remembered=1)
        keys = TokenKeys([b"k" * 32])
        return await trunk.open(keys, name="prices-1", namespace="", position=None, replay=0, timeout=1)

    assert "RuntimeError" in run(main())
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.__dict__["peer"] == "prices-2"


class Connection:
    """A trunk that is open."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Owner:
    """Takes the stream of each peer that has one."""

    def __init__(self) -> None:
        self.opened: list[PeerTrunk] = []

    def peer_opened(self, trunk: PeerTrunk, _: Welcome) -> None:
        self.opened.append(trunk)


def test_an_answer_in_the_same_turn_as_the_timeout_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner has taken the stream by then, so the trunk must not be closed behind its back."""
    connection, owner = Connection(), Owner()

    async def main() -> None:
        trunk = PeerTrunk(Peer(name="prices-2", address="127.0.0.1:1"), cast("PeerTrunkOwner", owner), 0, remembered=1)

        async def connect(*_: Any, **__: Any) -> Connection:
            welcome = Welcome(False, LiveReason.NO_POSITION, True, 5, 5, 7, 0, "prices-2")
            asyncio.get_running_loop().call_soon(trunk.trunk_record, welcome)
            return connection

        monkeypatch.setattr(peer_trunk, "connect_trunk", connect)
        keys = TokenKeys([b"k" * 32])
        assert await trunk.open(keys, name="prices-1", namespace="", position=None, replay=0, timeout=0) == ""
        assert owner.opened == [trunk]
        assert trunk.opened
        assert not connection.closed

    run(main())
