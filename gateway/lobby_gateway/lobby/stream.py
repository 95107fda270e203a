"""The stream of a lobby: its own origin sessions, its trunks to peers, and what `StreamSources` decides about them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol

from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.lobby.own_origin import OwnOrigin
from lobby_gateway.lobby.peer_trunk import PeerTrunk
from lobby_gateway.lobby.stream_source import (
    BeginEpoch,
    Changed,
    Close,
    Command,
    DropRelays,
    Forget,
    Keep,
    Publish,
    Remember,
    Remembered,
    Resume,
    Skip,
    Source,
    StreamSources,
    Suspend,
)
from lobby_gateway.origin.secrets import ResolvedOrigin
from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.peer_list import Peer, PeerList, Version
from lobby_gateway.resource.spec import ConnectMode, Lobby
from lobby_gateway.settings import LobbySettings
from lobby_gateway.trunk.identity import NONE, Identity, digest
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.position import NO_EPOCH, LiveReason
from lobby_gateway.trunk.records import Kept, Welcome
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.websocket.frames import Batch

logger = logging.getLogger(__name__)


class StreamOwner(Protocol):
    """The lobby whose stream it is."""

    def publish(self, batch: Batch) -> None:
        """The next messages of the stream."""

    def remember(self, batch: Batch) -> None:
        """Messages from before the stream begins: nobody gets them who does not resume there."""

    def remembered(self) -> None:
        """There are no more of them: consumers without a place begin here."""

    def begin_epoch(self) -> None:
        """The stream begins, or does not go on exactly."""

    def keep(self, messages: Mapping[str, KeptFrame], *, tell: bool) -> None:
        """Keep messages for clients that join, by name; with `tell`, those that have the stream get what is new, too."""

    def skip(self, count: int) -> None:
        """`count` messages will never come."""

    def forget(self) -> None:
        """Nobody needs the stream any more: what it had so far is stale by the time of the next one."""

    def stream_changed(self) -> None:
        """It comes from somewhere else now, or has stopped: tell the lobbies that relay it."""

    def drop_relays(self, depth: int) -> None:
        """Close the trunks of the lobbies that were told a smaller depth."""

    def origin_chosen(self) -> None:
        """The origin is connected, here or at a peer, and has chosen a subprotocol, or none."""

    def origin_closed(self, code: int, round_trip: float) -> bool:
        """The origin closed the connection; returns whether a client's message was the reason."""

    def blamed(self, sender: Hashable, code: int) -> None:
        """The origin closed a peer's connection because of this sender's message."""


