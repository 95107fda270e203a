"""`lobby check`: what a Lobby's file says, and with `--connect`, what its origin says to that.

Nothing is served. Texts that are sent may hold secrets, so the file's own are never printed; what goes over the connection is
printed with all known secrets hidden.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.connection import OriginConnection
from lobby_gateway.origin.secrets import ResolvedOrigin, resolve
from lobby_gateway.origin.templates import split
from lobby_gateway.resource.schema import load_file
from lobby_gateway.resource.spec import (
    ConnectMode,
    Decode,
    Early,
    ExpectSpec,
    HttpEndSpec,
    HttpSpec,
    Lobby,
    OnConnectStep,
    OriginSpec,
    RuleSpec,
    lobby_from_resource,
)
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.client_handshake import without_query
from lobby_gateway.websocket.frames import Batch, header_size

_SHOWN_MESSAGES = 3


def main(files: Sequence[Path], *, connect: bool, seconds: float) -> int:
    """Runs the command.

    Args:
        files: the files of the Lobbies.
        connect: whether to try each origin once.
        seconds: how long to wait for the first message of a stream.

    Returns:
        The exit code: 1 if a stream did not flow.

    Raises:
        UserError: a file cannot be read, a Lobby is invalid, or a secret is missing.
    """
    lobbies = [(path, lobby_from_resource(load_file(path))) for path in files]
    failed = False
    for path, lobby in lobbies:
        _print(f"{path}: Lobby {lobby.name} is valid")
        for line in describe(lobby):
            _print(f"  {line}")
        if connect:
            problem = asyncio.run(_try(lobby.spec.origin, seconds))
            _print(f"  {problem or 'the stream flows'}")
            failed = failed or bool(problem)
    return 1 if failed else 0


def describe(lobby: Lobby) -> Iterator[str]:
    """What a lobby of this Lobby does with its origin, line by line."""
    origin = lobby.spec.origin
    when = "when it starts" if origin.connect is ConnectMode.ALWAYS else "when the first client arrives"
    yield f"clients connect to {lobby.spec.path}; a lobby connects to {_address(origin.url)} {when}"
    if origin.decode is not Decode.NONE:
        yield f"binary messages are decompressed ({origin.decode.value})"
    if origin.split is not None:
        yield f"texts are split at {origin.split!r}"
    for index, before in enumerate(origin.before_connect):
        yield f"beforeConnect[{index}]: {_called(before.http)}"
    for index, step in enumerate(origin.on_connect):
        yield f"onConnect[{index}]: {_step(step)}"
    for index, rule in enumerate(origin.on_message):
        yield f"onMessage[{index}]: {_rule(rule)}"
    for index, timed in enumerate(origin.every):
        interval = f"{timed.seconds} s" if timed.seconds is not None else f"{timed.seconds_from} seconds"
        yield f"every[{index}]: every {interval}, {_sent(timed.send, timed.send_bytes)}"
    if origin.stale_seconds:
        yield f"without a message for {origin.stale_seconds} s, the connection is closed and opened again"


def _step(step: OnConnectStep) -> str:
    if step.expect is not None:
        return _awaited(step.expect)
    if step.http is not None:
        return _called(step.http)
    if step.wait is not None:
        wait = step.wait
        seconds = f"{wait.seconds} s" if wait.seconds is not None else f"{wait.seconds_from} seconds"
        return f"wait {seconds}; messages are {_EARLY[wait.early]} meanwhile"
    return _sent(step.send, step.send_bytes)


_EARLY = {Early.FORWARD: "kept for clients", Early.DROP: "dropped"}


def _sent(text: str | None, data: str | None) -> str:
    if data is not None:
        return "send a binary message"
    return f"send a text of {len(text)} characters" if text else "send an empty text"


def _called(http: HttpSpec) -> str:
    accepted = " or ".join(map(str, http.status))
    saved = f", save {', '.join(http.save)}" if http.save else ""
    ends = f"; if {http.end.when}: {_ended(http.end)}" if http.end is not None else ""
    return f"{http.method} {_address(http.url)} within {http.timeout_seconds} s, expect {accepted}{saved}{ends}"


_STAND_IN = 0xE000  # the first character for private use: no URL has one
_URL_IN_TEXT = re.compile(r"\b(?:ws|http)s?://[^\s\"']*")


def _address(url: str) -> str:
    """A URL without user, password and query. Expressions stay whole: their `?` and `@` mean something else."""
    shown = ""
    expressions: list[str] = []
    for text, _, expression in split(url):
        shown += text
        if expression is not None:
            shown += chr(_STAND_IN + len(expressions))
            expressions.append(_URL_IN_TEXT.sub(lambda found: without_query(found[0]), expression))
    shown = without_query(shown)
    for index, expression in enumerate(expressions):
        shown = shown.replace(chr(_STAND_IN + index), f"$({expression})")
    return shown


def _ended(end: HttpEndSpec) -> str:
    why = end.reason or "the status"
    return f"end the attempt ({'refused' if end.refused else 'retried'}; the reason is {why})"


def _awaited(expect: ExpectSpec) -> str:
    conditions = [f"{pointer or 'the message'} is {value!r}" for pointer, value in expect.json.items()]
    if expect.contains is not None:
        conditions.insert(0, f"it contains {expect.contains!r}")
    if expect.when is not None:
        conditions.append(expect.when)
    which = f"in which {' and '.join(conditions)}" if conditions else "of any content"
    saved = f", save {', '.join(expect.save)}" if expect.save else ""
    kept = f", keep it as {expect.keep} for clients that join" if expect.keep else ""
    others = f"others are {_EARLY[expect.early]} meanwhile"
    return f"wait up to {expect.timeout_seconds} s for a message {which}{saved}{kept}; {others}"


def _rule(rule: RuleSpec) -> str:
    conditions = [f"it contains {rule.contains!r}"] if rule.contains is not None else []
    if rule.when is not None:
        conditions.append(rule.when)
    actions = [_sent(rule.send, rule.send_bytes)] if rule.send is not None or rule.send_bytes is not None else []
    if rule.save:
        actions.append(f"save {', '.join(rule.save)}")
    if rule.keep:
        actions.append(f"keep it as {rule.keep} for clients that join")
    if not rule.forward:
        actions.append("drop it")
    if rule.renew:
        actions.append("renew the connection")
    if rule.end is not None:
        why = rule.end.reason or "the message"
        actions.append(f"end the connection ({'refused' if rule.end.refused else 'retried'}; the reason is {why})")
    return f"if {' and '.join(conditions)}: {', '.join(actions) or 'forward it'}"


async def _try(origin: OriginSpec, seconds: float) -> str:
    return await _Trial(origin, resolve(origin, os.environ)).outcome(seconds)


_FIELDS = ("beforeConnect[", "onConnect[", "onMessage[", "every[")


class _Trial:
    """One attempt at an origin, printed as it goes."""

    def __init__(self, origin: OriginSpec, resolved: ResolvedOrigin) -> None:
        self._start = time.monotonic()
        self._said: list[tuple[float, str, str]] = []  # when, what happened, and to which text; not redacted yet
        self._changed = asyncio.Event()
        self._began = False
        self._messages = 0
        self._problem = ""  # why the attempt has failed
        self._connection = OriginConnection(
            origin,
            resolved,
            read_secrets=lambda: resolved,
            publish=self._publish,
            begin_epoch=self._begin,
            keep=self._keep,
            failed=self._fail,
            allowance=ConnectAllowance(1),
            trace=self._trace,
        )

    async def outcome(self, seconds: float) -> str:
        """Connects once; returns why the stream does not flow, or an empty text."""
        self._say("connecting")
        running = asyncio.create_task(self._connection.run())
        running.add_done_callback(lambda _: self._changed.set())
        self._connection.set_needed(True)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._until_decided(running)
            problem = self._verdict(seconds)
            self._tell()
            await self._connection.close()
            await running
        finally:
            running.cancel()
            await asyncio.wait([running])
            self._tell()
        return problem

    async def _until_decided(self, running: asyncio.Task[None]) -> None:
        while not self._problem and self._messages < _SHOWN_MESSAGES and not running.done():
            self._tell()
            self._changed.clear()
            await self._changed.wait()

    def _verdict(self, seconds: float) -> str:
        if self._problem or self._messages:
            return self._problem
        if self._began:
            return f"the stream began, but brought no message within {seconds:g} s"
        return f"{self._connection.step}: not done within {seconds:g} s"

    def _fail(self, reason: str, refused: bool) -> None:
        reason = self._connection.redacted(reason)  # again: more is hidden by now
        if refused or not self._began:
            step = "" if self._began or reason.startswith(_FIELDS) else "connecting: "
            self._problem = f"{'refused' if refused else 'failed'}: {step}{reason}"
        else:
            count = self._messages
            when = f"after {count} message{'s' * (count > 1)}" if count else "before its first message"
            self._problem = f"the stream was lost {when}: {reason}"
        self._connection.stop()  # at once: it would try again
        self._changed.set()

    def _publish(self, batch: Batch) -> None:
        self._messages += len(batch)
        self._changed.set()

    def _begin(self) -> None:
        self._began = True
        self._say("the stream begins")

    def _keep(self, messages: Mapping[str, KeptFrame]) -> None:
        if self._messages < _SHOWN_MESSAGES:
            for name, (frame, _) in messages.items():
                told = f"{len(frame) - header_size(frame, 0)} bytes" if frame else "nothing: the message is too large"
                self._say(f"kept as {name}: {told}")

    def _trace(self, what: str, message: str | bytes) -> None:
        if self._messages < _SHOWN_MESSAGES:
            # Without spaces, and not cut: only so are secrets found in it. What is printed is cut later.
            self._say(what, message if isinstance(message, str) else f"{len(message)} bytes: {message.hex()}")

    def _say(self, what: str, text: str = "") -> None:
        self._said.append((time.monotonic() - self._start, what, text))
        self._changed.set()

    def _tell(self) -> None:
        """Prints what has happened since the last call, with all hidden that is known to be secret by now."""
        said, self._said = self._said, []
        for at, what, text in said:
            _print(f"  {at:7.3f} s  {what} {self._connection.redacted(text)}".rstrip())


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
