"""The rules of `onMessage`: which messages of the origin are dropped, answered, or end the connection.

A rule's `contains` is looked for in all messages of a read at once, so without a hit nothing is parsed, and the batch is
passed on as it came. The first rule that matches a message decides; a message that none matches is forwarded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from lobby_gateway.origin.captured import Captured, Known
from lobby_gateway.origin.expressions import Expression, ExpressionError, as_text, message_variables
from lobby_gateway.origin.literals import contains_any
from lobby_gateway.origin.templates import MessageTemplate
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch


@dataclass(frozen=True, slots=True)
class End:
    """Why a message ends the connection.

    Attributes:
        reason: in the origin's words, not redacted yet, so `repr` omits it.
        refused: whether trying again soon is pointless.
    """

    reason: str = field(repr=False)
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, compiled.

    Attributes:
        field: where it is in the Lobby, for people: `onMessage[0]`.
        contains: bytes that the message must contain; empty: any message.
        when: what must hold; None: nothing more.
        send: what to send to the origin; None: nothing.
        save: what to save of it, by name.
        forward: whether the message goes to the clients.
        keep: name under which it is kept for clients that join; empty: it is not.
        renew: whether the origin asks for a new connection, while this one still works.
        ends: whether it ends the connection.
        end_reason: why; None: the message itself.
        refused: whether that is a refusal.
    """

    field: str
    contains: bytes
    when: Expression | None
    send: MessageTemplate | None
    save: Mapping[str, Expression]
    forward: bool
    keep: str = ""
    renew: bool
    ends: bool
    end_reason: Expression | None
    refused: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say about one message.

    Attributes:
        forward: whether it goes to the clients.
        send: a message to send to the origin; None: nothing. It may contain a secret, so `repr` omits it.
        renew: whether the connection is to be renewed.
        end: why the connection ends; None: it does not.
        keep: name under which it is kept for clients that join; empty: it is not.
    """

    forward: bool = True
    send: str | bytes | None = field(default=None, repr=False)
    renew: bool = False
    end: End | None = None
    keep: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say about messages that arrived together, up to the one that ends the connection.

    Attributes:
        forwarded: those that go to the clients; None: none do.
        sends: messages to send to the origin, in this order.
        renew: whether the connection is to be renewed.
        end: why the connection ends; None: it does not.
        unjudged: index of the first message that is yet to be judged; None if all were.
        kept: those that are kept for clients that join, by name: the newest of each.
    """

    forwarded: Batch | None
    sends: tuple[str | bytes, ...] = field(repr=False)
    renew: bool
    end: End | None
    unjudged: int | None
    kept: Mapping[str, KeptFrame] = field(default_factory=dict, repr=False)


class MessageRules:
    """All rules of an origin."""

    __slots__ = ("_literals", "_rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._literals = tuple(dict.fromkeys(rule.contains for rule in rules))

    @property
    def saves(self) -> list[tuple[bytes, Mapping[str, Expression]]]:
        """What each rule looks for, and what it saves."""
        return [(rule.contains, rule.save) for rule in self._rules]

    def concern(self, batch: Batch) -> bool:
        """Whether any rule may match a message of the batch: if not, all of it is forwarded."""
        return contains_any(batch.data, self._literals)

    def judge(self, batch: Batch, known: Known, *, start: int = 0, most: int | None = None) -> Judgement:
        """What to do with messages, in their order.

        Args:
            batch: the messages.
            known: what expressions know beside a message.
            start: index of the first one that was not judged yet.
            most: how many to judge at most; None: all.
        """
        frames = batch.frames
        stop = len(batch) if most is None else min(len(batch), start + most)
        hits = self._hits(batch, start, stop)
        forwarded: list[bytes] = []
        sends: list[str | bytes] = []
        kept: dict[str, KeptFrame] = {}
        renew = False
        end: End | None = None
        for index in range(start, stop):
            verdict = self.judge_one(batch, index, known) if hits is None or index in hits else _FORWARD
            if verdict.forward:
                forwarded.append(frames[index])
            if verdict.keep:
                kept[verdict.keep] = KeptFrame(frames[index], len(forwarded) if verdict.forward else 0)
            if verdict.send is not None:
                sends.append(verdict.send)
            renew = renew or verdict.renew
            if verdict.end is not None:
                end = verdict.end
                break
        published = batch if len(forwarded) == len(batch) else Batch.of(forwarded) if forwarded else None
        unjudged = stop if end is None and stop < len(batch) else None
        return Judgement(published, tuple(sends), renew, end, unjudged, kept)

    def _hits(self, batch: Batch, start: int, stop: int) -> Collection[int] | None:
        """The messages of a range that have a literal of a rule, and perhaps others; None: any may.

        A literal that begins in one frame and ends in the next is a hit of the first here, and of none in `judge_one`.
        """
        if b"" in self._literals or start == stop:
            return None
        data, ends = batch.data, batch.ends
        begin, end = ends[start - 1] if start else 0, ends[stop - 1]
        found: set[int] = set()
        for literal in self._literals:
            at = data.find(literal, begin, end) if contains_any(data, (literal,)) else -1
            while at >= 0:
                index = bisect_right(ends, at)
                found.add(index)
                at = data.find(literal, ends[index], end)
        return found

    def judge_one(self, batch: Batch, index: int, known: Known) -> Verdict:
        """What to do with one message of a batch."""
        payload = bytes(batch.payload(index))
        variables: Mapping[str, object] | None = None  # only made for a hit
        for rule in self._rules:
            if rule.contains and rule.contains not in payload:
                continue
            if variables is None:
                variables = message_variables(batch, index, known.variables)
            if rule.when is None or rule.when.holds(variables):
                return _apply(rule, variables, known.captured)
        return _FORWARD


_FORWARD = Verdict()


def _apply(rule: Rule, variables: Mapping[str, object], captured: Captured) -> Verdict:
    """What a rule says about a message that it matches."""
    send: str | bytes | None = None
    end: End | None = None
    try:
        captured.save(rule.save, variables, rule.field)
    except ExpressionError as error:  # what is missing now will be missed later
        end = End(str(error), refused=False)
    if rule.send is not None:
        try:
            send = rule.send.message(Known(variables, captured))
        except ExpressionError as error:  # the origin waits for an answer that it will not get
            end = End(f"{rule.field}.{rule.send.field}: {error}", refused=False)
    if rule.ends:
        end = End(_reason(rule, variables), rule.refused)
    return Verdict(rule.forward, send, rule.renew, end, rule.keep if end is None else "")


def _reason(rule: Rule, variables: Mapping[str, object]) -> str:
    if rule.end_reason is not None:
        try:
            return as_text(rule.end_reason.value(variables))
        except ExpressionError:
            pass  # the message has another form than expected: all of it is the reason
    return str(variables["text"]) or "a binary message"
