"""Single decisions; the laws are in tests/property/test_connect_permits.py."""

from __future__ import annotations

from collections import Counter

from tests.unit.operator.lobbies import lobby_state

from lobby_operator.planner.connect_permits import ConnectPermits, EarlierConnects
from lobby_operator.planner.spec import ConnectLimit
from lobby_operator.planner.state import StreamState


def test_a_lobby_that_never_gets_through_leaves_permits_to_the_others() -> None:
    permits = ConnectPermits(EarlierConnects())
    used: Counter[int] = Counter()
    now = 1000.0
    for _ in range(20):
        lobbies = [
            lobby_state(index, 9 - index, stream=StreamState(connects=used[index], wants_connect=True))
            for index in (1, 2)
        ]
        names = {lobby.name for lobby in lobbies}
        allowed = permits.update([ConnectLimit(1, 60.0)], lobbies, lobbies, names, now)
        for index, lobby in enumerate(lobbies, start=1):
            permits.listed(lobby.name)
            if (allowed[lobby.name] or 0) > used[index]:
                used[index] += 1
        now += 61.0
    assert used[1] == used[2] > 0
