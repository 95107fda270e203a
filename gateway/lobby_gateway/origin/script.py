"""The `onConnect` steps of a new origin connection: what to send, what to wait for, and where the stream begins.

Messages before the end of the last step are the origin's responses to us (a login, a subscription), so they are not
forwarded. The message after the one that ended the script is the first of the stream, even if both arrived in the same
read. No text made here contains what was sent or expected: those may be secrets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lobby_gateway.resource.json_pointer import resolve
from lobby_gateway.resource.spec import ExpectSpec
from lobby_gateway.websocket.frames import Batch, Opcode

Step = str | ExpectSpec
"""A text to send, with the secrets filled in, or a message to wait for."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of an advance.

    Attributes:
        sends: texts to send now, in this order.
        stream: messages after the end of the script; None before its end, or if there are none.
        unjudged: index of the first message that is yet to be judged; None if all were.
    """

    sends: tuple[str, ...] = ()
    stream: Batch | None = None
    unjudged: int | None = None


class OriginScript:
    """One run of the steps, on one connection.

    Attributes:
        deadline: when the expected message is overdue; None if none is expected.
    """

    __slots__ = ("_at", "_steps", "deadline")

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._at = 0
        self.deadline: float | None = None

    @property
    def done(self) -> bool:
        """Whether all steps are done, so the stream has started."""
        return self._at == len(self._steps)

    def start(self, now: float) -> Progress:
        """The connection is open. Call this once, before `receive`."""
        return Progress(self._advance(now))

    def receive(self, batch: Batch, now: float, *, start: int = 0, most: int | None = None) -> Progress:
        """Messages arrived. Call this until the script is done.

        Args:
            batch: the messages.
            now: seconds.
            start: index of the first one that was not judged yet.
            most: how many to judge at most; None: all.
        """
        sends: list[str] = []
        for index in range(start, len(batch)):
            if self.done:
                return Progress(tuple(sends), batch.after(index))
            if most is not None and index - start == most:
                return Progress(tuple(sends), unjudged=index)
            step = self._steps[self._at]
            if isinstance(step, ExpectSpec) and _matches(step, batch, index):
                self._at += 1
                sends.extend(self._advance(now))
        return Progress(tuple(sends))

    def overdue(self, now: float) -> str | None:
        """If the expected message is overdue, one line about it for people."""
        if self.deadline is None or now < self.deadline:
            return None
        step = self._steps[self._at]
        assert isinstance(step, ExpectSpec)  # noqa: S101  only those have a deadline
        what = f"no message matching {', '.join(sorted(step.json))}" if step.json else "no message"
        return f"onConnect[{self._at}]: {what} within {step.timeout_seconds} s"

    @property
    def where(self) -> str:
        """The current step, for people."""
        return f"onConnect[{self._at}]"

    def _advance(self, now: float) -> tuple[str, ...]:
        """Runs the `send` steps up to the next `expect`, whose message is awaited then."""
        sends = []
        self.deadline = None
        while not self.done:
            step = self._steps[self._at]
            if isinstance(step, ExpectSpec):
                self.deadline = now + step.timeout_seconds
                break
            sends.append(step)
            self._at += 1
        return tuple(sends)


def _matches(expect: ExpectSpec, batch: Batch, index: int) -> bool:
    if not expect.json:
        return True
    if batch.opcode(index) != Opcode.TEXT:
        return False
    try:
        document = json.loads(bytes(batch.payload(index)))
    except (ValueError, RecursionError):  # not JSON, or nested absurdly deep
        return False
    return all(equal(resolve(document, pointer), value) for pointer, value in expect.json.items())


def equal(a: Any, b: Any) -> bool:  # noqa: ANN401  any JSON
    """Whether two JSON values are equal. 1 equals 1.0, as in JSON, but not true, as it would in Python."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
