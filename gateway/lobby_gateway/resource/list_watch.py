"""List and watch of the Kubernetes API: which objects exist, which changed, and which were deleted.

A watch reports changes since a version. If the server no longer has that version (410, after a silence or a restart), all
objects are listed again, and no event reports those deleted in between: they are found by comparing with the previous objects.
Only the identity and version of each object are kept here.

See "Efficient detection of changes" in the concepts of the Kubernetes API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lobby_gateway.errors import LobbyGatewayError

_GONE = 410


class WatchEndedError(LobbyGatewayError):
    """The server ended the watch with an error. Resume at `ListWatch.version`, or list if that is empty."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change to one object.

    Attributes:
        key: `namespace/name`, or the name of an object without a namespace.
        object: its current state; None: it was deleted.
    """

    key: str
    object: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Known:
    uid: str
    version: str


class ListWatch:
    """The objects of one kind.

    Attributes:
        version: where to resume the watch; empty: list first.
    """

    def __init__(self) -> None:
        self.version = ""
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def listed(self, items: Iterable[Mapping[str, Any]], version: str) -> list[Change]:
        """Takes a complete list; returns which objects were created, changed and deleted.

        Args:
            items: all objects.
            version: `resourceVersion` of the list.
        """
        before, self._known = self._known, {}
        self.version = version
        changes: list[Change] = []
        for item in items:
            key, known = _identity(item)
            self._known[key] = known
            last = before.pop(key, None)
            if last is not None and last.uid != known.uid:
                changes.append(Change(key, None))
            if last != known:
                changes.append(Change(key, item))
        # Deleted objects first: a new one may have the name or path of one of them.
        return [*(Change(key, None) for key in before), *changes]

    def event(self, event: Mapping[str, Any]) -> list[Change]:
        """Takes one event of a watch; returns the changes.

        Raises:
            WatchEndedError: the server ended the watch.
            KeyError, TypeError, AttributeError: this is not an event.
        """
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            if item.get("code") == _GONE:
                self.expired()
            raise WatchEndedError(str(item.get("message") or item.get("reason") or "an error without a message"))
        metadata = item["metadata"]
        self.version = metadata["resourceVersion"]
        if kind == "BOOKMARK":
            return []
        key, known = _identity(item)
        if kind == "DELETED":
            return [Change(key, None)] if self._known.pop(key, None) is not None else []
        last = self._known.get(key)
        self._known[key] = known
        if last is not None and last.uid != known.uid:
            return [Change(key, None), Change(key, item)]
        return [Change(key, item)] if last != known else []

    def expired(self) -> None:
        """The server no longer has the version: list again."""
        self.version = ""


def newer(version: str, than: str) -> bool:
    """Whether a `resourceVersion` is newer than another of the same kind.

    Versions are increasing integers (guaranteed since Kubernetes 1.35 by KEP-5504, and true in practice before). If they are
    not integers, any other version counts as newer.
    """
    return int(version) > int(than) if version.isdigit() and than.isdigit() else version != than


def object_key(item: Mapping[str, Any]) -> str:
    """`namespace/name` of an object."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace", "")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _identity(item: Mapping[str, Any]) -> tuple[str, _Known]:
    metadata = item["metadata"]
    return object_key(item), _Known(str(metadata.get("uid", "")), str(metadata.get("resourceVersion", "")))
