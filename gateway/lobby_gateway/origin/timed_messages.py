"""Messages that an origin wants to get at intervals (`every`): heartbeats of its own making, above WebSocket's pings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import Expression, ExpressionError
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
    seconds: float | Expression
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
        self._intervals = [_seconds(each, known or Known()) for each in messages]
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


def _seconds(message: TimedMessage, known: Known) -> float:
    if not isinstance(message.seconds, Expression):
        return message.seconds
    where = f"{message.field}.secondsFrom"
    try:
        value = message.seconds.value(known.variables)
    except ExpressionError as error:
        raise ExpressionError(f"{where}: {error}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not SHORTEST <= value <= LONGEST:
        raise ExpressionError(f"{where}: {str(value)[:40]}; accepted: {SHORTEST} to {LONGEST}")
    return float(value)
