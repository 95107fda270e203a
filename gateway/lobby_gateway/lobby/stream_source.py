"""Where a lobby's stream comes from: its own origin session, or another lobby of its Lobby over a trunk. Pure.

One source is active: its messages are the lobby's stream. Others are candidates, whose messages are collected beside it until
the place after the newest message of the stream is found among them. Then the candidate takes over at exactly that message,
and nobody downstream notices: no gap, no duplicate, the same epoch. An active source is never given up for another one except
at such a place, with one exception: since its predecessor is about to end, a renewed session takes over as it is if what it
brings is not the stream, or its place is not found for a long time. As long as it may be the stream, both stay open. Where
messages have no identities, no place is ever found, and each session of the lobby's own takes over as soon as it begins.

A session of the lobby's own in which the place is not found, while the stream comes from a peer, is a connection for nothing:
after a bounded time it is suspended, which means that it is closed, and opened again after a pause, or as soon as the peer's
stream stops. Clients notice nothing: to go on with that session would be a gap for all of them.

If there is no active source, a candidate gets a bounded time to be found; after that the best one continues the stream
as it is: a new epoch begins, and the gap is counted.

Loops are impossible. A source has a depth: 0 for the lobby's own session, otherwise one more than that of the lobby it comes
from. A lobby tells its depth to the lobbies that relay its stream, and before it takes a source of a greater depth than it
told one of them, that one is dropped. So a lobby is always deeper than the one that it takes its stream from, whatever is
still on its way between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.settings import RELAY, RelaySettings
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.position import NO_EPOCH, LiveReason, Position
from lobby_gateway.trunk.ring import Exact, Live, MessageRing, Wait
from lobby_gateway.websocket.frames import Batch


class Rank(IntEnum):
    """Which of two sources is preferred: the lower one."""

    RENEWED = 0  # the lobby's own next session, which is to replace its current one
    OWN = 1
    PEER = 2


class CollectedKeep(NamedTuple):
    """A message that a source keeps for clients that join, until its stream is taken.

    Attributes:
        frame: see `KeptFrame`.
        at: cursor of `Source.collected` behind it, if it is part of the stream; 0 otherwise.
        told_at: cursor of `Source.collected` at the break where the source's own clients were told; None: they were not.
    """

    frame: bytes
    at: int
    told_at: int | None

    def seen_from(self, cursor: int) -> KeptFrame:
        """The message for those who are at a cursor."""
        return KeptFrame(self.frame, max(0, self.at - cursor))

    def later(self, count: int) -> CollectedKeep:
        """The same behind so many more messages."""
        return CollectedKeep(
            self.frame, self.at and self.at + count, None if self.told_at is None else self.told_at + count
        )


class Source:
    """A source of the stream, active or a candidate. Made and kept by the owner, who does not write its attributes.

    Attributes:
        rank: what it is.
        name: of the lobby that it comes from; empty for the lobby's own session.
        via: the lobbies that its stream comes over, the nearest first; None: that lobby has no stream now.
        moving: the lobby asked its consumers to leave.
        collected: its messages while it is a candidate; None otherwise.
        before_loss: cursor in `collected`: messages before it may have been seen from the source that was lost; None: it
            began after the loss.
        since: when its stream began.
        began_at: cursor of the lobby's stream at that time.
        sought: since when its place has been sought while the stream comes from a peer; None: it does not.
        doubted: since when what it brings has not been the stream, as far as can be seen; None: it may be.
        epochs: epochs of `collected` so far.
        kept: what it keeps for clients that join, by name, until its stream is taken.
        known: messages at the beginning of `collected` that the stream had before the source began, and are only there so that
            the place is found: its lobby named it.
        history: messages still to come that are older than the stream: a lobby that begins with it can continue the streams
            of clients that come from elsewhere.
    """

    __slots__ = (
        "before_loss",
        "began_at",
        "collected",
        "doubted",
        "epochs",
        "history",
        "kept",
        "known",
        "moving",
        "name",
        "rank",
        "since",
        "sought",
        "tried",
        "via",
    )

    def __init__(self, rank: Rank, name: str = "") -> None:
        self.rank = rank
        self.name = name
        self.via: tuple[str, ...] | None = (name,) if name else ()
        self.moving = False
        self.collected: MessageRing | None = None
        self.before_loss: int | None = None
        self.since = 0.0
        self.began_at = 0
        self.sought: float | None = None
        self.doubted: float | None = None
        self.epochs = 0
        self.kept: dict[str, CollectedKeep] = {}
        self.known = 0
        self.history = 0
        self.tried: tuple[int, int] | None = None  # its cursor and the stream's when they were last compared

    def __repr__(self) -> str:
        return f"<Source: {self.name or self.rank.name.lower()}>"

    @property
    def usable(self) -> bool:
        """Messages can be expected from it."""
        return self.via is not None

    @property
    def depth(self) -> int:
        """Number of lobbies that its stream comes over."""
        return len(self.via or ())


@dataclass(frozen=True, slots=True)
class Publish:
    """Append these messages to the stream."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Remember:
    """Append these messages to the stream as if they had been published before it began: nobody gets them by itself."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Remembered:
    """All messages to remember are there: consumers that have no place yet begin after them."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep these messages for clients that join, each in place of the earlier one of its name.

    Attributes:
        messages: by name; those that are part of the stream are published next.
        tell: the stream begins or breaks here, so clients that have it get those that are new, too.
    """

    messages: Mapping[str, KeptFrame]
    tell: bool = False


@dataclass(frozen=True, slots=True)
class BeginEpoch:
    """The stream does not go on exactly: begin a new epoch."""


@dataclass(frozen=True, slots=True)
class Skip:
    """This many messages of the stream will never come, and the consumers are to be told.

    Attributes:
        count: number of messages.
    """

    count: int


@dataclass(frozen=True, slots=True)
class DropRelays:
    """Close the trunks of lobbies that were told a smaller depth.

    Attributes:
        depth: of the source that is about to be taken.
    """

    depth: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close this source; it is not used any more, and nothing is to be reported about it."""

    source: Source


