"""Lobbies as child processes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lobby_gateway.clients.tokens import Purpose, key_from_hex
from lobby_gateway.origin.secrets import secret_references
from lobby_gateway.process.background import Spawn
from lobby_gateway.process.peer_list import PeerList
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_gateway.resource.spec import Lobby, RoutingMode
from lobby_gateway.settings import TOKEN_KEY_VARIABLE
from lobby_operator.local.child import NOT_ANNOUNCED, Child, LogLine, child_environment, describe_exit
from lobby_operator.local.lobby_sources import Source
from lobby_operator.planner.state import LobbyReading, PollResult
from lobby_operator.reconcile.lobby_requests import send_request
from lobby_operator.reconcile.poller import Poller, PollSchedule
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import LOCAL_MODE, LocalModeSettings, PeerListSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyProcessSettings:
    """How to run lobbies.

    Attributes:
        host: address for clients. Lobbies that clients are redirected to listen on it, the others on 127.0.0.1.
        token_key: key that signs seat tokens, in hex.
        environment: environment of this process; lobbies get the variables that they need.
        directory: folder for the Lobbies' files, private to this user.
        module: module of the lobby process.
        times: times of local mode.
        peers: settings of what lobbies are told about each other.
    """

    host: str
    token_key: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    module: str = "lobby_gateway.lobby"
    times: LocalModeSettings = LOCAL_MODE
    peers: PeerListSettings = field(default_factory=PeerListSettings)


class _LobbyProcess:
    """A lobby's process and its state."""

    def __init__(self, name: str, lobby: str, host: str, *, revision: str, created_at: float, child: Child) -> None:
        self.name = name
        self.revision = revision
        self.host = host
        self.lobby = lobby
        self.created_at = created_at
        self.child = child
        self.address = ""
        self.draining = False
        self.ending = False
        self.admin: tuple[str, int] | None = None
        self.poller: Poller[LobbyReport] | None = None
        self.tasks: set[asyncio.Task[Any]] = set()

    def expect_end(self) -> None:
        """Marks it as ending; called just before it is stopped."""
        self.ending = True
        if self.poller is not None:
            self.poller.quiet = True

    @property
    def poll_result(self) -> PollResult[LobbyReport]:
        return self.poller.result if self.poller is not None else PollResult()


