"""The I/O of an origin session: one socket, one timer, one task, and one HTTP call. All decisions are in `OriginSession`."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Mapping

from lobby_gateway.errors import UserError, internal_error
from lobby_gateway.http.client import HttpError
from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.expressions import ExpressionError
from lobby_gateway.origin.hidden import Hidden
from lobby_gateway.origin.http_calls import HttpRequest
from lobby_gateway.origin.http_exchange import exchange
from lobby_gateway.origin.proxy import proxy_to
from lobby_gateway.origin.secrets import ResolvedOrigin
from lobby_gateway.origin.session import OriginSession
from lobby_gateway.origin.states import (
    BeginClose,
    BeginEpoch,
    Call,
    CancelCall,
    CancelConnect,
    Command,
    Connect,
    Failure,
    Forget,
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
    State,
)
from lobby_gateway.origin.tls import origin_context
from lobby_gateway.process import logs
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.process.seat_reports import OriginReport
from lobby_gateway.resource.spec import OriginSpec
from lobby_gateway.settings import ORIGIN, OriginSettings
from lobby_gateway.trunk.kept import KeptFrame, NotKeptLog
from lobby_gateway.websocket.client import WebSocketClient, explain, open_websocket
from lobby_gateway.websocket.client_handshake import ConnectFailedError, HandshakeRefusedError
from lobby_gateway.websocket.frames import Batch, Opcode
from lobby_gateway.websocket.parser import Event
from lobby_gateway.websocket.proxy import Proxy

logger = logging.getLogger(__name__)

_STREAMING = State.STREAMING


Trace = Callable[[str, str | bytes], None]
"""Gets what happens ("sent", "received", "calling", "answered"), and to which message or call."""


class OriginConnection:
    """A lobby's connection to its origin.

    It does nothing before `run`, which returns after `close`.
    """

    def __init__(
        self,
        spec: OriginSpec,
        resolved: ResolvedOrigin | None,
        *,
        read_secrets: Callable[[], ResolvedOrigin],
        publish: Callable[[Batch], None],
        begin_epoch: Callable[[], None],
        ended: Callable[[], None] = lambda: None,
        closed: Callable[[int, float], bool] = lambda _code, _round_trip: False,
        forget: Callable[[], None] = lambda: None,
        renew: Callable[[], None] = lambda: None,
        keep: Callable[[Mapping[str, KeptFrame]], None] = lambda _messages: None,
        starved: Callable[[], None] = lambda: None,
        failed: Callable[[str, bool], None] = lambda _reason, _refused: None,
        permitted: bool = True,
        allowance: ConnectAllowance | None = None,
        fraction: Callable[[], float] = random.random,
        settings: OriginSettings = ORIGIN,
        open_timeout: float | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Prepares the connection.

        Args:
            spec: the origin of a checked Lobby.
            resolved: its values with the current secrets filled in; None: a secret is missing or unusable.
            read_secrets: reads them before each attempt, in a thread. A UserError is the reason why the attempt failed.
            publish: called with every batch of the stream.
            begin_epoch: called before the first batch of each origin connection.
            ended: called when its stream has ended, for whatever reason.
            closed: called with the code when the origin closes the stream, and the seconds of the shortest round trip; returns
                whether a client's message was the reason.
            forget: called when the stream ends because no client needs it: its messages must not be replayed later.
            renew: called when the origin asks for a new connection, while this one still works.
            keep: called with messages to be kept for clients that join, by name. Before `begin_epoch` they are those that
                came before the stream; those that are part of it are published next.
            starved: called when it begins or ceases to wait for a permit to connect.
            failed: called at once when an attempt or the open connection has failed: why, with secrets hidden, and whether it
                was refused.
            permitted: whether it may connect; see `set_permitted`.
            allowance: how many attempts it may make, see `OriginSession`.
            fraction: returns random numbers from 0 to 1, for the jitter.
            settings: timeouts and limits.
            open_timeout: most seconds for connecting; None: as in `WebSocketClientSettings`.
            trace: called with "sent" or "received" and each message on the connection, decoded, once its secrets are hidden by
                `redacted`; for HTTP calls with "calling" or "answered" and what they are about. Secrets are included.
        """
        self._spec = spec
        self._settings = settings
        self._resolved = resolved
        self._read_secrets = read_secrets
        self._publish = publish
        self._begin_epoch = begin_epoch
        self._ended = ended
        self._closed = closed
        self._forget = forget
        self._renew = renew
        self._keep = keep
        self._not_kept = NotKeptLog()
        self._starved = starved
        self._was_starved = False
        self._failed = failed
        self._failures_told = 0
        self._open_timeout = open_timeout
        self._trace = trace
        self._tls: ssl.SSLContext | None = None
        self._tls_is_current = False
        self._session = OriginSession(
            spec,
            dialogue=None if resolved is None else resolved.dialogue,
            hidden=Hidden(() if resolved is None else resolved.secrets, settings),
            fraction=fraction,
            wall_clock=time.time,
            permitted=permitted,
            allowance=allowance,
            settings=settings,
            traced=trace is not None,
        )
        self._hide_in_logs()
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._websocket: WebSocketClient | None = None
        self._subprotocol: str | None = None
        self._error: Exception | None = None  # our own, for which the open connection was aborted
        self._connecting: asyncio.Task[None] | None = None
        self._calling: set[asyncio.Task[None]] = set()  # HTTP calls of `onConnect`: one, and others that end
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._needed = False
        self._streamed = False  # since `begin_epoch`, until `ended`
        self._acting = False
        self._act_again = (
            False  # a command brought a deadline forward: the lobby called us, or messages wait to be judged
        )
        self._logged = State.IDLE
        self._failures_seen = 0
        self._failures = RepeatedFailures(self._loop.time)
        self._bugs = RepeatedFailures(self._loop.time, lapses=True)

    # For the lobby

    async def run(self) -> None:
        """Maintains the connection as the session decides, until `close`.

        Raises:
            Exception: a bug in the session itself; never for what the origin does or a setting says.
        """
        self._session.start(self._loop.time())
        self._act()
        try:
            await asyncio.shield(self._finished)
        finally:
            self._drop()

    def stop(self) -> None:
        """Begins to close the connection cleanly (1000), for good: no other is opened."""
        self._session.stop()
        self._act()

    async def close(self) -> None:
        """Calls `stop`; returns when the connection is closed, after a few seconds at most."""
        self.stop()
        await asyncio.shield(self._finished)

    def set_needed(self, needed: bool) -> None:
        """Sets whether there are clients. Called whenever one connects or disconnects, so it is cheap without a change."""
        if needed == self._needed:
            return
        self._needed = needed
        self._session.set_needed(needed, self._loop.time())
        self._act()

    def inherit(self, other: OriginConnection) -> None:
        """Takes over the values that another connection has saved, since this one is to replace it."""
        self._session.inherit(other._session)
        self._hide_in_logs()
        self._act()

    def reconnect(self) -> None:
        """Closes an open stream and connects again at once; without a permit to connect, as soon as one comes."""
        self._session.renew(self._loop.time())
        self._act()

    @property
    def reconnecting(self) -> bool:
        """Whether `reconnect` was called, and the connection is still open."""
        return self._session.renewing

    def set_permitted(self, permitted: bool) -> None:
        """Sets whether it may connect; if not, an open connection is closed at once."""
        self._session.set_permitted(permitted, self._loop.time())
        self._act()

    def permits_came(self) -> None:
        """More attempts are allowed than before (`ConnectAllowance`)."""
        self._session.permits_came(self._loop.time())
        self._act()

    @property
    def starved(self) -> bool:
        """An attempt is due, but needs another permit."""
        return self._session.starved

    @property
    def wants_permit(self) -> bool:
        """Whether it needs a permit for an attempt, now or soon."""
        return self._session.wants_permit(self._loop.time())

    @property
    def idle(self) -> bool:
        """There is no connection, no attempt, and no scheduled attempt."""
        return self._session.state is State.IDLE and self._connecting is None

    def update_secrets(self, resolved: ResolvedOrigin) -> None:
        """Takes the current secrets: if they differ from those of the latest attempt, a scheduled one is made now.

        An open stream continues.
        """
        if resolved != self._resolved:
            self._session.secrets_changed(self._loop.time())
            self._act()

    @property
    def subprotocol(self) -> str | None:
        """What the origin chose on its latest connection; empty if it chose none; None before the first."""
        return self._subprotocol

    @property
    def streaming(self) -> bool:
        """Whether the stream has started, and has not ended."""
        return self._websocket is not None and self._session.state is State.STREAMING

    def send_to_origin(self, opcode: int, payload: bytes) -> bool:
        """Sends a client's message; False if there is no stream, or the origin reads too slowly to take more."""
        websocket = self._websocket
        if websocket is None or not self.streaming:
            return False
        waiting = websocket.buffered
        if waiting and waiting + len(payload) > self._settings.max_buffered_bytes:
            return False
        if self._spec.limits.sends_per_second:
            sent = self._session.forward(str(payload, "utf-8") if opcode == Opcode.TEXT else payload, self._loop.time())
            self._act()
            return sent
        return websocket.send(opcode, payload)

    def report(self) -> OriginReport:
        """The origin's part of `/seats`."""
        return self._session.report(self._loop.time())

    @property
    def step(self) -> str:
        """What the attempt under way is at, see `OriginSession.step`."""
        return self._session.step

    def redacted(self, text: str) -> str:
        """`text` as one line of limited length, with secrets and captured values hidden."""
        return self._session.redacted(text)

    @property
    def failures(self) -> Mapping[Failure, int]:
        """Failures since the start by kind, for metrics."""
        return self._session.failures

    @property
    def attempts(self) -> int:
        """Attempts to connect since the start, for metrics."""
        return self._session.attempts

    # For the connection

    def received(self, events: list[Event]) -> None:
        """Takes the events of one read (see `Receiver`)."""
        session = self._session
        before = session.state
        session.receive(events, self._loop.time())
        if before is _STREAMING is session.state:
            self._perform_all()  # the hot path: messages bring no deadline forward, unless `_act_again` says so
            if not self._act_again:
                return
        self._act()

    def lost(self, error: Exception | None) -> None:
        """The connection is closed (see `Receiver`)."""
        self._websocket = None
        error, self._error = self._error or error, None
        reason, failure = "the connection ended without a close frame", Failure.LOST
        if isinstance(error, OSError):
            reason = explain(error)
        elif error is not None:  # raised by a call of `received`
            reason, failure = internal_error(error), Failure.INTERNAL
        self._session.lost(reason, self._loop.time(), failure)
        self._act()

    # Carrying out the session's decisions

    def _act(self) -> None:
        """Performs the session's commands and sets the timer for its next deadline."""
        self._perform_all()
        if self._acting:
            self._act_again = True
            return
        self._act_again = False
        if self._streamed and self._session.state is not State.STREAMING:
            self._streamed = False
            self._ended()
        if (failures := self._session.failures.total()) > self._failures_told:
            self._failures_told = failures
            self._failed(*self._session.failure)
        self._log_state()
        if self._session.starved is not self._was_starved:
            self._was_starved = self._session.starved
            self._starved()
        at = self._session.wake_at()
        if at != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = None if at is None else self._loop.call_at(at, self._wake)
        if self._session.stopped and not self._finished.done():
            self._finished.set_result(None)

    def _wake(self) -> None:
        self._timer = self._timer_at = None
        now = self._loop.time()
        websocket = self._websocket
        if websocket is not None:
            self._session.bytes_received(websocket.received_at, websocket.incomplete)
            if websocket.took_bytes():
                self._session.bytes_taken(now)
        self._session.wake(now)
        self._act()

    def _perform_all(self) -> None:
        if self._acting:
            return
        self._acting = True
        try:
            while commands := self._session.commands():
                for command in commands:
                    if type(command) is Publish:  # nearly always
                        self._publish(command.batch)
                    else:
                        self._perform(command)
        finally:
            self._acting = False

    def _perform(self, command: Command) -> None:
        match command:
            case BeginEpoch():
                self._streamed = True
                self._begin_epoch()
            case PauseReading():
                self._act_again = True
                if self._websocket is not None:
                    self._websocket.pause_reading()
            case Reschedule():
                self._act_again = True
            case ResumeReading():
                if self._websocket is not None:
                    self._websocket.resume_reading()
            case Forget():
                self._forget()
            case Renew():
                self._renew()
            case Keep(messages):
                self._keep_for_joiners(messages)
            case Judged(message):
                self._tell_received(message)
            case NoteClose(code):
                round_trip = self._websocket.min_rtt_seconds if self._websocket is not None else 0.0
                if self._closed(code, round_trip):
                    self._session.excuse(self._loop.time())
            case Connect():
                task = self._loop.create_task(self._connect(self._connecting), name="origin connect")
                task.add_done_callback(self._connect_done)
                self._connecting = task
            case Call(request):
                task = self._loop.create_task(self._call_of_script(request), name="origin call")
                task.add_done_callback(self._call_done)
                self._calling.add(task)
            case CancelCall():
                for each in self._calling:
                    each.cancel()
            case CancelConnect():
                if self._connecting is not None:
                    self._connecting.cancel()
            case Send(message):
                self._send(message)
            case SendPing():
                if self._websocket is not None:
                    self._websocket.send_ping()
                    self._websocket.took_bytes()  # from now on, whether it waits
            case BeginClose(code, reason, unresponsive):
                if self._websocket is not None:
                    timeout = self._settings.unresponsive_close_seconds if unresponsive else None
                    self._websocket.begin_close(code, reason, timeout=timeout)

    def _send(self, message: str | bytes) -> None:
        self._tell("sent", message)
        if self._websocket is not None:
            opcode, payload = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
            self._websocket.send(opcode, payload)

    async def _connect(self, cancelled: asyncio.Task[None] | None) -> None:
        if cancelled is not None and not cancelled.done():
            await asyncio.wait([cancelled])  # until its socket is closed: never two connections
        try:
            await self._refresh_values()
            while (call := self._session.next_call()) is not None:
                if not await self._call(call):
                    self._act()
                    return
            request = self._session.request()
            self._act()
            self._websocket = await open_websocket(
                request.url,
                receiver=self,
                headers=request.headers,
                subprotocols=self._spec.subprotocols,
                ssl=self._tls,
                server_hostname=self._spec.tls.server_name,
                open_timeout=self._open_timeout,
                max_message_bytes=self._spec.max_message_bytes,
                denied_networks=self._settings.denied_networks,
                proxy=self._proxy_to(request.url),
            )
            self._subprotocol = self._websocket.subprotocol or ""
            self._session.opened(self._loop.time())
            self._act()
        except HandshakeRefusedError as error:
            self._session.refused(error.status, error.reason, error.retry_after_seconds, self._loop.time())
        except ConnectFailedError as error:
            self._session.failed(error.reason, self._loop.time())
        except (UserError, ExpressionError) as error:  # a secret, certificate, URL or header is unusable
            self._session.failed(str(error), self._loop.time())
        except Exception as error:  # noqa: BLE001  # whatever a library raises, the lobby must outlive its origin
            self._broken(error)
        self._act()

    async def _call(self, request: HttpRequest) -> bool:
        """Makes an HTTP call; returns whether the attempt goes on."""
        self._act()
        self._tell("calling", request.what)
        try:
            proxy = self._proxy_to(request.request.url)
            answer = await exchange(request, tls=self._tls, proxy=proxy, settings=self._settings)
        except (HttpError, UserError) as error:  # or the proxy's URL or credentials are unusable
            self._session.call_failed(str(error), self._loop.time())
            return False
        self._tell("answered", f"HTTP {answer.status}, {len(answer.body)} bytes")
        return self._session.answered(answer, self._loop.time())

    async def _call_of_script(self, request: HttpRequest) -> None:
        """Makes an HTTP call of `onConnect`."""
        try:
            await self._call(request)
        except Exception as error:  # noqa: BLE001  # whatever a library raises, the lobby must outlive its origin
            self._broken(error)
        self._act()

    def _call_done(self, task: asyncio.Task[None]) -> None:
        self._calling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._finished.done():
            self._finished.set_exception(error)

    def _keep_for_joiners(self, messages: Mapping[str, KeptFrame]) -> None:
        """Passes on messages to be kept."""
        for name, each in messages.items():
            if not each.frame:
                self._not_kept.tell(name, "it is too large", max_bytes=self._settings.kept_message_bytes)
        self._keep(messages)

    def _tell(self, what: str, message: str | bytes) -> None:
        if self._trace is not None:
            self._trace(what, message)

    def _tell_received(self, message: Batch) -> None:
        """Tells of a message. What might have been saved of it may be secret, too: a step was not reached, or failed."""
        if self._resolved is not None:
            self._session.hide(self._resolved.dialogue.saveable(message, time.time()))
        payload = bytes(message.payload(0))
        self._tell("received", payload.decode(errors="replace") if message.opcode(0) == Opcode.TEXT else payload)

    def _proxy_to(self, url: str) -> Proxy | None:
        values = {} if self._resolved is None else self._resolved.values
        return proxy_to(self._spec, url, values, os.environ)

    def _broken(self, error: Exception) -> None:
        """An error that nobody expected ends the attempt, or the connection that was just opened."""
        if (told := self._bugs.failed(internal_error(error))) is not None:
            logger.error("origin: %s", told.pop("problem"), extra=told)
        logger.debug("origin: an internal error with its traceback", exc_info=error)
        if self._websocket is None:
            self._session.failed(internal_error(error), self._loop.time(), Failure.INTERNAL)
        else:
            self._error = error
            self._websocket.abort()  # `lost` follows

    async def _refresh_values(self) -> None:
        """Reads the current values of the secrets. The TLS context is made anew if they have changed.

        Raises:
            UserError: they are unusable.
        """
        before = self._resolved
        resolved = await asyncio.to_thread(self._read_secrets)
        if resolved != before:
            self._resolved = resolved
            self._tls_is_current = False
            self._session.set_dialogue(resolved.dialogue, resolved.secrets)
            logger.info("origin: secrets were replaced")
        if not self._tls_is_current:
            self._tls = await asyncio.to_thread(origin_context, self._spec, resolved)
            self._tls_is_current = True

    def _connect_done(self, task: asyncio.Task[None]) -> None:
        if self._connecting is task:
            self._connecting = None
        if not task.cancelled() and (error := task.exception()) is not None and not self._finished.done():
            self._finished.set_exception(error)

    def _drop(self) -> None:
        """Cleans up, even if `run` was cancelled or failed."""
        self._session.stop()
        self._act()
        if self._websocket is not None:
            self._websocket.abort()

    def _hide_in_logs(self) -> None:
        """Hides in all logs, too, what must not be shown: asyncio logs whatever a callback raises."""
        logs.hide_secrets(self._session.hidden.hide)

    def _log_state(self) -> None:
        """Logs one line when a stream starts, and one when it ends; none per message, and not for each attempt."""
        state = self._session.state
        report = self.report()
        failures = self._session.failures.total()
        # Counted, since the next attempt may be under way already, if its wait was shorter than the close took.
        if failures > self._failures_seen and state in (State.WAITING, State.REFUSED, State.CONNECTING):
            self._failures_seen = failures
            if (told := self._failures.failed(report.reason)) is not None:
                reason = told.pop("problem")
                logger.warning("origin: %s; next attempt in %.1f s", reason, report.retry_in_seconds, extra=told)
        if state is self._logged:
            return
        if state is State.STREAMING:
            failed, told = self._failures.fails, self._failures.worked()
            if not failed or told is not None:
                logger.info("origin connected (connection %d)", report.connections, extra=told)
        elif state is State.IDLE:
            unneeded = not self._needed and not self._session.stopped
            logger.info("origin idle: no client needs it" if unneeded else "origin connection closed")
        self._logged = state
