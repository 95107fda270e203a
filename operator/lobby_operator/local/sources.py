"""What `lobby up` is to serve: Lobbies from the command line or from files, checked before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lobby_gateway.errors import InvalidLobbyError, UserError
from lobby_gateway.origin import secrets
from lobby_gateway.resource import schema
from lobby_gateway.resource.spec import Lobby, lobby_from_resource

DEFAULT_NAME = "stream"
DEMO_NAME = "demo"
SPARE_SHARE = 8
"""With small lobbies from the command line an eighth of the seats of one is kept free. The default of the resource, 64, is
that of the default of 512 seats, and would start a dozen lobbies of 5 seats before the first client comes."""


@dataclass(frozen=True, slots=True)
class Source:
    """A Lobby to serve.

    Attributes:
        lobby: the Lobby.
        resource: the same, checked and defaulted, with its path, without a namespace: there are none here.
        origin: where it came from, for complaints: `--origin`, or the name of a file.
    """

    lobby: Lobby
    resource: Mapping[str, Any]
    origin: str


def from_url(url: str, *, name: str, seats: int | None, option: str) -> Source:
    """A Lobby of an origin's URL, all else by default.

    Raises:
        InvalidLobbyError: the URL or the name is not accepted.
    """
    spec: dict[str, Any] = {}
    if seats is not None:
        spec = {"clients": {"seats": seats}, "spareSeats": max(1, seats // SPARE_SHARE)}
    return _source(schema.default_lobby(name, url, source=option, spec=spec), option)


def from_files(paths: Sequence[str], *, seats: int | None) -> list[Source]:
    """The Lobbies of files.

    Args:
        paths: of the files, each with one Lobby.
        seats: of a lobby, whatever the files say; None: as they say.

    Raises:
        InvalidLobbyError: one line for each thing in the files that is not accepted.
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


def check_secrets(sources: Sequence[Source], environment: Mapping[str, str]) -> None:
    """Checks that all secrets are there, so that a person is told at once and not by a lobby that does not start.

    Raises:
        UserError: one line for each that is missing or does not fit.
    """
    problems: list[str] = []
    for source in sources:
        try:
            secrets.resolve(source.lobby.spec.origin, environment)
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
                f"{source.origin}: metadata.name: {name} is the name in {names[name]}, too; accepted: one of its own"
            )
        elif path in paths:
            problems.append(
                f"{source.origin}: spec.path: {path} is the path in {paths[path]}, too; accepted: one of its own"
            )
        names.setdefault(name, source.origin)
        paths.setdefault(path, source.origin)
    return problems
