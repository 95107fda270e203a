"""The files of a lobby process: its Lobby, its origin's secrets and the token keys, read at start and then watched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lobby_gateway.clients.token_key_file import watch_keys
from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.errors import UserError
from lobby_gateway.origin.secrets import ResolvedOrigin, resolve, secret_references
from lobby_gateway.process.file_watch import LOOK_SECONDS, read_folder, watch_files
from lobby_gateway.resource.spec import Lobby, OriginSpec, lobby_from_resource

if TYPE_CHECKING:  # the process itself reads secrets through this module
    from lobby_gateway.lobby.process import Follower, LobbyProcess


def load(file: Path, *, validated: bool) -> Lobby:
    """Reads a Lobby.

    Checking needs libraries that would double this process for good, so a child process does it.

    Raises:
        UserError: the file can't be read, or is not accepted.
    """
    if validated:
        try:
            document: Any = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"--file: {file} can't be read ({error}); accepted: a checked Lobby as JSON") from error
    else:
        command = [sys.executable, "-m", "lobby_gateway.resource.schema", str(file)]
        checked = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        if checked.returncode:
            raise UserError(checked.stderr.decode(errors="replace").strip())
        document = json.loads(checked.stdout)
    return lobby_from_resource(document)


class OriginValues(Protocol):
    """Puts the secrets of an origin in."""

    def resolve(self, origin: OriginSpec) -> ResolvedOrigin:
        """The origin's values as they are now; may read files.

        Raises:
            UserError: one is missing, or does not fit.
        """

    def files(self, origin: OriginSpec) -> tuple[Path, ...]:
        """The files whose change changes the values."""


@dataclass(frozen=True, slots=True)
class EnvironmentValues:
    """Values in environment variables, which never change.

    Attributes:
        environment: as `os.environ`.
    """

    environment: Mapping[str, str]

    def resolve(self, origin: OriginSpec) -> ResolvedOrigin:
        """See `OriginValues`."""
        return resolve(origin, self.environment)

    def files(self, origin: OriginSpec) -> tuple[Path, ...]:
        """None."""
        return ()


@dataclass(frozen=True, slots=True)
class FolderValues:
    """Values in files named like the variables (`model/secrets.py`).

    Attributes:
        folder: where they are mounted.
    """

    folder: Path

    def resolve(self, origin: OriginSpec) -> ResolvedOrigin:
        """See `OriginValues`."""
        names = {reference.variable for reference in secret_references(origin)}
        return resolve(origin, read_folder(self.folder, names), place=f"the file {self.folder}/{{}}")

    def files(self, origin: OriginSpec) -> tuple[Path, ...]:
        """One for each reference."""
        return tuple(sorted({self.folder / reference.variable for reference in secret_references(origin)}))


def followers(
    process: LobbyProcess,
    *,
    file: Path | None,
    validated: bool,
    values: OriginValues,
    keys: TokenKeys,
    key_file: Path | None,
    look_seconds: float = LOOK_SECONDS,
) -> list[Follower]:
    """What is to run as long as the process.

    Args:
        process: the lobby.
        file: with its Lobby; None: it does not change.
        validated: see `load`.
        values: of its origin's secrets.
        keys: of tokens.
        key_file: where those may come from.
        look_seconds: between two looks.
    """
    made: list[Follower] = []
    if file is not None:
        read = partial(load, file, validated=validated)
        made.append(partial(watch_files, "the Lobby's file", [file], read, process.update, look_seconds=look_seconds))
    origin = process.lobby.spec.origin
    if files := values.files(origin):
        secrets = partial(values.resolve, origin)
        made.append(partial(watch_files, "a secret", files, secrets, process.values_seen, look_seconds=look_seconds))
    if key_file is not None:
        made.append(partial(watch_keys, key_file, keys, look_seconds=look_seconds))
    return made
