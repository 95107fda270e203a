from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from tests.support.peers import raw_server
from tests.support.sockets import run
from tests.support.streams import SeatsOnly, numbered, numbers
from tests.support.waiting import stays, until

from lobby_gateway import close_codes
from lobby_gateway.settings import TrunkConsumerSettings, TrunkServerSettings
from lobby_gateway.trunk.consumer_connection import TrunkConsumerConnection, connect_trunk
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.records import (
    MAX_FORWARD_BYTES,
    PATH,
    SUBPROTOCOL,
    FromServer,
    Granted,
    Messages,
    Move,
    MoveReason,
    Replay,
    Resumed,
    Status,
    Welcome,
)
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server import TrunkServer
from lobby_gateway.trunk.server_connection import TrunkServerConnection
from lobby_gateway.websocket.client_handshake import ConnectFailedError, HandshakeRefusedError
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, frame
from lobby_gateway.websocket.listener import Handshake, Listener, listen

QUIET = TrunkServerSettings(status_seconds=60, consumer_timeout_seconds=60)
IMPATIENT = TrunkConsumerSettings(lobby_timeout_seconds=0.1)


class Listening:
    """Writes down what it is told, all in one order."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.epochs = 0

    def trunk_epoch(self) -> None:
        self.epochs += 1

    def trunk_messages(self, batch: Batch) -> None:
        self.told.append(numbers(batch))

    def trunk_record(self, record: FromServer) -> None:
        self.told.append((record.id, numbers(record.batch)) if isinstance(record, Replay) else record)

    def trunk_lost(self, problem: str) -> None:
        self.told.append(problem)

    async def until(self, count: int) -> list[object]:
        await until(lambda: len(self.told) >= count, every=0.002, describe=lambda: str(self.told))
        return self.told


class Lobby(SeatsOnly):
    """A lobby that listens, and takes every trunk with the right token."""

    def __init__(self) -> None:
        super().__init__(4)
        self.ring = MessageRing(100)
        self.ring.begin_epoch(1)
        self.listener = Listener(listen("127.0.0.1", 0), self)
        self.listener.start()
        self.trunks: list[TrunkServerConnection] = []
        self.forwarded: list[tuple[int, bytes]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.port}"

    def arrived(self, handshake: Handshake) -> None:
        assert handshake.request.path == PATH
        if handshake.request.headers.get("authorization") != "Bearer good":
            handshake.refuse(close_codes.BAD_TOKEN)
            return
        loop = asyncio.get_running_loop()
        sock = handshake.accept(subprotocol=SUBPROTOCOL)
        assert sock is not None
        server = TrunkServer(self, self.ring, now=loop.time(), settings=QUIET)
        self.trunks.append(
            TrunkServerConnection(
                sock,
                loop,
                server,
                forward=lambda message: self.forwarded.append((message.opcode, message.payload)),
                on_closed=self.trunks.remove,
                leftover=handshake.leftover,
            )
        )

    def publish(self, batch: Batch) -> None:
        self.ring.append(batch)
        for trunk in self.trunks:
            trunk.wake()

    def close(self) -> None:
        self.listener.close()
        for trunk in list(self.trunks):
            trunk.abort()


def with_lobby(main: Callable[[Lobby, Listening], Awaitable[None]]) -> None:
    async def bounded() -> None:
        lobby = Lobby()
        try:
            await main(lobby, Listening())
        finally:
            lobby.close()

    run(bounded())


async def connect(lobby: Lobby, listener: Listening, replay: int = 0) -> TrunkConsumerConnection:
    return await connect_trunk(lobby.address, token="good", name="g", listener=listener, replay=replay)


def test_the_stream_arrives_in_order_after_the_welcome() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        lobby.publish(numbered([0, 1, 2]))
        trunk = await connect(lobby, listening, replay=2)
        assert listening.told == []
        await listening.until(2)
        lobby.publish(numbered([3]))
        await listening.until(3)
        lobby.publish(numbered([4, 5]))
        assert await listening.until(4) == [
            Welcome(False, 1, True, 4, 4, 1, 1, "prices-1", (digest(b"0"),), behind=2),
            [1, 2],
            [3],
            [4, 5],
        ]
        assert trunk.position() == lobby.ring.position()
        assert trunk.open
        assert repr(trunk) == "<TrunkConsumerConnection to prices-1: 0 seats>"
        trunk.close()

    with_lobby(main)


def test_a_thousand_messages_of_one_read_are_one_batch() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        lobby.publish(numbered(range(1000)))
        assert (await listening.until(2))[1] == list(range(1000))
        trunk.close()

    with_lobby(main)


def test_a_large_message_arrives_whole() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        seen: list[Batch] = []
        listening.trunk_messages = seen.append  # type: ignore[assignment, method-assign]
        trunk = await connect(lobby, listening)
        await listening.until(1)
        batch = Batch.of([frame(Opcode.BINARY, bytes(5_000_000))])
        lobby.publish(batch)
        await until(lambda: seen)
        assert seen[0].data == batch.data
        trunk.close()

    with_lobby(main)


def test_seats_are_claimed_at_once_and_released() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        assert [trunk.claim(3), trunk.claim(3)] == [1, 2]  # before the welcome
        assert (await listening.until(3))[1:] == [Granted(1, 3, 1, 0), Granted(2, 1, 0, 1)]
        assert trunk.core.held == lobby.seat_count.taken == 4
        trunk.release(3)
        await until(lambda: lobby.seat_count.taken == 1)
        trunk.close()
        await until(lambda: lobby.seat_count.taken == 0)

    with_lobby(main)


def test_a_group_joins_between_the_messages_where_it_belongs() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        lobby.publish(numbered([0, 1, 2]))
        trunk = await connect(lobby, listening)
        group = trunk.resume(Position(1, 1))
        other = trunk.resume(Position(9, 1))
        await listening.until(4)
        lobby.publish(numbered([3]))
        assert (await listening.until(5))[1:] == [
            (group, [1, 2]),
            Resumed(group, True, 0, 1, 3),
            Resumed(other, False, 2, 1, 3),
            [3],
        ]
        trunk.close()

    with_lobby(main)


def test_clients_messages_reach_the_origin() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        assert trunk.forward(7, Opcode.TEXT, "ünï".encode())
        assert trunk.forward(7, Opcode.BINARY, b"\0")
        await until(lambda: len(lobby.forwarded) == 2)
        assert lobby.forwarded == [(Opcode.TEXT, "ünï".encode()), (Opcode.BINARY, b"\0")]
        trunk.close()

    with_lobby(main)


def test_accepts_no_more_client_messages_than_the_lobby_reads() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        assert not trunk.forward(7, Opcode.BINARY, bytes(MAX_FORWARD_BYTES + 1))
        assert trunk.forward(7, Opcode.BINARY, bytes(MAX_FORWARD_BYTES))  # no turn of the event loop for the lobby
        assert not trunk.forward(7, Opcode.TEXT, b"one more")
        await until(lambda: lobby.forwarded)
        assert trunk.forward(7, Opcode.TEXT, b"now")
        await until(lambda: len(lobby.forwarded) == 2)
        trunk.close()

    with_lobby(main)


def test_move_and_status_are_passed_on() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        lobby.trunks[0].move(MoveReason.STOPPING, 2)
        lobby.origin_connected = False
        lobby.trunks[0].send_status()
        assert (await listening.until(3))[1:] == [Move(MoveReason.STOPPING, 2000), Status(False, 4, 4, 1, 0)]
        assert trunk.core.moving
        assert not trunk.core.origin_connected
        trunk.close()

    with_lobby(main)


def test_after_close_the_listener_is_not_called() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        lobby.publish(numbered([0]))  # on its way
        trunk.close()
        trunk.close()
        await until(lambda: not lobby.trunks)
        assert not trunk.open
        assert not trunk.forward(7, Opcode.TEXT, b"late")
        assert len(listening.told) == 1

    with_lobby(main)


def test_the_listener_may_close_the_trunk_while_it_is_called() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)

        def closing(batch: Batch) -> None:
            listening.told.append(numbers(batch))
            trunk.close()

        listening.trunk_messages = closing  # type: ignore[method-assign]
        for number in range(3):  # three records, most likely in one read
            lobby.publish(numbered([number]))
        await until(lambda: not lobby.trunks)
        assert len(listening.told) == 2, "nothing comes once it is closed"
        assert listening.told[1] == list(range(len(cast(list[int], listening.told[1]))))

    with_lobby(main)


def test_messages_of_one_read_are_passed_on_together_in_order_with_other_records() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        status = Status(True, 4, 4, 1, 3)
        records = [
            Messages(1, 0, numbered([0])),
            Messages(1, 1, numbered([1, 2])),
            status,
            Messages(1, 3, numbered([3])),
            Messages(1, 4, numbered([4])),
        ]
        lobby.trunks[0].sock.send(b"".join(frame(Opcode.BINARY, record.encode()) for record in records))
        assert (await listening.until(4))[1:] == [[0, 1, 2], status, [3, 4]]
        trunk.close()

    with_lobby(main)


def test_messages_before_an_invalid_record_are_passed_on() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        records = [Messages(1, 0, numbered([0])), Messages(1, 1, numbered([1])), Messages(1, 9, numbered([9]))]
        lobby.trunks[0].sock.send(b"".join(frame(Opcode.BINARY, record.encode()) for record in records))
        told = await listening.until(3)
        assert told[1] == [0, 1]
        assert str(told[2]).startswith("broken: MESSAGES: messages before its place are missing")
        assert trunk.position().offset == 2

    with_lobby(main)


def test_the_end_of_the_lobby_is_reported_once_and_the_position_stays_known() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        lobby.publish(numbered([0, 1]))
        await listening.until(2)
        lobby.trunks[0].abort()
        assert (await listening.until(3))[2:] == ["the connection ended"]
        assert not trunk.open
        assert trunk.position() == lobby.ring.position()

    with_lobby(main)


def test_a_close_of_the_lobby_is_reported_with_its_reason() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        await connect(lobby, listening)
        await listening.until(1)
        lobby.trunks[0].close(1001, "bye")
        assert (await listening.until(2))[1:] == ["closed by the lobby: 1001 bye"]
        await until(lambda: not lobby.trunks)
        assert len(listening.told) == 2

    with_lobby(main)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            frame(Opcode.BINARY, Messages(1, 7, numbered([7])).encode()),
            "broken: MESSAGES: messages before its place are missing",
        ),
        (frame(Opcode.BINARY, b"\x81"), "broken: the record has no type and flags (1 of at least 2 bytes)"),
        (frame(Opcode.TEXT, b"hello"), "broken: a text message"),
        (frame(Opcode.CONT, b""), "broken: "),
        (frame(Opcode.CLOSE, close_payload(1012)), "closed by the lobby: 1012"),
    ],
    ids=["gap", "cut off", "text", "no frame", "close"],
)
def test_a_trunk_to_a_lobby_that_breaks_the_protocol_is_closed(data: bytes, problem: str) -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        lobby.trunks[0].sock.send(data)
        told = (await listening.until(2))[1]
        assert isinstance(told, str)
        assert told.startswith(problem)
        assert not trunk.open
        await until(lambda: not lobby.trunks)
        assert len(listening.told) == 2

    with_lobby(main)


def test_a_trunk_to_a_lobby_that_falls_silent_is_closed() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect_trunk(
            lobby.address,
            token="good",
            name="g",
            listener=listening,
            settings=IMPATIENT,
        )
        await listening.until(1)
        assert (await listening.until(2))[1:] == ["no data for 0.1 s"]
        assert not trunk.open
        await until(lambda: not lobby.trunks)

    with_lobby(main)


def test_part_of_a_record_is_a_sign_of_life() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        trunk = await connect(lobby, listening)
        await listening.until(1)
        before = trunk._client.received_at
        data = frame(Opcode.BINARY, Status(True, 4, 4, 1, 0).encode())
        lobby.trunks[0].sock.send(data[:10])
        await until(lambda: trunk._client.received_at > before)
        trunk._timer.cancel()
        trunk._time_passed()
        assert trunk.core._last_received == trunk._client.received_at
        lobby.trunks[0].sock.send(data[10:])
        assert (await listening.until(2))[1:] == [Status(True, 4, 4, 1, 0)]
        trunk.close()

    with_lobby(main)


def test_a_wrong_token_is_refused() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        with pytest.raises(HandshakeRefusedError, match="HTTP 401"):
            await connect_trunk(lobby.address, token="bad", name="g", listener=listening)
        assert listening.told == []

    with_lobby(main)


def test_a_refused_connection_is_an_error() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        address = lobby.address
        lobby.listener.stop_accepting()
        with pytest.raises(ConnectFailedError, match="connection refused"):
            await connect_trunk(address, token="good", name="g", listener=listening)

    with_lobby(main)


def test_a_lobby_that_never_answers_the_handshake_is_an_error() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        held: list[Handshake] = []
        lobby.arrived = held.append  # type: ignore[assignment, method-assign]
        with pytest.raises(ConnectFailedError, match=r"no answer to the handshake within 0\.05 s"):
            await connect_trunk(
                lobby.address,
                token="good",
                name="g",
                listener=listening,
                settings=TrunkConsumerSettings(open_timeout_seconds=0.05),
            )
        assert listening.told == []

    with_lobby(main)


def test_a_server_without_trunks_is_an_error() -> None:
    async def main(lobby: Lobby, listening: Listening) -> None:
        socks = []

        def without(handshake: Handshake) -> None:
            socks.append(handshake.accept())

        lobby.arrived = without  # type: ignore[method-assign]
        with pytest.raises(ConnectFailedError, match="trunks are not served there"):
            await connect(lobby, listening)
        assert listening.told == []
        for sock in socks:
            assert sock is not None
            sock.close()

    with_lobby(main)


@pytest.mark.parametrize("reads", [True, False], ids=["takes bytes", "takes none"])
def test_lobby_that_takes_clients_messages_slowly_is_alive_though_nothing_comes_from_it(reads: bool) -> None:
    async def slow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        writer.write(accept.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: lobby-trunk.v1\r\n\r\n"))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with socket.socket(fileno=os.dup(sock.fileno())) as ours:
            ours.setblocking(False)
            with contextlib.suppress(ConnectionError):
                while not done.is_set():
                    if reads:
                        with contextlib.suppress(BlockingIOError):
                            ours.recv(20_000)
                    await asyncio.sleep(0.02)

    async def main() -> None:
        listening = Listening()
        settings = TrunkConsumerSettings(lobby_timeout_seconds=0.4, heartbeat_seconds=0.1, max_buffered_bytes=8 << 20)
        async with raw_server(slow) as url:
            address = url.removeprefix("ws://").rstrip("/")
            trunk = await connect_trunk(address, token="good", name="g", listener=listening, settings=settings)
            while trunk.forward(7, Opcode.BINARY, bytes(65536)):
                pass
            if reads:
                await stays(lambda: trunk.open, seconds=2, describe=lambda: str(listening.told))
                trunk.close()
            else:
                assert await listening.until(1) == ["no data for 0.4 s"]
            done.set()
            await trunk.wait_closed()

    done = asyncio.Event()
    run(main())
