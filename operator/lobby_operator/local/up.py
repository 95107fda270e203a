"""`lobby up`: runs lobby host, greeters and lobbies on one machine, and waits for all of them to exit."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lobby_gateway.errors import UserError
from lobby_gateway.http.admin import AdminServer
from lobby_gateway.process import logs
from lobby_gateway.process.arguments import cannot_listen
from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.process.bind import bind
from lobby_gateway.process.file_watch import watch_files
from lobby_gateway.process.lifecycle import Shutdown
from lobby_gateway.process.lifecycle import run as run_process
from lobby_operator.local.admin import routes
from lobby_operator.local.child import ChildFailedError, LogLine
from lobby_operator.local.host import LobbyHost, LobbyHostSettings
from lobby_operator.local.lobby_sources import (
    DEFAULT_NAME,
    DEMO_NAME,
    DemoOrigin,
    Source,
    changed,
    check_secrets,
    from_files,
    from_url,
)
from lobby_operator.local.runtime import reachable_authority
from lobby_operator.local.terminal import Terminal, open_terminal
from lobby_operator.settings import LOCAL_MODE

logger = logging.getLogger(__name__)

ADMIN_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """The command line. Exactly one of `origin`, `files` and `demo` is given.

    Attributes:
        origin: URL of an origin.
        files: names of Lobby files.
        demo: serve a built-in ticker.
        name: name of the Lobby, with `origin` or `demo`.
        host: address for clients.
        port: port for clients; 0: any free port.
        admin_port: port of the status page, `/lobbies` and `/metrics`; 0: any free port.
        admin_hosts: names under which it may be reached, besides those that no web page can have made up.
        seats: seats of a lobby; None: as the Lobby says.
        greeters: number of greeter processes.
        plain: print plain lines on a terminal, too.
    """

    origin: str | None = None
    files: Sequence[str] = ()
    demo: bool = False
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    admin_port: int = 8001
    admin_hosts: tuple[str, ...] = ()
    seats: int | None = None
    greeters: int = 1
    plain: bool = False


def run(settings: UpSettings) -> int:
    """Serves until stopped; returns the exit code.

    Raises:
        UserError: the command line or a file is invalid; one line per problem.
    """
    if settings.name is not None and settings.files:
        raise UserError("--name: can't be combined with --file; accepted: metadata.name in the file")
    sources = _sources(settings)
    check_secrets(sources, os.environ)

    async def main(stopping: Shutdown) -> None:
        try:
            await _Up(settings, stopping).run(sources)
        except UserError as error:
            raise UserError("\n".join(f"lobby up: {line}" for line in str(error).splitlines())) from error

    return run_process(main)


def _sources(settings: UpSettings) -> list[Source]:
    if settings.files:
        return from_files(settings.files, seats=settings.seats)
    if settings.origin is not None:
        name = settings.name or DEFAULT_NAME
        return [from_url(settings.origin, name=name, seats=settings.seats, option="--origin")]
    return []  # the demo's origin has no address yet


class _Up:
    """A running `lobby up`: opens everything in order, and closes it in reverse."""

    def __init__(self, settings: UpSettings, stopping: Shutdown) -> None:
        self._settings = settings
        self._stopping = stopping
        self._host: LobbyHost | None = None
        self._demo: DemoOrigin | None = None
        self._signals = 0
        self._background = BackgroundTasks()

    async def run(self, sources: list[Source]) -> None:
        """Serves until stopped.

        Raises:
            UserError: can't listen on a port, or a greeter failed to start.
        """
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            port = stack.enter_context(_reserved_port(settings.host, settings.port))
            _check_free(ADMIN_HOST, settings.admin_port, "--admin-port")  # before anything starts
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lobby-up-")))
            terminal = open_terminal(plain=settings.plain, out=sys.stdout)
            stack.callback(terminal.close)
            stack.callback(self._announce_end, terminal)
            routed = _route_logs(terminal, plain=settings.plain)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, self._signalled, number.name)
            if settings.demo:
                self._demo = DemoOrigin(log=routed, environment=_environment(), spawn=self._background.spawn)
                stack.push_async_callback(self._demo.close, LOCAL_MODE.exit_seconds)
                sources = [await self._demo_source(self._demo)]
            self._host = LobbyHost(
                sources,
                LobbyHostSettings(
                    host=settings.host,
                    port=port,
                    greeters=settings.greeters,
                    token_key=secrets.token_hex(32),
                    environment=_environment(),
                    directory=directory,
                ),
                log=routed,
                terminal=terminal,
                spawn=self._background.spawn,
            )
            await self._serve(self._host, terminal)

    async def _demo_source(self, demo: DemoOrigin) -> Source:
        try:
            url = await demo.start()
        except ChildFailedError as error:
            raise UserError(f"--demo: {error}; see its output above") from error
        name = self._settings.name or DEMO_NAME
        return await asyncio.to_thread(from_url, url, name=name, seats=self._settings.seats, option="--demo")

    async def _serve(self, host: LobbyHost, terminal: Terminal) -> None:
        admin = AdminServer(routes(host), hosts=self._settings.admin_hosts)
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        failing = asyncio.create_task(self._background.wait_failed(), name="bugs")
        following: asyncio.Task[None] | None = None
        try:
            admin_port = await admin.start(ADMIN_HOST, self._settings.admin_port)
            host.admin = f"http://{reachable_authority(ADMIN_HOST, admin_port)}"
            if await _started(host, stopping):
                self._announce_addresses(host, terminal)
                if self._settings.files:
                    following = asyncio.create_task(_follow(host, self._settings), name="follow files")
                while not stopping.done():
                    terminal.show(host.view(stopping=False))
                    for each in (failing, following):
                        if each is not None and each.done():
                            each.result()  # it ends only with an error
                    await asyncio.wait({stopping, failing}, timeout=LOCAL_MODE.refresh_seconds)
            terminal.show(host.view(stopping=True))
            terminal.line("stopping: closing clients, then lobbies; press Ctrl-C again to kill them")
        finally:
            ending = [each for each in (stopping, failing, following) if each is not None]
            for each in ending:
                each.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            await host.close(LOCAL_MODE.exit_seconds)
            await admin.close()

    def _announce_end(self, terminal: Terminal) -> None:
        if self._stopping.event.is_set():
            terminal.line("stopped: all processes have exited")

    def _announce_addresses(self, host: LobbyHost, terminal: Terminal) -> None:
        for line in host.addresses():
            terminal.line(line)
        if self._demo is not None:
            terminal.line(f"origin: a ticker at {self._demo.url}, one message per second")

    def _signalled(self, name: str) -> None:
        self._signals += 1
        self._stopping.stop(name)
        if self._signals > 1 and self._host is not None:
            self._host.kill()


async def _follow(host: LobbyHost, settings: UpSettings) -> None:
    """Applies changes of the files until cancelled. Files that are invalid are reported, and the Lobbies stay as they are."""
    edited: asyncio.Queue[list[Source]] = asyncio.Queue()

    def read() -> list[Source]:
        found = changed(host.sources, from_files(settings.files, seats=settings.seats))
        check_secrets(found, os.environ)
        return found

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch_files("Lobby files", map(Path, settings.files), read, edited.put_nowait))
        while True:
            await host.change(await edited.get())


async def _started(host: LobbyHost, stopping: asyncio.Task[None]) -> bool:
    """Starts the lobby host; returns whether it started before a stop was requested.

    Raises:
        UserError: a greeter failed to start.
    """
    starting = asyncio.create_task(host.start(), name="start")
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return False
        starting.result()
    except ChildFailedError as error:
        raise UserError(f"{error}; see its output above") from error
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    return True


def _environment() -> dict[str, str]:
    """Our environment, with log settings for children: on a terminal, text and only warnings (we report the rest)."""
    environment = dict(os.environ)
    if sys.stderr.isatty():
        environment.setdefault("LOBBY_LOG_STYLE", "text")
        environment.setdefault("LOBBY_LOG_LEVEL", "warning")
    return environment


class _TerminalHandler(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.line(self.format(record))


def _route_logs(terminal: Terminal, *, plain: bool) -> LogLine | None:
    """Sets up our logs; returns where logs of children go, None for our standard error.

    If standard error is the terminal with the live table, all logs go above the table.
    """
    environment = _environment()
    logs.configure("lobby up", style=environment.get("LOBBY_LOG_STYLE"), level=environment.get("LOBBY_LOG_LEVEL"))
    if plain or not (sys.stdout.isatty() and sys.stderr.isatty()):
        return None
    handler = _TerminalHandler(terminal)
    (configured,) = logging.getLogger().handlers
    handler.setFormatter(configured.formatter)
    handler.filters = configured.filters
    logging.getLogger().handlers = [handler]
    return terminal.line


@contextlib.contextmanager
def _reserved_port(host: str, port: int) -> Iterator[int]:
    """Reserves a port for greeters, which listen on it with SO_REUSEPORT, so that it stays ours while a greeter restarts.

    Yields the port; for port 0, a free one.

    Raises:
        UserError: the port is in use, or the address is not one of this machine.
    """
    # First without SO_REUSEPORT: otherwise we would share the port with the greeters of another `lobby up`.
    _check_free(host, port, "--port")
    try:
        held = _bound(host, port)
    except OSError as error:
        raise cannot_listen(error, host, port) from error
    with held:
        yield int(held.getsockname()[1])


def _check_free(host: str, port: int, option: str) -> None:
    try:
        bind(host, port).close()
    except OSError as error:
        raise cannot_listen(error, host, port, option) from error


def _bound(host: str, port: int) -> socket.socket:
    try:
        return bind(host, port, reuse_address=False, reuse_port=True)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    # Connections in TIME_WAIT keep a port in use, unless SO_REUSEADDR is set. Only as a second try: with it, two processes
    # that start at the same time would not notice each other.
    return bind(host, port, reuse_port=True)