class LobbyStream:
    """Where a lobby's stream comes from, and how.

    Attributes:
        sources: decides between the sources.
        own: the lobby's own origin connection.
        version: of the newest list of peers; zeros before the first.
    """

    def __init__(
        self,
        lobby: Lobby,
        name: str,
        ring: MessageRing,
        owner: StreamOwner,
        *,
        keys: TokenKeys,
        resolved: ResolvedOrigin | None,
        read_secrets: Callable[[], ResolvedOrigin],
        identity: Identity = digest,
        settings: LobbySettings,
    ) -> None:
        """Prepares the stream; nothing is opened before `run`.

        Args:
            lobby: the Lobby.
            name: of the lobby.
            ring: has the stream; the owner appends to it.
            owner: takes the stream.
            keys: of the namespace.
            resolved: the origin with the current values of its secrets; None: one is missing or unusable.
            read_secrets: reads them before each attempt.
            identity: gives the identity of a message's payload.
            settings: of a lobby process.
        """
        spec = lobby.spec.origin
        relay = settings.relay
        self.sources = StreamSources(
            name,
            ring,
            collect=lambda: MessageRing(
                relay.candidate_messages, relay.candidate_bytes, identity, index_later=ring.index_later
            ),
            identifiable=spec.identity != NONE,
            fraction=random.random,
            settings=relay,
        )
        self.sources.set_permitted(not spec.limits.connections)
        self.own = OwnOrigin(
            spec,
            resolved,
            read_secrets=read_secrets,
            listener=self,
            permitted=not spec.limits.connections,
            settings=settings.origin,
        )
        self.version = Version()
        self._lobby = lobby
        self._name = name
        self._ring = ring
        self._owner = owner
        self._keys = keys
        self._settings = relay
        self._remembered = settings.forward.blame_messages
        self._loop = asyncio.get_running_loop()
        self._peers: tuple[Peer, ...] = ()
        self._told = asyncio.Event()
        self._trunks: dict[Source, PeerTrunk] = {}
        self._seek_now = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._needed = False
        self._always = spec.connect is ConnectMode.ALWAYS
        self._acting = False

    async def run(self) -> None:
        """Maintains the stream until it is cancelled."""
        if self._always:
            self.set_needed(True)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.own.run(), name="own origin")
                tasks.create_task(self._seek(), name="seek a peer")
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for trunk in list(self._trunks.values()):
                trunk.close()

    def set_needed(self, needed: bool) -> None:
        """Sets whether anybody needs the stream. Called whenever a client comes or goes, so it is cheap without a change."""
        needed = needed or self._always
        if needed == self._needed:
            return
        self._needed = needed
        self.own.set_needed(needed)
        self.sources.set_needed(needed, self._loop.time())
        self._act()

    def tell(self, told: PeerList) -> bool:
        """Takes what the lobby host says; returns False if something newer is known already."""
        if told.version < self.version:
            return False
        self.version = told.version
        self._peers = tuple(peer for peer in told.peers if peer.name != self._name)
        self.own.set_permitted(told.connect)
        self.own.set_allowed(told.connects)
        self.own_starved()
        if not self.sources.flowing:
            self._ask_again()
        self._told.set()
        self._act()
        return True

    @property
    def subprotocol(self) -> str | None:
        """What the origin chose; empty if it chose none; None if it was not connected yet, here or at a peer."""
        own = self.own.subprotocol
        trunk = self._active_trunk
        return own if own is not None or trunk is None else trunk.subprotocol

    @property
    def streaming(self) -> bool:
        """Whether clients' messages can be sent to the origin (see `ForwardTarget`)."""
        return self.own.streaming or self._serving_trunk is not None

    def send_to_origin(self, opcode: int, payload: bytes, sender: Hashable) -> bool:
        """Sends a client's message to the origin, where the stream comes from: there its answer is part of the stream.

        Returns:
            False if that is not possible.
        """
        trunk = self._serving_trunk
        return self.own.send_to_origin(opcode, payload) if trunk is None else trunk.forward(sender, opcode, payload)

    @property
    def _active_trunk(self) -> PeerTrunk | None:
        active = self.sources.active
        return self._trunks.get(active) if active is not None else None

    @property
    def _serving_trunk(self) -> PeerTrunk | None:
        """To the peer that the stream comes from now."""
        return self._active_trunk if self.sources.flowing else None

    # OwnOriginListener

    def own_began(self, source: Source) -> None:
        """See `OwnOriginListener`."""
        self.sources.opened(source, self._loop.time())
        self._owner.origin_chosen()
        self._act()

    def own_received(self, source: Source, batch: Batch) -> None:
        """See `OwnOriginListener`. The hot path: messages of the active source need no decision."""
        if source is self.sources.active:
            self._owner.publish(batch)
        else:
            self.sources.received(source, batch, self._loop.time())
            self._act()

    def own_kept(self, source: Source, messages: Mapping[str, KeptFrame]) -> None:
        """See `OwnOriginListener`."""
        self.sources.keep(source, messages)
        self._act()

    def own_ended(self, source: Source) -> None:
        """See `OwnOriginListener`."""
        self._ask_again()
        self.sources.lost(source, self._loop.time())
        self._act()

    def own_starved(self) -> None:
        """See `OwnOriginListener`. A lobby that waits for a permit gets the stream from a peer."""
        self.sources.set_permitted(self.own.permitted and not self.own.starved)
        self._act()

    def own_forgotten(self) -> None:
        """See `OwnOriginListener`."""
        self._owner.forget()

    def own_closed(self, code: int, round_trip: float) -> bool:
        """See `OwnOriginListener`. Clients' messages can only be the reason if they were sent there."""
        return self._serving_trunk is None and self._owner.origin_closed(code, round_trip)

    # PeerTrunkOwner

    def peer_opened(self, trunk: PeerTrunk, welcome: Welcome) -> None:
        """See `PeerTrunkOwner`."""
        self._trunks[trunk.source] = trunk
        exact_at = trunk.cursor if welcome.exact else None
        at_gap = welcome.reason == LiveReason.GONE and welcome.behind > 0 and trunk.cursor == self._ring.cursor
        self.sources.opened(
            trunk.source,
            self._loop.time(),
            via=welcome.via,
            exact_at=exact_at,
            at_gap=at_gap,
            behind=welcome.behind,
        )
        self._act()

    def peer_received(self, trunk: PeerTrunk, batch: Batch) -> None:
        """See `PeerTrunkOwner`."""
        source = trunk.source
        if source is self.sources.active and not source.history:
            self._owner.publish(batch)
        else:
            self.sources.received(source, batch, self._loop.time())
            self._act()

    def peer_kept(self, trunk: PeerTrunk, record: Kept) -> None:
        """See `PeerTrunkOwner`."""
        messages = {record.name: KeptFrame(record.frame, record.ahead)}
        self.sources.keep(trunk.source, messages, tell=record.tell)
        self._act()

    def peer_broken(self, trunk: PeerTrunk) -> None:
        """See `PeerTrunkOwner`."""
        self.sources.broken(trunk.source)
        self._act()

    def peer_missed(self, trunk: PeerTrunk, count: int) -> None:
        """See `PeerTrunkOwner`."""
        self.sources.missed(trunk.source, count)
        self._act()

    def peer_told(self, trunk: PeerTrunk, via: tuple[str, ...] | None) -> None:
        """See `PeerTrunkOwner`."""
        if via is None and trunk.source is self.sources.active:
            self._ask_again()
        self.sources.told(trunk.source, via, self._loop.time())
        self._act()

    def peer_moving(self, trunk: PeerTrunk) -> None:
        """See `PeerTrunkOwner`."""
        self.sources.moving(trunk.source)
        self._act()

    def peer_origin(self, trunk: PeerTrunk) -> None:
        """See `PeerTrunkOwner`."""
        if trunk.source is self.sources.active:
            self._owner.origin_chosen()

    def peer_blamed(self, sender: Hashable, code: int) -> None:
        """See `PeerTrunkOwner`."""
        self._owner.blamed(sender, code)

    def peer_lost(self, trunk: PeerTrunk, problem: str) -> None:
        """See `PeerTrunkOwner`."""
        logger.info("the stream of a peer ended", extra={"peer": trunk.peer.name, "problem": problem})
        self._trunks.pop(trunk.source, None)
        if trunk.source is self.sources.active:
            self._ask_again()
        self.sources.lost(trunk.source, self._loop.time())
        self._act()

    # What the sources decide

    def _act(self) -> None:
        """Performs their commands, sets the timer for their next deadline, and wakes `_seek` if a peer is to be asked."""
        if self._acting:
            return
        self._acting = True
        try:
            while commands := self.sources.commands():
                for command in commands:
                    self._perform(command)
        finally:
            self._acting = False
        at = self.sources.wake_at()
        if at != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = None if at is None else self._loop.call_at(at, self._wake)
        if self.sources.seeking:
            self._seek_now.set()

    def _wake(self) -> None:
        self._timer = self._timer_at = None
        self.sources.wake(self._loop.time())
        self._act()

    def _perform(self, command: Command) -> None:
        match command:
            case Publish(batch):
                self._owner.publish(batch)
            case Remember(batch):
                self._owner.remember(batch)
            case Remembered():
                self._owner.remembered()
            case BeginEpoch():
                self._owner.begin_epoch()
            case Keep(messages, tell):
                self._owner.keep(messages, tell=tell)
            case Skip(count):
                self._owner.skip(count)
            case DropRelays(depth):
                self._owner.drop_relays(depth)
            case Forget():
                self._owner.forget()
            case Close(source):
                trunk = self._trunks.pop(source, None)
                if trunk is not None:
                    trunk.close()
                self.own.give_up(source)
            case Suspend(seconds):
                self.own.suspend(seconds)
            case Resume():
                self.own.resume()
            case Changed():
                self._changed()

    def _changed(self) -> None:
        active = self.sources.active
        if active is not None:
            self.own.taken(active)
            if active.name:
                logger.info("the stream comes from another lobby", extra={"via": list(self.sources.via or ())})
            self._owner.origin_chosen()
        self._owner.stream_changed()

    # Peers

    def _ask_again(self) -> None:
        """The stream has stopped: every peer may have it."""
        self.sources.ask({peer.name for peer in self._peers})

    async def _seek(self) -> None:
        """Asks peers for their stream whenever there is none."""
        settings = self._settings
        while True:
            await self._seek_now.wait()
            self._seek_now.clear()
            backoff = Backoff(
                base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds, fraction=random.random
            )
            while True:
                self._told.clear()
                await self._ask_all()
                if not self.sources.seeking:
                    self._seek_now.clear()  # it may have been set meanwhile
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next(settings.min_backoff_seconds)):
                        await self._told.wait()

    async def _ask_all(self) -> None:
        """Asks one peer after the other, without waiting for long; the first that has a stream is enough."""
        async with asyncio.TaskGroup() as tasks:
            asked: set[asyncio.Task[None]] = set()
            for peer in self._peers:
                asked.add(tasks.create_task(self._ask(peer), name=f"ask {peer.name}"))
                await asyncio.wait(asked, timeout=self._settings.ask_seconds)
                asked = {task for task in asked if not task.done()}
                if not self.sources.seeking:
                    break
            while asked and self.sources.seeking:
                _, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            for task in asked:
                task.cancel()

    async def _ask(self, peer: Peer) -> None:
        ring = self._ring
        position = ring.position() if ring.epoch != NO_EPOCH else None
        trunk = PeerTrunk(peer, self, ring.cursor, remembered=self._remembered)
        try:
            problem = await trunk.open(
                self._keys,
                name=self._name,
                namespace=self._lobby.namespace,
                position=position,
                replay=0 if ring.cursor else self._settings.history_messages,
                timeout=self._settings.welcome_seconds,
            )
        except asyncio.CancelledError:
            if trunk.source not in self._trunks:
                trunk.close()
            raise
        if problem:
            logger.debug("a peer has no stream for this lobby", extra={"peer": peer.name, "problem": problem})
            self.sources.refused(peer.name, self._loop.time())
            self._act()