@dataclass(frozen=True, slots=True)
class Suspend:
    """Close the sessions of the lobby's own, which do not continue the stream, and open none before `Resume`.

    Attributes:
        seconds: until then, unless the stream stops earlier.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Resume:
    """The lobby's own session may be opened again."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Nobody needs the stream any more: what was published so far is stale by the time of the next one."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The active source, or the lobbies that its stream comes over, changed: tell the lobbies that relay it."""


Command = (
    Publish
    | Remember
    | Remembered
    | Keep
    | BeginEpoch
    | Skip
    | DropRelays
    | Close
    | Suspend
    | Resume
    | Forget
    | Changed
)


class StreamSources:
    """The sources of one lobby's stream.

    Attributes:
        active: the source whose messages are the stream; None: there is none.
        changes: changes of the source, by the kind of the new one (`origin`, `renewal`, `peer`) and whether the stream went
            on at the same message (`exact`, `live`). The first source of all is not counted.
        gaps: breaks of the stream: new epochs after the first.
        suspensions: times that the lobby's own session was closed because the stream's place was not found in it.
        skipped: messages that a peer had no longer when this lobby was to get them.
    """

    def __init__(
        self,
        name: str,
        ring: MessageRing,
        *,
        collect: Callable[[], MessageRing] | None = None,
        identifiable: bool = True,
        fraction: Callable[[], float] | None = None,
        settings: RelaySettings = RELAY,
    ) -> None:
        """Prepares it; there is no source yet.

        Args:
            name: of the lobby.
            ring: has the stream; the owner appends to it what `commands` says.
            collect: makes the ring of a candidate, with the same identities as `ring`; by default a plain one.
            identifiable: whether messages have identities (`origin.identity`); without, no stream is continued exactly, and
                a lobby that may connect to its origin waits for that instead.
            fraction: returns random numbers from 0 to 1, for the pauses of a suspended session; None: no jitter.
            settings: times and limits.
        """
        self.active: Source | None = None
        self.changes: Counter[tuple[str, str]] = Counter()
        self.gaps = 0
        self.skipped = 0
        self.suspensions = 0
        self._name = name
        self._ring = ring
        self._settings = settings
        self._collect = collect or (lambda: MessageRing(settings.candidate_messages, settings.candidate_bytes))
        self._candidates: list[Source] = []
        self._commands: list[Command] = []
        self._needed = False
        self._identifiable = identifiable
        self._permitted = True
        self._lost_at: float | None = None  # when the stream stopped
        self._stopped_at = 0  # its cursor then
        self._latest = 0  # its cursor, when it was last looked whether it goes on all the same
        self._unasked: set[str] = set()  # peers that have not answered since then
        self._try_at: float | None = None
        self._linger_until: float | None = None  # set while the stream is no longer needed
        self._resume_at: float | None = None  # set while the own session is suspended
        self._position: tuple[int, tuple[int, ...]] = (0, ())  # cursor and digests of the stream's newest place
        self._pauses = Backoff(
            base=settings.min_pause_seconds, cap=settings.max_pause_seconds, fraction=fraction, jitter=0.5
        )

    # State

    def commands(self) -> list[Command]:
        """What to do now, in this order; each command is returned once."""
        commands, self._commands = self._commands, []
        return commands

    @property
    def candidates(self) -> tuple[Source, ...]:
        """The sources that may take over."""
        return tuple(self._candidates)

    @property
    def flowing(self) -> bool:
        """Whether messages can be expected."""
        return self.active is not None and self.active.usable

    @property
    def via(self) -> tuple[str, ...] | None:
        """The lobbies that the stream comes over, the nearest first; empty: its own session; None: there is no stream."""
        return self.active.via if self.active is not None else None

    @property
    def seeking(self) -> bool:
        """Whether another lobby should be asked for the stream."""
        active = self.active
        if not self._needed or (self._permitted and not self._identifiable):
            return False
        if any(each.rank is Rank.PEER and each.usable and not each.moving for each in self._candidates):
            return False
        return active is None or not active.usable or active.moving

    def refusal(self, consumer: str) -> str:
        """Why this lobby can't serve another one now; empty if it can.

        Args:
            consumer: name of that lobby.
        """
        via = self.via
        if via is None:
            return "it has no stream now"
        if consumer == self._name or consumer in via:
            return f"its stream comes from {consumer}"
        if len(via) >= self._settings.max_depth:
            return f"its stream comes over {len(via)} lobbies"
        return ""

    def wake_at(self) -> float | None:
        """When to call `wake`; calling it earlier or later does no harm."""
        times = (self._try_at, self._linger_until, self._resume_at)
        return min((at for at in times if at is not None), default=None)

    # What happens

    def set_needed(self, needed: bool, now: float) -> None:
        """Sets whether anybody needs the stream. If not, a peer's stream is given up; the own session ends by itself."""
        if needed:
            if not self._needed and not self.flowing:
                self._lost_at = now
            self._needed, self._linger_until = True, None
        elif self._needed and self._linger_until is None:
            self._linger_until = now + self._settings.linger_seconds

    def set_permitted(self, permitted: bool) -> None:
        """Sets whether the lobby may connect to the origin itself."""
        self._permitted = permitted

    def ask(self, peers: set[str]) -> None:
        """The owner is about to ask these peers for the stream, if there is none."""
        self._unasked = set(peers) if self._identifiable or not self._permitted else set()

    def refused(self, peer: str, now: float) -> None:
        """A peer has no stream for this lobby, or does not answer."""
        self._unasked.discard(peer)
        self._decide(now)

    def opened(
        self,
        source: Source,
        now: float,
        *,
        via: tuple[str, ...] | None = (),
        exact_at: int | None = None,
        at_gap: bool = False,
        behind: int = 0,
    ) -> None:
        """A source's stream begins.

        Args:
            source: the source.
            now: the time.
            via: what its lobby told, without its own name; None: it has no stream. For the lobby's own session: empty.
            exact_at: cursor of the stream at which it continues exactly, according to its lobby; None: it does not.
            at_gap: its lobby knows that the stream broke where this lobby is, and its stream begins after that.
            behind: messages from its start to the newest one of its lobby.
        """
        self._unasked.discard(source.name)
        if exact_at is not None and exact_at != self._ring.cursor and not self.flowing:
            # The stream has gone on meanwhile, and stopped again: this one would repeat messages.
            self._commands.append(Close(source))
            return
        source.via = None if via is None else (source.name, *via) if source.name else ()
        source.since = now
        source.began_at = self._ring.cursor
        source.collected = self._collect()
        self._candidates.append(source)
        if exact_at is not None and not self.flowing and exact_at == self._ring.cursor and source.usable:
            self._take(source, exact=True)
        elif at_gap and not self.flowing and source.usable and not self._own_waits:
            self._take(source, exact=False)
        elif self._begins and source.usable and (source.name or not self._unasked):
            if behind:
                self._take_history(source, behind)
            else:
                self._take(source, exact=False)
        else:
            self._begin_collected(source)
            if exact_at is not None:
                self._collect_known(source, source.collected, exact_at)
            self._decide(now)
        self._close_useless()

    def _collect_known(self, source: Source, collected: MessageRing, cursor: int) -> None:
        """Puts the messages before a place that a peer named before its own.

        Then the place is found like any other, however few messages come after it: those of a slow stream may take hours.
        """
        if cursor < self._ring.oldest:
            return
        for batch in self._ring.identifying(cursor):
            collected.append(batch)
        source.known = collected.cursor
        source.kept = {name: each.later(source.known) for name, each in source.kept.items()}

    @property
    def _own_waits(self) -> bool:
        """A session of its own has begun, and is preferred to a peer that does not continue the stream exactly."""
        return any(each.rank is not Rank.PEER for each in self._candidates[:-1])

    @property
    def _begins(self) -> bool:
        """There has never been a stream."""
        return self._ring.epoch == NO_EPOCH and self.active is None

    def received(self, source: Source, batch: Batch, now: float) -> None:
        """Messages of a source; those of the active one may be published without this call."""
        if source is self.active:
            if source.history:
                batch = self._remember(source, batch)
            if batch.ends:
                self._commands.append(Publish(batch))
        elif source.collected is not None:
            source.collected.append(batch)
            if self.flowing:
                self._schedule(now)
            else:
                self._decide(now)

    def _remember(self, source: Source, batch: Batch) -> Batch:
        """Takes what is older than the stream; returns the rest."""
        count = min(source.history, len(batch.ends))
        if source.collected is not None:
            source.collected.append(batch.before(count))
        self._lessen_history(source, count)
        return batch.after(count)

    def _take_history(self, source: Source, behind: int) -> None:
        """Makes the first source active; the stream begins when all that is older is there."""
        source.history = behind
        self._begin_collected(source)
        self._candidates.remove(source)
        self.active = source
        self._lost_at = None
        self._commands += [DropRelays(source.depth), Changed()]

    def _lessen_history(self, source: Source, count: int) -> None:
        source.history = max(0, source.history - count)
        if source.history:
            return
        collected, source.collected = source.collected, None
        epoch = cursor = -1
        limit = self._settings.candidate_bytes
        while collected is not None and (chunks := collected.since(max(cursor, collected.oldest), limit)):
            for chunk in chunks:
                if chunk.epoch != epoch:
                    self._break()
                epoch, cursor = chunk.epoch, chunk.cursor_after
                self._commands.append(Remember(chunk.batch))
        if epoch < 0:
            self._break()
        self._commands.append(Remembered())
        self._keep_collected(source, collected.cursor if collected is not None else 0, tell=True)

    def keep(self, source: Source, messages: Mapping[str, KeptFrame], *, tell: bool = False) -> None:
        """Messages of a source are to be kept for clients that join.

        Args:
            source: the source, which may not have begun yet.
            messages: see `Keep`.
            tell: its stream breaks here.
        """
        if source is self.active and not source.history:
            self._commands.append(Keep(messages, tell))
            return
        at = _cursor(source)
        for name, (frame, ahead) in messages.items():
            before = source.kept.get(name)
            told_at = at if tell else before.told_at if before is not None else None
            source.kept[name] = CollectedKeep(frame, at + ahead if ahead else 0, told_at)

    def broken(self, source: Source) -> None:
        """A source's own stream did not go on exactly: what follows belongs to another epoch."""
        if source is self.active and not source.history:
            self._break()
        elif source.collected is not None:
            self._begin_collected(source)

    def missed(self, source: Source, count: int) -> None:
        """A source had `count` messages that it no longer has: this lobby was too slow to get them."""
        if source.history:
            self._begin_collected(source)
            self._lessen_history(source, count)
        elif source is self.active:
            self.skipped += count
            self._commands.append(Skip(count))
        elif source.collected is not None:
            self._begin_collected(source)

    def told(self, source: Source, via: tuple[str, ...] | None, now: float) -> None:
        """A peer says which lobbies its stream comes over; None: it has none now."""
        before = source.via
        source.via = None if via is None else (source.name, *via)
        if source.via == before:
            return
        if source is not self.active:
            self._decide(now)
            return
        self._commands.append(Changed())
        if source.via is None:
            self._stopped(now)
        elif before is None:
            self._lost_at = None
            self._schedule(now)

    def moving(self, source: Source) -> None:
        """A peer drains: another source is to be found, while its stream continues."""
        source.moving = True
        if source is self.active:
            self._resume()

    def lost(self, source: Source, now: float) -> None:
        """A source's stream ended."""
        active = source is self.active
        self._remove(source)
        self._unasked.discard(source.name)
        if active:
            self._commands.append(Changed())
            self._stopped(now)
        self._decide(now)

    def wake(self, now: float) -> None:
        """Compares the candidates with the stream, and acts on the deadlines that have passed."""
        self._try_at = None
        if self._linger_until is not None and now >= self._linger_until:
            self._linger_until = None
            self._needed = False
            self._leave()
        if self._resume_at is not None and now >= self._resume_at:
            self._resume()
        self._decide(now)

    # Decisions

    def _leave(self) -> None:
        """Nobody needs the stream: gives up those of peers."""
        self._resume()
        self._pauses.reset()
        for source in [*self._candidates, *([self.active] if self.active is not None else [])]:
            if source.rank is Rank.PEER:
                self._close(source)
        if self.active is None:
            self._commands += [Forget(), Changed()]

    def _close(self, source: Source) -> None:
        self._commands.append(Close(source))
        self._remove(source)

    def _stopped(self, now: float) -> None:
        """There is no stream any more; candidates keep apart what came before and after."""
        self._lost_at = now
        self._stopped_at = self._latest = self._ring.cursor
        self._resume()
        self._pauses.reset()
        for each in self._candidates:
            each.sought = None
            each.before_loss = each.collected.cursor if each.collected is not None else 0

    def _decide(self, now: float) -> None:
        patience = 0.0
        for source in sorted(self._candidates, key=lambda each: (each.rank, each.moving, each.depth)):
            if not self._better(source):
                continue
            found = self._find(source)
            if isinstance(found, Exact):
                self._take(source, exact=True, cursor=found.cursor)
                break
            if found is not None:
                self._doubt(source, found, now)
            if isinstance(found, Wait) and self._may_be_behind(source, found):
                patience = max(patience, self._settings.wait_seconds + found.grace)
        else:
            self._decide_late(now, patience)
        self._close_useless()
        self._schedule(now)

    def _close_useless(self) -> None:
        """Closes the peers that are no better than the active source."""
        for source in self.candidates:
            if source.rank is Rank.PEER and not self._better(source):
                self._close(source)

    def _decide_late(self, now: float, patience: float) -> None:
        """No candidate continues the stream exactly, so far; one may within `patience` seconds after the stream stopped."""
        if self.active is not None and self.active.usable:
            if self.active.rank is Rank.PEER and self._identifiable:
                self._bound_search(self.active, now)
                return
            for source in self._candidates:
                if self._takes_over_late(source, now):
                    # What it brought is published if nothing else was meanwhile: the current session may be silent already.
                    silent = self._ring.cursor == source.began_at
                    self._take(source, exact=False, cursor=0 if silent else _cursor(source))
                    return
            return
        usable = [each for each in self._candidates if each.usable]
        if not usable:
            return
        if self.active is not None and self._ring.cursor > self._stopped_at:
            # A peer that had no stream brings messages: it has another source, and is about to say so.
            patience = max(patience, self._settings.wait_seconds)
            if self._ring.cursor > self._latest:
                self._latest, self._lost_at = self._ring.cursor, now
        if self._unasked:
            patience = max(patience, self._settings.wait_seconds)
        since = now if self._lost_at is None else self._lost_at
        if now < max(since, min(each.since for each in usable)) + patience:
            return
        best = min(usable, key=lambda each: (each.rank, each.moving, each.depth))
        self._take(best, exact=False, cursor=best.before_loss or 0)

    def _bound_search(self, peer: Source, now: float) -> None:
        """The place is not found yet in the own session, while the stream comes from a peer."""
        own = [each for each in self._candidates if each.rank is not Rank.PEER]
        for each in own:
            each.sought = now if each.sought is None else each.sought
        if peer.moving or not any(self._is_in_vain(each, now) for each in own):
            return
        self.suspensions += 1
        seconds = self._pauses.next()
        self._resume_at = now + seconds
        for each in own:
            self._remove(each)
        self._commands.append(Suspend(seconds))

    def _is_in_vain(self, source: Source, now: float) -> bool:
        settings = self._settings
        seconds = settings.own_seconds if _cursor(source) >= settings.own_messages else settings.own_slow_seconds
        return source.sought is not None and now >= source.sought + seconds

    def _doubt(self, source: Source, found: Live | Wait, now: float) -> None:
        """Notes since when nothing says that what a candidate brings is the stream.

        A part of the 16 messages that it begins with, or whose rest is yet to come, says so. That they may be at several
        places says nothing before there are enough of them.
        """
        few = found.reason is LiveReason.AMBIGUOUS and _cursor(source) < self._settings.own_messages
        if found.reason in _BELONGS or few or not _cursor(source):
            source.doubted = None
        elif source.doubted is None and not (isinstance(found, Wait) and found.grace):
            source.doubted = now

    def _takes_over_late(self, source: Source, now: float) -> bool:
        """Whether one of the lobby's own sessions takes over although its place is not found.

        Without identities there is none, so a session takes over as soon as it begins.
        """
        settings = self._settings
        if not self._identifiable:
            return source.rank is not Rank.PEER and self._better(source)
        if source.rank is not Rank.RENEWED:
            return False
        if source.doubted is not None and now >= source.doubted + settings.renew_seconds:
            return True
        return now >= source.since + settings.renew_slow_seconds

    def _resume(self) -> None:
        """Nothing keeps the own session from being opened any more."""
        if self._resume_at is not None:
            self._resume_at = None
            self._commands.append(Resume())

    def _better(self, source: Source) -> bool:
        """Whether a candidate should take over where it can do so exactly."""
        active = self.active
        if not source.usable:
            return False
        if active is None or not active.usable:
            return True
        return source.rank < active.rank or (active.moving and not source.moving)

    def _may_be_behind(self, source: Source, found: Wait) -> bool:
        """Whether the place may still come. A session that began after the loss has it only if it repeats earlier messages.

        One that began before it, with less than the 16 messages of a place, is not taken for more than that: what looks like
        the last messages may be others that are alike, after some that no source has.
        """
        fresh = source.rank is not Rank.PEER and self._lost_at is not None and source.before_loss is None
        return found.reason is not LiveReason.UNKNOWN or bool(found.grace) or not fresh

    def _find(self, source: Source) -> Exact | Live | Wait | None:
        """Where the stream continues in a candidate; None: as at the last time, since nothing has come."""
        collected, ring = source.collected, self._ring
        if collected is None:
            return None
        at = (collected.cursor, ring.cursor)
        if source.tried == at and self.flowing:
            return None
        source.tried = at
        digests = self._digests()
        if not digests:
            return Live(0, LiveReason.NO_POSITION)
        position = Position(NO_EPOCH, 0, digests)
        found = collected.resume(position)
        if isinstance(found, Exact):
            here = ring.resume(position)  # more of the stream is known here: it may show that there are two places
            if not isinstance(here, Exact):
                found = Live(collected.cursor, here.reason) if isinstance(here, Live) else here
        if isinstance(found, Wait) and found.grace:
            source.tried = None  # it is known soon, even if nothing comes
        return found

    def _digests(self) -> tuple[int, ...]:
        """Those of the stream's position, computed again only if it has gone on: a stopped one is compared with each read."""
        cursor, digests = self._position
        if cursor != self._ring.cursor:
            digests = self._ring.position().digests
            self._position = self._ring.cursor, digests
        return digests

    def _take(self, source: Source, *, exact: bool, cursor: int | None = None) -> None:
        """Makes a candidate the active source, from a place in what was collected of it."""
        before, collected = self.active, source.collected
        if self._ring.epoch != NO_EPOCH:
            kind = {Rank.OWN: "origin", Rank.RENEWED: "renewal", Rank.PEER: "peer"}[source.rank]
            self.changes[kind, "exact" if exact else "live"] += 1
        self._commands.append(DropRelays(source.depth))
        if not exact:
            self._break()
        if cursor is not None and collected is not None:
            cursor = max(cursor, collected.oldest, source.known)
        start = _cursor(source) if cursor is None else cursor
        breaks = _breaks_after(start, source.kept) if exact else {}
        self._keep_collected(source, start, tell=not exact)
        self._candidates.remove(source)
        source.collected = None
        if source.rank is Rank.RENEWED:
            source.rank = Rank.OWN
        if source.rank is Rank.OWN:
            self._pauses.reset()
        self.active = source
        self._lost_at = None
        if collected is not None and cursor is not None:
            self._publish_collected(collected, cursor, breaks)
        self._commands.append(Changed())
        if before is not None:
            self._commands.append(Close(before))

    def _keep_collected(self, source: Source, cursor: int, *, tell: bool) -> None:
        """Keeps what a source keeps, since the stream goes on with what it brought after a cursor."""
        if source.kept:
            self._commands.append(Keep({name: each.seen_from(cursor) for name, each in source.kept.items()}, tell))
            source.kept = {}

    def _publish_collected(self, collected: MessageRing, cursor: int, breaks: dict[int, dict[str, KeptFrame]]) -> None:
        """Publishes what a source brought after a cursor, and tells what it keeps where its stream broke behind that."""
        epoch = None
        while chunks := collected.since(cursor, self._settings.candidate_bytes):
            for chunk in chunks:
                if epoch is not None and chunk.epoch != epoch:
                    self._break()
                self._tell_where_broken(breaks, cursor)
                epoch, cursor = chunk.epoch, chunk.cursor_after
                self._commands.append(Publish(chunk.batch))
        if epoch is not None and epoch != collected.epoch:
            self._break()  # what comes next does not follow the last of these
        self._tell_where_broken(breaks, cursor)

    def _tell_where_broken(self, breaks: dict[int, dict[str, KeptFrame]], cursor: int) -> None:
        if kept := breaks.pop(cursor, None):
            self._commands.append(Keep(kept, tell=True))

    def _break(self) -> None:
        if self._ring.epoch != NO_EPOCH:
            self.gaps += 1
        self._commands.append(BeginEpoch())

    def _begin_collected(self, source: Source) -> None:
        source.epochs += 1
        if source.collected is not None:
            source.collected.begin_epoch(source.epochs)

    def _remove(self, source: Source) -> None:
        """Its stream ended, or is not used. The next one of the same source has nothing to do with it."""
        source.collected = None
        source.kept = {}
        source.known = 0
        source.before_loss = source.sought = source.doubted = source.tried = None
        if source is self.active:
            self.active = None
        elif source in self._candidates:
            self._candidates.remove(source)

    def _schedule(self, now: float) -> None:
        waiting = [each for each in self._candidates if self._better(each) or each.rank is Rank.RENEWED]
        if not waiting:
            self._try_at = None
        elif self._try_at is None:
            self._try_at = now + self._settings.try_seconds


_BELONGS = frozenset({LiveReason.GONE, LiveReason.AHEAD})
"""Why a place is not found in what belongs to the stream, but begins behind the place, or has not got there."""


def _breaks_after(cursor: int, kept: dict[str, CollectedKeep]) -> dict[int, dict[str, KeptFrame]]:
    """Takes out what is to be told where a source's stream broke at a cursor of `collected` or later; returns it by place."""
    breaks: dict[int, dict[str, KeptFrame]] = {}
    for name, each in list(kept.items()):
        if each.told_at is not None and each.told_at >= cursor:
            breaks.setdefault(each.told_at, {})[name] = each.seen_from(each.told_at)
            del kept[name]
    return breaks


def _cursor(source: Source) -> int:
    return source.collected.cursor if source.collected is not None else 0
