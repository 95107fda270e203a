"""The identities of the messages of a ring, and the places where those of a position fit.

They are computed when somebody resumes with a position of another epoch: for the first search, of everything that the ring
keeps, and for a later one only of what was added since.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lobby_gateway.trunk.identity import Identity
from lobby_gateway.websocket.frames import Batch

COMMONPLACE = 16
"""What occurs this many times in a ring, heartbeats for instance, is commonplace: that it is also at an edge means nothing, if
the position has other messages, too."""

_SIZE = array("Q").itemsize
_MESSAGE_BYTES = 512  # what a message costs besides its bytes, in bytes


@dataclass(frozen=True, slots=True)
class Fits:
    """Where the identities of a position fit.

    Attributes:
        cursors: after the places where all of them fit, oldest first; at most two, since that is one too many.
        before: they may fit at the oldest message, which some of them would precede.
        ahead: they may fit at the newest message, which some of them would follow.
    """

    cursors: tuple[int, ...]
    before: bool
    ahead: bool


class IdentityIndex:
    """Identities in the order of the messages. A message without one is left out.

    Attributes:
        identity: gives the identity of a payload.
        end: cursor after the newest message that is indexed.
    """

    __slots__ = ("_cursors", "_digests", "end", "identity")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.end = 0
        self._digests = array("Q")
        self._cursors = array("Q")  # after each of those messages

    def __len__(self) -> int:
        """Messages with an identity."""
        return len(self._digests)

    def append(self, batches: Iterable[Batch], max_bytes: int) -> None:
        """Adds the messages from `end` on: about `max_bytes`, where a message counts as 512 more, but at least one."""
        for batch in batches:
            for index in range(len(batch.ends)):
                payload = batch.payload(index)
                digest = self.identity(payload)
                self.end += 1
                if digest is not None:
                    self._digests.append(digest)
                    self._cursors.append(self.end)
                max_bytes -= len(payload) + _MESSAGE_BYTES
                if max_bytes <= 0:
                    return

    def forget(self, oldest: int) -> None:
        """Drops the messages before a cursor."""
        self.end = max(self.end, oldest)
        dropped = bisect_right(self._cursors, oldest)
        del self._digests[:dropped], self._cursors[:dropped]

    def following(self, cursor: int) -> int:
        """Cursor of the first message with an identity at a cursor or later; `end` if there is none."""
        at = bisect_right(self._cursors, cursor)
        return self._cursors[at] - 1 if at < len(self._cursors) else self.end

    def find(self, digests: Sequence[int]) -> Fits:
        """Where some digests, at least one, fit in their order and without a gap."""
        here, tail = self._digests.tobytes(), array("Q", digests).tobytes()
        found: list[int] = []
        at = here.find(tail)
        while at >= 0 and len(found) < 2:
            if at % _SIZE == 0:
                found.append(self._cursors[(at + len(tail)) // _SIZE - 1])
            at = here.find(tail, at + 1)
        special = any(here.count(tail[cut : cut + _SIZE]) < COMMONPLACE for cut in range(0, len(tail), _SIZE))

        def fits(part: bytes, at_edge: Callable[[bytes], bool]) -> bool:
            return bool(part) and at_edge(part) and not (special and here.count(part) >= COMMONPLACE)

        cuts = range(_SIZE, len(tail), _SIZE)
        return Fits(
            tuple(found),
            before=any(fits(tail[-cut:], here.startswith) for cut in cuts),
            ahead=any(fits(tail[:cut][-len(here) :], here.endswith) for cut in cuts),
        )
