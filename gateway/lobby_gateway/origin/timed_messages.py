"""Messages that an origin wants to get at intervals (`every`): heartbeats of its own making, above WebSocket's pings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lobby_gateway.origin.templates import MessageTemplate


@dataclass(frozen=True, slots=True)
class TimedMessage:
    """One of them.

    Attributes:
        field: where it is in the Lobby, for people: `every[0]`.
        seconds: the interval.
        send: makes the message.
    """

    field: str
    seconds: float
    send: MessageTemplate


class TimedMessages:
    """When to send which, on one connection.

    Attributes:
        wake_at: when to call `due`; None: never.
    """

    __slots__ = ("_next", "wake_at")

    def __init__(self, messages: Sequence[TimedMessage], now: float) -> None:
        """The stream begins: each message is sent for the first time after its interval."""
        self._next = [(now + each.seconds, each) for each in messages]
        self.wake_at = min((at for at, _ in self._next), default=None)

    def due(self, now: float) -> list[TimedMessage]:
        """Those whose time has come. After a pause of ours each is due once, not once for each missed interval."""
        due: list[TimedMessage] = []
        for index, (at, each) in enumerate(self._next):
            if now >= at:
                due.append(each)
                self._next[index] = (max(at + each.seconds, now + each.seconds / 2), each)
        self.wake_at = min((at for at, _ in self._next), default=None)
        return due
