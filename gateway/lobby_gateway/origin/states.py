"""States, transitions (one table), commands and failures of an origin session.

The connection is open in SCRIPTING and STREAMING, being opened in CONNECTING, and not yet closed in CLOSING: in these four
states no other may be opened. In WAITING and REFUSED the next attempt is scheduled. A session that is wanted leaves IDLE at
once, so it cannot get stuck. The diagram in the docs is drawn from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from lobby_gateway.origin.http_calls import HttpRequest
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch


class State(Enum):
    """State of the session."""

    IDLE = OriginState.IDLE  # no client needs the stream
    WAITING = OriginState.WAITING  # the next attempt is scheduled (back-off, Retry-After)
    REFUSED = OriginState.REFUSED  # the same after a refusal, such as 401: retried, but rarely
    CONNECTING = OriginState.CONNECTING  # DNS, TCP, TLS and handshake are under way
    SCRIPTING = "Scripting"  # open; the `onConnect` steps run, nothing is published
    STREAMING = OriginState.CONNECTED  # open; every message is published
    CLOSING = OriginState.CLOSING  # closing handshake, started by us or the origin; ends with `lost`


class Signal(Enum):
    """What causes a transition."""

    WANTED = "wanted"
    UNWANTED = "unwanted"
    DUE = "the scheduled attempt is due"
    OPENED = "the handshake is done"
    SCRIPT_DONE = "the onConnect script is done"
    FAILED = "the attempt failed, or the connection is gone while wanted"
    FORBIDDEN = "the same, and retrying soon is pointless"
    CLOSE = "we or the origin started to close"
    GONE = "the connection is gone and is not wanted"


# Only `OriginSession._move` changes the state, and only along these transitions.
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
"""Transitions of each state."""


class ImpossibleSignalError(RuntimeError):
    """The table has no such transition: the caller broke the contract, or the session has a bug."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect, after the HTTP calls that `next_call` gives.

    Unless one of them fails, exactly one of `opened`, `refused` and `failed` follows, in bounded time.
    """


@dataclass(frozen=True, slots=True)
class CancelConnect:
    """Stop connecting. No call about that attempt follows."""


@dataclass(frozen=True, slots=True)
class Call:
    """Make an HTTP call while the connection is open. `answered` or `call_failed` follows, in bounded time.

    Attributes:
        request: the call.
    """

    request: HttpRequest


@dataclass(frozen=True, slots=True)
class CancelCall:
    """Stop that call. No call about it follows."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message: text, or bytes for a binary one. It may contain a secret, so `repr` omits it."""

    message: str | bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendPing:
    """Send a ping (RFC 6455 §5.5.2)."""


@dataclass(frozen=True, slots=True)
class BeginClose:
    """Begin the closing handshake (RFC 6455 §7.1.2). `lost` follows, in bounded time.

    Attributes:
        code: close code.
        reason: text of the close frame.
        unresponsive: the origin has probably stopped responding, so waiting for its answer is hardly worthwhile.
    """

    code: int
    reason: str = ""
    unresponsive: bool = False


@dataclass(frozen=True, slots=True)
class BeginEpoch:
    """The stream starts: messages published from now on belong to a new epoch."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Deliver messages to the clients."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Judged:
    """Steps and rules have seen this message, so what they saved of it is hidden. Comes before what follows from it.

    Attributes:
        message: the message, decoded.
    """

    message: Batch = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep messages for clients that join, each in place of the earlier one of its name.

    Before `BeginEpoch` they are those that came before the stream. Those that are part of it are published next.

    Attributes:
        messages: by name.
    """

    messages: Mapping[str, KeptFrame] = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoteClose:
    """The origin closed the stream with this code: find out whether a client caused that, and if so call `excuse`."""

    code: int


@dataclass(frozen=True, slots=True)
class Forget:
    """No client needs the stream any more: what was published so far is stale by the time of the next stream."""


@dataclass(frozen=True, slots=True)
class PauseReading:
    """Read nothing more from the origin until `ResumeReading`: what has arrived takes a while to be judged."""


@dataclass(frozen=True, slots=True)
class Reschedule:
    """What arrived brought the time of `wake_at` forward."""


@dataclass(frozen=True, slots=True)
class Renew:
    """The origin asks for a new connection, while this one still works."""


@dataclass(frozen=True, slots=True)
class ResumeReading:
    """Read again."""


Command = (
    Connect
    | CancelConnect
    | Call
    | CancelCall
    | Send
    | SendPing
    | BeginClose
    | BeginEpoch
    | Publish
    | NoteClose
    | Forget
    | Judged
    | Keep
    | PauseReading
    | Renew
    | Reschedule
    | ResumeReading
)


class Failure(StrEnum):
    """Why an attempt or a connection failed; the values are those of a metrics label."""

    UNREACHABLE = "unreachable"  # DNS, TCP, TLS, timeout, or not a WebSocket server
    REFUSED = "refused"  # HTTP 401, 403; `closeCodes.refused`; a rule says so
    TURNED_AWAY = "turned_away"  # any other HTTP status except 101
    HTTP_CALL = "http_call"  # an `http` step has failed, except with 401 and 403
    SCRIPT = "script"  # a message that `onConnect` expects did not arrive
    ENDED = "ended"  # by us, because of a message: a rule of `onMessage` says so, or it can't be answered
    CLOSED = "closed"  # by the origin, with a close frame
    LOST = "lost"  # without one
    PROTOCOL_ERROR = "protocol_error"
    INVALID_DATA = "invalid_data"
    TOO_BIG = "too_big"
    PING_TIMEOUT = "ping_timeout"
    STALE = "stale"
    INTERNAL = "internal"  # an error of our own
