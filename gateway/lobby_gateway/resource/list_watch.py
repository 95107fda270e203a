"""Objects of the Kubernetes API by list and watch: what is there, what came, and what is gone.

A watch tells what happens from a version on. When the server no longer knows that version (410, after a silence or a restart)
all is listed anew, and what was deleted in between is told by nobody: it is found by comparing with what was there before.
Kept of each object is only which one it is, and its version; who needs more keeps it.

The API's side of it: "Efficient detection of changes" in the concepts of the Kubernetes API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lobby_gateway.errors import LobbyGatewayError

_GONE = 410


class WatchEndedError(LobbyGatewayError):
    """The server ended the watch with an error. Go on from `ListWatch.version`, or list, if that is empty."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object.

    Attributes:
        key: `namespace/name`, or the name of one that has no namespace.
        object: as it is now; None: it is gone.
    """

    key: str
    object: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Known:
    uid: str
    version: str


class ListWatch:
    """What is there of one kind.

    Attributes:
        version: from which to watch on; empty: it is to be listed first.
    """

    def __init__(self) -> None:
        self.version = ""
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def listed(self, items: Iterable[Mapping[str, Any]], version: str) -> list[Change]:
        """Takes a whole list; returns what is new, what is other than it was, and what is gone.

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
        # First what is gone: its name, path or place may be what something new has now.
        return [*(Change(key, None) for key in before), *changes]

    def event(self, event: Mapping[str, Any]) -> list[Change]:
        """Takes one event of a watch; returns what changed by it.

        Raises:
            WatchEndedError: the server ends the watch.
            KeyError, TypeError, AttributeError: this is no event.
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
        """The server no longer knows the version: it is to be listed."""
        self.version = ""


def object_key(item: Mapping[str, Any]) -> str:
    """`namespace/name` of an object."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace", "")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _identity(item: Mapping[str, Any]) -> tuple[str, _Known]:
    metadata = item["metadata"]
    return object_key(item), _Known(str(metadata.get("uid", "")), str(metadata.get("resourceVersion", "")))
