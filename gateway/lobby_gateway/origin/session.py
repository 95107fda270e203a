"""A lobby's one connection to its origin across all reconnects, without I/O. For the states see `states.py`.

Its laws, checked by tests/property/test_origin_session.py: no second connection is opened before the first is closed; while
the stream is wanted there is a connection, an attempt, or a scheduled attempt; an origin is never tried earlier than its
last response allows, even if all clients leave and return meanwhile, unless a secret was replaced; nothing reported about it
contains a secret.

Every call takes the time; `commands` returns what to do, `wake_at` when to call `wake` (the design of aioquic's core).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain

from lobby_gateway.origin.captured import Captured, Known
from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.decoding import Decoder, Later, Undecodable
from lobby_gateway.origin.dialogue import Dialogue
from lobby_gateway.origin.expressions import ExpressionError, last_message, times
from lobby_gateway.origin.hidden import Hidden, Moment
from lobby_gateway.origin.http_calls import FORBIDDEN, CallFailure, HttpAnswer, HttpCall, HttpRequest
from lobby_gateway.origin.keepalive import Due, Keepalive
from lobby_gateway.origin.pacing import PacedSends
from lobby_gateway.origin.requests import Request
from lobby_gateway.origin.rules import End
from lobby_gateway.origin.script import OriginScript, Progress
from lobby_gateway.origin.states import (
    TRANSITIONS,
    BeginClose,
    BeginEpoch,
    Call,
    CancelCall,
    CancelConnect,
    Command,
    Connect,
    Failure,
    Forget,
    ImpossibleSignalError,
    Judged,
    Keep,
    NoteClose,
    PauseReading,
    Publish,
    Renew,
    Reschedule,
    ResumeReading,
    Send,
    SendPing,
    Signal,
    State,
)
from lobby_gateway.origin.timed_messages import TimedMessages
from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.resource.spec import ConnectMode, OriginSpec
from lobby_gateway.settings import ORIGIN, OriginSettings
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch
from lobby_gateway.websocket.parser import Close, Event, Violation

_STREAMING = State.STREAMING  # looking up an attribute of an enumeration costs more than a message does here
_FORBIDDEN_CODES = frozenset({3000, 3003})  # Unauthorized and Forbidden in IANA's registry of close codes
_CODE_NAMES = {
    1000: "normal closure", 1001: "going away", 1002: "protocol error", 1003: "unsupported data", 1005: "no code",
    1007: "invalid data", 1008: "policy violation", 1009: "message too big", 1011: "internal error",
    1012: "service restart", 1013: "try again later", 1014: "bad gateway", 3000: "unauthorized", 3003: "forbidden",
}  # fmt: skip
_FAILURE_OF_VIOLATION = {1007: Failure.INVALID_DATA, 1009: Failure.TOO_BIG}


class OriginSession:
    """One lobby's origin connection, as a state machine.

    Attributes:
        state: the current state.
        failures: failures since the start, by kind.
        attempts: attempts to connect since the start.
        connections: connections opened since the start.
    """

    def __init__(
        self,
        spec: OriginSpec,
        *,
        dialogue: Dialogue | None = None,
        hidden: Hidden | None = None,
        fraction: Callable[[], float],
        wall_clock: Callable[[], float],
        permitted: bool = True,
        allowance: ConnectAllowance | None = None,
        settings: OriginSettings = ORIGIN,
        traced: bool = False,
    ) -> None:
        """Begins without a connection.

        Args:
            spec: the origin of a checked Lobby.
            dialogue: its steps, rules and timed messages, with the secrets; None: a secret is missing.
            hidden: the secrets; what else must not be shown is added to it.
            fraction: returns random numbers from 0 to 1.
            wall_clock: returns the seconds since 1970, for expressions.
            permitted: whether it may connect; see `set_permitted`.
            allowance: how many attempts it may make, shared with other sessions of the lobby; None: any number.
            settings: timeouts and limits.
            traced: whether to tell of each message (`Judged`), which takes time.
        """
        self.state = State.IDLE
        self.failures: Counter[Failure] = Counter()
        self.attempts = 0
        self.connections = 0
        self._spec = spec
        self._dialogue = dialogue or Dialogue()
        self._wall_clock = wall_clock
        self._refused_codes = _FORBIDDEN_CODES | frozenset(spec.close_codes.refused)
        self._always = spec.connect is ConnectMode.ALWAYS
        self._needed = self._always
        self._permitted = permitted
        self._allowance = allowance or ConnectAllowance()
        self._starved = False  # an attempt is due, and not allowed
        self._renewing = False  # by `renew`, until the connection is closed
        self._settings = settings
        self._traced = traced
        self._backoff = Backoff(
            base=spec.reconnect.min_milliseconds / 1000,
            cap=spec.reconnect.max_milliseconds / 1000,
            fraction=fraction,
            jitter=spec.reconnect.jitter.share,
            max_floor=settings.max_retry_after_seconds,
        )
        self._commands: list[Command] = []
        self._wanted = False
        self._stopped = False
        self._linger_until: float | None = None  # set while a connection or an attempt is no longer wanted
        self._next_try = 0.0  # no attempt before this
        self._forbidden = False  # by the latest response
        self._reason = ""  # the latest failure; empty once a stream started
        self._doomed = False  # CLOSING after a failure, which is already counted
        self._secrets_changed = False  # during the attempt or connection under way
        self._script = OriginScript(())
        self._keepalive: Keepalive | None = None
        self._streaming_since: float | None = None
        self._streamed = False  # since the latest `Forget`
        self._unjudged: Iterator[Event | Undecodable | Later] | None = None  # for the next turn, or after an HTTP call
        self._judged = 0  # messages of the first of those
        self._held_bytes = 0  # received since there are some
        self._end_ahead = False  # the last of those ends the connection
        self._loss: tuple[str, Failure] | None = None  # why the connection was lost, while those are judged
        decoder = Decoder(spec.decode, spec.split, spec.max_message_bytes, settings.decoded_per_turn)
        self._decoder = decoder if decoder.needed else None
        self._captured = Captured(hidden, settings)
        self._rules = self._dialogue.rules  # of the open connection
        self._sends = self._paced_sends()
        self._timed: TimedMessages | None = None  # while streaming
        self._uses_last = self._dialogue.uses_last
        self._last: Batch | None = None  # the newest messages of the stream, if expressions look at them
        self._paused = False  # reading
        self._calls: list[HttpCall] | None = None  # of the attempt under way, those that are not done; None: not begun
        self._request: HttpRequest | None = None  # of the latest call

    # For the connection: state

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called and the last connection is closed."""
        return self._stopped and self.state is State.IDLE

    def commands(self) -> list[Command]:
        """What to do now, in this order; each command is returned once."""
        commands, self._commands = self._commands, []
        return commands

    def wake_at(self) -> float | None:
        """When to call `wake`; calling it earlier or later does no harm."""
        if self._loss is not None:
            return 0.0  # in the next turn
        deadlines: list[float | None] = [self._linger_until]
        if self.state in (State.WAITING, State.REFUSED):
            deadlines = [None if self._starved else self._next_try]
        elif self._unjudged is not None and self._script.calling is None:
            return 0.0  # in the next turn
        elif self._deaf:
            pass
        elif self._keepalive is not None and self.state in (State.SCRIPTING, State.STREAMING):
            deadlines += [self._script.deadline, self._keepalive.wake_at(), self._sends.wake_at]
            if self._timed is not None:
                deadlines.append(self._timed.wake_at)
        elif self.state is not State.CONNECTING:
            return None
        return min((each for each in deadlines if each is not None), default=None)

    def report(self, now: float) -> OriginReport:
        """The state as people and the lobby host see it."""
        planned = self.state in (State.WAITING, State.REFUSED)
        reason = "" if self.state is State.IDLE else self._reason
        if self._starved:
            reason = f"{reason}; {self._permit_awaited}" if reason else self._permit_awaited
        elif self._renewing and self.state is State.STREAMING:
            reason = f"renewal: {self._permit_awaited}"
        return OriginReport(
            state=OriginState.CONNECTING if self.state is State.SCRIPTING else OriginState(self.state.value),
            reason=reason,
            connections=self.connections,
            retry_in_seconds=max(0.0, self._next_try - now) if planned else 0.0,
        )

    @property
    def _permit_awaited(self) -> str:
        limit = self._spec.limits.connects
        why = "the origin refuses others"
        if limit is not None:
            why = f"origin.limits.connects: {limit.count} in {limit.seconds} s"
        return f"waiting for a permit to connect ({why})"

    @property
    def step(self) -> str:
        """What the attempt under way is at, for people; empty if there is none, or if the stream has begun."""
        if self.state is State.SCRIPTING:
            return self._script.where
        if self.state is State.CONNECTING:
            return self._calls[0].field if self._calls else "connecting"
        return ""

    @property
    def failure(self) -> tuple[str, bool]:
        """Why the latest attempt or connection failed, and whether it was refused; no reason once a stream has begun."""
        return self._reason, self._forbidden

    @property
    def starved(self) -> bool:
        """An attempt is due, but needs another permit (`origin.limits.connects`)."""
        return self._starved

    @property
    def renewing(self) -> bool:
        """Whether `renew` was called, and its connection is still open: perhaps it waits for a permit."""
        return self._renewing

    def wants_permit(self, now: float) -> bool:
        """Whether it needs a permit for an attempt, now or soon."""
        if self._renewing:
            return True  # also while it closes the old connection: the permit must not be taken back meanwhile
        soon = now + self._settings.permit_ahead_seconds
        planned = self.state in (State.WAITING, State.REFUSED)
        return planned and self._next_try <= soon and self._allowance.exhausted

    def redacted(self, text: str) -> str:
        """`text` as one line of limited length, with secrets and captured values hidden."""
        return self.hidden.line(text)

    @property
    def hidden(self) -> Hidden:
        """What must not be shown."""
        return self._captured.hidden

    def hide(self, values: Iterable[str]) -> None:
        """Hides these values (as JSON) from now on, as if they had been captured."""
        for each in values:
            self.hidden.add_captured(each)

    # For the connection: events

    def start(self, now: float) -> None:
        """The lobby starts. Connects if `connect` is Always."""
        if self._always and self._permitted:
            self._want(now)

    def set_permitted(self, permitted: bool, now: float) -> None:
        """Sets whether it may connect (`origin.limits.connections`). If not, an open connection is closed at once."""
        if self._stopped or permitted == self._permitted:
            return
        self._permitted = permitted
        if not permitted:
            self._wanted = False
            self._leave()
        elif self._needed:
            self._want(now)

    def forward(self, message: str | bytes, now: float) -> bool:
        """Sends a client's message at the pace that the origin allows; False if there is no stream, or too many wait."""
        if self.state is not State.STREAMING or not self._sends.put(message):
            return False
        self._send_due(now)
        return True

    def permits_came(self, now: float) -> None:
        """More attempts are allowed than before."""
        if self._starved:
            self._try(now)
        elif self._renewing:
            self.renew(now)

    def set_needed(self, needed: bool, now: float) -> None:
        """Sets whether there are clients. Ignored if `connect` is Always."""
        if self._stopped or self._always:
            return
        self._needed = needed
        if not self._permitted:
            if not needed:
                self._last = None  # see `_forget_if_unwanted`; its owner knows whether others have the stream
            return
        if needed:
            self._want(now)
            return
        self._wanted = False
        if self.state in (State.WAITING, State.REFUSED):
            self._move(Signal.UNWANTED)
        elif self.state in (State.CONNECTING, State.SCRIPTING, State.STREAMING) and self._linger_until is None:
            self._linger_until = now + self._settings.linger_seconds

    def set_dialogue(self, dialogue: Dialogue, secrets: Iterable[str]) -> None:
        """Sets what is said to the origin, from the next connection on. `secrets` are hidden beside the earlier ones."""
        self._dialogue = dialogue
        self._uses_last = dialogue.uses_last
        self.hidden.add_secrets(secrets)

    def inherit(self, other: OriginSession) -> None:
        """Takes over what another session has captured so far, since this one is to replace it."""
        self._captured.inherit(other._captured)
        self._last = other._last

    def secrets_changed(self, now: float) -> None:
        """A secret has changed. A scheduled attempt is made now; an open stream continues.

        The latest response was about the old secret, so it neither delays nor forbids an attempt with the new one.
        """
        if self.state in (State.CONNECTING, State.SCRIPTING, State.CLOSING):
            self._secrets_changed = True  # if it fails, the old secret may be the cause
            return
        if self.state is State.STREAMING:
            return
        self._allow(now)
        if self.state in (State.WAITING, State.REFUSED):
            self._try(now)

    def renew(self, now: float) -> None:
        """Closes an open stream and connects again at once (`origin.renew` without overlap). Counts as no failure.

        Without a permit to connect the stream goes on until one comes.
        """
        if self.state is not State.STREAMING:
            return
        if not self._allowance.exhausted:
            self._backoff.reset()
            self._next_try = now
            self._close(BeginClose(1000, "planned reconnect"))
        self._renewing = True

    def stop(self) -> None:
        """The lobby stops: no more connections are opened, and an open one is closed cleanly."""
        self._stopped = True
        self._wanted = False
        self._leave()

    def next_call(self) -> HttpRequest | None:
        """The next HTTP call before the handshake of the attempt under way; `answered` or `call_failed` is to follow.

        None: there is none, or the attempt has failed.

        Raises:
            ExpressionError: an expression has no value, or one that is not allowed where it is used.
        """
        if self.state is not State.CONNECTING:
            return None
        if self._calls is None:  # not earlier: the secrets were read after the attempt had begun
            self._calls = list(self._dialogue.calls)
        if not self._calls:
            return None
        with self._without_last_if_it_has_no_value():
            self._request = self._calls[0].request(self._known(Moment.HANDSHAKE))
        return self._request

    def answered(self, answer: HttpAnswer, now: float) -> bool:
        """The answer to the call under way; returns whether the attempt goes on."""
        call, request = self._call_under_way()
        failure = call.judge(request, answer, self._known())
        if failure is not None:
            self._call_ends(failure, now)
            return False
        if self.state is State.CONNECTING:
            assert self._calls  # noqa: S101  the call under way is its first
            del self._calls[0]
        else:
            self._advance(self._script.called(now, self._known(Moment.HANDSHAKE)), now)
        return True

    def call_failed(self, problem: str, now: float) -> None:
        """There is no answer to the call under way; `problem` is for people."""
        call, request = self._call_under_way()
        self._call_ends(call.failed(request, problem), now)

    def _call_under_way(self) -> tuple[HttpCall, HttpRequest]:
        call = self._calls[0] if self.state is State.CONNECTING and self._calls else self._script.calling
        assert call is not None  # noqa: S101  somebody made it
        assert self._request is not None  # noqa: S101  likewise
        return call, self._request

    def _call_ends(self, failed: CallFailure, now: float) -> None:
        """A call has failed, and so has the attempt."""
        failure = Failure.REFUSED if failed.refused else Failure.HTTP_CALL
        if self.state is State.CONNECTING:
            self._fail(failure, failed.reason, now, failed.retry_after_seconds)
            self._gone(now)
        else:
            close = BeginClose(1000, "an HTTP call of onConnect has failed")
            self._give_up(failure, failed.reason, close, now, failed.retry_after_seconds)

    def request(self) -> Request:
        """The request that opens the connection, for the attempt under way. Call this once, before `opened`.

        Raises:
            ExpressionError: an expression has no value, or one that is not allowed where it is used.
        """
        assert self._dialogue.handshake is not None  # noqa: S101  all secrets are there
        with self._without_last_if_it_has_no_value():
            return self._dialogue.handshake.request(self._known(Moment.HANDSHAKE))

    @contextmanager
    def _without_last_if_it_has_no_value(self) -> Iterator[None]:
        """A newest message that an expression cannot use costs one attempt, and not all that follow."""
        try:
            yield
        except ExpressionError:
            self._last = None
            raise

    def opened(self, now: float) -> None:
        """The handshake succeeded, so the connection is open."""
        self._move(Signal.OPENED)
        self.connections += 1
        self._forbidden = False
        self._keepalive = Keepalive(
            ping_seconds=self._spec.keepalive.ping_seconds,
            timeout_seconds=self._spec.keepalive.timeout_seconds,
            stale_seconds=self._spec.stale_seconds,
            now=now,
        )
        self._rules = self._dialogue.rules
        self._sends = self._paced_sends()
        self._script = OriginScript(
            self._dialogue.steps,
            self._rules,
            max_early_bytes=self._settings.early_bytes,
            max_kept_bytes=self._settings.kept_message_bytes,
        )
        self._advance(self._script.start(now, self._known(Moment.HANDSHAKE)), now)

    def refused(self, status: int, reason: str, retry_after: float | None, now: float) -> None:
        """The origin answered the handshake with a status other than 101.

        Args:
            status: HTTP status.
            reason: the status, for people: "HTTP 404 Not Found".
            retry_after: seconds of the Retry-After header; None if there is none.
            now: the time.
        """
        forbidden = status in FORBIDDEN
        self._fail(Failure.REFUSED if forbidden else Failure.TURNED_AWAY, reason, now, retry_after or 0.0)
        self._gone(now)

    def failed(self, reason: str, now: float, failure: Failure = Failure.UNREACHABLE) -> None:
        """Connecting failed (name, network, TLS, timeout). `reason` is for people."""
        self._fail(failure, reason, now)
        self._gone(now)

    def lost(self, reason: str, now: float, failure: Failure = Failure.LOST) -> None:
        """The connection is closed, with or without a closing handshake.

        What has arrived is still judged, in turns, before that counts: it may be the beginning of the stream, or say why the
        connection is closed. After an error of our own it is not, since that may be where the error came from.
        """
        if self._unjudged is not None and failure is not Failure.INTERNAL:
            self._loss = (reason, failure)
            self._cancel_call_at_the_end()
            return
        self._lost(reason, failure, now)

    def _lost(self, reason: str, failure: Failure, now: float) -> None:
        if self.state is not State.CLOSING:
            self._fail(failure, reason, now)
        elif not self._doomed and self._lasted(now):
            self._backoff.reset()
        self._gone(now)

    def receive(self, events: Sequence[Event], now: float) -> None:
        """Messages and control frames arrived."""
        decoded = iter(events) if self._decoder is None else self._decoder.events(events)
        if self._traced:
            decoded = self._one_by_one(decoded)
        if self._unjudged is None and self._script.calling is None:
            self._receive_all(decoded, now)
        else:
            self._held_bytes += sum(len(each.data) for each in events if isinstance(each, Batch))
            if self._unjudged is None:
                self._keep(decoded, now)
            else:
                self._unjudged = chain(self._unjudged, decoded)  # the rest of the read that was under way
        if self._unjudged is not None:
            self._end_ahead = self._end_ahead or any(isinstance(each, Close | Violation) for each in events)
            self._cancel_call_at_the_end()
            self._pause_reading()
        elif self._paused:
            self._pause_reading()

    def _one_by_one(self, events: Iterator[Event | Undecodable | Later]) -> Iterator[Event | Undecodable | Later]:
        """The same with each message alone. The next is asked for once a message was judged, perhaps in a later turn."""
        for event in events:
            if not isinstance(event, Batch):
                yield event
                continue
            for each in event.frames:
                message = Batch.of([each])
                commands, at = self._commands, len(self._commands)
                yield message
                self._commands.insert(at if commands is self._commands else 0, Judged(message))

    def _keep(self, events: Iterator[Event | Undecodable | Later], now: float) -> None:
        """During an HTTP call, messages wait for what follows it; anything else is acted on until one has come."""
        for event in events:
            if isinstance(event, Batch):
                self._unjudged = chain((event,), events)
                return
            if isinstance(event, Later):
                self._unjudged = events
                return
            if self.state is State.SCRIPTING:
                self._receive(event, now)

    def _receive_all(self, events: Iterator[Event | Undecodable | Later], now: float) -> None:
        for event in events:
            rest: Batch | None = None
            if self.state is _STREAMING and isinstance(event, Batch):
                assert self._keepalive is not None  # noqa: S101  while streaming
                self._keepalive.message(now)
                if self._rules is None or not self._rules.concern(event):
                    self._publish(event)
                    continue
                rest = self._judge(event, now)
            elif self.state is not _STREAMING and self.state is not State.SCRIPTING:
                return  # closing: ignored
            elif isinstance(event, Later):
                self._unjudged = events
                return
            else:
                rest = self._receive(event, now)
            if rest is not None:
                self._unjudged = chain((rest,), events)
                return

    def bytes_received(self, at: float, incomplete: int) -> None:
        """Bytes arrived, the latest ones at `at`; `incomplete` of them belong to a message of which more is to come."""
        if self._keepalive is not None:
            self._keepalive.bytes_received(at, incomplete)

    def excuse(self, now: float) -> None:
        """A client's message was why the origin closed: the next attempt is as soon as after a first failure."""
        if self.state is State.CLOSING:
            self._forbidden = False
            self._backoff.reset()
            self._next_try = now + self._backoff.next()

    def bytes_taken(self, now: float) -> None:
        """The origin took bytes while others waited for it."""
        if self._keepalive is not None:
            self._keepalive.bytes_taken(now)

    def wake(self, now: float) -> None:
        """Acts on the deadlines that have passed. To be told what `bytes_received` and `bytes_taken` tell, first."""
        if self._loss is not None and self._unjudged is None:
            self._lost(*self._loss, now)
            return
        if self._unjudged is not None and self._script.calling is None:
            events, self._unjudged = self._unjudged, None
            self._receive_all(events, now)
            if self._unjudged is None:
                self._held_bytes = 0
        self._cancel_call_at_the_end()
        if self._loss is not None:
            return  # the loss counts in the next turn, when the commands of this one are done (`excuse`)
        self._pause_reading()
        if self.state in (State.WAITING, State.REFUSED):
            self._try(now)
        if self._linger_until is not None and now >= self._linger_until:
            self._leave()
        # What came before the end of a pause is part of it.
        if self.state is State.SCRIPTING and self._unjudged is None:
            resumed = self._script.resume(now, self._known(Moment.HANDSHAKE))
            if resumed is not None:
                self._advance(resumed, now)
        if self.state is State.SCRIPTING and not self._end_ahead and (overdue := self._script.overdue(now)) is not None:
            self._give_up(
                Failure.SCRIPT, overdue, BeginClose(1000, "a message that onConnect expects did not arrive"), now
            )
        self._watch(now)
        if self.state in (State.SCRIPTING, State.STREAMING):
            self._send_due(now)
        if self._timed is not None and self.state is State.STREAMING:
            self._send_timed(self._timed, now)

    # Connecting and disconnecting

    def _want(self, now: float) -> None:
        self._wanted = True
        self._linger_until = None
        if self.state is State.IDLE:
            self._move(Signal.FORBIDDEN if self._forbidden and now < self._next_try else Signal.WANTED)
            self._try(now)

    def _allow(self, now: float) -> None:
        self._secrets_changed = False
        self._forbidden = False
        self._backoff.reset()
        self._next_try = now

    def _try(self, now: float) -> None:
        if now >= self._next_try:
            self._starved = not self._allowance.take(now)
            if self._starved:
                return
            self._move(Signal.DUE)
            self._secrets_changed = False
            self.attempts += 1
            self._calls = None
            self._captured.begin_attempt()
            self._commands.append(Connect())

    def _leave(self) -> None:
        self._linger_until = None
        if self.state in (State.WAITING, State.REFUSED):
            self._move(Signal.UNWANTED)
        elif self.state is State.CONNECTING:
            self._move(Signal.UNWANTED)
            self._commands.append(CancelConnect())
        elif self.state in (State.SCRIPTING, State.STREAMING):
            self._close(BeginClose(1000))

    # The open connection

    def _receive(self, event: Event | Undecodable, now: float) -> Batch | None:
        """Returns the batch whose messages are to be judged later, from index `_judged` on."""
        assert self._keepalive is not None  # noqa: S101  while open
        self._keepalive.bytes_received(now)
        if isinstance(event, Batch):
            most = self._settings.judged_per_turn
            progress = self._script.receive(event, now, self._known(Moment.HANDSHAKE), start=self._judged, most=most)
            self._judged = progress.unjudged or 0
            rest = self._advance(progress, now)
            if progress.unjudged is None:
                return rest
            if self._script.calling is not None:  # the others may be the beginning of the stream
                self._judged = 0
                return event.after(progress.unjudged)
            return event
        if isinstance(event, Close):
            self._closed_by_origin(event, now)
        elif isinstance(event, Undecodable):
            failure, code = (Failure.TOO_BIG, 1009) if event.too_big else (Failure.INVALID_DATA, 1007)
            self._give_up(failure, event.reason, BeginClose(code, event.reason), now)
        elif isinstance(event, Violation):
            # The connection itself answers a violation with this code, as it answers pings and close frames (RFC 6455 §7.1.7).
            self._give_up(
                _FAILURE_OF_VIOLATION.get(event.code, Failure.PROTOCOL_ERROR),
                f"the origin broke the protocol ({event.code}): {event.reason}",
                None,
                now,
            )
        return None

    def _known(self, moment: Moment = Moment.MESSAGE) -> Known:
        """What expressions know beside a message."""
        captured = self._captured
        last = {"last": last_message(self._last)} if self._uses_last else {}
        variables = {"saved": captured.values, **last, **self._dialogue.secrets, **times(self._wall_clock())}
        return Known(variables, captured, moment)

    def _publish(self, batch: Batch) -> None:
        self._commands.append(Publish(batch))
        if self._uses_last:
            self._last = batch

    def _keep_for_joiners(self, messages: Mapping[str, KeptFrame]) -> None:
        if messages:
            self._commands.append(Keep(messages))

    def _paced_sends(self) -> PacedSends:
        return PacedSends(
            self._spec.limits.sends_per_second,
            max_waiting=self._settings.waiting_sends,
            max_bytes=self._settings.max_buffered_bytes,
        )

    def _judge(self, batch: Batch, now: float) -> Batch | None:
        """Does with messages of the stream what the rules say; returns the batch if some are to be judged later."""
        if self._rules is None or not self._rules.concern(batch):
            self._publish(batch)
            return None
        most = self._settings.judged_per_turn
        judgement = self._rules.judge(batch, self._known(), start=self._judged, most=most)
        if judgement.kept:
            most = self._settings.kept_message_bytes
            self._keep_for_joiners({name: each.within(most) for name, each in judgement.kept.items()})
        if judgement.forwarded is not None:
            self._publish(judgement.forwarded)
        if not self._send(judgement.sends, now):
            return None
        self._judged = judgement.unjudged or 0
        if judgement.renew and judgement.end is None:
            self._commands.append(Renew())
        if judgement.end is not None:
            self._end(judgement.end, now)
        return batch if self._judged else None

    def _end(self, end: End, now: float) -> None:
        """A message of the origin ends the connection."""
        failure = Failure.REFUSED if end.refused else Failure.ENDED
        self._give_up(failure, end.reason, BeginClose(1000, "ended by a message of the origin"), now)

    def _send_timed(self, timed: TimedMessages, now: float) -> None:
        for message in timed.due(now):
            try:
                made = message.send.message(self._known(Moment.TIMER))
            except ExpressionError as error:
                self._end(End(f"{message.field}.{message.send.field}: {error}", refused=False), now)
                return
            if not self._send([made], now):
                return

    def _send(self, messages: Sequence[str | bytes], now: float) -> bool:
        """Sends messages, at the pace that the origin allows; False: too many wait, so the connection ends."""
        if not self._sends.per_second:
            self._commands.extend(Send(each) for each in messages)
            return True
        for each in messages:
            if not self._sends.put(each):
                reason = f"limits.sendsPerSecond: more than {self._settings.waiting_sends} messages wait to be sent"
                self._give_up(Failure.ENDED, reason, BeginClose(1000, "too many messages wait to be sent"), now)
                return False
        self._send_due(now)
        return True

    def _send_due(self, now: float) -> None:
        self._commands.extend(Send(each) for each in self._sends.due(now))
        if self._sends.wake_at is not None:
            self._commands.append(Reschedule())

    def _pause_reading(self) -> None:
        """Reads no more while messages wait to be decoded or judged. During an HTTP call some may: a close may follow them."""
        full = self._script.calling is None or self._held_bytes > self._settings.early_bytes
        paused = self._unjudged is not None and full
        if paused is not self._paused:
            self._paused = paused
            self._commands.append(PauseReading() if self._paused else ResumeReading())

    def _advance(self, progress: Progress, now: float) -> Batch | None:
        """Returns the batch whose messages are to be judged later, from index `_judged` on."""
        if not self._send(progress.sends, now):
            return None
        if progress.end is not None:
            self._end(progress.end, now)
            return None
        if progress.call is not None:
            self._request = progress.call
            self._commands.append(Call(progress.call))
        if not self._script.done:
            return None
        assert self._keepalive is not None  # noqa: S101  while open
        self._move(Signal.SCRIPT_DONE)
        self._reason = ""
        self._secrets_changed = False
        self._streaming_since = now
        self._keepalive.stream_begins(now)
        self._streamed = True
        try:
            self._timed = TimedMessages(self._dialogue.timed, now, self._known()) if self._dialogue.timed else None
        except ExpressionError as error:
            self._end(End(str(error), refused=False), now)
            return None
        self._keep_for_joiners(self._script.kept)
        self._commands.append(BeginEpoch())
        self._keep_for_joiners(self._script.kept_early)
        if progress.early is not None:
            self._publish(progress.early)
        return None if progress.stream is None else self._judge(progress.stream, now)

    def _closed_by_origin(self, close: Close, now: float) -> None:
        name = _CODE_NAMES.get(close.code, "")
        said = f"{name}: {close.reason}" if name and close.reason else name or close.reason
        reason = f"the origin closed the connection: {close.code}{f' ({said})' if said else ''}"
        if self.state is State.STREAMING:
            self._commands.append(NoteClose(close.code))
        self._give_up(Failure.REFUSED if close.code in self._refused_codes else Failure.CLOSED, reason, None, now)

    def _watch(self, now: float) -> None:
        if self._deaf:
            return
        while self._keepalive is not None and self.state in (State.SCRIPTING, State.STREAMING):
            due = self._keepalive.wake(now)
            if due is Due.NOTHING:
                return
            if due is Due.PING:
                self._commands.append(SendPing())
                self._sends.sent(now)
            elif due is Due.NO_PONG:
                reason = f"no answer to a ping within {self._spec.keepalive.timeout_seconds} s"
                self._give_up(
                    Failure.PING_TIMEOUT, reason, BeginClose(1011, "no answer to a ping", unresponsive=True), now
                )
            else:
                reason = f"no message for {self._spec.stale_seconds} s"
                self._give_up(Failure.STALE, reason, BeginClose(1000, reason), now)

    def _give_up(self, failure: Failure, reason: str, close: BeginClose | None, now: float, floor: float = 0.0) -> None:
        """Ends the open connection for `reason`; `close` is None if the connection closes by itself."""
        self._fail(failure, reason, now, floor)
        self._close(close, doomed=True)

    def _close(self, close: BeginClose | None, *, doomed: bool = False) -> None:
        self._move(Signal.CLOSE)
        self._renewing = False
        self._cancel_call()
        self._unjudged = None
        self._end_ahead = False
        self._held_bytes = 0
        self._judged = 0
        self._pause_reading()
        self._forget_if_unwanted()
        self._doomed = doomed
        if close is not None:
            self._commands.append(close)

    @property
    def _deaf(self) -> bool:
        """Nothing is read until an HTTP call is done, so no pong either."""
        return self._paused and self._script.calling is not None

    def _cancel_call_at_the_end(self) -> None:
        """Nothing follows a call if the end of the connection does, once the messages before it are judged."""
        if self._end_ahead or self._loss is not None:
            self._cancel_call()

    def _cancel_call(self) -> None:
        if self._script.calling is not None:
            self._script.calling = None
            self._commands.append(CancelCall())

    # Failures, and when to retry

    def _fail(self, failure: Failure, reason: str, now: float, floor: float = 0.0) -> None:
        self.failures[failure] += 1
        if self.state is State.SCRIPTING and not reason.startswith("onConnect["):
            reason = f"{self._script.where}: {reason}"
        self._reason = self.hidden.line(reason)
        self._forbidden = failure is Failure.REFUSED
        if self._forbidden:
            floor = max(floor, self._settings.min_refused_seconds, self._backoff.cap)
        silent = failure in (Failure.STALE, Failure.PING_TIMEOUT)
        if self._lasted(now, silent=silent):
            self._backoff.reset()
        self._next_try = now + self._backoff.next(floor)

    def _lasted(self, now: float, *, silent: bool = False) -> bool:
        """Whether the stream was stable; silence at its end does not count."""
        if self._streaming_since is None or self._keepalive is None:
            return False
        return (
            self._keepalive.last_message if silent else now
        ) - self._streaming_since >= self._settings.stable_seconds

    def _gone(self, now: float) -> None:
        """The connection is closed, or the attempt has failed."""
        self._loss = None
        self._renewing = False
        self._cancel_call()
        self._keepalive = None
        self._timed = None
        self._unjudged = None
        self._end_ahead = False
        self._held_bytes = 0
        self._judged = 0
        self._paused = False
        self._streaming_since = None
        self._linger_until = None
        self._script = OriginScript(())
        if self._secrets_changed:
            self._allow(now)
        if not self._wanted:
            self._move(Signal.GONE)
            return
        self._move(Signal.FORBIDDEN if self._forbidden else Signal.FAILED)
        self._try(now)

    def _move(self, signal: Signal) -> None:
        try:
            self.state = TRANSITIONS[self.state][signal]
        except KeyError:
            raise ImpossibleSignalError(f"{signal.name} in {self.state.name}") from None
        if self.state is State.IDLE:
            self._starved = False
            self._forget_if_unwanted()

    def _forget_if_unwanted(self) -> None:
        if self._streamed and not self._needed and not self._wanted and not self._stopped:
            self._streamed = False
            self._last = None  # a cursor from before would ask for what nobody needs any more
            self._commands.append(Forget())
