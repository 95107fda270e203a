"""What `lobby up` serves: Lobbies from the command line, from files, or the demo, checked before anything starts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lobby_gateway.errors import InvalidLobbyError, UserError
from lobby_gateway.origin import secrets
from lobby_gateway.origin.tls import origin_context
from lobby_gateway.process.background import Spawn
from lobby_gateway.resource import schema
from lobby_gateway.resource.spec import Lobby, lobby_from_resource
from lobby_operator.local.child import NOT_STARTED, Child, LogLine, child_environment, describe_exit
from lobby_operator.settings import LOCAL_MODE, LocalModeSettings

logger = logging.getLogger(__name__)

DEFAULT_NAME = "stream"
DEMO_NAME = "demo"


@dataclass(frozen=True, slots=True)
class Source:
    """A Lobby to serve.

    Attributes:
        lobby: the Lobby.
        resource: the same as JSON, validated and with defaults and path, without a namespace: local mode has none.
        origin: where it comes from, for error messages: `--origin`, or the name of a file.
    """

    lobby: Lobby
    resource: Mapping[str, Any]
    origin: str

    @property
    def revision(self) -> str:
        """Digest of what needs another process: a lobby with another revision is replaced."""
        text = json.dumps(asdict(self.lobby.spec.origin), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def from_url(
    url: str, *, name: str, seats: int | None, option: str, settings: LocalModeSettings = LOCAL_MODE
) -> Source:
    """Returns a Lobby for the URL of an origin, with defaults for everything else.

    Raises:
        InvalidLobbyError: the URL or the name is invalid.
    """
    spec: dict[str, Any] = {}
    if seats is not None:
        spec = {"clients": {"seats": seats}, "spareSeats": max(1, seats // settings.seats_per_spare_seat)}
    return _source(schema.default_lobby(name, url, source=option, spec=spec), option)


def from_files(paths: Sequence[str], *, seats: int | None) -> list[Source]:
    """Returns the Lobbies in some files.

    Args:
        paths: the files, each with one Lobby.
        seats: seats of a lobby, overriding the files; None: as the files say.

    Raises:
        InvalidLobbyError: one line per problem in the files.
    """
    sources: list[Source] = []
    problems: list[str] = []
    for path in paths:
        try:
            resource = schema.load_file(path)
            if seats is not None:
                resource["spec"]["clients"]["seats"] = seats
            sources.append(_source(resource, path))
        except InvalidLobbyError as error:
            problems += error.problems
    problems += _clashes(sources)
    if problems:
        raise InvalidLobbyError(tuple(problems))
    return sources


def changed(before: Sequence[Source], after: Sequence[Source]) -> list[Source]:
    """The Lobbies of files that were edited, each with the next generation; those that are as before are left out.

    Raises:
        InvalidLobbyError: a Lobby was added, removed, renamed or moved to another path, which needs a restart.
    """
    known = {source.lobby.name: source for source in before}
    problems = [
        f"{each.origin}: metadata.name: {each.lobby.name} is new; accepted until `lobby up` is restarted: "
        f"{', '.join(sorted(known))}"
        for each in after
        if each.lobby.name not in known
    ]
    problems += [
        f"{each.origin}: spec.path: {each.lobby.spec.path}; accepted until `lobby up` is restarted: "
        f"{known[each.lobby.name].lobby.spec.path}"
        for each in after
        if each.lobby.name in known and each.lobby.spec.path != known[each.lobby.name].lobby.spec.path
    ]
    if problems:
        raise InvalidLobbyError(tuple(problems))
    found = []
    for each in after:
        old = known[each.lobby.name]
        generation = old.lobby.generation
        if replace(each.lobby, generation=generation) != old.lobby:
            metadata = {**each.resource["metadata"], "generation": generation + 1}
            resource = {**each.resource, "metadata": metadata}
            found.append(Source(lobby_from_resource(resource), resource, each.origin))
    return found


def check_secrets(sources: Sequence[Source], environment: Mapping[str, str]) -> None:
    """Checks that all secrets are set and usable: an error now is better than lobbies that cannot connect.

    Raises:
        UserError: one line per secret that is missing or invalid.
    """
    problems: list[str] = []
    for source in sources:
        try:
            resolved = secrets.resolve(source.lobby.spec.origin, environment)
            if resolved.ca_pem is not None or resolved.client_certificate_pem is not None:
                origin_context(source.lobby.spec.origin, resolved)
        except UserError as error:
            problems += [f"{source.origin}: {line}" for line in str(error).splitlines()]
    if problems:
        raise UserError("\n".join(problems))


def _source(resource: dict[str, Any], origin: str) -> Source:
    metadata = {key: value for key, value in resource["metadata"].items() if key != "namespace"}
    resource = {**resource, "metadata": metadata}
    lobby = lobby_from_resource(resource)
    return Source(lobby, {**resource, "spec": {**resource["spec"], "path": lobby.spec.path}}, origin)


def _clashes(sources: Sequence[Source]) -> list[str]:
    problems = []
    names: dict[str, str] = {}
    paths: dict[str, str] = {}
    for source in sources:
        name, path = source.lobby.name, source.lobby.spec.path
        if name in names:
            problems.append(
                f"{source.origin}: metadata.name: {name} is already the name in {names[name]}; accepted: a unique name"
            )
        elif path in paths:
            problems.append(
                f"{source.origin}: spec.path: {path} is already the path in {paths[path]}; accepted: a unique path"
            )
        names.setdefault(name, source.origin)
        paths.setdefault(path, source.origin)
    return problems


class DemoOrigin:
    """The origin of `lobby up --demo`: a ticker in a child process.

    If it is killed, it is restarted at the same address, so that lobbies reconnect to it.

    Args:
        log: called with each line that it logs; None: it inherits our standard error.
        environment: environment of this process.
        spawn: creates tasks.
        settings: times of local mode.

    Attributes:
        url: its `ws://` address; empty until it has started.
    """

    def __init__(
        self,
        *,
        log: LogLine | None,
        environment: Mapping[str, str],
        spawn: Spawn,
        settings: LocalModeSettings = LOCAL_MODE,
    ) -> None:
        self._spawn = spawn
        self.url = ""
        self._log = log
        self._environment = child_environment(environment)
        self._settings = settings
        self._port = 0
        self._child: Child | None = None
        self._restarter: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Starts it and returns its URL.

        Raises:
            ChildFailedError: it failed to start.
        """
        await self._start()
        self.url = f"ws://127.0.0.1:{self._port}/"
        self._restarter = self._spawn(self._restart(), "restart the demo's origin")
        return self.url

    async def close(self, grace: float) -> None:
        """Stops it, and kills it after `grace` seconds."""
        if self._restarter is not None:
            self._restarter.cancel()
            await asyncio.gather(self._restarter, return_exceptions=True)
        if self._child is not None:
            await self._child.stop(grace)

    async def _start(self) -> None:
        arguments = ["-m", "lobby_gateway.commands.origin", "--end-with-stdin", "--port", str(self._port)]
        self._child = await Child.start("origin", arguments, environment=self._environment, log=self._log)
        try:
            self._port = int((await self._child.listening(self._settings.listen_seconds))["port"])
        except BaseException:
            self._child.kill()
            raise

    async def _restart(self) -> None:
        while self._child is not None:
            code = await self._child.wait()
            logger.warning("the demo's origin exited", extra={"ended_with": describe_exit(code)})
            await asyncio.sleep(self._settings.demo_restart_seconds)
            try:
                await self._start()
            except NOT_STARTED as error:
                logger.warning("the demo's origin failed to start", extra={"problem": str(error)})
