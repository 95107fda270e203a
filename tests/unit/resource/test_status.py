from __future__ import annotations

from typing import Any

import pytest

from lobby_gateway.resource.status import Condition, LobbyEntry, LobbyStatus


def test_no_status_tells_nothing() -> None:
    assert LobbyStatus.from_json({}) == LobbyStatus()


def test_all_that_people_are_shown_is_read() -> None:
    status = LobbyStatus.from_json(
        {
            "replicas": 3,
            "clients": 700,
            "seats": 1024,
            "lobbies": [
                {"name": "p-1", "phase": "Draining", "clients": 5, "seats": 512, "origin": "Connected"},
                {"name": "p-2", "phase": "Starting"},
            ],
            "open": [{"name": "p-3", "address": "h:1", "clients": 2, "seats": 512}],
            "draining": ["p-1"],
            "latest": {"name": "p-3", "address": "h:1"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Open", "message": "fine", "more": 1}],
        }
    )
    assert status == LobbyStatus(
        lobbies=(
            LobbyEntry(name="p-1", phase="Draining", clients=5, seats=512, origin="Connected"),
            LobbyEntry(name="p-2", phase="Starting"),
        ),
        open=(LobbyEntry(name="p-3", phase="Ready", clients=2, seats=512),),
        draining=("p-1",),
        latest="p-3",
        conditions=(Condition("Ready", "True", "Open", "fine"),),
        replicas=3,
        clients=700,
        seats=1024,
    )


@pytest.mark.parametrize(
    "status",
    [
        {"lobbies": [{"name": "p-1"}]},
        {"lobbies": 5},
        {"open": [5]},
        {"clients": "many"},
        {"latest": "p-1"},
        {"conditions": [5]},
    ],
)
def test_what_is_no_status_is_an_error(status: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        LobbyStatus.from_json(status)
