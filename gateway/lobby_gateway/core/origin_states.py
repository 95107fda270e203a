"""The states of an origin connection and all its moves, as one table; the diagram in the docs is drawn from it.

A connection is open in SCRIPTING and STREAMING, begun in CONNECTING, and not gone yet in CLOSING: in these four states no
other one may be made. WAITING and REFUSED plan the next try. So whoever wants the stream and isn't in one of the six is stuck,
and IDLE has no way to be so: being wanted leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from lobby_gateway.model.seats import OriginState


class State(Enum):
    """Where the session is."""

    IDLE = OriginState.IDLE  # nobody wants the stream
    WAITING = OriginState.WAITING  # the next try is planned (backoff, Retry-After)
    REFUSED = OriginState.REFUSED  # the same, but the origin does not want us (401, 403): tried again, rarely
    CONNECTING = OriginState.CONNECTING  # the shell resolves, connects, shakes hands
    SCRIPTING = "Scripting"  # open; the `onConnect` steps run, nothing is published
    STREAMING = OriginState.CONNECTED  # open; every message is published
    CLOSING = (
        OriginState.CLOSING
    )  # the closing handshake, begun by us or by the origin; the shell tells when it is gone


class Signal(Enum):
    """What moves it."""

    WANTED = "wanted"
    UNWANTED = "unwanted"
    DUE = "the planned try is due"
    OPENED = "the handshake is done"
    SCRIPT_DONE = "the onConnect script is done"
    FAILED = "the try failed, or the connection is gone and was wanted"
    FORBIDDEN = "the same, and it is no use to come back soon"
    CLOSE = "we or the origin began to close"
    GONE = "the connection is gone and was not wanted"


# The only place where the state changes is `_move`, and these are all its moves. What is missing can't happen.
TRANSITIONS: Mapping[State, Mapping[Signal, State]] = {
    State.IDLE: {
        Signal.WANTED: State.WAITING,
        Signal.FORBIDDEN: State.REFUSED,
    },
    State.WAITING: {
        Signal.DUE: State.CONNECTING,
        Signal.UNWANTED: State.IDLE,
    },
    State.REFUSED: {
        Signal.DUE: State.CONNECTING,
        Signal.UNWANTED: State.IDLE,
    },
    State.CONNECTING: {
        Signal.OPENED: State.SCRIPTING,
        Signal.FAILED: State.WAITING,
        Signal.FORBIDDEN: State.REFUSED,
        Signal.UNWANTED: State.IDLE,
        Signal.GONE: State.IDLE,
    },
    State.SCRIPTING: {
        Signal.SCRIPT_DONE: State.STREAMING,
        Signal.CLOSE: State.CLOSING,
        Signal.FAILED: State.WAITING,
        Signal.GONE: State.IDLE,
    },
    State.STREAMING: {
        Signal.CLOSE: State.CLOSING,
        Signal.FAILED: State.WAITING,
        Signal.GONE: State.IDLE,
    },
    State.CLOSING: {
        Signal.FAILED: State.WAITING,
        Signal.FORBIDDEN: State.REFUSED,
        Signal.GONE: State.IDLE,
    },
}
"""Each state's moves."""


class ImpossibleSignalError(RuntimeError):
    """The shell broke its promises, or the session has a bug: the table has no such move."""
