"""Origin sessions in virtual time: the test is their shell."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.specs import origin_spec, resolved

from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.hidden import Hidden
from lobby_gateway.origin.session import OriginSession
from lobby_gateway.origin.states import Command, Publish, Send, State
from lobby_gateway.process.seat_reports import OriginReport
from lobby_gateway.settings import OriginSettings
from lobby_gateway.websocket.frames import Batch, Opcode, frame

HELLO = Batch.of([frame(Opcode.TEXT, b"hello")])
NO_PINGS = {"pingSeconds": 0, "timeoutSeconds": 1}
LOGIN = [{"send": "login"}, {"expect": {"json": {"/ok": True}, "timeoutSeconds": 5}}]


def json_batch(*messages: str) -> Batch:
    return Batch.of([frame(Opcode.TEXT, each.encode()) for each in messages])


class Shell:
    """Gives the session its inputs, and collects what it asks for."""

    def __init__(
        self,
        *,
        fraction: float = 1.0,
        linger: float = 10.0,
        secrets: tuple[str, ...] = (),
        allowance: ConnectAllowance | None = None,
        traced: bool = False,
        **fields: Any,
    ) -> None:
        spec = origin_spec(**fields)
        self.session = OriginSession(
            spec,
            dialogue=resolved(spec).dialogue,
            hidden=Hidden(secrets),
            fraction=lambda: fraction,
            wall_clock=lambda: 1767225600.5,
            allowance=allowance,
            settings=OriginSettings(linger_seconds=linger),
            traced=traced,
        )
        self.now = 1000.0
        self.session.start(self.now)

    @property
    def state(self) -> State:
        return self.session.state

    @property
    def report(self) -> OriginReport:
        return self.session.report(self.now)

    def took(self) -> list[Command]:
        return self.session.commands()

    def wanted(self, wanted: bool = True) -> list[Command]:
        self.session.set_needed(wanted, self.now)
        return self.took()

    def opened(self) -> list[Command]:
        self.session.opened(self.now)
        return self.took()

    def receive(self, *events: Any) -> list[Command]:
        self.session.receive(events, self.now)
        return self.took()

    def lost(self, reason: str = "gone") -> list[Command]:
        self.session.lost(reason, self.now)
        return self.took()

    def failed(self, reason: str = "connection refused") -> list[Command]:
        self.session.failed(reason, self.now)
        return self.took()

    def refused(self, status: int, retry_after: float | None = None) -> list[Command]:
        self.session.refused(status, f"HTTP {status}", retry_after, self.now)
        return self.took()

    def later(self, seconds: float) -> list[Command]:
        """Time passes; the session is woken when it wants to be, and at the end."""
        end = self.now + seconds
        commands: list[Command] = []
        for _ in range(1000):
            at = self.session.wake_at()
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self.session.wake(self.now)
            commands += self.took()
        else:
            pytest.fail("it wants to be woken again and again")
        self.now = end
        self.session.wake(end)
        return commands + self.took()

    def streaming(self) -> Shell:
        self.wanted()
        self.opened()
        assert self.session.state is State.STREAMING
        return self


FLOOD = ["{}"] * 1200
PING_RULE = {"contains": '"ping"', "when": "has(msg.ping)", "send": '{"pong":$(msg.ping)}', "forward": False}


def published(commands: list[Command]) -> list[str]:
    batches = [each.batch for each in commands if isinstance(each, Publish)]
    return [bytes(batch.payload(i)).decode() for batch in batches for i in range(len(batch))]


def sent(commands: list[Command]) -> list[str | bytes]:
    return [each.message for each in commands if isinstance(each, Send)]
