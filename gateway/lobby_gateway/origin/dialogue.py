"""All that we say to an origin and understand of its messages, compiled: handshake, steps, rules and timed messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.durations import as_seconds
from lobby_gateway.origin.expressions import (
    ALWAYS,
    OF_ANSWER,
    OF_MESSAGE,
    Expression,
    ExpressionError,
    as_condition,
    as_json,
    as_text,
    message_variables,
    times,
)
from lobby_gateway.origin.http_calls import CallEnd, HttpCall
from lobby_gateway.origin.requests import HTTP, RequestTemplate, Text
from lobby_gateway.origin.rules import MessageRules, Rule
from lobby_gateway.origin.script import LONGEST_PAUSE, Expectation, Pause, Step
from lobby_gateway.origin.templates import BytesTemplate, MessageTemplate, Template
from lobby_gateway.origin.timed_messages import LONGEST, SHORTEST, TimedMessage
from lobby_gateway.resource.spec import (
    Early,
    ExpectSpec,
    HttpEndSpec,
    HttpSpec,
    NamedValue,
    OriginSpec,
    RuleSpec,
    SecretKeyRef,
    WaitSpec,
)
from lobby_gateway.settings import EXPRESSIONS
from lobby_gateway.websocket.frames import Batch

T = TypeVar("T", Expression, Template, BytesTemplate)

ReadSecret = Callable[[SecretKeyRef], str]
"""Gives the value of a key of a Secret."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Two of the same Lobby are equal if the secrets are.

    Attributes:
        secrets: values by the names that expressions use; `repr` omits them.
        calls: of `beforeConnect`.
        handshake: makes the request that opens the connection; None: nobody connects.
        steps: of `onConnect`.
        rules: of `onMessage`; None: there are none.
        timed: of `every`.
        uses_last: whether an expression looks at the newest message of the stream.
    """

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    calls: tuple[HttpCall, ...] = field(default=(), compare=False)
    handshake: RequestTemplate | None = field(default=None, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)
    rules: MessageRules | None = field(default=None, compare=False)
    timed: tuple[TimedMessage, ...] = field(default=(), compare=False)
    uses_last: bool = field(default=False, compare=False)

    def constants(self) -> Iterator[str]:
        """Values of headers and query that are the same for each request, and may be secret."""
        calls = (*self.calls, *(step for step in self.steps if isinstance(step, HttpCall)))
        requests = [each.template for each in calls]
        if self.handshake is not None:
            requests.append(self.handshake)
        for each in requests:
            yield from (value for _, value in (*each.headers, *each.query) if isinstance(value, str) and value)

    def saveable(self, message: Batch, now: float) -> Iterator[str]:
        """Values, as JSON, that steps and rules might save of a message, even if it is not quite what they are for.

        Args:
            message: the message, alone.
            now: seconds since 1970.
        """
        saves = [(step.contains, step.save) for step in self.steps if isinstance(step, Expectation)]
        saves += [] if self.rules is None else self.rules.saves
        payload = bytes(message.payload(0))
        variables = message_variables(message, 0, {**self.secrets, **times(now)})
        for contains, save in saves:
            for expression in save.values() if contains in payload else ():
                if expression.names.isdisjoint(("msg", "text", "data")):
                    continue
                with suppress(ExpressionError, TypeError, ValueError):  # it has no such value, or not as JSON
                    yield json.dumps(expression.value(variables))


def dialogue(origin: OriginSpec, read: ReadSecret) -> Dialogue:
    """Compiles the dialogue of a checked Lobby.

    Args:
        origin: the origin.
        read: gives the values of its secrets.

    Raises:
        ExpressionError: it was not checked, see `problems`.
    """
    made, problems = _compile(origin, read)
    for path, text in problems:
        raise ExpressionError(f"{path}: {text}")
    return made


def problems(origin: OriginSpec) -> Iterator[tuple[str, str]]:
    """Errors in expressions and in texts with expressions, as (field, one line)."""
    _, problems = _compile(origin, lambda _: "")
    yield from problems


def _compile(origin: OriginSpec, read: ReadSecret) -> tuple[Dialogue, Sequence[tuple[str, str]]]:
    compiler = _Compiler(origin, read)
    try:
        rules = compiler.rules()
        made = Dialogue(
            secrets=compiler.secrets,
            calls=compiler.calls(),
            handshake=compiler.handshake(),
            steps=compiler.steps(),
            rules=MessageRules(rules) if rules else None,
            timed=compiler.timed(),
        )
    except _TooManyExpressionsError:
        most, least = EXPRESSIONS.total_characters, EXPRESSIONS.least_characters
        counted = f"each counts at least {least}"
        problem = f"its expressions have more than {most} characters ({counted}); accepted: at most {most}"
        return Dialogue(), (*compiler.problems, ("spec.origin", problem))
    return replace(made, uses_last=compiler.uses_last), compiler.problems


class _TooManyExpressionsError(Exception):
    """The expressions of a Lobby would take too long to compile."""


class _Compiler:
    """Compiles one field after the other, and collects the errors.

    Attributes:
        secrets: values by the names that expressions use.
        problems: as (field, one line).
        uses_last: whether an expression so far looks at the newest message of the stream.
    """

    def __init__(self, origin: OriginSpec, read: ReadSecret) -> None:
        self._origin = origin
        self._read = read
        self.secrets = {each.name: read(each.secret_key_ref) for each in origin.secrets}
        self.problems: list[tuple[str, str]] = []
        self.uses_last = False
        self._characters = 0

    def calls(self) -> tuple[HttpCall, ...]:
        steps = enumerate(self._origin.before_connect)
        return tuple(self._call(step.http, f"spec.origin.beforeConnect[{index}].http") for index, step in steps)

    def _call(self, http: HttpSpec, path: str) -> HttpCall:
        field = path.removeprefix("spec.origin.")
        return HttpCall(
            field=field,
            method=http.method,
            template=RequestTemplate(
                path=f"{field}.",
                schemes=HTTP,
                url=self._text(http.url, f"{path}.url"),
                headers=self._named(http.headers, f"{path}.headers"),
                query=self._named(http.query, f"{path}.query"),
            ),
            body=None if http.body is None else self._text(http.body, f"{path}.body"),
            status=frozenset(http.status),
            timeout_seconds=http.timeout_seconds,
            save=self._saves(http.save, path, OF_ANSWER),
            end=None if http.end is None else self._call_end(http.end, f"{path}.end"),
        )

    def _call_end(self, end: HttpEndSpec, path: str) -> CallEnd | None:
        when = self._expression(end.when, f"{path}.when", OF_ANSWER, as_condition)
        reason = self._expression(end.reason, f"{path}.reason", OF_ANSWER, as_text)
        return None if when is None else CallEnd(when, reason, end.refused)

    def handshake(self) -> RequestTemplate:
        origin = self._origin
        return RequestTemplate(
            url=self._text(origin.url, "spec.origin.url"),
            headers=self._named(origin.headers, "spec.origin.headers"),
            query=self._named(origin.query, "spec.origin.query"),
        )

    def _named(self, values: Sequence[NamedValue], path: str) -> tuple[tuple[str, Text], ...]:
        return tuple((each.name, self._value(each, f"{path}[{index}].value")) for index, each in enumerate(values))

    def _value(self, named: NamedValue, path: str) -> Text:
        if named.value_from is not None:
            return self._read(named.value_from.secret_key_ref)
        return self._text(named.value or "", path)

    def _text(self, source: str, path: str) -> Text:
        made = self._compiled(path, lambda: Template(source, self.secrets, ALWAYS, self._expression_of))
        if made is None:
            return ""  # there is a problem
        return self._filled_in(made)

    def steps(self) -> tuple[Step, ...]:
        made: list[Step | None] = []
        for index, step in enumerate(self._origin.on_connect):
            path = f"spec.origin.onConnect[{index}]"
            if step.expect is not None:
                made.append(self._expectation(step.expect, f"{path}.expect"))
            elif step.wait is not None:
                made.append(self._pause(step.wait, f"{path}.wait"))
            elif step.http is not None:
                made.append(self._call(step.http, f"{path}.http"))
            else:
                made.append(self._sent(step.send, step.send_bytes, path))
        return tuple(each for each in made if each is not None)

    def rules(self) -> tuple[Rule, ...]:
        found = enumerate(self._origin.on_message)
        return tuple(self._rule(rule, f"spec.origin.onMessage[{index}]") for index, rule in found)

    def timed(self) -> tuple[TimedMessage, ...]:
        made = []
        for index, each in enumerate(self._origin.every):
            path = f"spec.origin.every[{index}]"
            template = self._message(each.send, each.send_bytes, path, ALWAYS)
            computed = self._seconds(each.seconds_from, path, SHORTEST, LONGEST)
            interval = each.seconds if each.seconds is not None else computed
            if template is not None and interval is not None:
                made.append(TimedMessage(path.removeprefix("spec.origin."), interval, template))
        return tuple(made)

    def _expectation(self, expect: ExpectSpec, path: str) -> Expectation:
        return Expectation(
            json=expect.json,
            contains=(expect.contains or "").encode(),
            when=self._expression(expect.when, f"{path}.when", check=as_condition),
            save=self._saves(expect.save, path),
            keep=expect.keep or "",
            forward_early=expect.early is Early.FORWARD,
            timeout_seconds=expect.timeout_seconds,
        )

    def _pause(self, wait: WaitSpec, path: str) -> Pause | None:
        computed = self._seconds(wait.seconds_from, path, 0, LONGEST_PAUSE)
        seconds = wait.seconds if wait.seconds is not None else computed
        if seconds is None:
            return None
        return Pause(path.removeprefix("spec.origin."), seconds, forward_early=wait.early is Early.FORWARD)

    def _rule(self, rule: RuleSpec, path: str) -> Rule:
        end = rule.end
        return Rule(
            field=path.removeprefix("spec.origin."),
            contains=(rule.contains or "").encode(),
            when=self._expression(rule.when, f"{path}.when", check=as_condition),
            send=self._message(rule.send, rule.send_bytes, path, OF_MESSAGE),
            save=self._saves(rule.save, path),
            forward=rule.forward,
            keep=rule.keep or "",
            renew=rule.renew,
            ends=end is not None,
            end_reason=None if end is None else self._expression(end.reason, f"{path}.end.reason", check=as_text),
            refused=end is not None and end.refused,
        )

    def _sent(self, text: str | None, data: str | None, path: str) -> Step | None:
        made = self._message(text, data, path, ALWAYS)
        return self._filled_in(made) if isinstance(made, Template) else made

    def _filled_in(self, made: Template) -> Text:
        """A text with nothing but secrets in it is filled in now."""
        return made.message(Known(self.secrets)) if made.constant else made

    def _message(
        self, text: str | None, data: str | None, path: str, variables: Collection[str]
    ) -> MessageTemplate | None:
        """What makes a message: of `send` or of `sendBytes`, whichever is set."""
        secrets = self.secrets.keys()
        if text is not None:
            return self._compiled(f"{path}.send", lambda: Template(text, secrets, variables, self._expression_of))
        if data is not None:
            names = {*secrets, *variables}
            return self._compiled(f"{path}.sendBytes", lambda: BytesTemplate(data, names, self._expression_of))
        return None

    def _saves(
        self, sources: Mapping[str, str] | None, path: str, variables: Collection[str] = OF_MESSAGE
    ) -> Mapping[str, Expression]:
        found = (sources or {}).items()
        made = {name: self._expression(source, f"{path}.save.{name}", variables) for name, source in found}
        return {name: each for name, each in made.items() if each is not None}

    def _seconds(self, source: str | None, path: str, shortest: float, longest: float) -> Expression | None:
        return self._expression(
            source, f"{path}.secondsFrom", ALWAYS, lambda value: as_seconds(value, shortest, longest)
        )

    def _expression(
        self,
        source: str | None,
        path: str,
        variables: Collection[str] = OF_MESSAGE,
        check: Callable[[Any], object] = as_json,
    ) -> Expression | None:
        """Compiles an expression; `check` raises an error for values that cannot be used."""
        if source is None:
            return None

        def checked() -> Expression:
            made = self._expression_of(source, {*self.secrets, *variables})
            made.check_constant(check)
            return made

        return self._compiled(path, checked)

    def _expression_of(self, source: str, variables: Collection[str]) -> Expression:
        if len(source) <= EXPRESSIONS.characters:  # it is not compiled otherwise
            self._characters += max(len(source), EXPRESSIONS.least_characters)
        if self._characters > EXPRESSIONS.total_characters:
            raise _TooManyExpressionsError
        return Expression(source, variables)

    def _compiled(self, path: str, make: Callable[[], T]) -> T | None:
        try:
            made = make()
        except ExpressionError as error:
            self.problems.append((path, str(error)))
            return None
        self.uses_last = self.uses_last or made.uses_last
        return made
