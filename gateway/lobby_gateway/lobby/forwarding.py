"""Clients' messages on their way to the origin (`clients.messages: Forward`).

They wait, bounded, while the origin is not connected: a client may send as soon as it has its 101, and with OnDemand the
origin's connection is only opened then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Protocol

from lobby_gateway.clients.held_messages import HeldMessages
from lobby_gateway.settings import ForwardSettings

FORWARD_SETTINGS = ForwardSettings()


class ForwardTarget(Protocol):
    """The origin's connection."""

    @property
    def streaming(self) -> bool:
        """Whether it is open, and its `onConnect` steps are done."""

    def send_to_origin(self, opcode: int, payload: bytes) -> bool:
        """Sends a message; False if the origin reads too slowly to take more."""


class Forwarding:
    """Forwards the messages of all clients of a lobby, in order."""

    def __init__(
        self, origin: ForwardTarget, fates: Counter[str], *, settings: ForwardSettings = FORWARD_SETTINGS
    ) -> None:
        """`fates` counts messages by what happened to them."""
        self._origin = origin
        self._fates = fates
        self._held: HeldMessages[Hashable] = HeldMessages(settings)

    def submit(self, sender: Hashable, opcode: int, payload: bytes, now: float) -> None:
        """Sends a client's message, or holds it until that is possible."""
        self.pump(now)
        if not self._held and self._origin.streaming:
            self._send(opcode, payload)
        elif not self._held.put(sender, opcode, payload, now):
            self._fates["undeliverable"] += 1

    def pump(self, now: float) -> None:
        """Sends what is held, if the origin is connected, and drops what was held for too long."""
        self._fates["undeliverable"] += self._held.expire(now)
        while self._origin.streaming and (message := self._held.pop()) is not None:
            self._send(message.opcode, message.payload)

    def _send(self, opcode: int, payload: bytes) -> None:
        self._fates["forwarded" if self._origin.send_to_origin(opcode, payload) else "undeliverable"] += 1
