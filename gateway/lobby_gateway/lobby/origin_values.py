"""Where the values of an origin's secrets come from: the environment, or a mounted folder that changes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lobby_gateway.model.secrets import ResolvedOrigin, resolve, secret_references
from lobby_gateway.model.spec import OriginSpec
from lobby_gateway.net.follow import read_folder


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
