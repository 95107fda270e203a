"""The messages that everybody who joins a stream gets first: `keep` of a Lobby.

Under each name the newest message is kept, whole, in the order in which the names were first used. If it is part of the
stream, it is kept from its place in the stream on: whoever joins before that gets it there, and the earlier one first.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lobby_gateway.settings import KEPT, KeptSettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.websocket.frames import AsideBatch, Batch, header_size

logger = logging.getLogger(__name__)


class KeptFrame(NamedTuple):
    """A message to be kept.

    Attributes:
        frame: as a whole frame; empty: nothing is kept any more, because the newest message is too large.
        ahead: messages of the stream that are yet to come up to this one; 0: it is not part of the stream, or came already.
    """

    frame: bytes
    ahead: int = 0

    def within(self, most: int) -> KeptFrame:
        """The same, but empty if its payload has more than `most` bytes."""
        return self if len(self.frame) - header_size(self.frame, 0) <= most else KeptFrame(b"", self.ahead)


class Change(NamedTuple):
    """What is kept under a name from some place of the stream on.

    Attributes:
        number: of the change; higher than that of all earlier ones.
        cursor: the place.
        name: the name.
        frame: see `KeptFrame`.
        streamed: the message is part of the stream, and the place is behind it.
        tell: those who had the stream get the message, too.
    """

    number: int
    cursor: int
    name: str
    frame: bytes
    streamed: bool
    tell: bool

    def ahead_of(self, cursor: int) -> int:
        """`KeptFrame.ahead` for a reader at a cursor."""
        return max(0, self.cursor - cursor) if self.streamed else 0

    def is_behind(self, break_at: int | None) -> bool:
        """Whether it is kept only since the stream broke at a cursor; never if it did not (None)."""
        return break_at is not None and (self.cursor > break_at or (self.cursor == break_at and not self.streamed))


class Update(NamedTuple):
    """The result of `KeptMessages.put`.

    Attributes:
        new: the frames that are kept now and were not before, without those that are yet to come in the stream.
        refused: names whose message is too large, or one too many.
    """

    new: tuple[bytes, ...]
    refused: tuple[str, ...]


class KeptMessages:
    """The kept messages of one stream, within limits.

    Attributes:
        newest: number of the latest change.
        broke_at: the latest place where a message took the place of another because the stream broke: what came before went
            with that one.
    """

    __slots__ = ("_all", "_aside", "_before", "_changes", "_searched", "_settings", "broke_at", "newest")

    def __init__(self, settings: KeptSettings = KEPT) -> None:
        self._settings = settings
        self._changes: dict[str, Change] = {}
        self._before: dict[str, bytes] = {}  # what is kept until the stream has reached the place of the change
        self.newest = 0
        self.broke_at = 0
        self._all: AsideBatch | None = None  # of all messages, made when needed
        self._searched = _Searched()
        self._aside: deque[int] = deque(maxlen=_DIGESTS_KEPT)  # of the latest messages that are not part of the stream

    def put(self, messages: Mapping[str, KeptFrame], *, cursor: int = 0, tell: bool = False) -> Update:
        """Keeps messages by name, each in place of the earlier one.

        What the limits do not allow is not kept, and neither is the earlier message, which is no longer the newest.

        Args:
            messages: the messages.
            cursor: the present place in the stream; never decreases.
            tell: whether those who have the stream get what is new, too.
        """
        new, refused = [], []
        self.settle(cursor)
        for name, (frame, ahead) in messages.items():
            kept = frame if self._has_room(name, frame) else b""
            if frame and not kept:
                refused.append(name)
            before = self._changes.get(name)
            if (before.frame if before is not None else b"") == kept:
                continue
            if ahead:
                self._before.setdefault(name, before.frame if before is not None else b"")
            else:
                self._before.pop(name, None)
            self.newest += 1
            if tell and before is not None and before.frame:
                self.broke_at = cursor
            self._changes[name] = Change(self.newest, cursor + ahead, name, kept, ahead > 0, tell)
            self._all = None
            if kept and not ahead:
                new.append(kept)
                self._aside.append(_digest(kept))
        return Update(tuple(new), tuple(refused))

    def clear(self, *, cursor: int = 0) -> None:
        """Keeps nothing any more."""
        self.put(dict.fromkeys(self._changes, KeptFrame(b"")), cursor=cursor)

    def __iter__(self) -> Iterator[Change]:
        """The latest change of each name, in the order in which the names were first used."""
        return iter(self._changes.values())

    def next_change(self, after: int) -> Change | None:
        """The first of the changes after a number that still hold; None: there is none."""
        if after >= self.newest:
            return None
        return min((each for each in self._changes.values() if each.number > after), default=None)

    def settle(self, cursor: int | None) -> None:
        """The stream has reached a place; None: it is not known which, so all that was yet to come counts as past."""
        reached = [name for name in self._before if cursor is None or self._changes[name].cursor <= cursor]
        for name in reached:
            del self._before[name]
            self._all = None
            if cursor is None:
                self._changes[name] = self._changes[name]._replace(cursor=0, streamed=False)

    def frames(self, cursor: int | None = None) -> dict[str, bytes]:
        """The frame of each message that is kept at a place of the stream, by name; None: of the newest ones."""
        self.settle(cursor)
        kept = ((name, self._before.get(name, each.frame)) for name, each in self._changes.items())
        return {name: frame for name, frame in kept if frame}

    def first(
        self,
        replay: Sequence[Batch] = (),
        *,
        cursor: int | None = None,
        start: int | None = None,
        known: Mapping[str, bytes] | None = None,
    ) -> list[Batch]:
        """What somebody who joins at a place gets first, without what is among the messages that follow it then.

        Args:
            replay: those messages.
            cursor: see `frames`.
            start: the cursor before them, if they are those of the stream from there to `cursor`: what was searched for one
                of those who join is not searched again for the next.
            known: the frames, by name, that it has got already.
        """
        if not self._changes:
            return []
        frames = self.frames(cursor)
        if known:
            frames = {name: frame for name, frame in frames.items() if known.get(name) != frame}
        if replay:
            if cursor is None or start is None:
                found = {frame for frame in frames.values() if any(_index_in(batch, frame) >= 0 for batch in replay)}
            else:
                found = self._searched.among(frames.values(), replay, start, cursor)
            frames = {name: frame for name, frame in frames.items() if frame not in found} if found else frames
        elif not known:
            if self._all is None:
                self._all = AsideBatch.of(list(frames.values()))
            return [self._all] if self._all.ends else []
        return [AsideBatch.of(list(frames.values()))] if frames else []

    def without(self, digests: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Guesses what a client saw of the stream, which can't tell what it got beside it; the best one first.

        Args:
            digests: of the payloads of all that it saw.
        """
        if not self._changes:
            return
        aside = frozenset(self._aside)
        for kept in (aside, aside.union(_digest(each.frame) for each in self._changes.values() if each.frame)):
            left = tuple(each for each in digests if each not in kept)
            if left and left != digests:
                yield left

    def _has_room(self, name: str, frame: bytes) -> bool:
        settings = self._settings
        if not frame or len(frame) - header_size(frame, 0) > settings.message_bytes:
            return False
        others = [len(each.frame) for each in self._changes.values() if each.frame and each.name != name]
        return len(others) < settings.messages and sum(others) + len(frame) <= settings.bytes


