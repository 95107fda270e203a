"""Every way a client can be turned away or closed: one table, read by the code, the metrics and the docs.

Before the upgrade a refusal is an HTTP response (`Refusal`); after it, a WebSocket close code (`CloseCode`, RFC 6455 §7.4).
The `label` of each is the value of the metrics' `reason` label, so the labels are bounded by this file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to an upgrade request that is not 101.

    Attributes:
        status: HTTP status code.
        label: short name in metrics and logs.
        explanation: the body, for a person.
        client_should: what the client does next, for the docs.
        retry_after: seconds for the `Retry-After` header; None where coming back does not help.
    """

    status: int
    label: str
    explanation: str
    client_should: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class CloseCode:
    """A close that we begin.

    Attributes:
        code: WebSocket close code.
        label: short name in metrics and logs.
        reason: text in the close frame, at most 123 bytes.
        client_should: what the client does next, for the docs.
    """

    code: int
    label: str
    reason: str
    client_should: str


_FIX = "mend the request"
_RETRY = "come back after Retry-After"

BAD_REQUEST = Refusal(400, "bad_request", "Malformed WebSocket handshake.", _FIX)
BAD_TOKEN = Refusal(401, "bad_token", "A valid token from a greeter is needed here.", "ask the greeter again")
ORIGIN_NOT_ALLOWED = Refusal(403, "origin_not_allowed", "This page may not connect (Origin).", "not come back")
NO_SUCH_PATH = Refusal(404, "no_such_path", "No Lobby is served at this path.", _FIX)
METHOD_NOT_ALLOWED = Refusal(405, "method_not_allowed", "Only GET is served here.", _FIX)
HANDSHAKE_TIMEOUT = Refusal(408, "handshake_timeout", "The handshake took too long.", "come back")
UPGRADE_REQUIRED = Refusal(426, "upgrade_required", "This is a WebSocket endpoint.", _FIX)
WRONG_VERSION = Refusal(426, "wrong_version", "Sec-WebSocket-Version 13 is needed.", _FIX)
TOO_MANY = Refusal(429, "too_many", "Too many connections from this address.", _RETRY, 5)
HEADERS_TOO_LARGE = Refusal(431, "headers_too_large", "The request headers are too large.", _FIX)
LOBBY_FULL = Refusal(503, "lobby_full", "All seats of this lobby are taken.", "ask the greeter again", 1)
LOBBY_DRAINING = Refusal(503, "lobby_draining", "This lobby takes no new clients.", "ask the greeter again", 1)
NO_SEAT = Refusal(503, "no_seat", "No seat became free in time.", _RETRY, 5)
GREETER_FULL = Refusal(503, "greeter_full", "This greeter holds as many clients as it may.", _RETRY, 5)
NO_MEMORY = Refusal(503, "no_memory", "This process uses as much memory as it may.", _RETRY, 5)
SHUTTING_DOWN = Refusal(503, "shutting_down", "This process is ending.", _RETRY, 1)
HTTP_VERSION = Refusal(505, "http_version", "HTTP/1.1 is needed.", _FIX)

REFUSALS: tuple[Refusal, ...] = (
    BAD_REQUEST, BAD_TOKEN, ORIGIN_NOT_ALLOWED, NO_SUCH_PATH, METHOD_NOT_ALLOWED, HANDSHAKE_TIMEOUT, UPGRADE_REQUIRED,
    WRONG_VERSION, TOO_MANY, HEADERS_TOO_LARGE, LOBBY_FULL, LOBBY_DRAINING, NO_SEAT, GREETER_FULL, NO_MEMORY,
    SHUTTING_DOWN, HTTP_VERSION,
)  # fmt: skip

_RECONNECT = "reconnect"
_MEND = "not reconnect before it is mended"

NORMAL = CloseCode(1000, "normal", "", "nothing")
GOING_AWAY = CloseCode(1001, "going_away", "the server is shutting down", _RECONNECT)
PROTOCOL_ERROR = CloseCode(1002, "protocol_error", "protocol error", _MEND)
INVALID_DATA = CloseCode(1007, "invalid_data", "text is not UTF-8", _MEND)
MESSAGES_REJECTED = CloseCode(1008, "messages_rejected", "this Lobby takes no messages from clients", _MEND)
FLOODED = CloseCode(1008, "flooded", "too many frames, or too many bytes, in too short a time", _MEND)
TOO_BIG = CloseCode(1009, "too_big", "the message is larger than this Lobby accepts", _MEND)
PING_TIMEOUT = CloseCode(1011, "ping_timeout", "no answer to a ping", _RECONNECT)
MOVED = CloseCode(1012, "moved", "", "reconnect, with ?resume= and the position from the reason")
NO_SEAT_LEFT = CloseCode(1013, "no_seat_left", "no seat became free in time", "reconnect after some seconds")
TOO_SLOW = CloseCode(4008, "too_slow", "more messages were waiting than this Lobby keeps for a client", _RECONNECT)

CLOSES: tuple[CloseCode, ...] = (
    NORMAL, GOING_AWAY, PROTOCOL_ERROR, INVALID_DATA, MESSAGES_REJECTED, FLOODED, TOO_BIG, PING_TIMEOUT, MOVED,
    NO_SEAT_LEFT, TOO_SLOW,
)  # fmt: skip

# What the other side does; labels of the metric beside those above.
BY_CLIENT = "by_client"  # a close frame came from the client
LOST = "lost"  # the connection ended without one (1006)
CLOSE_LABELS: tuple[str, ...] = (*(close.label for close in CLOSES), BY_CLIENT, LOST)
