from __future__ import annotations

import json
from typing import Any

import pytest

from lobby_gateway.process.peer_list import MAX_PEERS, Peer, PeerList, Version

TOLD = PeerList(version=Version(2, 7), connect=False, peers=(Peer(name="p-1", address="10.0.0.1:8000"),))


def test_survives_json() -> None:
    assert PeerList.from_json(json.loads(json.dumps(TOLD.to_json()))) == TOLD


def test_says_how_many_attempts_are_allowed() -> None:
    told = PeerList(version=Version(2, 7), connect=True, connects=5)
    assert PeerList.from_json(json.loads(json.dumps(told.to_json()))) == told


def test_an_older_lobby_host_limits_no_attempts() -> None:
    told = TOLD.to_json()
    del told["connects"]
    assert PeerList.from_json(told).connects is None


def test_ignores_what_a_newer_lobby_host_adds() -> None:
    assert PeerList.from_json({**TOLD.to_json(), "new": 1}) == TOLD


@pytest.mark.parametrize(
    "change",
    [
        {"connect": "yes"},
        {"version": None},
        {"version": {"term": 1}},
        {"peers": 3},
        {"peers": ["p-1"]},
        {"peers": [{"name": "p", "address": "a"}] * (MAX_PEERS + 1)},
    ],
)
def test_refuses_what_is_not_a_list(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        PeerList.from_json({**TOLD.to_json(), **change})


def test_a_later_term_is_newer_whatever_the_number() -> None:
    assert Version(1, 9) < Version(2, 1) < Version(2, 2)
