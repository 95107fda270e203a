"""Settings of the processes that no Lobby sets: a dataclass per concern, each field with unit, default and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbySettings:
    """A lobby process.

    Attributes:
        origin_linger_seconds: how long an OnDemand origin connection outlives its last client. Page reloads and moves of
            clients take less, so they don't cost the origin a connection each.
        ring_messages: most messages kept for replay, resuming and slow greeters.
        ring_bytes: most bytes of them: what a lobby's memory grows by at most, however fast the origin is.
        sweep_seconds: between two looks for silent clients. Adds to `clients.pingSeconds`.
        stop_seconds: how long an ending lobby waits at most for greeters to take their clients elsewhere, which go on getting
            the stream meanwhile. In a pod it is longer: there, another lobby may have to be started first.
        stop_spread_seconds: over how long it spreads the closes of direct clients (at most half of `stop_seconds`), so that
            they don't come back all at once.
        drain_spread_seconds: over how long a draining lobby spreads the closes of direct clients (at most half of the Lobby's
            `drainSeconds`).
    """

    origin_linger_seconds: float = 10.0
    ring_messages: int = 16384
    ring_bytes: int = 8 << 20
    sweep_seconds: float = 2.5
    stop_seconds: float = 2.0
    stop_spread_seconds: float = 5.0
    drain_spread_seconds: float = 10.0


TOKEN_KEY_VARIABLE = "LOBBY_TOKEN_KEY"  # noqa: S105  # the name of the variable, not its value
"""Environment variable with the key that signs seat tokens: at least 32 bytes in hex."""
