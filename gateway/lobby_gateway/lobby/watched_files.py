"""The files of a lobby process: its Lobby, its origin's secrets and the token keys, read at start and then watched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

from lobby_gateway.clients.token_key_file import watch_keys
from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.errors import UserError
from lobby_gateway.origin.secrets import ResolvedOrigin, resolve, secret_references
from lobby_gateway.process.file_watch import FILE_WATCH_SETTINGS, read_folder, watch_files
from lobby_gateway.resource.spec import Lobby, OriginSpec, lobby_from_resource
from lobby_gateway.settings import FileWatchSettings


def load_lobby(file: Path, *, validated: bool) -> Lobby:
    """Reads a Lobby.

    Validation needs libraries that would double the memory of this process for good, so a child process does it.

    Args:
        file: the file with the resource, YAML or JSON.
        validated: the file is JSON that has been validated and defaulted.

    Raises:
        UserError: the file can't be read, or the Lobby is invalid.
    """
    if validated:
        try:
            document: Any = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"--file: {file} can't be read ({error}); accepted: a validated Lobby as JSON") from error
    else:
        isolated = "-I" if sys.flags.isolated else "-P"  # at least without modules of the current directory
        command = [sys.executable, isolated, "-m", "lobby_gateway.resource.schema", str(file)]
        checked = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        if checked.returncode:
            raise UserError(checked.stderr.decode(errors="replace").strip())
        document = json.loads(checked.stdout)
    return lobby_from_resource(document)


class SecretSource(Protocol):
    """Where the secrets of an origin come from."""

    def resolve(self, origin: OriginSpec) -> ResolvedOrigin:
        """The origin with the current values of its secrets. May read files.

        Raises:
            UserError: a value is missing or unusable.
        """

    def files(self, origin: OriginSpec) -> tuple[Path, ...]:
        """The files whose contents are the values."""


@dataclass(frozen=True, slots=True)
class EnvironmentSecrets:
    """Secrets in environment variables, which never change.

    Attributes:
        environment: as `os.environ`.
    """

    environment: Mapping[str, str] = field(repr=False)

    def resolve(self, origin: OriginSpec) -> ResolvedOrigin:
        """See `SecretSource`."""
        return resolve(origin, self.environment)

    def files(self, origin: OriginSpec) -> tuple[Path, ...]:
        """No files."""
        return ()


@dataclass(frozen=True, slots=True)
class MountedSecrets:
    """Secrets in files named like the variables (`secret_variable`).

    Attributes:
        folder: where they are mounted.
    """

    folder: Path

    def resolve(self, origin: OriginSpec) -> ResolvedOrigin:
        """See `SecretSource`."""
        names = {reference.variable for reference in secret_references(origin)}
        return resolve(origin, read_folder(self.folder, names), place=f"the file {self.folder}/{{}}")

    def files(self, origin: OriginSpec) -> tuple[Path, ...]:
        """One for each variable."""
        return tuple(sorted({self.folder / reference.variable for reference in secret_references(origin)}))


def current_secrets(source: SecretSource, origin: OriginSpec) -> ResolvedOrigin | None:
    """The origin with its secrets, for the start of a lobby.

    Returns:
        None if one is missing or unusable, but can still be replaced: each attempt to connect reads them again.

    Raises:
        UserError: one is missing or unusable, and they never change.
    """
    try:
        return source.resolve(origin)
    except UserError:
        if source.files(origin):
            return None
        raise


FileWatch = Callable[[], Coroutine[Any, Any, NoReturn]]
"""Watches files until it is cancelled."""


class Reloadable(Protocol):
    """A lobby process that applies changes of its files."""

    @property
    def lobby(self) -> Lobby:
        """The Lobby that it serves."""

    def update(self, lobby: Lobby) -> None:
        """Applies a changed Lobby."""

    def update_secrets(self, resolved: ResolvedOrigin) -> None:
        """Takes the origin's secrets, which may have changed."""


def file_watches(
    process: Reloadable,
    *,
    file: Path | None,
    validated: bool,
    secrets: SecretSource,
    keys: TokenKeys,
    key_file: Path | None,
    settings: FileWatchSettings = FILE_WATCH_SETTINGS,
) -> list[FileWatch]:
    """The watches to run as long as the process.

    Args:
        process: applies the changes.
        file: with its Lobby; None: it does not change.
        validated: see `load_lobby`.
        secrets: of its origin.
        keys: of tokens; replaced in place.
        key_file: with the keys; None: they do not change.
        settings: of the watches.
    """
    watches: list[FileWatch] = []
    if file is not None:
        read = partial(load_lobby, file, validated=validated)
        watches.append(partial(watch_files, "the Lobby's file", [file], read, process.update, settings=settings))
    origin = process.lobby.spec.origin
    if files := secrets.files(origin):
        read_secrets = partial(secrets.resolve, origin)
        update = process.update_secrets
        watches.append(partial(watch_files, "a secret", files, read_secrets, update, settings=settings))
    if key_file is not None:
        watches.append(partial(watch_keys, key_file, keys, settings=settings))
    return watches
