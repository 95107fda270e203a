"""The Lobbies as events tell: what each wants, which path is whose, and what can't be read. Pure.

A Lobby may be edited into something that the CRD lets pass and we can't use. It goes on as it was read last, if it ever was,
and its status says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource.list_watch import object_key
from lobby_gateway.resource.schema import default_stored
from lobby_gateway.resource.spec import Lobby, lobby_from_resource
from lobby_operator.planner.status import PathClaim

_MAX_PROBLEM = 1000
"""Characters of what is shown of a problem. A condition's message may have 32 KiB, but it is read by people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyRecord:
    """A Lobby as it is on the server.

    Attributes:
        key: `namespace/name`.
        uid: another one means another Lobby, of the same name.
        version: its `resourceVersion`.
        generation: of the spec that is stored.
        created_at: as Kubernetes writes it.
        status: as it is stored.
        lobby: as it was read last; None: it never could be.
        resource: what that was read from, with all defaults.
        problem: what is wrong with the spec that is stored; empty: it was read.
    """

    key: str
    uid: str
    version: str
    generation: int
    created_at: str
    status: Mapping[str, Any] = field(default_factory=dict)
    lobby: Lobby | None = None
    resource: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.key.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Its name there."""
        return self.key.rpartition("/")[2]

    @property
    def age(self) -> tuple[str, str, str]:
        """By this the older of two is known: RFC 3339 in UTC, then where it is, so that all come to the same order."""
        return (self.created_at, self.namespace, self.name)


class Lobbies:
    """All Lobbies.

    Attributes:
        compared: all of them are known, so that it can be said whose a path is.
    """

    def __init__(self) -> None:
        self.compared = False
        self._known: dict[str, LobbyRecord] = {}
        self._paths: dict[str, list[str]] = {}  # keys of those that want it, the oldest first

    def __iter__(self) -> Iterator[LobbyRecord]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> LobbyRecord | None:
        """One of them."""
        return self._known.get(key)

    def seen(self, resource: Mapping[str, Any]) -> set[str]:
        """There is one, or it changed; returns the keys of all about which something is different now.

        Raises:
            KeyError, TypeError: it has no name.
        """
        metadata = resource["metadata"]
        key = object_key(resource)
        if metadata.get("deletionTimestamp"):
            # What depends on it is being deleted: whatever was made for it now would hold that up.
            return self.gone(key)
        changed = {key}
        before = self._known.get(key)
        if before is not None and before.uid != str(metadata["uid"]):
            changed |= self.gone(key)
            before = None
        known = _read(key, resource, before)
        self._known[key] = known
        paths = _path(before), _path(known)
        if paths[0] != paths[1]:
            changed |= self._leave(key, paths[0]) | self._claim(known, paths[1])
        return changed

    def wrote(self, resource: Mapping[str, Any]) -> None:
        """Takes what the server answered to a write of ours, unless something newer was seen already."""
        known = self._known.get(object_key(resource))
        metadata = resource["metadata"]
        if (
            known is not None
            and known.uid == str(metadata["uid"])
            and newer(metadata["resourceVersion"], known.version)
        ):
            self._known[known.key] = replace(
                known, version=metadata["resourceVersion"], status=resource.get("status") or {}
            )

    def gone(self, key: str) -> set[str]:
        """It is no more; returns the keys as `seen` does."""
        before = self._known.pop(key, None)
        return set() if before is None else {key} | self._leave(key, _path(before))

    def claim(self, key: str) -> PathClaim:
        """Where a Lobby is served, or why it is not."""
        known = self._known[key]
        path = _path(known)
        holder = self._paths.get(path, [key])[0]
        if holder == key:
            return PathClaim(path, compared=self.compared)
        older = self._known[holder]
        return PathClaim(path, older.name if older.namespace == known.namespace else holder, compared=self.compared)

    def _leave(self, key: str, path: str) -> set[str]:
        rest = [each for each in self._paths.pop(path, []) if each != key]
        if path and rest:
            self._paths[path] = rest
        return set(rest)

    def _claim(self, known: LobbyRecord, path: str) -> set[str]:
        if not path:
            return set()
        claims = {*self._paths.get(path, []), known.key}
        self._paths[path] = sorted(claims, key=lambda each: self._known[each].age)
        return claims


def newer(version: str, than: str) -> bool:
    """Whether a `resourceVersion` is newer than another of the same kind.

    They count up (KEP-5504: promised from 1.35 on, and true ever since there are any). Where they are no numbers, every other
    counts as newer.
    """
    return int(version) > int(than) if version.isdigit() and than.isdigit() else version != than


def _path(known: LobbyRecord | None) -> str:
    return known.lobby.spec.path if known is not None and known.lobby is not None else ""


def _read(key: str, resource: Mapping[str, Any], before: LobbyRecord | None) -> LobbyRecord:
    metadata = resource["metadata"]
    known = LobbyRecord(
        key=key,
        uid=str(metadata["uid"]),
        version=str(metadata["resourceVersion"]),
        generation=int(metadata.get("generation") or 0),
        created_at=str(metadata.get("creationTimestamp") or ""),
        status=resource.get("status") or {},
    )
    if before is not None and not newer(known.version, before.version):
        # A write of ours was answered before the watch told of what was before it.
        known = replace(known, version=before.version, status=before.status)
    last = replace(known, lobby=before.lobby, resource=before.resource) if before is not None else known
    if before is not None and before.generation == known.generation:
        return replace(last, problem=before.problem)  # of thousands of events nearly all are about the status
    try:
        checked = default_stored({**resource, "metadata": _kept(metadata)})
        lobby = lobby_from_resource(checked)
    except InvalidLobbyError as error:
        return replace(last, problem="; ".join(error.problems)[:_MAX_PROBLEM])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The server keeps to its schema; one with another schema may give us what fits nowhere here.
        return replace(last, problem=f"spec: can't be read ({error!r})"[:_MAX_PROBLEM])
    checked["spec"]["path"] = lobby.spec.path
    return replace(known, lobby=lobby, resource=checked, problem="")


def _kept(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What of the metadata says which Lobby it is, and changes only with the spec."""
    return {name: metadata[name] for name in ("name", "namespace", "uid", "generation") if name in metadata}
