"""Clients' messages on their way to the origin (`clients.messages: Forward`).

They wait, bounded, while the origin is not connected: a client may send as soon as it has its 101, and with OnDemand the
origin's connection is only opened then. They go out at an even pace, so that the origin's own limit holds.

All clients share the origin's connection, so one client's message may make the origin close it for everybody. The client
that sent it is found by time and closed: an origin that objects to a message does so at once, and what was sent less than a
round trip before its close frame came can't have been the reason.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from typing import Protocol

from lobby_gateway.clients.held_messages import FORWARD_SETTINGS, HeldMessages
from lobby_gateway.clients.rate_limit import RateLimiter
from lobby_gateway.settings import ForwardSettings

OBJECTIONS = frozenset({1002, 1003, 1007, 1008, 1009})
"""Close codes of an origin that objects to what it received (RFC 6455 §7.4.1)."""


class ForwardTarget(Protocol):
    """The origin's connection."""

    @property
    def streaming(self) -> bool:
        """Whether it is open, and its `onConnect` steps are done."""

    def send_to_origin(self, opcode: int, payload: bytes, sender: Hashable) -> bool:
        """Sends a message of a client; False if the origin reads too slowly to take more."""


class Forwarding:
    """Forwards the messages of all clients of a lobby, in order.

    Attributes:
        per_second: most messages a second; 0: no limit.
    """

    def __init__(
        self,
        origin: ForwardTarget,
        fates: Counter[str],
        *,
        per_second: int,
        settings: ForwardSettings = FORWARD_SETTINGS,
    ) -> None:
        """`fates` counts messages by what happened to them."""
        self.per_second = per_second
        self._origin = origin
        self._fates = fates
        self._settings = settings
        self._held: HeldMessages[Hashable] = HeldMessages(settings)
        self._next_at = 0.0  # no message is sent before
        self._sent: deque[tuple[float, Hashable]] = deque(maxlen=settings.blame_messages)  # when, and by whom
        self._objections = RateLimiter(1)

    @property
    def wake_at(self) -> float | None:
        """When to call `pump`; None: not before the stream begins."""
        return self._next_at if self._held and self._origin.streaming else None

    def submit(self, sender: Hashable, opcode: int, payload: bytes, now: float) -> None:
        """Sends a client's message, or holds it until that is possible."""
        self.pump(now)
        if not self._held and self._ready(now):
            self._send(sender, opcode, payload, now)
        elif not self._held.put(sender, opcode, payload, now):
            self._fates["undeliverable"] += 1

    def pump(self, now: float) -> None:
        """Sends what is held and may be sent, and drops what was held for too long."""
        self._fates["undeliverable"] += self._held.expire(now)
        while self._ready(now) and (message := self._held.pop()) is not None:
            self._send(message.sender, message.opcode, message.payload, now)

    def origin_closed(self, code: int, now: float, round_trip: float) -> Hashable | None:
        """The origin closed its connection; returns the client whose message made it do so, if one did.

        What else that client sent is dropped. After several such closes in a row nothing is forwarded for a while: the stream
        of all is worth more than the messages of some.

        Args:
            code: close code.
            now: seconds.
            round_trip: fewest seconds from a message to the answer.
        """
        settings = self._settings
        recent = [(at, sender) for at, sender in self._sent if at >= now - settings.blame_seconds]
        self._sent.clear()
        if code not in OBJECTIONS or not recent:
            return None
        sender = next((sender for at, sender in reversed(recent) if at <= now - round_trip), recent[0][1])
        self._fates["undeliverable"] += len(self._held.pop_all(lambda each: each == sender))
        rate, burst = 1 / settings.objection_seconds, settings.objections
        while pause := self._objections.take("", now, rate=rate, burst=burst):
            now += pause
        self._next_at = max(self._next_at, now)
        return sender

    def _ready(self, now: float) -> bool:
        return self._origin.streaming and now >= self._next_at

    def _send(self, sender: Hashable, opcode: int, payload: bytes, now: float) -> None:
        if not self._origin.send_to_origin(opcode, payload, sender):
            self._fates["undeliverable"] += 1
            return
        self._fates["forwarded"] += 1
        self._sent.append((now, sender))
        if self.per_second:
            self._next_at = max(self._next_at + 1 / self.per_second, now)
