"""A lobby's trunk to another lobby of its Lobby, whose stream it takes. `StreamSources` decides what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable
from typing import Protocol

from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.errors import LobbyGatewayError, internal_error
from lobby_gateway.lobby.stream_source import Rank, Source
from lobby_gateway.process.peer_list import Peer
from lobby_gateway.resource.spec import lobby_key
from lobby_gateway.settings import TrunkConsumerSettings
from lobby_gateway.trunk.consumer_connection import TrunkConsumerConnection, connect_trunk, with_each_key
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.records import STREAM, Blamed, FromServer, Kept, Missed, Move, Origin, Status, Welcome
from lobby_gateway.websocket.frames import Batch

logger = logging.getLogger(__name__)

TRUNK_SETTINGS = TrunkConsumerSettings()


class PeerTrunkOwner(Protocol):
    """The stream that may come over a trunk."""

    def peer_opened(self, trunk: PeerTrunk, welcome: Welcome) -> None:
        """The peer has a stream."""

    def peer_received(self, trunk: PeerTrunk, batch: Batch) -> None:
        """Messages of it arrived."""

    def peer_kept(self, trunk: PeerTrunk, record: Kept) -> None:
        """A message of it is to be kept for clients that join; perhaps before `peer_opened`."""

    def peer_broken(self, trunk: PeerTrunk) -> None:
        """The stream of the peer did not go on exactly: what follows belongs to another epoch."""

    def peer_missed(self, trunk: PeerTrunk, count: int) -> None:
        """This lobby was too slow to get `count` messages."""

    def peer_told(self, trunk: PeerTrunk, via: tuple[str, ...] | None) -> None:
        """The peer says which lobbies its stream comes over."""

    def peer_moving(self, trunk: PeerTrunk) -> None:
        """The peer drains."""

    def peer_origin(self, trunk: PeerTrunk) -> None:
        """The peer's origin has chosen a subprotocol, or none."""

    def peer_blamed(self, sender: Hashable, code: int) -> None:
        """The origin closed with `code` because of a message of this sender."""

    def peer_lost(self, trunk: PeerTrunk, problem: str) -> None:
        """The trunk ended after `peer_opened`, without `close`."""


class PeerTrunk:
    """One trunk to a peer; made for one try.

    Args:
        peer: the other lobby.
        owner: is told what comes.
        cursor: see below.
        remembered: most clients whose numbers are remembered (see `ForwardSettings.blame_messages`).

    Attributes:
        peer: the other lobby.
        source: what it is as a source of the stream.
        cursor: of this lobby's stream when it asked to go on there.
        opened: the peer has answered that it has a stream.
    """

    def __init__(self, peer: Peer, owner: PeerTrunkOwner, cursor: int, *, remembered: int) -> None:
        self.peer = peer
        self.source = Source(Rank.PEER, peer.name)
        self.cursor = cursor
        self.opened = False
        self._owner = owner
        self._remembered = remembered
        self._connection: TrunkConsumerConnection | None = None
        self._answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._via: tuple[str, ...] | None = None
        self._senders: dict[int, Hashable] = {}
        self._numbers: dict[Hashable, int] = {}
        self._next_number = 0

    def __repr__(self) -> str:
        return f"<PeerTrunk to {self.peer.name}>"

    async def open(
        self,
        keys: TokenKeys,
        *,
        name: str,
        namespace: str,
        position: Position | None,
        replay: int,
        timeout: float,  # noqa: ASYNC109  # of the answer alone
        settings: TrunkConsumerSettings = TRUNK_SETTINGS,
    ) -> str:
        """Asks the peer for its stream; returns why it has none for this lobby, or an empty text.

        Args:
            keys: of the namespace.
            name: of this lobby.
            namespace: of the Lobby; empty in local mode.
            position: where this lobby is in the stream; None: it has none yet.
            replay: how many earlier messages the stream starts with, if it does not go on at the position.
            timeout: most seconds to wait for the answer once the trunk is open.
            settings: see `TrunkConsumerSettings`.
        """
        try:
            connection = await self._connect(
                keys, name=name, namespace=namespace, position=position, replay=replay, settings=settings
            )
        except LobbyGatewayError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  # or the stream would wait for its answer
            logger.error("asking a peer: %s", internal_error(error), extra={"peer": self.peer.name})  # noqa: TRY400
            return internal_error(error)
        self._connection = connection
        try:
            async with asyncio.timeout(timeout):
                problem = await asyncio.shield(self._answered)
        except TimeoutError:  # perhaps in the same turn of the event loop as the answer, which the owner has got then
            problem = self._answered.result() if self._answered.done() else f"no answer within {timeout:g} s"
        if problem:
            self.close()
        return problem

    async def _connect(
        self,
        keys: TokenKeys,
        *,
        name: str,
        namespace: str,
        position: Position | None,
        replay: int,
        settings: TrunkConsumerSettings,
    ) -> TrunkConsumerConnection:
        return await with_each_key(
            keys.signing_keys_to_try(time.monotonic()),
            lobby_key(namespace, self.peer.name),
            lambda token: connect_trunk(
                self.peer.address,
                token=token,
                name=name,
                listener=self,
                replay=replay,
                position=position,
                relays=True,
                settings=settings,
            ),
            settings,
        )

    @property
    def subprotocol(self) -> str | None:
        """What the origin chose, according to the peer."""
        return self._connection.core.subprotocol if self._connection is not None else None

    def forward(self, sender: Hashable, opcode: int, payload: bytes) -> bool:
        """Sends a client's message towards the origin; False if that is not possible."""
        if self._connection is None:
            return False
        number = self._numbers.get(sender)
        if number is None:
            self._next_number += 1
            number = self._numbers[sender] = self._next_number
            self._senders[number] = sender
            if len(self._senders) > self._remembered:
                oldest = next(iter(self._senders))
                del self._numbers[self._senders.pop(oldest)]
        return self._connection.forward(number, opcode, payload)

    def close(self) -> None:
        """Closes it; the owner is not called any more."""
        self.opened = False
        if self._connection is not None:
            self._connection.close()

    # TrunkListener

    def trunk_messages(self, batch: Batch) -> None:
        """The next messages of the stream."""
        self._owner.peer_received(self, batch)

    def trunk_epoch(self) -> None:
        """The stream was broken."""
        self._owner.peer_broken(self)

    def trunk_record(self, record: FromServer) -> None:
        """Any other record."""
        match record:
            case Welcome():
                self._welcome(record)
            case Status() if record.via != self._via:
                self._via = record.via
                self._owner.peer_told(self, record.via)
            case Missed() if record.id == STREAM:
                self._owner.peer_missed(self, record.count)
            case Kept():
                self._owner.peer_kept(self, record)
            case Move():
                self._owner.peer_moving(self)
            case Origin():
                self._owner.peer_origin(self)
            case Blamed() if record.client in self._senders:
                self._owner.peer_blamed(self._senders[record.client], record.code)

    def trunk_lost(self, problem: str) -> None:
        """It ended, broke, or stopped responding."""
        if self.opened:
            self._owner.peer_lost(self, problem)
        elif not self._answered.done():
            self._answered.set_result(problem)

    def _welcome(self, welcome: Welcome) -> None:
        if self._answered.done():
            return
        if welcome.via is None:
            self._answered.set_result("it does not serve other lobbies")
            return
        self._via = welcome.via
        self.opened = True
        self._answered.set_result("")
        self._owner.peer_opened(self, welcome)