class LocalRuntime:
    """Runs lobbies as child processes of this one.

    Args:
        settings: how to run them.
        log: called with each line that a lobby logs; None: lobbies inherit our standard error.
        changed: called when a lobby may have changed.
        event: called with the name of a lobby and a line for people about it.
        spawn: creates tasks.
        schedule: shared by all pollers of this process; None: a new one.
    """

    def __init__(
        self,
        settings: LobbyProcessSettings,
        *,
        log: LogLine | None,
        changed: Callable[[], None],
        event: Callable[[str, str], None],
        spawn: Spawn,
        schedule: PollSchedule | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._changed = changed
        self._event = event
        self._spawn = spawn
        self._schedule = schedule or PollSchedule()
        self._processes: dict[str, _LobbyProcess] = {}
        self._files: dict[str, Path] = {}
        self._revisions: dict[str, str] = {}
        self._clock = asyncio.get_running_loop().time
        self._closing = False

    async def apply(self, source: Source) -> None:
        """Writes the file that the lobbies of a Lobby read, and watch, and starts new ones with its revision."""
        path = self._settings.directory / f"{source.lobby.name}.json"

        def write() -> None:
            new = path.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_text(json.dumps(source.resource))
            new.replace(path)  # a lobby reads the old file or the new one

        await asyncio.to_thread(write)
        self._files[source.lobby.name] = path
        self._revisions[source.lobby.name] = source.revision

    def poll_fast(self, lobby: str, *, fast: bool) -> None:
        """Polls the lobbies of a Lobby at the fast interval, or at the normal one."""
        for process in self._processes.values():
            if process.lobby == lobby and process.poller is not None:
                process.poller.fast = fast

    def poll_results(self, lobby: str) -> dict[str, PollResult[LobbyReport]]:
        """The latest poll of each lobby of a Lobby, by name."""
        return {process.name: process.poll_result for process in self._processes.values() if process.lobby == lobby}

    def admin_addresses(self, lobby: str) -> dict[str, tuple[str, int]]:
        """Admin address of each listening lobby of a Lobby, by name."""
        return {each.name: each.admin for each in self._processes.values() if each.lobby == lobby and each.admin}

    async def list(self, lobby: str) -> Sequence[LobbyReading]:
        """See `Runtime`."""
        busy = await self._busy(lobby)
        return [
            LobbyReading(
                name=process.name,
                created_at=process.created_at,
                address=process.address,
                report=process.poll_result.report,
                unresponsive_since=process.poll_result.unresponsive_since,
                alive=True if process.name in busy else None,
                draining=process.draining,
                ending=process.ending,
                revision=process.revision,
            )
            for process in self._processes.values()
            if process.lobby == lobby
        ]

    async def _busy(self, lobby: str) -> set[str]:
        """Names of the lobbies that have not answered for a short time, and are busy: their event loop is late."""
        since = self._clock() - self._settings.times.busy_seconds
        late = [
            process
            for process in self._processes.values()
            if process.lobby == lobby and (process.poll_result.unresponsive_since or 0.0) > since
        ]
        if not late:
            return set()
        return await asyncio.to_thread(lambda: {process.name for process in late if process.child.busy()})

    async def create(self, lobby: Lobby, name: str) -> None:
        """See `Runtime`."""
        if name in self._processes or self._closing:
            return
        revision = self._revisions[lobby.name]
        host = self._settings.host if lobby.spec.routing.mode is RoutingMode.REDIRECT else "127.0.0.1"
        secrets = {reference.variable for reference in secret_references(lobby.spec.origin)}
        environment = child_environment(
            self._settings.environment, secrets, **{TOKEN_KEY_VARIABLE: self._settings.token_key}
        )
        arguments = [
            *("-m", self._settings.module, "--end-with-stdin", "--validated", "--follow-file"),
            *("--file", str(self._files[lobby.name]), "--name", name),
            *("--host", host, "--port", "0"),
            *("--admin-host", "127.0.0.1", "--admin-port", "0"),
        ]
        try:
            child = await Child.start(name, arguments, environment=environment, log=self._log)
        except OSError as error:
            raise RuntimeFailedError(f"can't start {name}: {error.strerror or error}") from error
        process = _LobbyProcess(name, lobby.name, host, revision=revision, created_at=self._clock(), child=child)
        self._processes[name] = process
        self._begin(process, self._supervise(process), "supervise")

    async def drain(self, name: str) -> None:
        """See `Runtime`."""
        process = self._processes.get(name)
        if process is None or process.ending:
            return
        await self._ask(process, Purpose.DRAIN)
        process.draining = True
        self._changed()

    async def preconnect(self, name: str) -> None:
        """See `Runtime`."""
        process = self._processes.get(name)
        if process is not None and not (process.ending or process.draining):
            await self._ask(process, Purpose.PRECONNECT)

    async def _ask(self, process: _LobbyProcess, purpose: Purpose) -> None:
        if process.admin is None:
            raise RuntimeFailedError(f"can't {purpose} {process.name}: it does not listen yet")
        await send_request(
            purpose,
            process.admin,
            namespace="",
            name=process.name,
            keys=[key_from_hex(self._settings.token_key)],
            timeout=self._settings.times.request_timeout_seconds,
        )
        if process.poller is not None:
            process.poller.poll_now()

    async def tell_peers(self, name: str, told: PeerList) -> None:
        """See `Runtime`."""
        process = self._processes.get(name)
        if process is None or process.admin is None:
            raise RuntimeFailedError(f"can't tell {name} its peers: it does not listen")
        await send_request(
            Purpose.PEERS,
            process.admin,
            body=json.dumps(told.to_json()).encode(),
            namespace="",
            name=name,
            keys=[key_from_hex(self._settings.token_key)],
            timeout=self._settings.peers.timeout_seconds,
        )
        if process.poller is not None:
            process.poller.poll_now()

    async def delete(self, name: str) -> None:
        """See `Runtime`."""
        process = self._processes.get(name)
        if process is None or process.ending:
            return
        process.expect_end()
        self._begin(process, process.child.stop(self._settings.times.lobby_kill_seconds), "stop")
        self._changed()

    async def close(self, grace: float) -> None:
        """Stops all lobbies, kills those that take longer than `grace` seconds, and waits until all have exited."""
        self._closing = True
        processes = list(self._processes.values())
        for process in processes:
            process.expect_end()
        await asyncio.gather(*(process.child.stop(grace) for process in processes))
        await asyncio.gather(*(task for process in processes for task in process.tasks))

    def kill(self) -> None:
        """Kills all lobbies."""
        for process in self._processes.values():
            process.child.kill()

    def _begin(self, process: _LobbyProcess, work: Coroutine[Any, Any, object], name: str) -> None:
        task = self._spawn(work, f"{name} {process.name}")
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)

    async def _supervise(self, process: _LobbyProcess) -> None:
        """Waits for a lobby to listen, polls it, and removes it when its process exits."""
        child = process.child
        try:
            announced = await child.listening(self._settings.times.listen_seconds)
            self._start_polling(process, announced)
        except NOT_ANNOUNCED as error:
            if not process.ending:
                logger.warning("a lobby failed to start", extra={"child": process.name, "problem": str(error)})
            await child.stop(self._settings.times.lobby_kill_seconds)
        self._changed()
        code = await child.wait()
        if process.poller is not None:
            await process.poller.close()
        del self._processes[process.name]
        self._event(process.name, "stopped" if process.ending else f"exited unexpectedly: {describe_exit(code)}")
        self._changed()

    def _start_polling(self, process: _LobbyProcess, announced: Mapping[str, Any]) -> None:
        process.address = reachable_authority(process.host, int(announced["port"]))
        process.admin = ("127.0.0.1", int(announced["admin_port"]))
        process.poller = Poller(
            process.name, process.admin, "/seats", LobbyReport.from_json, self._changed, schedule=self._schedule
        )


def reachable_authority(host: str, port: int) -> str:
    """`host:port` that reaches a listener on this machine."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104  # a comparison, not a bind
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
