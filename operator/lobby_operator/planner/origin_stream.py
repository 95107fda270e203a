"""Which lobbies have the origin's stream. A rollout must not take it from clients that have it.

A lobby that lost its connection a moment ago still counts: the origin may be restarting, and what is wrong with a new
revision would look the same.
"""

from __future__ import annotations

from lobby_gateway.process.seat_reports import LobbyReport, OriginState
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.planner.timers import due
from lobby_operator.settings import PlannerSettings


def is_connected(lobby: LobbyState) -> bool:
    """Whether it is connected to its origin: what a new lobby has to be before clients move there.

    One that may not connect (`origin.limits.connections`) has to have the stream of another lobby.
    """
    if lobby.stream is not None and not lobby.stream.permit:
        return lobby.stream.flowing
    return lobby.origin is not None and lobby.origin.state is OriginState.CONNECTED


def has_stream(lobby: LobbyState, settings: PlannerSettings, now: float) -> bool:
    """Whether it is connected to its origin, or was until a moment ago."""
    lost_at = lobby.stream_lost_at
    return is_connected(lobby) or (lost_at is not None and not due(lost_at, settings.stream_memory_seconds, now))


def streaming_outdated(observed: Observed, settings: PlannerSettings) -> list[LobbyState]:
    """The lobbies of an older revision that have the stream; while there are any, new ones have to prove that they get it.

    Also those of the same revision that need no stream now: a client that comes gets it there.
    """
    outdated = [lobby for lobby in observed.in_phase(Phase.READY, Phase.RECOVERING, Phase.DRAINING) if lobby.outdated]
    streaming = [lobby for lobby in outdated if has_stream(lobby, settings, observed.at)]
    revisions = {lobby.revision for lobby in streaming}
    names = {lobby.name for lobby in streaming}
    return [lobby for lobby in outdated if lobby.name in names or (_is_idle(lobby) and lobby.revision in revisions)]


def _is_idle(lobby: LobbyState) -> bool:
    return lobby.origin is not None and lobby.origin.state is OriginState.IDLE


def stream_lost_at(before: LobbyState, report: LobbyReport | None, now: float) -> float | None:
    """When a lobby lost the stream that it still needs; None: it has it, needs none, or never had it."""
    if report is None:
        return before.stream_lost_at
    if report.origin.state in (OriginState.CONNECTED, OriginState.IDLE):
        return None
    lost_now = before.origin is not None and before.origin.state is OriginState.CONNECTED
    return now if lost_now else before.stream_lost_at
