"""What an origin session asks of its shell, and the ways in which an origin connection fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lobby_gateway.protocol.frames import Batch


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