class NotKeptLog:
    """Logs that messages are not kept: once for each name, not for each message."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: set[str] = set()

    def tell(self, name: str, problem: str, **fields: object) -> None:
        """The message of this name is not kept.

        Args:
            name: the name.
            problem: why not.
            fields: further fields of the line.
        """
        if name not in self._names:
            self._names.add(name)
            extra = {"keep": name, "problem": problem, **fields}
            logger.warning("a message is not kept for clients that join", extra=extra)


_DIGESTS_KEPT = 64
"""As many as a client may have seen among its latest messages, and several times that."""


def _digest(frame: bytes) -> int:
    return digest(memoryview(frame)[header_size(frame, 0) :])


def _index_in(batch: Batch, frame: bytes) -> int:
    """The index of the last message of a batch that is a frame; -1 if none is."""
    data, ends = batch.data, batch.ends
    at = data.rfind(frame)
    while at > 0:
        index = bisect_left(ends, at)
        if index < len(ends) and ends[index] == at:
            return index + 1
        at = data.rfind(frame, 0, at + len(frame) - 1)
    return at


class _Searched:
    """Which frames are among the latest messages of a stream. Each message is searched once, however many ask.

    Searching when somebody asks, and not when a message comes, costs nothing while nobody joins.
    """

    __slots__ = ("_end", "_places", "_start")

    def __init__(self) -> None:
        self._start = self._end = 0  # between these cursors all of the frames have been searched
        self._places: dict[bytes, int] = {}  # by frame, the cursor behind the last message that is one; 0 if none is

    def among(self, frames: Iterable[bytes], messages: Sequence[Batch], start: int, end: int) -> set[bytes]:
        """Those of the frames that are among the messages of the stream between two cursors.

        Args:
            frames: the frames.
            messages: the messages between the cursors.
            start: the cursor before them.
            end: the cursor after them; never decreases.
        """
        if not self._start <= start <= self._end:
            self._places = {}
            self._start = start
        before, self._places = self._places, {}
        for frame in frames:
            if frame in before:
                self._places[frame] = _place_of(frame, messages, end, self._end) or before[frame]
            else:
                self._places[frame] = _place_of(frame, messages, end, start)
                self._start = start
        self._end = end
        return {frame for frame, place in self._places.items() if place > start}


def _place_of(frame: bytes, messages: Sequence[Batch], end: int, after: int) -> int:
    """The cursor behind the last of the messages, which end at a cursor, that is a frame; 0 if none is behind another one."""
    for batch in reversed(messages):
        if end <= after:
            break
        if (index := _index_in(batch, frame)) >= 0:
            return end - len(batch.ends) + index + 1
        end -= len(batch.ends)
    return 0
