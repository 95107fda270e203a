"""The states of an origin connection and all its moves, as one table; the diagram in the docs is drawn from it.

A connection is open in SCRIPTING and STREAMING, begun in CONNECTING, and not gone yet in CLOSING: in these four states no
other one may be made. WAITING and REFUSED plan the next try. So whoever wants the stream and isn't in one of the six is stuck,
and IDLE has no way to be so: being wanted leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from lobby_gateway.process.reports import OriginState
from lobby_gateway.websocket.frames import Batch


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


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect. Answered by exactly one of `opened`, `refused` and `failed`, in bounded time."""


@dataclass(frozen=True, slots=True)
class CancelConnect:
    """Stop connecting. Nothing is heard of that try any more."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text message. It may hold a secret, so it is not in `repr`."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendPing:
    """Send a ping (RFC 6455 §5.5.2)."""


@dataclass(frozen=True, slots=True)
class BeginClose:
    """Begin the closing handshake (RFC 6455 §7.1.2). Answered by `lost`, in bounded time.

    Attributes:
        code: close code.
        reason: text in the close frame.
        gone: the origin most likely hears nothing any more: not worth waiting for its answer.
    """

    code: int
    reason: str = ""
    gone: bool = False


@dataclass(frozen=True, slots=True)
class BeginEpoch:
    """The stream begins: what is published from now on belongs to a new epoch."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand messages to the clients."""

    batch: Batch


Command = Connect | CancelConnect | Send | SendPing | BeginClose | BeginEpoch | Publish


class Failure(StrEnum):
    """Why a try or a connection came to nothing; the values are a metrics label."""

    UNREACHABLE = "unreachable"  # DNS, TCP, TLS, time, or no WebSocket server there
    REFUSED = "refused"  # HTTP 401, 403; close codes 3000, 3003
    TURNED_AWAY = "turned_away"  # any other HTTP status but 101
    SCRIPT = "script"  # what `onConnect` expects did not come
    CLOSED = "closed"  # by the origin, with a close frame
    LOST = "lost"  # without one
    PROTOCOL_ERROR = "protocol_error"
    INVALID_DATA = "invalid_data"
    TOO_BIG = "too_big"
    PING_TIMEOUT = "ping_timeout"
    STALE = "stale"
