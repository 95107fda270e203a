from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.operator.lobbies import NOW, lobby_state, observed, report

from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_operator.planner.origin_stream import has_stream, stream_lost_at, streaming_outdated
from lobby_operator.planner.state import Phase
from lobby_operator.settings import PlannerSettings

SETTINGS = PlannerSettings(stream_memory_seconds=60.0)
CONNECTED, IDLE, WAITING = (
    OriginReport(state=state) for state in (OriginState.CONNECTED, OriginState.IDLE, OriginState.WAITING)
)


@pytest.mark.parametrize(
    ("origin", "lost", "expected"),
    [
        (None, None, False),
        (CONNECTED, None, True),
        (IDLE, None, False),
        (WAITING, None, False),
        (WAITING, NOW - 59.9, True),
        (WAITING, NOW - 60.0, False),
    ],
)
def test_a_lobby_has_the_stream_until_it_has_been_gone_for_a_while(
    origin: OriginReport | None, lost: float | None, *, expected: bool
) -> None:
    assert has_stream(lobby_state(1, origin=origin, stream_lost_at=lost), SETTINGS, NOW) is expected


def test_the_stream_is_lost_at_the_first_report_that_says_so() -> None:
    connected = lobby_state(1, 5)
    waiting = replace(report(5), origin=WAITING)
    assert stream_lost_at(connected, waiting, NOW) == NOW
    assert stream_lost_at(lobby_state(1, 5, origin=WAITING, stream_lost_at=900.0), waiting, NOW) == 900.0
    assert stream_lost_at(lobby_state(1, 5, origin=WAITING), waiting, NOW) is None


def test_a_lobby_that_connects_again_or_needs_no_stream_has_not_lost_it() -> None:
    lost = lobby_state(1, 5, origin=WAITING, stream_lost_at=900.0)
    assert stream_lost_at(lost, replace(report(5), origin=CONNECTED), NOW) is None
    assert stream_lost_at(lost, replace(report(0), origin=IDLE), NOW) is None
    assert stream_lost_at(lost, None, NOW) == 900.0


def test_outdated_lobbies_that_serve_and_have_the_stream_are_counted() -> None:
    lobbies = [
        lobby_state(1, 5, outdated=True),
        lobby_state(2, 5),
        lobby_state(3, 0, outdated=True),
        lobby_state(4, 5, Phase.DRAINING, outdated=True),
        lobby_state(5, 5, Phase.UNRESPONSIVE, outdated=True),
        lobby_state(6, 5, Phase.ENDING, outdated=True),
    ]
    assert [lobby.index for lobby in streaming_outdated(observed(*lobbies), SETTINGS)] == [1, 3, 4]


def test_idle_ones_count_only_beside_one_of_their_revision_that_has_the_stream() -> None:
    idle = lobby_state(1, outdated=True, revision="a")
    assert streaming_outdated(observed(idle), SETTINGS) == []
    other = lobby_state(2, 5, outdated=True, revision="b")
    assert streaming_outdated(observed(idle, other), SETTINGS) == [other]
    same = lobby_state(2, 5, outdated=True, revision="a")
    assert streaming_outdated(observed(idle, same), SETTINGS) == [idle, same]
