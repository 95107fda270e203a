"""The `http` steps of a Lobby: what to ask a server over HTTP before or after the handshake, and what its answer means.

A call belongs to the attempt: if it fails, the attempt has failed. 401 and 403 are a refusal, as in a handshake. No error
contains a value, a query, or anything of the answer beyond what the Lobby asks for (`end.reason`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import Expression, ExpressionError, as_text, parsed_json
from lobby_gateway.origin.requests import Request, RequestTemplate, Text, filled
from lobby_gateway.websocket.client_handshake import not_followed, status_text, without_query

FORBIDDEN = frozenset({401, 403})
"""Statuses after which trying again soon is pointless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A call to make.

    Attributes:
        what: method and URL without the query, for people; to be redacted.
        method: HTTP method.
        request: URL and headers.
        body: the body; None: none. It may contain a secret, so `repr` omits it.
        timeout_seconds: most seconds for the whole call.
    """

    what: str = field(repr=False)
    method: str
    request: Request
    body: str | None = field(repr=False)
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer.

    Attributes:
        status: HTTP status.
        body: the whole body; `repr` omits it.
        retry_after_seconds: seconds of `Retry-After`; None if there is none.
        location: where a redirect points to, without its query; empty if it is none.
        media: its media type and content coding, such as `text/html, gzip`; empty if it does not say.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    retry_after_seconds: float | None = None
    location: str = ""
    media: str = ""


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why a call failed.

    Attributes:
        reason: for people, not redacted yet, so `repr` omits it.
        refused: whether trying again soon is pointless.
        retry_after_seconds: fewest seconds until the next attempt.
    """

    reason: str = field(repr=False)
    refused: bool = False
    retry_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CallEnd:
    """Which answers end the attempt, whatever their status.

    Attributes:
        when: an expression that holds for them.
        reason: an expression for why; None: the status.
        refused: whether trying again soon is pointless.
    """

    when: Expression
    reason: Expression | None
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """One `http` step, compiled.

    Attributes:
        field: where it is in the Lobby, for people: `beforeConnect[0].http`.
        method: HTTP method.
        template: makes URL and headers.
        body: the body, or what makes it; None: none.
        status: statuses of success.
        timeout_seconds: most seconds for the whole call.
        save: what to save of the answer, by name.
        end: which answers end the attempt; None: only those with another status.
    """

    field: str
    method: str
    template: RequestTemplate
    body: Text | None
    status: frozenset[int]
    timeout_seconds: float
    save: Mapping[str, Expression]
    end: CallEnd | None

    def request(self, known: Known) -> HttpRequest:
        """The call to make now.

        Raises:
            ExpressionError: an expression has no value, or one that is not allowed where it is used.
        """
        request = self.template.request(known)
        return HttpRequest(
            what=f"{self.method} {without_query(request.url)}",
            method=self.method,
            request=request,
            body=None if self.body is None else filled(self.body, known, f"{self.field}.body"),
            timeout_seconds=self.timeout_seconds,
        )

    def failed(self, request: HttpRequest, problem: str) -> CallFailure:
        """The failure of a call without an answer."""
        return CallFailure(f"{self.field}: {request.what}: {problem}")

    def judge(self, request: HttpRequest, answer: HttpAnswer, known: Known) -> CallFailure | None:
        """Saves what is to be saved of an answer, or says why the attempt ends. None: it goes on."""
        retry_after = answer.retry_after_seconds or 0.0
        forbidden = answer.status in FORBIDDEN
        found = parsed_json(answer.body.decode("utf-8-sig", errors="replace"))
        variables = {"http": {"status": answer.status, "json": found}, **known.variables}
        if self.end is not None and self.end.when.holds(variables):
            reason = self._reason(self.end, variables) or _status(answer)
            return CallFailure(f"{self.field}: {reason}", self.end.refused or forbidden, retry_after)
        if answer.status not in self.status:
            return CallFailure(f"{self.field}: {request.what}: {_status(answer)}", forbidden, retry_after)
        try:
            known.captured.save(self.save, variables, self.field)
        except ExpressionError as error:  # what is missing now will be missed later
            reason = str(error)
            where = reason.partition(": ")[0]
            asked = self.save.get(where.removeprefix(f"{self.field}.save."))
            if found is None and answer.body.strip() != b"null" and asked is not None and "json" in asked.source:
                # It has no fields, which is all that the error says.
                reason = f"{where}: {request.what}: {_status(answer)}, but {_not_json(answer)}"
            return CallFailure(reason, retry_after_seconds=retry_after)
        return None

    @staticmethod
    def _reason(end: CallEnd, variables: Mapping[str, object]) -> str:
        if end.reason is None:
            return ""
        try:
            return as_text(end.reason.value(variables))
        except ExpressionError:
            return ""  # the answer has another form than expected


def _not_json(answer: HttpAnswer) -> str:
    if not answer.body:
        return "the answer is empty"
    return f"the answer is not JSON{f' ({answer.media})' if answer.media else ''}"


def _status(answer: HttpAnswer) -> str:
    said = f"HTTP {status_text(answer.status)}"
    return f"{said}: {not_followed(answer.location)}" if answer.location else said
