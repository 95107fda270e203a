"""The objects of one kind, from what kopf tells and from lists that find what it did not tell. Pure.

After a 410 kopf lists again, and nobody is told which objects were deleted meanwhile; and it can be blind without noticing. So
what it tells is compared with lists of uids and versions (`compare`): an object that the server no longer has is dropped
(`drop`), and one that the server has and kopf does not tell is remembered (`behind_since`).

Kopf keeps the order of events of one uid only: the new owner of a name may be told before the old one's end, and an object may
be told after a list without it. Versions, which increase with each change to any object of a kind, put them right.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from lobby_gateway.resource.list_watch import Change, newer, object_key

DELETED = "DELETED"
"""Type of the event of a deleted object, or of one that the label selector no longer matches."""


@dataclass(frozen=True, slots=True)
class _Known:
    uid: str
    version: str


@dataclass(frozen=True, slots=True)
class _Untold:
    version: str
    since: float


class ExactView:
    """Objects of one kind. Only the identity and version of each are kept here.

    Attributes:
        complete: once, everything that a list had was told, and nothing else was known.
    """

    def __init__(self) -> None:
        self.complete = False
        self._compared = False
        self._known: dict[str, _Known] = {}  # by key
        self._keys: dict[str, str] = {}  # key by uid, of what is known
        # Version at which an object ended. Told again by a late event, it would come back until the next list; one list later,
        # such an event is no longer on its way.
        self._ended: dict[str, str] = {}
        self._ended_before: dict[str, str] = {}
        self._untold: dict[str, _Untold] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def uids(self) -> frozenset[str]:
        """Uids of all known objects."""
        return frozenset(self._keys)

    @property
    def untold(self) -> int:
        """Number of objects that kopf has not told, or told an older version of, at the last comparison and since."""
        return len(self._untold)

    @property
    def behind_since(self) -> float | None:
        """Time of the comparison that first found the oldest of them; None: there are none."""
        return min((each.since for each in self._untold.values()), default=None)

    def told(self, kind: str | None, item: Mapping[str, Any]) -> list[Change]:
        """Takes an event; returns the changes.

        Args:
            kind: type of the event; None: from a list.
            item: the object.

        Raises:
            KeyError, TypeError, AttributeError: this is not an object.
        """
        key = object_key(item)
        now = _Known(str(item["metadata"]["uid"]), str(item["metadata"]["resourceVersion"]))
        untold = self._untold.get(now.uid)
        if untold is not None and not newer(untold.version, now.version):
            del self._untold[now.uid]
        changes = self._end(now.uid, now.version) if kind == DELETED else self._set(key, now, item)
        self._check_complete()
        return changes

    def compare(self, before: AbstractSet[str], listed: Mapping[str, str], now: float) -> frozenset[str]:
        """Compares with a list, which may be a little old; returns the uids of objects that may be gone: confirm, then `drop`.

        Args:
            before: `uids` when the list was requested.
            listed: versions by uid.
            now: time of the comparison, in seconds.
        """
        self._untold = {
            uid: self._untold.get(uid) or _Untold(version, now)
            for uid, version in listed.items()
            if self._lacks(uid, version)
        }
        self._ended, self._ended_before = {}, self._ended
        suspects = frozenset(uid for uid in before if uid in self._keys and uid not in listed)
        if not suspects:
            self._compared = True
            self._check_complete()
        return suspects

    def lacks(self, listed: Mapping[str, str]) -> bool:
        """Whether a list has an object, or a version of one, that is news here.

        Args:
            listed: versions by uid.
        """
        return any(self._lacks(uid, version) for uid, version in listed.items())

    def drop(self, gone: AbstractSet[str], version: str) -> list[Change]:
        """Drops objects that a consistent list does not have; returns the changes.

        Args:
            gone: their uids.
            version: `resourceVersion` of that list. Whoever was told at a newer one is back, and stays.
        """
        changes = [change for uid in sorted(gone) for change in self._end(uid, version)]
        self._compared = True
        self._check_complete()
        return changes

    def _set(self, key: str, now: _Known, item: Mapping[str, Any]) -> list[Change]:
        ended = self._ended.get(now.uid) or self._ended_before.get(now.uid)
        if ended is not None and not newer(now.version, ended):
            return []
        last = self._known.get(key)
        if last is not None and not newer(now.version, last.version):
            if last.uid != now.uid:
                self._ended[now.uid] = last.version  # the former owner of the name
            return []
        changes = [Change(key, item)]
        if last is not None and last.uid != now.uid:
            changes = [*self._end(last.uid, now.version), *changes]
        self._known[key] = now
        self._keys[now.uid] = key
        return changes

    def _end(self, uid: str, version: str) -> list[Change]:
        """An object ended at a version, unless it is known at a newer one: its labels match again."""
        key = self._keys.get(uid)
        if key is not None and _older(version, self._known[key].version):
            return []
        self._ended[uid] = version
        self._untold.pop(uid, None)
        if key is None:
            return []
        del self._keys[uid], self._known[key]
        return [Change(key, None)]

    def _lacks(self, uid: str, version: str) -> bool:
        """Whether a version that the server has is news here."""
        ended = self._ended.get(uid) or self._ended_before.get(uid)
        if ended is not None and not newer(version, ended):
            return False
        return uid not in self._keys or newer(version, self._known[self._keys[uid]].version)

    def _check_complete(self) -> None:
        self.complete = self.complete or (self._compared and not self._untold)


def _older(version: str, than: str) -> bool:
    return version != than and not newer(version, than)
