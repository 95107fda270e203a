"""The Lobbies and their open lobbies, from the Lobby resources.

Nothing waits for it: without updates, for whatever reason, the greeter continues with what it knows.
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
from lobby_gateway.resource.spec import Lobby, lobby_from_resource, lobby_key, with_namespace_in_path
from lobby_gateway.resource.status import LobbyStatus, is_ip_and_port, is_not_served, last_valid_spec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A Lobby and its open lobbies.

    Attributes:
        lobby: the validated resource.
        open: its open lobbies, in the order in which to try them.
        served: the lobby host serves its namespace; if not, it can't have a path.
    """

    lobby: Lobby
    open: tuple[OpenLobby, ...]
    served: bool = True


class DirectoryListener(Protocol):
    """Receives the changes of a directory."""

    def entry_changed(self, entry: DirectoryEntry) -> None:
        """A Lobby was added or changed."""

    def entry_removed(self, key: str) -> None:
        """A Lobby was deleted."""


class Directory:
    """All Lobbies by key (`Lobby.key`) and by path.

    If two Lobbies have the same path, the older one keeps it (of two created in the same second, the first by namespace and
    name, as for the lobby host); without creation times, the one that is listed first.

    Args:
        listener: receives the changes.
        prefix_paths: Lobbies are served at `/<namespace><path>`.

    Attributes:
        known: the Lobbies have been listed at least once.
        problem: why there are no updates now; empty if there are.
    """

    def __init__(self, listener: DirectoryListener, *, prefix_paths: bool = False) -> None:
        self.known = False
        self.problem = ""
        self._unreadable: dict[str, str] = {}  # the problem by key, to log it once
        self._listener = listener
        self._prefix_paths = prefix_paths
        self._entries: dict[str, DirectoryEntry] = {}
        self._resources: dict[str, Mapping[str, Any]] = {}  # as last read, to skip unchanged ones
        self._paths: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def current(self) -> bool:
        """The Lobbies are known, and changes arrive."""
        return self.known and not self.problem

    def status(self, key: str) -> LobbyStatus | None:
        """The status of a Lobby; None if it was deleted."""
        if key not in self._entries:
            return None
        try:  # parsed when asked for, not on each change
            return LobbyStatus.from_json(self._resources[key].get("status") or {})
        except (KeyError, TypeError, ValueError, AttributeError):
            return LobbyStatus()

    def at(self, path: str) -> DirectoryEntry | None:
        """The Lobby that is served at a path."""
        key = self._paths.get(path)
        return self._entries[key] if key is not None else None

    def update(self, resources: list[Mapping[str, Any]]) -> None:
        """Takes the whole list of Lobby resources. An invalid one is logged and keeps its previous state."""
        entries: dict[str, DirectoryEntry] = {}
        for resource in resources:
            entry = self._read(resource)
            if entry is not None:
                entries.setdefault(entry.lobby.key, entry)
        before, self._entries = self._entries, entries
        self._resources = {key: kept for key, kept in self._resources.items() if key in entries}
        self._assign_paths()
        self.known = True
        for key in before.keys() - entries.keys():
            self._listener.entry_removed(key)
        for key, entry in entries.items():
            if before.get(key) is not entry:
                self._listener.entry_changed(entry)

    def put(self, resource: Mapping[str, Any]) -> None:
        """A Lobby was added or changed. An invalid one is logged and keeps its previous state."""
        entry = self._read(resource)
        if entry is None:
            return
        before = self._entries.get(entry.lobby.key)
        if entry is before:
            return
        self._entries[entry.lobby.key] = entry
        if before is None or (before.lobby.spec.path, before.served) != (entry.lobby.spec.path, entry.served):
            self._assign_paths()  # not on each change of a status: there may be hundreds a second
        self._listener.entry_changed(entry)

    def remove(self, key: str) -> None:
        """A Lobby was deleted; ignored if it is unknown."""
        self._unreadable.pop(key, None)
        if self._entries.pop(key, None) is not None:
            del self._resources[key]
            self._assign_paths()
            self._listener.entry_removed(key)

    def _assign_paths(self) -> None:
        self._paths = {}
        for entry in sorted(self._entries.values(), key=self._age):
            if entry.served:
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
            status = resource.get("status") or {}
            if known is not None and before is not None and _specs(before) == _specs(resource):
                lobby = known.lobby
            elif (valid := last_valid_spec(status)) is not None:
                lobby = lobby_from_resource({**resource, "spec": valid})  # with the path at which it is served
            else:
                lobby = lobby_from_resource(resource)
                lobby = with_namespace_in_path(lobby) if self._prefix_paths else lobby
            open_lobbies = _open_lobbies(status, lobby.spec.clients.seats)
            entry = DirectoryEntry(lobby, open_lobbies, served=not is_not_served(status))
        except (InvalidLobbyError, KeyError, TypeError, ValueError, AttributeError) as error:
            if self._unreadable.get(key) != str(error):
                self._unreadable[key] = str(error)
                logger.warning("ignored an invalid Lobby update", extra={"lobby": key, "problem": str(error)})
            return self._entries.get(key)
        self._unreadable.pop(key, None)
        self._resources[key] = resource
        return entry

    def _age(self, entry: DirectoryEntry) -> tuple[str, str, str]:
        # RFC 3339 in UTC, as Kubernetes writes it: sorts by time.
        lobby = entry.lobby
        created = str(self._resources[lobby.key]["metadata"].get("creationTimestamp") or "")
        return (created, lobby.namespace, lobby.name) if created else ("", "", "")


