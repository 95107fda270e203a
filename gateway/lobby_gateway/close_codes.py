"""Every way in which a client can be refused or closed: one table for the code, the metrics and the docs.

Before the upgrade, a client is refused with an HTTP response (`Refusal`); after it, closed with a WebSocket close code
(`CloseCode`, RFC 6455 §7.4). Each `label` is a value of the metrics' `reason` label, so this file bounds the labels.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response other than 101 to an upgrade request.

    Attributes:
        status: HTTP status code.
        label: short name in metrics and logs.
        explanation: the body, for people.
        client_should: what the client should do next, for the docs.
        retry_after: seconds for the `Retry-After` header; None if retrying does not help.
    """

    status: int
    label: str
    explanation: str
    client_should: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class CloseCode:
    """A closing handshake that we begin.

    Attributes:
        code: WebSocket close code.
        label: short name in metrics and logs.
        reason: text in the close frame, at most 123 bytes.
        client_should: what the client should do next, for the docs.
    """

    code: int
    label: str
    reason: str
    client_should: str


_FIX = "fix the request"
_ASK = "ask the greeter again"
_WAIT = "wait for Retry-After, then retry"

BAD_REQUEST = Refusal(400, "bad_request", "Malformed WebSocket handshake.", _FIX)
BAD_TOKEN = Refusal(401, "bad_token", "A valid token from a greeter is required.", _ASK)
ORIGIN_NOT_ALLOWED = Refusal(
    403, "origin_not_allowed", "This page is neither of this host nor in the Lobby's clients.allowedOrigins.", "give up"
)
NO_SUCH_PATH = Refusal(404, "no_such_path", "No Lobby is served at this path.", _FIX)
METHOD_NOT_ALLOWED = Refusal(405, "method_not_allowed", "Only GET is supported.", _FIX)
HANDSHAKE_TIMEOUT = Refusal(408, "handshake_timeout", "The handshake took too long.", "retry")
LOBBY_GONE = Refusal(410, "lobby_deleted", "This Lobby was deleted.", "give up")
UPGRADE_REQUIRED = Refusal(426, "upgrade_required", "This is a WebSocket endpoint.", _FIX)
WRONG_VERSION = Refusal(426, "wrong_version", "Sec-WebSocket-Version 13 is required.", _FIX)
TOO_MANY = Refusal(429, "too_many", "Too many connections from this address.", _WAIT, 5)
HEADERS_TOO_LARGE = Refusal(431, "headers_too_large", "The request headers are too large.", _FIX)
NO_REDIRECT = Refusal(500, "no_redirect", "This Lobby's spec.routing.redirect.urlTemplate gives no URL.", "report it")
LOBBY_FULL = Refusal(503, "lobby_full", "All seats of this lobby are taken.", _ASK, 1)
LOBBY_DRAINING = Refusal(503, "lobby_draining", "This lobby is draining and accepts no new clients.", _ASK, 1)
NO_SEAT = Refusal(503, "no_seat", "No seat became free in time.", _WAIT, 5)
GREETER_FULL = Refusal(503, "greeter_full", "This greeter has reached its limit of clients.", _WAIT, 5)
NO_MEMORY = Refusal(503, "no_memory", "This process has reached its limit of memory.", _WAIT, 5)
SHUTTING_DOWN = Refusal(503, "shutting_down", "This process is shutting down.", _WAIT, 1)
HTTP_VERSION = Refusal(505, "http_version", "HTTP/1.1 is required.", _FIX)

REFUSALS: tuple[Refusal, ...] = tuple(each for each in vars().values() if isinstance(each, Refusal))

_RECONNECT = "reconnect"
_FIX_FIRST = "fix the cause before reconnecting"

NORMAL = CloseCode(1000, "normal", "", "nothing")
LOBBY_DELETED = CloseCode(
    1001, "lobby_deleted", "the Lobby was deleted", "reconnect only if the Lobby is created again: until then, 404"
)
PROTOCOL_ERROR = CloseCode(1002, "protocol_error", "protocol error", _FIX_FIRST)
INVALID_DATA = CloseCode(1007, "invalid_data", "text is not UTF-8", _FIX_FIRST)
MESSAGES_REJECTED = CloseCode(1008, "messages_rejected", "this Lobby accepts no messages from clients", _FIX_FIRST)
ORIGIN_OBJECTED = CloseCode(
    1008, "origin_objected", "the origin closed its connection because of a message of this client", _FIX_FIRST
)
FLOODED = CloseCode(1008, "flooded", "too many frames or bytes in too short a time", _FIX_FIRST)
TOO_BIG = CloseCode(1009, "too_big", "the message is larger than this Lobby accepts", _FIX_FIRST)
PING_TIMEOUT = CloseCode(1011, "ping_timeout", "no response to a ping", _RECONNECT)
MOVED = CloseCode(
    1012,
    "moved",
    "the server is restarting",
    "reconnect, with ?resume= and, if the reason has one, the position from it",
)
NO_SEAT_LEFT = CloseCode(1013, "no_seat_left", "no seat became free in time", "reconnect after a few seconds")
TOO_SLOW = CloseCode(4008, "too_slow", "the client took its messages too slowly", _RECONNECT)

CLOSES: tuple[CloseCode, ...] = tuple(each for each in vars().values() if isinstance(each, CloseCode))

# Ends that the other side caused; further labels of the same metric.
BY_CLIENT = "by_client"  # the client sent a close frame first
LOST = "lost"  # the connection ended without a close frame (1006)
CLOSE_LABELS: tuple[str, ...] = (*(close.label for close in CLOSES), BY_CLIENT, LOST)
