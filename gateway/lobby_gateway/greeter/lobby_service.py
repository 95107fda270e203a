"""One Lobby as this greeter serves it: its clients, waiting clients, and trunks.

`SeatQueue` decides who gets a seat where and when; this module acts on it, in the callbacks of sockets and in one `_pump` per
turn of the event loop, however many clients are affected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from lobby_gateway import close_codes
from lobby_gateway.clients.admission import Admission, ProcessCapacity
from lobby_gateway.clients.connection import ClientConnection, ClientPolicy, log_disconnect
from lobby_gateway.clients.held_messages import HeldMessages
from lobby_gateway.clients.message_bus import BusStats
from lobby_gateway.clients.rate_limit import FloodLimit
from lobby_gateway.clients.resuming import answer as resume_answer
from lobby_gateway.clients.tokens import NamespaceKeys, TokenKeys
from lobby_gateway.close_codes import Refusal
from lobby_gateway.greeter.directory import DirectoryEntry
from lobby_gateway.greeter.redirect import RedirectError, new_ticket
from lobby_gateway.greeter.router import PendingClient, ResponseForm
from lobby_gateway.greeter.seat_queue import ClaimRefusal, LobbyId, Rank, SeatQueue
from lobby_gateway.greeter.trunks import ClientSeat, Group, Trunk, regroup, seat_of
from lobby_gateway.metrics import FATES, VERDICTS
from lobby_gateway.process.background import Spawn
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.resource.spec import ClientMessages, Lobby, RoutingMode
from lobby_gateway.settings import RemovalSettings, SeatQueueSettings, TrunkConsumerSettings
from lobby_gateway.trunk.consumer import SeatLedger
from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.trunk.position import NO_EPOCH, Position
from lobby_gateway.websocket.frames import Batch

logger = logging.getLogger(__name__)

REMOVAL_SETTINGS = RemovalSettings()


@dataclass(slots=True)
class ServiceStats:
    """Plain counters of all services of a process, read when metrics are scraped.

    Attributes:
        closes: disconnected clients, by label.
        fates: clients' messages, by what happened to them.
        client_bytes: bytes of their payloads.
        moves: moved clients, by verdict.
        resumes: clients that asked to resume when they connected, by verdict.
        redirects: redirected clients, by form.
        trunk_losses: trunks that ended or stopped responding while they had clients.
        trunk_missed: messages that this greeter was too slow to get.
        gone: the counts of the message buses of removed Lobbies.
        gone_high_water: most messages that ever waited for one of their clients.
    """

    closes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(close_codes.CLOSE_LABELS, 0)))
    fates: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FATES, 0)))
    client_bytes: int = 0
    moves: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(VERDICTS, 0)))
    resumes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(VERDICTS, 0)))
    redirects: Counter[str] = field(default_factory=lambda: Counter({ResponseForm.LOCATION: 0, ResponseForm.JSON: 0}))
    trunk_losses: int = 0
    trunk_missed: int = 0
    gone: Counter[str] = field(default_factory=Counter)
    gone_high_water: int = 0


class LobbyService:
    """Serves the clients of one Lobby.

    Attributes:
        lobby: the resource, as last seen in the directory.
        admission: admits its clients.
        removed: the Lobby was deleted, and its clients are being closed.
        clients: the connected clients.
        bus_stats: of all its message buses.
        moves: moved clients, by verdict.
        stats: counters of the process.
    """

    def __init__(
        self,
        entry: DirectoryEntry,
        *,
        greeter: str,
        token_keys: TokenKeys,
        stats: ServiceStats,
        seat_queue: SeatQueueSettings,
        trunk: TrunkConsumerSettings,
        linger_seconds: float,
        capacity: ProcessCapacity,
        flood: FloodLimit,
        spawn: Spawn,
        removal: RemovalSettings = REMOVAL_SETTINGS,
    ) -> None:
        self.lobby: Lobby = entry.lobby
        self.admission = Admission(entry.lobby.spec.clients.limits, capacity)
        self.removed = False
        self.clients: dict[ClientConnection, None] = {}
        self.bus_stats = BusStats()
        self.moves: Counter[str] = Counter(dict.fromkeys(VERDICTS, 0))
        self.stats = stats
        self._loop = asyncio.get_running_loop()
        self._lost_trunks = RepeatedFailures(self._loop.time)
        self._greeter = greeter
        self._token_keys = NamespaceKeys(token_keys, entry.lobby.namespace)
        self._trunk_settings = trunk
        self._linger_seconds = linger_seconds
        self._trunks: dict[LobbyId, Trunk] = {}
        self._queue: SeatQueue[PendingClient | ClientConnection] = SeatQueue(
            self._ledger, wait_seconds=entry.lobby.spec.wait_seconds, settings=seat_queue
        )
        # Clients that have a seat, and wait for the origin's choice of a subprotocol.
        self._undecided: dict[PendingClient, Trunk] = {}
        # The numbers of clients that have sent messages to the origin.
        self._forwarders: dict[ClientConnection, int] = {}
        self._numbers = count(1)
        # Clients that asked to continue somewhere when they connected, and are not answered yet.
        self._resuming: set[ClientConnection] = set()
        # Groups whose clients have seats in two lobbies and are on the stream of the one that they leave.
        self._scouting: dict[Group, None] = {}
        self._held: HeldMessages[ClientConnection] = HeldMessages()
        self._flood = flood
        self._spawn = spawn
        self._clients_spec = entry.lobby.spec.clients
        self._policy = ClientPolicy.of(self._clients_spec, flood)
        self._pump_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._removal_timer: asyncio.TimerHandle | None = None
        self._removal_settings = removal
        self._closing = False
        self._redirect_problem = ""
        self.update(entry)

    def __repr__(self) -> str:
        return f"<LobbyService {self.lobby.key}: {len(self.clients)} clients>"

    # For the greeter

    @property
    def waiting(self) -> int:
        """Clients without a seat."""
        return self._queue.unseated

    @property
    def lost(self) -> int:
        """Those of them that had a seat in a lobby that is gone."""
        return self._queue.lost

    @property
    def trunks(self) -> Iterable[Trunk]:
        """Its trunks."""
        return self._trunks.values()

    @property
    def idle(self) -> bool:
        """Whether it has no clients and no trunks left."""
        return not self.clients and not self._trunks and not len(self._queue)

    def update(self, entry: DirectoryEntry) -> None:
        """Takes changes of the Lobby and its open lobbies."""
        self.removed = False
        self.lobby = entry.lobby
        self.admission.update(entry.lobby.spec.clients.limits)
        if entry.lobby.spec.clients != self._clients_spec:
            self._clients_spec = entry.lobby.spec.clients
            self._policy = ClientPolicy.of(self._clients_spec, self._flood)
            for trunk in self._trunks.values():
                trunk.bus.limits = self._policy.queue
                trunk.bus.batch_seconds = self._policy.batch_seconds
            for client in self.clients:
                client.policy = self._policy
        self._queue.wait_seconds = entry.lobby.spec.wait_seconds
        for trunk in self._trunks.values():
            trunk.keep(entry.lobby.spec.clients.replay)
        self._queue.update(entry.open)
        self._wake()

    def remove(self) -> None:
        """The Lobby was deleted: refuses waiting clients, and starts to close connected ones."""
        self.removed = True
        self._queue.update(())
        self._refuse_waiting(close_codes.LOBBY_GONE)
        self._close_removed()

    def _close_removed(self) -> None:
        """Closes the clients of a deleted Lobby, some at a time, so that those of other Lobbies need not wait for that."""
        self._removal_timer = None
        if not self.removed or self._closing:  # it was created again, or all clients are being closed
            return
        settings = self._removal_settings
        for client in list(islice((each for each in self.clients if not each.closing), settings.batch)):
            client.close(close_codes.LOBBY_DELETED)
        if not all(client.closing for client in self.clients):
            self._removal_timer = self._loop.call_later(settings.pause_seconds, self._close_removed)

    def enqueue(self, pending: PendingClient) -> None:
        """Queues an admitted client for a seat."""
        waiter = self._queue.wait(pending, Rank.NEW, self._loop.time())

        def abandoned() -> None:
            self._queue.leave(waiter)
            pending.permit.release()

        pending.handshake.on_abandoned = abandoned
        self._wake()

    def tick(self, now: float) -> None:
        """Pings clients, closes unused trunks, and drops messages held for too long; called periodically."""
        for trunk in list(self._trunks.values()):
            trunk.bus.sweep(now)
            if not trunk.unused:
                trunk.idle_since = None
            elif trunk.idle_since is None:
                trunk.idle_since = now
            elif now - trunk.idle_since >= self._linger_seconds:
                self._close_trunk(trunk)
        self.stats.fates["undeliverable"] += self._held.expire(now)

    def stop(self) -> None:
        """Refuses waiting clients; connected ones stay until they are closed."""
        self._closing = True
        self._refuse_waiting(close_codes.SHUTTING_DOWN)

    def _refuse_waiting(self, refusal: Refusal) -> None:
        for waiter in self._queue.clear():
            if isinstance(waiter.client, PendingClient):
                waiter.client.refuse(refusal)
        for pending, trunk in list(self._undecided.items()):
            del self._undecided[pending]
            pending.refuse(refusal)
            self._release(trunk, 1)

    def close_for_restart(self, client: ClientConnection) -> None:
        """Closes a client because this greeter is stopping; the reason says where it was."""
        self.flush()
        position = self._position(client)
        client.close(close_codes.MOVED, f"resume={position}" if position is not None else None)

    def flush(self) -> None:
        """Sends what was gathered (`clients.batchMilliseconds`)."""
        for trunk in self._trunks.values():
            trunk.bus.flush()

    async def close(self) -> None:
        """Closes the remaining clients and trunks."""
        self._closing = True
        for handle in (self._pump_handle, self._timer, self._removal_timer):
            if handle is not None:
                handle.cancel()
        for client in list(self.clients):
            client.abort(close_codes.MOVED.label)
        trunks = list(self._trunks.values())
        for trunk in trunks:
            self._close_trunk(trunk)
        await asyncio.gather(*(trunk.wait_closed() for trunk in trunks))

    # From clients (ClientOwner)

    def client_message(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
        """A client sent a message."""
        fates = self.stats.fates
        self.stats.client_bytes += len(payload)
        match self.lobby.spec.clients.messages:
            case ClientMessages.IGNORE:
                fates["ignored"] += 1
            case ClientMessages.REJECT:
                fates["rejected"] += 1
                client.close(close_codes.MESSAGES_REJECTED)
            case ClientMessages.FORWARD:
                if client.charge_forward():
                    self._forward(client, opcode, payload)
                else:
                    fates["rejected"] += 1

    def client_closed(self, client: ClientConnection, label: str) -> None:
        """A client has disconnected: returns its seat."""
        self.clients.pop(client, None)
        self._resuming.discard(client)
        self.stats.closes[label] += 1
        seat = seat_of(client)
        log_disconnect(client, label, seat.permit.address, lobby=self.lobby.key)
        if self._forwarders.pop(client, None) is not None:
            self.stats.fates["undeliverable"] += len(self._held.pop_all(lambda sender: sender is client))
        if seat.waiter is not None:
            self._queue.leave(seat.waiter)
        if seat.group is not None:
            self._discard(seat.group, client)
        if seat.trunk is not None:
            self._release(seat.trunk, 1)
        seat.permit.release()

    # From trunks (TrunkOwner)

    def trunk_granted(self, trunk: Trunk, seats: int, refusal: ClaimRefusal | None) -> None:
        """A lobby answered a claim."""
        if (told := self._lost_trunks.worked()) is not None:
            logger.info("trunks work again", extra={"lobby": self.lobby.key, **told})
        self.flush()  # a client that is lost meanwhile gets no seat
        seated = self._queue.granted(trunk.id, seats, refusal, self._loop.time())
        trunk.release(seated.surplus)
        movers: list[ClientConnection] = []
        for client in seated.clients:
            if isinstance(client, PendingClient):
                self._accept(client, trunk)
            else:
                movers.append(client)
        for group in regroup(movers, trunk):
            self._move(group)
        self._forward_held()
        self._close_if_unused(trunk)
        self._wake()

    def trunk_observed(self, trunk: Trunk, seats: int, free: int) -> None:
        """A lobby reported its seats."""
        self._queue.observed(trunk.id, seats, free)
        if len(self._queue):
            self._wake()

    def trunk_moving(self, trunk: Trunk, within_seconds: float) -> None:
        """A lobby asks for its clients to move, spread over some time. They keep its stream until they have another seat."""
        now = self._loop.time()
        self._queue.draining(trunk.id, now, now + within_seconds)
        extra = {"lobby": trunk.id.name, "clients": len(trunk.bus), "seconds": within_seconds}
        logger.info("lobby is draining", extra=extra)
        for client in trunk.bus:
            self._schedule_move(client, trunk)
        self._close_if_unused(trunk)
        self._wake()

    def trunk_joined(self, trunk: Trunk, group: Group) -> None:
        """Clients join a trunk's stream, or their place in it was looked for while they are still on another one."""
        if group.scouting:
            self._scouted(group)
            return
        verdict = "exact" if group.exact else "live"
        resuming = self._resuming.intersection(group.clients)
        self._resuming -= resuming
        moved = len(group.clients) - len(resuming)
        self.stats.resumes[verdict] += len(resuming)
        self.stats.moves[verdict] += moved
        self.moves[verdict] += moved
        logger.log(
            logging.INFO if moved else logging.DEBUG,  # one client each
            "moved clients" if moved else "resumed a client",
            extra={"lobby": trunk.id.name, "clients": len(group.clients), "verdict": verdict, "reason": group.reason},
        )
        first = trunk.replay(group) if group.exact or group.replay else trunk.latest()
        answer = [resume_answer(group.reason), *first]
        replays: dict[int, Sequence[Batch]] = {}  # those who come from the same trunk have the same of what is kept
        for client in list(group.clients):
            seat = seat_of(client)
            seat.group = None
            seat.position = None
            if client not in resuming and id(seat.kept) not in replays:
                replays[id(seat.kept)] = trunk.replay(group, seat.kept)
            trunk.bus.attach(client, answer if client in resuming else replays[id(seat.kept)])
            if trunk.moving:
                self._schedule_move(client, trunk)
        self._release_old_seats(group)
        self._wake()

    def trunk_origin(self, trunk: Trunk) -> None:
        """The lobby's origin has chosen a subprotocol, or none: clients that waited for that are accepted."""
        for pending, each in list(self._undecided.items()):
            if each is trunk:
                self._decide(pending)

    def trunk_blamed(self, client: int, code: int) -> None:
        """The origin closed its connection because of a client's message: closes the client."""
        for each, number in self._forwarders.items():
            if number == client:
                logger.warning(
                    "closing a client: the origin closed its connection because of its message",
                    extra={"lobby": self.lobby.key, "address": seat_of(each).permit.address, "code": code},
                )
                each.close(close_codes.ORIGIN_OBJECTED)
                return

    def trunk_missed(self, count: int) -> None:
        """This greeter was too slow to get `count` messages."""
        self.stats.trunk_missed += count

    def trunk_lost(self, trunk: Trunk, problem: str, *, come_back: bool) -> None:
        """A trunk ended, stopped responding or could not be opened: its clients keep their sockets and continue elsewhere."""
        if self._closing:
            for client in list(trunk.bus):
                self.close_for_restart(client)  # it would hear nothing until its turn
        if self._trunks.get(trunk.id) is trunk:
            del self._trunks[trunk.id]
        trunk.bus.flush()
        now = self._loop.time()
        self._queue.failed(trunk.id, now, come_back=come_back)
        for pending, each in list(self._undecided.items()):
            if each is trunk:
                del self._undecided[pending]
                self.enqueue(pending)
        lost = len(trunk.bus)
        for group in [each for each in self._scouting if trunk in {each.trunk, each.old}]:
            if group.old is trunk:
                self._leave(group)  # they have a seat already
            else:
                self._call_back(group)
        position, kept = (trunk.position(), trunk.kept) if len(trunk.bus) else (None, {})
        for client in list(trunk.bus):
            trunk.bus.detach(client)
            seat_of(client).kept = kept
            self._requeue(client, position, now)
        for group in trunk.groups:
            if group.scouting:
                continue
            lost += len(group.clients)
            for client in list(group.clients):
                self._requeue(client, group.position, now)
            self._release_old_seats(group)
        if lost:
            self.stats.trunk_losses += 1
        told = self._lost_trunks.failed(problem)
        if lost or told is not None:  # clients are always worth a line, attempts are not
            extra = {
                "lobby": trunk.id.name,
                "address": trunk.id.address,
                "clients": lost,
                **(told or {"problem": problem}),
            }
            logger.warning("lost a trunk with clients" if lost else "lost a trunk", extra=extra)
        self._wake()

    # Moves

    def _move(self, group: Group) -> None:
        """Asks for the place of clients that have a seat; those that are on another stream stay there meanwhile."""
        if group.scouting:
            group.scouting_until = self._loop.time() + self._trunk_settings.find_seconds
            self._scouting[group] = None
            if not group.position.digests:
                self._leave(group)  # no lobby could find it
                return
        group.trunk.resume(group)

    def _scouted(self, group: Group) -> None:
        """A lobby has looked for the place of clients that are still on another stream: they leave it, or it looks again."""
        if not group.clients or group not in self._scouting:
            return
        now = self._loop.time()
        if group.exact or now >= group.scouting_until:
            self._leave(group)
        else:
            # It has begun only a moment ago, or is far behind; in a moment it has what they saw last.
            group.timer = self._loop.call_later(self._trunk_settings.find_again_seconds, self._look_again, group)

    def _look_again(self, group: Group) -> None:
        group.timer = None
        if group.old is not None:
            group.ask(group.old.position())
            group.trunk.resume(group)

    def _leave(self, group: Group) -> None:
        """Clients whose next lobby knows their place, or never will, leave the old one's stream and join at once."""
        del self._scouting[group]
        joining = group.leave()
        if joining.clients:
            joining.trunk.resume(joining)

    def _call_back(self, group: Group) -> None:
        """The lobby to which clients were about to move is gone: they need another seat, and stay where they are."""
        del self._scouting[group]
        if group.timer is not None:
            group.timer.cancel()
        for client in group.clients:
            seat_of(client).group = None
            if group.old is not None:
                self._schedule_move(client, group.old)

    def _discard(self, group: Group, client: ClientConnection) -> None:
        """A client that was about to move has disconnected."""
        group.discard(client)
        if group.scouting:
            self._release(group.trunk, 1)
            if not group.clients:
                self._scouting.pop(group, None)

    # Helpers

    def _position(self, client: ClientConnection) -> Position | None:
        """The place after the messages that a client on a stream was sent; None: not known."""
        for trunk in self._trunks.values():
            if trunk.bus is client.bus:
                offset = trunk.offset - client.waiting_of_stream
                return Position(trunk.epoch, offset) if trunk.epoch != NO_EPOCH and offset >= 0 else None
        return None

    def _forward(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
        """Sends a client's message to the origin; holds it while the client has no lobby."""
        number = self._forwarders.get(client)
        if number is None:
            number = self._forwarders[client] = next(self._numbers) & 0xFFFFFFFF
        trunk = seat_of(client).trunk
        if trunk is not None:
            self.stats.fates["forwarded" if trunk.forward(number, opcode, payload) else "undeliverable"] += 1
        elif not self._held.put(client, opcode, payload, self._loop.time()):
            self.stats.fates["undeliverable"] += 1

    def _forward_held(self) -> None:
        """Forwards the held messages of clients that have a lobby again."""
        if self._held:
            for message in self._held.pop_all(lambda client: seat_of(client).trunk is not None):
                self._forward(message.sender, message.opcode, message.payload)

    def _accept(self, pending: PendingClient, trunk: Trunk) -> None:
        """Accepts a waiting client that has a seat now."""
        if pending.response.form is not ResponseForm.PROXY:  # the Lobby was changed to Proxy meanwhile
            self._redirect(pending, trunk.id)
            self._release(trunk, 1)
            return
        if pending.response.subprotocols and trunk.subprotocol is None:
            self._undecided[pending] = trunk
            pending.handshake.on_abandoned = lambda: self._abandoned(pending)
            self._loop.call_later(self._trunk_settings.subprotocol_wait_seconds, self._decide, pending)
            return
        self._complete(pending, trunk)

    def _decide(self, pending: PendingClient) -> None:
        """A client has waited for the origin's choice, which is known or late."""
        trunk = self._undecided.pop(pending, None)
        if trunk is not None:
            self._complete(pending, trunk)

    def _abandoned(self, pending: PendingClient) -> None:
        """A client disconnected while it waited for the origin's choice."""
        trunk = self._undecided.pop(pending)
        pending.permit.release()
        self._release(trunk, 1)

    def _complete(self, pending: PendingClient, trunk: Trunk) -> None:
        """Answers 101 to a client that has a seat."""
        sock = pending.accept(trunk.subprotocol)
        if sock is None:
            self._release(trunk, 1)
            return
        resume = pending.response.resume
        client = ClientConnection(
            sock,
            loop=self._loop,
            policy=self._policy,
            owner=self,
            deflate=pending.response.extensions is not None,
            context=ClientSeat(pending.permit, resume=resume) if resume else ClientSeat(pending.permit, trunk=trunk),
        )
        self.clients[client] = None
        if resume:
            self._resuming.add(client)
            for group in regroup([client], trunk):
                trunk.resume(group)
        else:
            trunk.bus.attach(client, replay=trunk.latest())
            if trunk.moving:
                self._schedule_move(client, trunk)
        logger.debug("client connected", extra={"address": pending.permit.address, "lobby": trunk.id.name})
        client.feed(pending.handshake.leftover)

    def _redirect(self, pending: PendingClient, lobby: LobbyId) -> None:
        """Redirects a waiting client to a lobby."""
        template = self.lobby.spec.routing.redirect.url_template
        key = self._token_keys.signing_key(time.monotonic())
        request, namespace = pending.handshake.request, self.lobby.namespace
        try:
            ticket = new_ticket(template, lobby, request, key, time.time(), namespace=namespace)
        except RedirectError as error:
            if self._redirect_problem != str(error):  # not for each client
                self._redirect_problem = str(error)
                logger.warning("clients can't be redirected", extra={"lobby": self.lobby.key, "problem": str(error)})
            pending.refuse(close_codes.NO_REDIRECT)
            return
        self._redirect_problem = ""
        pending.redirect(ticket)
        form = pending.response.form
        self.stats.redirects[ResponseForm.JSON if form is ResponseForm.JSON else ResponseForm.LOCATION] += 1

    def _schedule_move(self, client: ClientConnection, trunk: Trunk) -> None:
        seat = seat_of(client)
        if seat.waiter is None and not client.closing:
            seat.waiter = self._queue.wait(client, Rank.MOVING, self._loop.time(), leaving=trunk.id)

    def _requeue(self, client: ClientConnection, position: Position | None, now: float) -> None:
        """A client has lost its seat: it waits for another one, ahead of all others."""
        seat = seat_of(client)
        if seat.waiter is not None:
            self._queue.leave(seat.waiter)
        seat.trunk = seat.group = None
        seat.position = position
        seat.waiter = None
        if not client.closing and not self._closing:
            seat.waiter = self._queue.wait(client, Rank.LOST, now)

    def _release_old_seats(self, group: Group) -> None:
        if group.old is not None and group.old_seats:
            self._release(group.old, group.old_seats)
            group.old_seats = 0

    def _release(self, trunk: Trunk, seats: int) -> None:
        if trunk.lost:
            return  # and the seats with it
        trunk.release(seats)
        self._queue.released(trunk.id)
        self._close_if_unused(trunk)
        if len(self._queue):
            self._wake()

    def _close_if_unused(self, trunk: Trunk) -> None:
        if (trunk.moving or self.removed) and trunk.unused:
            self._close_trunk(trunk)  # the lobby is waiting for that

    def _close_trunk(self, trunk: Trunk) -> None:
        if self._trunks.get(trunk.id) is trunk:
            del self._trunks[trunk.id]
        for group in trunk.groups:  # whose clients have all disconnected
            self._release_old_seats(group)
        trunk.close()

    def _ledger(self, lobby: LobbyId) -> SeatLedger | None:
        trunk = self._trunks.get(lobby)
        return trunk.ledger if trunk is not None else None

    def _trunk(self, lobby: LobbyId) -> Trunk:
        trunk = self._trunks.get(lobby)
        if trunk is None:
            trunk = self._trunks[lobby] = Trunk(
                lobby,
                self,
                greeter=self._greeter,
                token_keys=self._token_keys,
                namespace=self.lobby.namespace,
                replay=self.lobby.spec.clients.replay,
                stats=self.bus_stats,
                limits=self._policy.queue,
                spawn=self._spawn,
                batch_seconds=self._policy.batch_seconds,
                identity=identity_of(self.lobby.spec.origin.identity),
                settings=self._trunk_settings,
            )
        return trunk

    def _wake(self) -> None:
        if self._pump_handle is None and not self._closing:
            self._pump_handle = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Starts moves that are due, refuses clients that waited too long, hands out tickets, sends claims; sets the timer."""
        self._pump_handle = None
        now = self._loop.time()
        queue = self._queue
        queue.start_moves(now)
        for waiter in queue.expired(now):
            if isinstance(waiter.client, PendingClient):
                waiter.client.refuse(close_codes.NO_SEAT)
            else:
                seat_of(waiter.client).waiter = None
                waiter.client.close(close_codes.NO_SEAT_LEFT)
        redirecting = self.lobby.spec.routing.mode is RoutingMode.REDIRECT
        if redirecting:
            for client, lobby in queue.tickets(now):
                if isinstance(client, PendingClient):
                    self._redirect(client, lobby)
        if not redirecting or queue.displaced:
            for claim in queue.claims(now):
                self._trunk(claim.lobby).claim(claim.seats)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = queue.wake_at(now)
        if wake_at is not None:
            self._timer = self._loop.call_at(wake_at, self._wake)
