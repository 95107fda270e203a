"""The `onConnect` steps of a new origin connection: what to send, what to wait for, and where the stream begins.

Messages before the end of the last step are the origin's responses to us (a login, a subscription), so they are not
forwarded, except with `early: Forward` those that no step waits for: they are the beginning of the stream. The message after
the one that ended the script is the next of the stream, even if both arrived in the same read.

Consecutive `expect` steps match in any order: an origin may answer two requests as it likes. A message that matches several
goes to the one that asks for most (`Expectation.narrows`), so that the others are left for less special messages. A `wait`
step lets time pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.durations import Duration, seconds_of
from lobby_gateway.origin.expressions import Expression, ExpressionError, message_variables
from lobby_gateway.origin.http_calls import HttpCall, HttpRequest
from lobby_gateway.origin.rules import End, MessageRules
from lobby_gateway.origin.templates import MessageTemplate
from lobby_gateway.resource.json_pointer import resolve
from lobby_gateway.settings import KEPT, ORIGIN
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch, Opcode


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A message to wait for.

    Attributes:
        json: the JSON value expected at each JSON pointer (RFC 6901).
        contains: bytes that it must contain; empty: any.
        when: an expression that must hold; None: none.
        save: what to save of it, by name.
        keep: name under which it is kept for clients that join; empty: it is not.
        forward_early: whether messages that arrive meanwhile, and that no step waits for, are forwarded.
        timeout_seconds: how long to wait.
    """

    json: Mapping[str, Any]
    contains: bytes = b""
    when: Expression | None = None
    save: Mapping[str, Expression] = field(default_factory=dict)
    keep: str = ""
    forward_early: bool = False
    timeout_seconds: float

    def narrows(self, other: Expectation) -> bool:
        """Whether it asks for all that another step asks for, and for more."""
        return self._includes(other) and not other._includes(self)

    def _includes(self, other: Expectation) -> bool:
        if other.when is not None and (self.when is None or self.when.source != other.when.source):
            return False
        same = (pointer in self.json and equal(self.json[pointer], value) for pointer, value in other.json.items())
        return other.contains in self.contains and all(same)


@dataclass(frozen=True, slots=True)
class Pause:
    """Time to let pass.

    Attributes:
        field: where it is in the Lobby, for people: `onConnect[1].wait`.
        seconds: how long.
        forward_early: whether messages that arrive meanwhile are forwarded.
    """

    field: str
    seconds: Duration
    forward_early: bool = False


LONGEST_PAUSE = 300
"""Most seconds of a pause, as in the CRD."""

Step = str | MessageTemplate | Expectation | Pause | HttpCall
"""A text to send with the secrets filled in, what makes a message to send, a message to wait for, a pause, or an HTTP call."""

_SHOWN = 300
"""Bytes of a message that came instead of an expected one; the report of it is redacted and cut later."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of an advance.

    Attributes:
        sends: messages to send now, in this order; they may contain secrets, so `repr` omits them.
        early: messages before the end of the script that are part of the stream; None before its end, or if there are none.
        stream: messages after the end of the script; None before its end, or if there are none.
        end: why the connection ends: a rule says so, or a step has failed; None: it does not.
        unjudged: index of the first message that is yet to be judged; None if all were.
        call: an HTTP call to make now; `called` is to follow.
    """

    sends: tuple[str | bytes, ...] = field(default=(), repr=False)
    early: Batch | None = None
    stream: Batch | None = None
    end: End | None = None
    unjudged: int | None = None
    call: HttpRequest | None = None


