"""Attempts without sockets; tests/integration has real lobbies."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.support.sockets import run

from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.lobby import peer_trunk
from lobby_gateway.lobby.peer_trunk import PeerTrunk, PeerTrunkOwner
from lobby_gateway.process.peer_list import Peer


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
