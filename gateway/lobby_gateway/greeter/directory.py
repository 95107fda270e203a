"""The Lobbies and their open lobbies, as Lobby resources tell: what the greeter knows of the world.

Nothing waits for it. While no news come, for whatever reason, the greeter goes on with what it knows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lobby_gateway.core.known_lobby import LobbyId, OpenLobby
from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.model.spec import Lobby, lobby_from_resource
from lobby_gateway.model.status import LobbyStatus
from lobby_gateway.net.lifecycle import watch_stdin

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A Lobby and where its clients can go.

    Attributes:
        lobby: the resource's checked part.
        open: its open lobbies, in the order in which they are to be tried.
        status: all that is told of it, for people.
    """

    lobby: Lobby
    open: tuple[OpenLobby, ...]
    status: LobbyStatus = LobbyStatus()  # noqa: RUF009  # it is frozen


class Listener(Protocol):
    """Is told what changed in a directory."""

    def entry_changed(self, entry: Entry) -> None:
        """A Lobby is new, or something about it is."""

    def entry_removed(self, name: str) -> None:
        """A Lobby is gone."""


class Directory:
    """All Lobbies by name and by path.

    Where two Lobbies have the same path, the older one keeps it; without times, the one that is listed first.

    Attributes:
        known: there was news at least once.
    """

    def __init__(self, listener: Listener) -> None:
        self.known = False
        self._listener = listener
        self._entries: dict[str, Entry] = {}
        self._resources: dict[str, Mapping[str, Any]] = {}  # as last read, so that what is the same is not read again
        self._paths: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def status(self, name: str) -> LobbyStatus | None:
        """What is told of a Lobby; None of one that is gone."""
        entry = self._entries.get(name)
        return entry.status if entry is not None else None

    def at(self, path: str) -> Entry | None:
        """The Lobby that is served at a path."""
        name = self._paths.get(path)
        return self._entries[name] if name is not None else None

    def update(self, resources: list[Mapping[str, Any]]) -> None:
        """Takes the whole list of Lobby resources. One that can't be read is logged, and stays as it was."""
        entries: dict[str, Entry] = {}
        for resource in resources:
            entry = self._read(resource)
            if entry is not None:
                entries.setdefault(entry.lobby.name, entry)
        before, self._entries = self._entries, entries
        self._resources = {name: kept for name, kept in self._resources.items() if name in entries}
        self._paths = {}
        for entry in sorted(entries.values(), key=self._age):
            self._paths.setdefault(entry.lobby.spec.path, entry.lobby.name)
        self.known = True
        for name in before.keys() - entries.keys():
            self._listener.entry_removed(name)
        for name, entry in entries.items():
            if before.get(name) is not entry:
                self._listener.entry_changed(entry)

    def _read(self, resource: Mapping[str, Any]) -> Entry | None:
        name = ""
        try:
            name = str(resource["metadata"]["name"])
            before = self._resources.get(name)
            known = self._entries.get(name)
            if known is not None and before == resource:
                return known
            if known is not None and before is not None and before["spec"] == resource["spec"]:
                lobby = known.lobby
            else:
                lobby = lobby_from_resource(resource)
            status = resource.get("status") or {}
            open_lobbies = _open_lobbies(status, lobby.spec.clients.seats)
            entry = Entry(lobby, open_lobbies, LobbyStatus.from_json(status))
        except (InvalidLobbyError, KeyError, TypeError, ValueError, AttributeError) as error:
            logger.warning("a Lobby can't be read: it stays as it was", extra={"lobby": name, "problem": str(error)})
            return self._entries.get(name)
        self._resources[name] = resource
        return entry

    def _age(self, entry: Entry) -> str:
        # RFC 3339 in UTC, as Kubernetes writes it: the order of the texts is that of the times.
        return str(self._resources[entry.lobby.name]["metadata"].get("creationTimestamp") or "")


def _open_lobbies(status: Mapping[str, Any], seats: int) -> tuple[OpenLobby, ...]:
    return tuple(
        OpenLobby(
            LobbyId(str(each["name"]), str(each["address"])), int(each.get("clients", 0)), int(each.get("seats", seats))
        )
        for each in status.get("open") or ()
    )


class DirectorySource(Protocol):
    """Where the news come from: standard input in local mode, a watch in Kubernetes."""

    async def start(self, directory: Directory, ended: Callable[[str], None]) -> None:
        """Begins to call `directory.update`; calls `ended` with a reason if the process is to end with the source."""


class StdinSource:
    """Each line on standard input is the whole directory: `{"items": [<Lobby resource with status>, ...]}`."""

    async def start(self, directory: Directory, ended: Callable[[str], None]) -> None:
        """Begins to read; when standard input is closed, the parent is gone.

        Raises:
            UserError: standard input is no pipe.
        """

        def line(data: bytes) -> None:
            if data.strip():
                items = _items(data)
                if items is not None:
                    directory.update(items)

        await watch_stdin(line, lambda: ended("parent is gone"))


def _items(line: bytes) -> list[Any] | None:
    try:
        items = json.loads(line)["items"]
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("a line on standard input is no directory", extra={"problem": repr(error)[:200]})
        return None
    if not isinstance(items, list):
        logger.warning("a line on standard input is no directory", extra={"problem": "items is no list"})
        return None
    return items
