"""The messages that everybody who joins a stream gets first: `keep` of a Lobby.

Under each name the newest message is kept, whole, in the order in which the names were first used. A change has a number and
the place in the stream at which it came, so that a reader of the stream that remembers the number learns of it in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lobby_gateway.settings import KEPT, KeptSettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.websocket.frames import AsideBatch, Batch, header_size


class Change(NamedTuple):
    """What is kept under a name since some place of the stream.

    Attributes:
        number: of the change; higher than that of all earlier ones.
        cursor: the place.
        name: the name.
        frame: the message as a whole frame; empty: nothing is kept under the name any more.
        tell: those who had the stream already got the message there, too.
    """

    number: int
    cursor: int
    name: str
    frame: bytes
    tell: bool


class Kept(NamedTuple):
    """The result of `KeptMessages.put`.

    Attributes:
        changed: the frames that are kept now and were not before.
        refused: names whose message is too large, or one too many.
    """

    changed: tuple[bytes, ...]
    refused: tuple[str, ...]


class KeptMessages:
    """The kept messages of one stream, within limits.

    Attributes:
        newest: number of the latest change.
    """

    __slots__ = ("_all", "_changes", "_digests", "_settings", "newest")

    def __init__(self, settings: KeptSettings = KEPT) -> None:
        self._settings = settings
        self._changes: dict[str, Change] = {}
        self.newest = 0
        self._all: AsideBatch | None = None  # of all messages, made when needed
        self._digests: frozenset[int] | None = None  # likewise

    def __len__(self) -> int:
        return sum(bool(each.frame) for each in self._changes.values())

    def put(self, messages: Mapping[str, bytes], *, cursor: int = 0, tell: bool = False) -> Kept:
        """Keeps whole frames by name, each in place of the earlier one; an empty one takes that away.

        What the limits do not allow is not kept, and neither is the earlier message, which is no longer the newest.

        Args:
            messages: the frames.
            cursor: the place in the stream, not before that of the latest change.
            tell: whether those who have the stream get what has changed, too.
        """
        changed, refused = [], []
        for name, frame in messages.items():
            kept = frame if self._has_room(name, frame) else b""
            if frame and not kept:
                refused.append(name)
            before = self._changes.get(name)
            if (before.frame if before is not None else b"") == kept:
                continue
            self.newest += 1
            self._changes[name] = Change(self.newest, cursor, name, kept, tell)
            self._all = self._digests = None
            if kept:
                changed.append(kept)
        return Kept(tuple(changed), tuple(refused))

    def clear(self, *, cursor: int = 0) -> None:
        """Keeps nothing any more."""
        self.put(dict.fromkeys(self._changes, b""), cursor=cursor)

    def next_change(self, after: int) -> Change | None:
        """The first of the changes after a number that still hold; None: there is none."""
        if after >= self.newest:
            return None
        return min((each for each in self._changes.values() if each.number > after), default=None)

    def frames(self) -> dict[str, bytes]:
        """The frame of each message, by name."""
        return {name: each.frame for name, each in self._changes.items() if each.frame}

    def first(self, replay: Sequence[Batch] = (), known: Mapping[str, bytes] | None = None) -> list[Batch]:
        """What somebody who joins gets before some messages of the stream, and without what is among them.

        Args:
            replay: those messages.
            known: the frames, by name, that it has got already.
        """
        if not self._changes:
            return []
        if not replay and not known:
            if self._all is None:
                self._all = AsideBatch.of([each.frame for each in self._changes.values() if each.frame])
            return [self._all] if self._all.ends else []
        known = known or {}
        frames = [
            frame
            for name, frame in self.frames().items()
            if known.get(name) != frame and not any(_has(batch, frame) for batch in replay)
        ]
        return [AsideBatch.of(frames)] if frames else []

    @property
    def digests(self) -> frozenset[int]:
        """Digests of the payloads."""
        if self._digests is None:
            frames = self.frames().values()
            self._digests = frozenset(digest(memoryview(frame)[header_size(frame, 0) :]) for frame in frames)
        return self._digests

    def _has_room(self, name: str, frame: bytes) -> bool:
        settings = self._settings
        if not frame or len(frame) - header_size(frame, 0) > settings.message_bytes:
            return False
        others = [each for each in self._changes.values() if each.frame and each.name != name]
        return (
            len(others) < settings.messages and sum(len(each.frame) for each in others) + len(frame) <= settings.bytes
        )


def _has(batch: Batch, frame: bytes) -> bool:
    """Whether a frame is one of a batch."""
    ends = batch.ends
    at = batch.data.find(frame)
    while at > 0:
        index = bisect_left(ends, at)
        if index < len(ends) and ends[index] == at:
            break
        at = batch.data.find(frame, at + 1)
    return at >= 0
