"""The laws of the origin session, whatever the origin, the clients and the clock do, in any order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product, starmap
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.specs import origin_spec, resolved

from lobby_gateway.origin.hidden import Hidden
from lobby_gateway.origin.redaction import MAX_REASON_CHARACTERS
from lobby_gateway.origin.session import OriginSession
from lobby_gateway.origin.states import (
    BeginClose,
    BeginEpoch,
    CancelConnect,
    Connect,
    Failure,
    Forget,
    NoteClose,
    Publish,
    Send,
    SendPing,
    State,
)
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.settings import ORIGIN, OriginSettings
from lobby_gateway.websocket.frames import Batch, Opcode, frame
from lobby_gateway.websocket.parser import Close, Event, Ping, Pong, Violation

SECRET = "s3cr3t/key=with&more"
KEY = {"LOBBY_SECRET_FEED_KEY": SECRET}
SECRETS = [{"name": "KEY", "secretKeyRef": {"name": "feed", "key": "key"}}]
READY = '{"status": "ready"}'
SCRIPTS: list[list[dict[str, Any]]] = [
    [],
    [{"send": "login $(KEY)"}],
    [{"send": "login $(KEY)"}, {"expect": {"json": {"/status": "ready"}, "timeoutSeconds": 5}}, {"send": "subscribe"}],
    [{"expect": {"json": {}, "timeoutSeconds": 2}}, {"expect": {"json": {"/status": "ready"}, "timeoutSeconds": 9}}],
]

RULES: list[list[dict[str, Any]]] = [
    [],
    [{"contains": "tick", "send": "tock $(KEY)", "forward": False}],
    [{"contains": "no", "end": {"refused": True}}],
    [
        {"contains": "key", "forward": False, "end": {}},
        {"contains": "tick", "when": "text == 'tick'", "send": "$(now)"},
    ],
]


def batch_of(*messages: str) -> Batch:
    return Batch.of([frame(Opcode.TEXT, each.encode()) for each in messages])


TEXTS = [READY, "tick", '{"status": "no"}', SECRET, ""]
REASONS = ["", "bad key " + SECRET, "x" * 300, "two\nlines"]
STATUSES = [0, 0, 0, 301, 401, 403, 404, 429, 503]  # 0: no HTTP response
RETRIES = [None, None, 0.0, 5.0, 600.0, 10.0**9]
CONTROLS: list[Event] = [
    *[Ping(b"")] * 8,
    *[Pong(b"")] * 8,
    *(Violation(code, "bad") for code in (1002, 1007, 1009)),
    *(Close(code, reason) for code in (1000, 1001, 1005, 1008, 1012, 3000, 4001) for reason in REASONS),
]
LAST_BATCHES = [(), (batch_of(READY),), (batch_of("tick", READY),), (batch_of(READY, "tick"), batch_of("tick"))]


@dataclass(frozen=True)
class Received:
    """One read of an open connection; an attempt succeeds instead."""

    events: tuple[Event, ...]


@dataclass(frozen=True)
class Cut:
    """One read of an open connection, which is closed before all of it is judged; an attempt succeeds instead."""

    events: tuple[Event, ...]


@dataclass(frozen=True)
class Broken:
    """The connection breaks; an attempt fails, by an HTTP status if there is one."""

    reason: str
    status: int
    retry_after: float | None


def reads() -> Iterator[Received]:
    yield Received(())
    for count in (1, 2, 3):
        for messages in product(TEXTS, repeat=count):
            yield Received((batch_of(*messages),))
            if count > 1:
                yield Received((batch_of(messages[0]), batch_of(*messages[1:])))


# A step draws two choices from prepared lists, because drawing takes most of the time of a run.
received = st.sampled_from(list(reads()))
controls = st.sampled_from([Received((*batches, control)) for batches in LAST_BATCHES for control in CONTROLS])
cut = st.sampled_from([Cut((*each.events, *close)) for each in reads() for close in ((), (Close(1001, ""),))])
broken = st.sampled_from(list(starmap(Broken, product(REASONS, STATUSES, RETRIES))))
times = st.sampled_from([0.0, 0.01, 0.7, 3.0, 21.0, 4000.0])
rare = st.sampled_from([*["timer"] * 50, *["renew"] * 10, "stop", *["timer"] * 39])  # nothing happens after a stop
actions = st.one_of(received, broken, controls, received, cut, times, rare, st.booleans())


class OriginSessionMachine(RuleBasedStateMachine):
    """Plays the shell, which keeps its promises, the clients and an origin that may do anything."""

    @initialize(
        script=st.sampled_from(SCRIPTS),
        rules=st.sampled_from(RULES),
        every=st.sampled_from([[], [], [{"seconds": 3, "send": "beat $(now)"}]]),
        ping=st.sampled_from([0, 1, 20]),
        stale=st.sampled_from([0, 3, 60]),
        connect=st.sampled_from(["OnDemand", "Always"]),
        linger=st.sampled_from([0.0, 10.0]),
        longest=st.sampled_from([500, 30_000, 3_600_000]),
        fraction=st.sampled_from([None, 0.0, 1 - 2**-53]),  # None: any
        seed=st.integers(0, 2**16),
        per_turn=st.sampled_from([1, 2, 500]),
        ready=st.booleans(),
    )
    def begin(
        self,
        *,
        script: list[dict[str, Any]],
        rules: list[dict[str, Any]],
        every: list[dict[str, Any]],
        ping: int,
        stale: int,
        connect: str,
        linger: float,
        longest: int,
        fraction: float | None,
        seed: int,
        per_turn: int,
        ready: bool,
    ) -> None:
        spec = origin_spec(
            secrets=SECRETS,
            onConnect=script,
            onMessage=rules,
            every=every,
            keepalive={"pingSeconds": ping, "timeoutSeconds": 2},
            staleSeconds=stale,
            connect=connect,
            reconnect={"minMilliseconds": 500, "maxMilliseconds": longest},
        )
        values = resolved(spec, KEY)
        self.longest = longest / 1000
        self.always = connect == "Always"
        self.on_message = rules
        self.speaks = bool(every) or any("send" in rule for rule in rules)
        self.expects = [step["expect"]["json"] for step in script if "expect" in step]
        self.session = OriginSession(
            spec,
            dialogue=values.dialogue,
            wall_clock=lambda: 1767225600.0,
            hidden=Hidden(values.secrets),
            fraction=random.Random(seed).random if fraction is None else lambda: fraction,  # no secret
            settings=OriginSettings(linger_seconds=linger, judged_per_turn=per_turn),
        )
        self.linger = linger
        self.now = 1.0  # 0.0 is always over
        # What the shell and the origin know.
        self.connecting = False
        self.open = False
        self.cut = False  # it is closed, but the session may still judge what has arrived
        self.closing = False  # the origin or we have begun to
        self.streaming = False  # BeginEpoch came for this connection
        self.awaited: list[dict[str, Any]] = []  # those of `expects` that this connection still waits for
        self.stream: list[bytes] = []  # messages after them
        self.published: list[bytes] = []
        self.not_before = 0.0  # the delay that the origin asked for
        self.outdated = False  # a secret was replaced during an attempt
        self.clients = False
        self.left_at: float | None = None
        self.stopped = False
        self.session.start(self.now)
        self.obey()
        if ready:  # most laws concern a connection, so half of the runs begin with one
            self.clients_come_or_go(clients=True)
            self.opened()

    def obey(self) -> None:
        """Executes the actions of the session and checks that they are allowed."""
        for command in self.session.commands():
            match command:
                case Connect():
                    if self.cut:
                        self.open = self.closing = self.streaming = False
                    assert not self.connecting, "a second connection"
                    assert not self.open, "a second connection"
                    assert self.wanted, "an unneeded connection"
                    assert self.now >= self.not_before, "earlier than the origin allows"
                    self.connecting = True
                    self.outdated = False
                case CancelConnect():
                    assert self.connecting
                    self.connecting = False
                case Send():
                    assert self.open
                    assert not self.closing
                    assert not self.streaming or self.speaks, "the script continues after its end"
                case SendPing():
                    assert self.open
                    assert not self.closing
                case BeginClose(code, reason):
                    assert self.open
                    assert not self.closing
                    assert code in (1000, 1011)
                    assert len(reason.encode()) <= 123
                    assert reason or not self.wanted, "closed while clients need it"
                    self.closing = True
                case BeginEpoch():
                    assert self.open
                    assert not self.streaming, "an epoch began twice"
                    self.streaming = True
                case Forget():
                    assert not self.wanted, "forgotten while clients need it"
                case NoteClose(code):
                    assert self.streaming
                    if code == 1008:  # a client's message was the reason
                        self.session.excuse(self.now)
                case Publish(batch):
                    assert self.streaming, "published while the script runs"
                    assert not self.closing
                    self.published += [bytes(batch.payload(i)) for i in range(len(batch))]

    @property
    def wanted(self) -> bool:
        return not self.stopped and (self.always or self.clients)

    @rule(action=actions)
    def act(self, action: Any) -> None:
        """A single rule: of several, Hypothesis disables some in most runs, and few runs get far."""
        match action:
            case bool():
                self.clients_come_or_go(action)
            case "stop":
                self.lobby_stops()
            case "renew":
                self.secret_is_replaced()
            case "timer":
                self.time_passes(None)
            case float():
                self.time_passes(action)
            case Received(events):
                if self.connecting:
                    self.opened()
                elif self.open:
                    self.receives(events)
            case Cut(events):
                if self.connecting:
                    self.opened()
                elif self.open:
                    self.receives(events, cut=True)
            case Broken(reason, status, retry_after):
                if self.connecting and status:
                    self.refused(status, retry_after)
                elif self.connecting:
                    self.failed(reason)
                elif self.open:
                    self.lost(reason)

    def clients_come_or_go(self, clients: bool) -> None:
        if self.clients and not clients:
            self.left_at = self.now
        elif clients:
            self.left_at = None
        self.clients = clients
        self.session.set_needed(clients, self.now)
        self.obey()

    def secret_is_replaced(self) -> None:
        """A refusal of the old secret does not hold for the new one."""
        was_connecting, was_open = self.connecting, self.open
        if was_connecting or (was_open and (self.closing or not self.streaming)):
            self.outdated = True
        if not was_connecting and (not was_open or self.closing):
            self.not_before = self.now  # what it refused was the old secret
        self.session.secrets_changed(self.now)
        self.obey()
        assert self.open == was_open
        if was_connecting or was_open:
            assert self.connecting == was_connecting, "the attempt under way lingers, and there is no other"
        else:
            assert self.connecting == self.wanted, "retried at once"

    def time_passes(self, seconds: float | None) -> None:
        """The timer fires on time (None), early, or late because the process was stopped."""
        at = self.session.wake_at()
        self.now = max(self.now, at or 0.0) if seconds is None else self.now + seconds
        self.session.wake(self.now)
        self.obey()

    def lobby_stops(self) -> None:
        self.stopped = True
        self.session.stop()
        self.obey()

    def opened(self) -> None:
        self.connecting = False
        self.open, self.closing, self.streaming = True, False, False
        self.awaited, self.stream, self.published = list(self.expects), [], []
        self.session.opened(self.now)
        self.obey()

    def refused(self, status: int, retry_after: float | None) -> None:
        self.connecting = False
        self.session.refused(status, f"HTTP {status} {SECRET}", retry_after, self.now)
        least = ORIGIN.min_refused_seconds if status in (401, 403) else 0.0
        if not self.outdated:
            self.not_before = self.now + max(least, min(retry_after or 0.0, ORIGIN.max_retry_after_seconds))
        self.obey()

    def failed(self, reason: str) -> None:
        self.connecting = False
        self.session.failed(reason, self.now)
        self.obey()

    def lost(self, reason: str) -> None:
        self.open = self.closing = self.streaming = False
        self.session.lost(reason, self.now)
        self.obey()

    def receives(self, events: tuple[Event, ...], *, cut: bool = False) -> None:
        if not self.closing:
            for event in events:
                if isinstance(event, Batch) and not self.expect_or_stream(event):
                    break
        self.session.receive(events, self.now)
        self.obey()
        self.cut, lost = cut, self.session.failures[Failure.LOST]
        if cut:
            self.session.lost("", self.now)
            self.obey()
        for _ in range(10):
            if self.session.wake_at() != 0.0:
                break
            self.session.wake(self.now)  # the next turn
            self.obey()
        self.cut = False
        closed = any(isinstance(event, Close | Violation) for event in events)
        if cut:
            self.open = self.closing = self.streaming = False
            assert not closed or self.session.failures[Failure.LOST] == lost, "the close frame was not heard"
        elif closed:
            self.closing = True  # the connection sends pongs by itself
        assert self.published == self.stream, "lost, duplicated or reordered"

    def expect_or_stream(self, batch: Batch) -> bool:
        """The script and the rules in a few lines; returns whether the connection goes on.

        Messages that are not awaited are skipped; after the last wait, all are published that no rule drops.
        """
        for index in range(len(batch)):
            message = bytes(batch.payload(index))
            fitting = [each for each in self.awaited if not each or message == READY.encode()]
            if fitting:
                self.awaited.remove(max(fitting, key=len))  # the one that asks for more
                continue
            applied = next((each for each in self.on_message if each["contains"].encode() in message), {})
            if not self.awaited and applied.get("forward", True):
                self.stream.append(message)
            if "end" in applied:
                if applied["end"].get("refused") and not self.outdated:
                    self.not_before = self.now + ORIGIN.min_refused_seconds
                return False
        return True

    # The laws

    @invariant()
    def wanted_means_connected_or_planned(self) -> None:
        if self.wanted:
            assert self.connecting or self.open or self.session.wake_at() is not None

    @invariant()
    def unwanted_means_idle_soon(self) -> None:
        if self.wanted or self.connecting or self.open:
            return
        assert self.session.state is State.IDLE
        assert self.session.wake_at() is None

    @invariant()
    def state_is_what_the_shell_sees(self) -> None:
        state = self.session.state
        assert (state is State.CONNECTING) == self.connecting
        assert (state in (State.SCRIPTING, State.STREAMING, State.CLOSING)) == self.open
        assert (state is State.CLOSING) == (self.open and self.closing)
        assert (state is State.STREAMING) == (self.open and self.streaming and not self.closing)
        assert self.session.stopped == (self.stopped and not self.open and not self.connecting)

    @invariant()
    def unneeded_connection_ends(self) -> None:
        if not self.always and not self.stopped and self.left_at is not None and (self.connecting or self.open):
            at = self.session.wake_at()
            assert self.closing or (at is not None and at <= max(self.now, self.left_at + self.linger))

    @invariant()
    def waking_makes_progress(self) -> None:
        """Waking the session at its requested time does not make it request the same time forever."""
        for _ in range(10):
            at = self.session.wake_at()
            if at is None or at > self.now:
                return
            self.session.wake(self.now)
            self.obey()
        raise AssertionError("it requests the same wake-up forever")

    @invariant()
    def wait_is_bounded(self) -> None:
        report = self.session.report(self.now)
        most = max(ORIGIN.max_retry_after_seconds, self.longest, ORIGIN.min_refused_seconds) + self.longest
        assert 0 <= report.retry_in_seconds <= most + 1e-6  # what is left of a sum of times
        if report.retry_in_seconds:
            assert report.state in (OriginState.WAITING, OriginState.REFUSED)

    @invariant()
    def report_is_one_line_without_a_secret(self) -> None:
        reason = self.session.report(self.now).reason
        assert SECRET not in reason
        assert "\n" not in reason
        assert len(reason) <= MAX_REASON_CHARACTERS
        if self.session.state in (State.WAITING, State.REFUSED) and not self.session.connections:
            assert self.session.failures


OriginSessionMachine.TestCase.settings = settings(stateful_step_count=60)
TestOriginSession = OriginSessionMachine.TestCase
