"""Direct clients that resume: where each continues, now or once this lobby has caught up with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from lobby_gateway.clients import resuming
from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.metrics import VERDICTS
from lobby_gateway.settings import LobbySettings
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.ring import Exact, Live, MessageRing, Wait
from lobby_gateway.websocket.frames import Batch

Join = Callable[[ClientConnection, Sequence[Batch]], None]
"""Puts a client on the stream, after some messages for it alone."""


class ResumingClients:
    """Answers clients that sent `?resume=`.

    Attributes:
        verdicts: answered clients, by verdict.
    """

    def __init__(
        self, ring: MessageRing, join: Join, *, latest: Callable[[], Sequence[Batch]], settings: LobbySettings
    ) -> None:
        """Has no clients yet.

        Args:
            ring: has the stream.
            join: see `Join`.
            latest: gives what a client gets whose place is not found, like any that joins.
            settings: see `LobbySettings`.
        """
        self.verdicts: Counter[str] = Counter(dict.fromkeys(VERDICTS, 0))
        self._ring = ring
        self._join = join
        self._latest = latest
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[ClientConnection, tuple[Position, float]] = {}  # with the time when they join in any case
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, client: ClientConnection) -> bool:
        """Whether it is not on the stream yet."""
        return client in self._waiting

    def add(self, client: ClientConnection, position: Position) -> None:
        """A client, which is on no message bus, asks to continue at a position."""
        found = self._ring.resume(position)
        if isinstance(found, Wait):
            self._waiting[client] = position, self._loop.time() + self._settings.resume_wait_seconds
            self._look_later()
        else:
            self._answer(client, position, found)

    def discard(self, client: ClientConnection) -> None:
        """A client disconnected."""
        self._waiting.pop(client, None)

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._settings.resume_poll_seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        places: dict[Position, Exact | Live | Wait] = {}  # clients of the same lobby saw the same messages last
        for client, (position, deadline) in list(self._waiting.items()):
            found = places.get(position) or places.setdefault(position, self._ring.resume(position))
            if isinstance(found, Wait):
                if now < deadline + found.grace:
                    continue
                found = Live(self._ring.cursor, found.reason)
            if self._waiting.pop(client, None) is not None:  # otherwise it was lost meanwhile
                self._answer(client, position, found)
        if self._waiting:
            self._look_later()

    def _answer(self, client: ClientConnection, position: Position, found: Exact | Live) -> None:
        ring = self._ring
        exact = isinstance(found, Exact)
        self.verdicts["exact" if exact else "live"] += 1
        answer = resuming.answer(found.reason.label if isinstance(found, Live) else "")
        # Also a client whose place is known to lie at a gap continues there: with what came after the gap.
        missed = ring.since(found.cursor, ring.max_bytes) if found.cursor >= ring.oldest else []
        if not exact and not missed:
            self._join(client, [answer, *self._latest()])
            return
        # Those who have the stream are told what is kept where it breaks, so this one is, too.
        broken = None if exact else found.cursor
        if (breaks := ring.broken_after(found.cursor, position.epoch)) is not None:
            broken = breaks.last
        before = [chunk.batch for chunk in missed if broken is None or chunk.cursor_after <= broken]
        after = [chunk.batch for chunk in missed[len(before) :]]
        kept = ring.kept.first(after, cursor=ring.cursor) if broken is not None else []
        self._join(client, [answer, *before, *kept, *after])