def _specs(resource: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a Lobby is read from."""
    return resource["spec"], last_valid_spec(resource.get("status") or {})


def _open_lobbies(status: Mapping[str, Any], seats: int) -> tuple[OpenLobby, ...]:
    """The open lobbies of a status.

    Raises:
        KeyError, TypeError, ValueError: it is not the status of a Lobby.
    """
    found = []
    for number, each in enumerate(status.get("open") or ()):
        name, address = str(each["name"]), str(each["address"])
        # Greeters connect to what is written there; a name would be looked up, and could lead anywhere.
        if not is_ip_and_port(address):
            raise ValueError(f"status.open[{number}].address: {address[:100]!r} is not accepted; accepted: ip:port")
        found.append(OpenLobby(LobbyId(name, address), int(each.get("clients", 0)), int(each.get("seats", seats))))
    return tuple(found)


class DirectorySource(Protocol):
    """Keeps a directory current: from standard input in local mode, by a watch in Kubernetes.

    While it gets no updates, it leaves the directory unchanged and sets `Directory.problem`.
    """

    async def start(self, directory: Directory, ended: Callable[[str], None]) -> None:
        """Starts to update the directory; calls `ended` with a reason if the process should end with the source."""

    async def close(self) -> None:
        """Stops updating it."""


class StdinSource:
    """Reads the whole directory from each line of standard input: `{"items": [<Lobby resource with status>, ...]}`."""

    async def close(self) -> None:
        """Does nothing: standard input ends with the process."""

    async def start(self, directory: Directory, ended: Callable[[str], None]) -> None:
        """Starts to read; when standard input is closed, the parent process has exited.

        Raises:
            UserError: standard input is not a pipe.
        """

        def line(data: bytes) -> None:
            if data.strip():
                items = _items(data)
                if items is not None:
                    directory.update(items)

        await watch_stdin(line, lambda: ended("the parent exited"))


def _items(line: bytes) -> list[Any] | None:
    try:
        items = json.loads(line)["items"]
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("ignored a line on standard input that is not a directory", extra={"problem": repr(error)[:200]})
        return None
    if not isinstance(items, list):
        logger.warning(
            "ignored a line on standard input that is not a directory", extra={"problem": "items is not a list"}
        )
        return None
    return items
