"""The Lobbies and their open lobbies, as Lobby resources tell: what the greeter knows of the world.

Nothing waits for it. While no news come, for whatever reason, the greeter goes on with what it knows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.greeter.seat_queue import LobbyId, OpenLobby
from lobby_gateway.process.lifecycle import watch_stdin
from lobby_gateway.resource.spec import Lobby, lobby_from_resource, lobby_key
from lobby_gateway.resource.status import LobbyStatus

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A Lobby and where its clients can go.

    Attributes:
        lobby: the resource's checked part.
        open: its open lobbies, in the order in which they are to be tried.
    """

    lobby: Lobby
    open: tuple[OpenLobby, ...]


class DirectoryListener(Protocol):
    """Is told what changed in a directory."""

    def entry_changed(self, entry: DirectoryEntry) -> None:
        """A Lobby is new, or something about it is."""

    def entry_removed(self, key: str) -> None:
        """A Lobby is gone."""


class Directory:
    """All Lobbies by key (`Lobby.key`) and by path.

    Where two Lobbies have the same path, the older one keeps it (of two of the same second the one that comes first by
    namespace and name, as the lobby host has it); without times, the one that is listed first.

    Attributes:
        known: there was news at least once.
        problem: why no news can come now; empty: they can.
    """

    def __init__(self, listener: DirectoryListener) -> None:
        self.known = False
        self.problem = ""
        self._unreadable: dict[str, str] = {}  # what is wrong, so that it is said once
        self._listener = listener
        self._entries: dict[str, DirectoryEntry] = {}
        self._resources: dict[str, Mapping[str, Any]] = {}  # as last read, so that what is the same is not read again
        self._paths: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def status(self, key: str) -> LobbyStatus | None:
        """All that is told of a Lobby, for people; None of one that is gone."""
        if key not in self._entries:
            return None
        try:  # read when somebody asks, and not for each change
            return LobbyStatus.from_json(self._resources[key].get("status") or {})
        except (KeyError, TypeError, ValueError, AttributeError):
            return LobbyStatus()

    def at(self, path: str) -> DirectoryEntry | None:
        """The Lobby that is served at a path."""
        key = self._paths.get(path)
        return self._entries[key] if key is not None else None

    def update(self, resources: list[Mapping[str, Any]]) -> None:
        """Takes the whole list of Lobby resources. One that can't be read is logged, and stays as it was."""
        entries: dict[str, DirectoryEntry] = {}
        for resource in resources:
            entry = self._read(resource)
            if entry is not None:
                entries.setdefault(entry.lobby.key, entry)
        before, self._entries = self._entries, entries
        self._resources = {key: kept for key, kept in self._resources.items() if key in entries}
        self._settle_paths()
        self.known = True
        for key in before.keys() - entries.keys():
            self._listener.entry_removed(key)
        for key, entry in entries.items():
            if before.get(key) is not entry:
                self._listener.entry_changed(entry)

    def put(self, resource: Mapping[str, Any]) -> None:
        """One Lobby is new, or changed. One that can't be read is logged, and stays as it was."""
        entry = self._read(resource)
        if entry is None:
            return
        before = self._entries.get(entry.lobby.key)
        if entry is before:
            return
        self._entries[entry.lobby.key] = entry
        if before is None or before.lobby.spec.path != entry.lobby.spec.path:
            self._settle_paths()  # not for each change of a status, of which there may be hundreds a second
        self._listener.entry_changed(entry)

    def remove(self, key: str) -> None:
        """One Lobby is gone, if it was known."""
        self._unreadable.pop(key, None)
        if self._entries.pop(key, None) is not None:
            del self._resources[key]
            self._settle_paths()
            self._listener.entry_removed(key)

    def _settle_paths(self) -> None:
        self._paths = {}
        for entry in sorted(self._entries.values(), key=self._age):
            self._paths.setdefault(entry.lobby.spec.path, entry.lobby.key)

    def _read(self, resource: Mapping[str, Any]) -> DirectoryEntry | None:
        key = ""
        try:
            metadata = resource["metadata"]
            key = lobby_key(str(metadata.get("namespace", "")), str(metadata["name"]))
            before = self._resources.get(key)
            known = self._entries.get(key)
            if known is not None and before == resource:
                return known
            if known is not None and before is not None and before["spec"] == resource["spec"]:
                lobby = known.lobby
            else:
                lobby = lobby_from_resource(resource)
            status = resource.get("status") or {}
            open_lobbies = _open_lobbies(status, lobby.spec.clients.seats)
            entry = DirectoryEntry(lobby, open_lobbies)
        except (InvalidLobbyError, KeyError, TypeError, ValueError, AttributeError) as error:
            if self._unreadable.get(key) != str(error):
                self._unreadable[key] = str(error)
                logger.warning("a Lobby can't be read: it stays as it was", extra={"lobby": key, "problem": str(error)})
            return self._entries.get(key)
        self._unreadable.pop(key, None)
        self._resources[key] = resource
        return entry

    def _age(self, entry: DirectoryEntry) -> tuple[str, str, str]:
        # RFC 3339 in UTC, as Kubernetes writes it: the order of the texts is that of the times.
        lobby = entry.lobby
        created = str(self._resources[lobby.key]["metadata"].get("creationTimestamp") or "")
        return (created, lobby.namespace, lobby.name) if created else ("", "", "")


def _open_lobbies(status: Mapping[str, Any], seats: int) -> tuple[OpenLobby, ...]:
    return tuple(
        OpenLobby(
            LobbyId(str(each["name"]), str(each["address"])), int(each.get("clients", 0)), int(each.get("seats", seats))
        )
        for each in status.get("open") or ()
    )


class DirectorySource(Protocol):
    """Where the news come from: standard input in local mode, a watch in Kubernetes.

    While it has none it leaves the directory as it is, and says why in `Directory.problem`.
    """

    async def start(self, directory: Directory, ended: Callable[[str], None]) -> None:
        """Begins to change the directory; calls `ended` with a reason if the process is to end with the source."""

    async def close(self) -> None:
        """Changes it no more."""


class StdinSource:
    """Each line on standard input is the whole directory: `{"items": [<Lobby resource with status>, ...]}`."""

    async def close(self) -> None:
        """Nothing is left to do: standard input ends with the process."""

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
