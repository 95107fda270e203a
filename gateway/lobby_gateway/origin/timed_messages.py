"""Messages that an origin wants to get at intervals (`every`): heartbeats of its own making, above WebSocket's pings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.durations import Duration, seconds_of
from lobby_gateway.origin.templates import MessageTemplate

SHORTEST, LONGEST = 1, 86400
"""Seconds of an interval, as in the CRD."""


@dataclass(frozen=True, slots=True)
class TimedMessage:
    """One of them.

    Attributes:
        field: where it is in the Lobby, for people: `every[0]`.
        seconds: the interval, or an expression for it.
        send: makes the message.
    """

    field: str
    seconds: Duration
    send: MessageTemplate


class TimedMessages:
    """When to send which, on one connection.

    Attributes:
        wake_at: when to call `due`; None: never.
    """

    __slots__ = ("_intervals", "_next", "wake_at")

    def __init__(self, messages: Sequence[TimedMessage], now: float, known: Known | None = None) -> None:
        """The stream begins: each message is sent for the first time after its interval.

        Raises:
            ExpressionError: an interval has no value, or is less than a second or more than a day.
        """
        known = known or Known()
        self._intervals = [
            seconds_of(each.seconds, known, field=each.field, shortest=SHORTEST, longest=LONGEST) for each in messages
        ]
        self._next = [(now + seconds, each) for seconds, each in zip(self._intervals, messages, strict=True)]
        self.wake_at = min((at for at, _ in self._next), default=None)

    def due(self, now: float) -> list[TimedMessage]:
        """Those whose time has come. After a pause of ours each is due once, not once for each missed interval."""
        due: list[TimedMessage] = []
        for index, (at, each) in enumerate(self._next):
            if now >= at:
                due.append(each)
                seconds = self._intervals[index]
                self._next[index] = (max(at + seconds, now + seconds / 2), each)
        self.wake_at = min((at for at, _ in self._next), default=None)
        return due