class OriginScript:
    """One run of the steps, on one connection.

    Attributes:
        calling: the HTTP call under way; None: there is none.
        kept: messages for clients that join, by name, that are not part of the stream.
        kept_early: the same for those that are part of it, since they are forwarded.
        deadline: when the expected message is overdue, or a pause ends; None if neither is under way.
    """

    __slots__ = (
        "_after_awaited",
        "_at",
        "_awaited",
        "_early",
        "_early_bytes",
        "_instead",
        "_max_early",
        "_max_kept",
        "_pause",
        "_request",
        "_rules",
        "_steps",
        "calling",
        "deadline",
        "kept",
        "kept_early",
    )  # fmt: skip

    def __init__(
        self,
        steps: Sequence[Step],
        rules: MessageRules | None = None,
        *,
        max_early_bytes: int = ORIGIN.early_bytes,
        max_kept_bytes: int = KEPT.message_bytes,
    ) -> None:
        """Begins before the first step.

        Args:
            steps: the steps.
            rules: for messages that no step waits for.
            max_early_bytes: most bytes of messages that are held until the stream begins.
            max_kept_bytes: largest payload that is kept for clients that join.
        """
        self._steps = tuple(steps)
        self._rules = rules
        self._max_early = max_early_bytes
        self._max_kept = max_kept_bytes
        self.kept: dict[str, KeptFrame] = {}
        self.kept_early: dict[str, KeptFrame] = {}
        self._at = 0  # the first step that is not done
        self._awaited: dict[int, Expectation] = {}  # of consecutive `expect` steps, those that are not done
        self._after_awaited = 0  # the step behind them
        self._pause: Pause | None = None  # under way
        self.calling: HttpCall | None = None
        self._request: HttpRequest | None = None  # of a call that begins now
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._instead = ""  # the latest message that no step waited for
        self.deadline: float | None = None

    @property
    def done(self) -> bool:
        """Whether all steps are done, so the stream has started."""
        return self._at == len(self._steps)

    def start(self, now: float, known: Known | None = None) -> Progress:
        """The connection is open. Call this once, before `receive`."""
        sends: list[str | bytes] = []
        end = self._advance(sends, now, known or Known())
        return self._progress(sends, end)

    def receive(
        self,
        batch: Batch,
        now: float,
        known: Known | None = None,
        *,
        start: int = 0,
        most: int | None = None,
    ) -> Progress:
        """Messages arrived. Call this until the script is done.

        Args:
            batch: the messages.
            now: seconds.
            known: what expressions know beside a message.
            start: index of the first one that was not judged yet.
            most: how many to judge at most; None: all.
        """
        known = known or Known()
        sends: list[str | bytes] = []
        for index in range(start, len(batch)):
            if self.done:
                return Progress(tuple(sends), self._take_early(), batch.after(index))
            if self.calling is not None or (most is not None and index - start == most):
                return Progress(tuple(sends), unjudged=index, call=self._take_request())
            matched = self._matching(batch, index, known)
            end: End | None = None
            if matched is None:
                end = self._not_awaited(batch, index, known, sends)
            else:
                step = self._awaited.pop(matched)
                end = self._save(step, matched, batch, index, known)
                if end is None and step.keep:
                    self._keep(step.keep, batch.frames[index], early=False)
                if end is not None:
                    pass
                elif self._awaited:
                    self._await(now)
                else:
                    self._at = self._after_awaited
                    end = self._advance(sends, now, known)
            if end is not None:
                return Progress(tuple(sends), end=end)
        return self._progress(sends)

    def resume(self, now: float, known: Known | None = None) -> Progress | None:
        """Goes on if a pause is over; None: there is none, or it is not. Call it when all messages so far were judged."""
        if self._pause is None or self.deadline is None or now < self.deadline:
            return None
        self._pause = None
        return self._next(now, known or Known())

    def called(self, now: float, known: Known | None = None) -> Progress:
        """The HTTP call has succeeded."""
        self.calling = None
        return self._next(now, known or Known())

    def _next(self, now: float, known: Known) -> Progress:
        """Goes on behind a step that is done."""
        self._at += 1
        sends: list[str | bytes] = []
        return self._progress(sends, self._advance(sends, now, known))

    def _progress(self, sends: list[str | bytes], end: End | None = None) -> Progress:
        """All messages so far were judged."""
        early = self._take_early() if self.done and end is None else None
        return Progress(tuple(sends), early, end=end, call=self._take_request())

    def _take_request(self) -> HttpRequest | None:
        request, self._request = self._request, None
        return request

    def overdue(self, now: float) -> str | None:
        """If the expected message is overdue, one line about it for people. It quotes the origin, so it is to be redacted."""
        if self._pause is not None or self.deadline is None or now < self.deadline:
            return None
        at, step = min(self._awaited.items(), key=lambda each: each[1].timeout_seconds)
        what = f"no message matching {', '.join(sorted(step.json))}" if step.json else "no message"
        if not step.json and (step.contains or step.when is not None):
            what = "no matching message"
        line = f"onConnect[{at}]: {what} within {step.timeout_seconds} s"
        return f"{line}; the latest other message: {self._instead}" if self._instead else line

    @property
    def where(self) -> str:
        """The current step, for people."""
        return f"onConnect[{next(iter(self._awaited), self._at)}]"

    def _advance(self, sends: list[str | bytes], now: float, known: Known) -> End | None:
        """Runs the `send` steps up to the next `expect` steps, whose messages are awaited then, a pause or an HTTP call."""
        self.deadline = None
        while not self.done:
            step = self._steps[self._at]
            if isinstance(step, Expectation):
                self._await_from(self._at, now)
                return None
            if isinstance(step, Pause):
                return self._pause_for(step, now, known)
            if isinstance(step, HttpCall):
                return self._call(step, known)
            where = self.where
            self._at += 1
            if isinstance(step, str):
                sends.append(step)
                continue
            try:
                sends.append(step.message(known))
            except ExpressionError as error:
                return End(f"{where}.{step.field}: {error}", refused=False)
        return None

    def _pause_for(self, pause: Pause, now: float, known: Known) -> End | None:
        try:
            seconds = seconds_of(pause.seconds, known, field=pause.field, shortest=0, longest=LONGEST_PAUSE)
        except ExpressionError as error:
            return End(str(error), refused=False)
        self._pause = pause
        self.deadline = now + seconds
        return None

    def _call(self, call: HttpCall, known: Known) -> End | None:
        try:
            self._request = call.request(known)
        except ExpressionError as error:
            return End(str(error), refused=False)
        self.calling = call
        return None

    def _await_from(self, at: int, now: float) -> None:
        """Begins to wait for a step and the `expect` steps that follow it."""
        while at < len(self._steps) and isinstance(step := self._steps[at], Expectation):
            self._awaited[at] = step
            at += 1
        self._after_awaited = at
        self._await(now)

    def _await(self, now: float) -> None:
        self.deadline = now + min(each.timeout_seconds for each in self._awaited.values())

    def _matching(self, batch: Batch, index: int, known: Known) -> int | None:
        """The awaited step that takes a message: the first that it matches, or one of those that asks for more than that."""
        variables: Mapping[str, object] | None = None
        found: int | None = None
        for at, step in self._awaited.items():
            if found is not None and not step.narrows(self._awaited[found]):
                continue
            if step.contains and step.contains not in bytes(batch.payload(index)):
                continue
            if step.json or step.when is not None:
                variables = variables or message_variables(batch, index, known.variables)
                if not _has(variables, step.json):
                    continue
                if step.when is not None and not step.when.holds(variables):
                    continue
            found = at
        return found

    @staticmethod
    def _save(step: Expectation, at: int, batch: Batch, index: int, known: Known) -> End | None:
        if not step.save:
            return None
        try:
            variables = message_variables(batch, index, known.variables)
            known.captured.save(step.save, variables, f"onConnect[{at}].expect")
        except ExpressionError as error:  # a later step needs it
            return End(str(error), refused=False)
        return None

    def _not_awaited(self, batch: Batch, index: int, known: Known, sends: list[str | bytes]) -> End | None:
        """A message that no step waits for: what the rules say, and perhaps the beginning of the stream."""
        if self._rules is not None:
            verdict = self._rules.judge_one(batch, index, known)
            if verdict.send is not None:
                sends.append(verdict.send)
            if verdict.end is not None:
                return verdict.end
            if verdict.keep:
                early = verdict.forward and self._forwards_early
                self._keep(verdict.keep, batch.frames[index], early=early)
            if not verdict.forward:
                return None
        shown = bytes(batch.payload(index)[:_SHOWN])
        is_text = batch.opcode(index) == Opcode.TEXT
        self._instead = shown.decode(errors="replace") if is_text else f"{len(batch.payload(index))} bytes, not text"
        if self._forwards_early:
            frame = batch.frames[index]
            self._early.append(frame)
            self._early_bytes += len(frame)
            if self._early_bytes > self._max_early:
                return End(f"more than {self._max_early} bytes arrived before onConnect was done", refused=False)
        return None

    @property
    def _forwards_early(self) -> bool:
        """Whether messages that no step waits for are part of the stream."""
        pause = self._pause is not None and self._pause.forward_early
        return pause or any(each.forward_early for each in self._awaited.values())

    def _keep(self, name: str, frame: bytes, *, early: bool) -> None:
        """Keeps a message for clients that join; with `early` it is part of the stream, too."""
        kept, other = (self.kept_early, self.kept) if early else (self.kept, self.kept_early)
        kept[name] = KeptFrame(frame, len(self._early) + 1 if early else 0).within(self._max_kept)
        other.pop(name, None)

    def _take_early(self) -> Batch | None:
        early, self._early = self._early, []
        return Batch.of(early) if early else None


def _has(variables: Mapping[str, object], values: Mapping[str, Any]) -> bool:
    """Whether a message is JSON that has these values at these pointers."""
    msg = variables["msg"]
    if values and msg is None and str(variables["text"]).strip() != "null":
        return False
    return all(equal(resolve(msg, pointer), value) for pointer, value in values.items())


def equal(a: Any, b: Any) -> bool:  # noqa: ANN401  any JSON
    """Whether two JSON values are equal. 1 equals 1.0, as in JSON, but not true, as it would in Python."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
