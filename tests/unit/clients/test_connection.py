from __future__ import annotations

import asyncio
import logging
import socket
import struct
import zlib

import pytest
from tests.support.sockets import receive, receive_to_end, run
from tests.support.waiting import until as wait_until
from tests.support.wire import BINARY, CONT, FIN, MASK, RSV1, TEXT, raw_frame
from tests.unit.clients.support import Owner, connect

from lobby_gateway import close_codes
from lobby_gateway.clients.connection import ClientConnection, ClientPolicy, log_disconnect
from lobby_gateway.clients.message_bus import MessageBus
from lobby_gateway.clients.rate_limit import FloodLimit
from lobby_gateway.settings import ClientSettings
from lobby_gateway.websocket.deflate import Inflater
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, frame, masked_frame
from lobby_gateway.websocket.send_progress import SendProgress


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def until_idle(client: ClientConnection) -> None:
    async with asyncio.timeout(5):
        while client.pending:  # noqa: ASYNC110  # the loop has yet to see that there is room
            await asyncio.sleep(0)


async def stays_full(client: ClientConnection) -> None:
    """Returns when the client's kernel takes no more."""
    progress = SendProgress(client.sock, waiting=True)
    await wait_until(lambda: not progress.look(waiting=True), every=0.05)


async def until(owner: Owner, count: int) -> None:
    while len(owner.messages) < count:
        owner.changed.clear()
        await owner.changed.wait()


def test_messages_reach_the_owner_in_order() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner)
        await send(sock, masked_frame(Opcode.TEXT, "ünï".encode()) + masked_frame(Opcode.BINARY, b"\0\1"))
        await until(owner, 2)
        assert owner.messages == [(Opcode.TEXT, "ünï".encode()), (Opcode.BINARY, b"\0\1")]
        client.abort()
        sock.close()

    run(main())


def test_bytes_behind_the_handshake_are_read() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner)
        client.feed(masked_frame(Opcode.TEXT, b"early"))
        assert owner.messages == [(Opcode.TEXT, b"early")]
        client.abort()
        sock.close()

    run(main())


def test_answers_each_of_many_pings_in_order() -> None:  # Autobahn 2.10
    async def main() -> None:
        client, sock = connect(Owner())
        await send(sock, b"".join(masked_frame(Opcode.PING, b"%02d" % n) for n in range(100)))
        pongs = b"".join(frame(Opcode.PONG, b"%02d" % n) for n in range(100))
        assert await receive(sock, len(pongs)) == pongs
        client.abort()
        sock.close()

    run(main())


def test_answers_pings_that_came_before_a_close() -> None:
    async def main() -> None:
        owner = Owner()
        _, sock = connect(owner)
        pings = masked_frame(Opcode.PING, b"1") + masked_frame(Opcode.PING, b"2")
        await send(sock, pings + masked_frame(Opcode.CLOSE, close_payload(1000)))
        pongs = frame(Opcode.PONG, b"1") + frame(Opcode.PONG, b"2")
        assert await receive_to_end(sock) == pongs + frame(Opcode.CLOSE, close_payload(1000))
        assert await owner.until_closed() == "by_client"
        sock.close()

    run(main())


def test_only_the_latest_ping_is_answered_once_the_socket_is_full() -> None:
    async def main() -> None:
        owner = Owner()
        limit = FloodLimit(frames_per_second=0, bytes_per_second=0)
        client, sock = connect(owner, ClientPolicy(flood=limit), receive_buffer=4096)
        sent = 0
        while not client.pending:
            await send(sock, b"".join(masked_frame(Opcode.PING, b"%0125d" % n) for n in range(sent, sent + 100)))
            sent += 100
            await asyncio.sleep(0)
        await send(sock, b"".join(masked_frame(Opcode.PING, b"%0125d" % n) for n in range(sent, sent + 5000)))
        await send(sock, masked_frame(Opcode.TEXT, b"all are read"))
        await until(owner, 1)
        last = frame(Opcode.PONG, b"%0125d" % (sent + 4999))
        stream = b""
        while not stream.endswith(last):
            stream += await receive(sock, 127)
        pongs = [int(stream[at + 2 : at + 127]) for at in range(0, len(stream), 127)]
        assert all(stream[at : at + 2] == b"\x8a\x7d" for at in range(0, len(stream), 127))
        assert pongs == sorted(set(pongs))
        assert len(pongs) < sent + 4000
        await until_idle(client)
        client.abort()
        sock.close()

    run(main())


def test_answers_a_close_with_the_same_code_and_closes_the_connection() -> None:
    async def main() -> None:
        owner = Owner()
        _, sock = connect(owner)
        await send(sock, masked_frame(Opcode.CLOSE, close_payload(1001, "bye")))
        assert await receive_to_end(sock) == frame(Opcode.CLOSE, close_payload(1001))
        assert await owner.until_closed() == "by_client"
        sock.close()

    run(main())


def test_a_close_without_a_code_is_answered_without_one() -> None:
    async def main() -> None:
        owner = Owner()
        _, sock = connect(owner)
        await send(sock, masked_frame(Opcode.CLOSE, b""))
        assert await receive_to_end(sock) == frame(Opcode.CLOSE, b"")
        assert await owner.until_closed() == "by_client"
        sock.close()

    run(main())


def test_our_close_waits_for_the_answer() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner)
        client.close(close_codes.MOVED, "resume=0")
        assert await receive(sock, 12) == frame(Opcode.CLOSE, close_payload(1012, "resume=0"))
        assert not client.closed
        assert client.closing
        await send(sock, masked_frame(Opcode.CLOSE, close_payload(1012)))
        assert await receive_to_end(sock) == b""
        assert await owner.until_closed() == "moved"
        sock.close()

    run(main())


def test_a_client_that_never_answers_our_close_is_cut_off() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner, ClientPolicy(settings=ClientSettings(close_timeout_seconds=0.01)))
        client.close(close_codes.MOVED)
        assert await owner.until_closed() == "moved"
        assert client.closed
        sock.close()

    run(main())


@pytest.mark.parametrize(
    ("data", "code", "label"),
    [
        (frame(Opcode.TEXT, b"not masked"), 1002, "protocol_error"),
        (masked_frame(Opcode.TEXT, b"\xff"), 1007, "invalid_data"),
        (masked_frame(Opcode.TEXT, b"x" * 70000), 1009, "too_big"),
    ],
    ids=["no mask", "no UTF-8", "too large"],
)
def test_a_violation_gets_its_close_code_and_then_the_end_of_the_stream(data: bytes, code: int, label: str) -> None:
    async def main() -> None:
        owner = Owner()
        _, sock = connect(owner)
        await send(sock, data)
        answer = await receive_to_end(sock)
        assert answer[0] == 0x88
        assert struct.unpack("!H", answer[2:4])[0] == code
        sock.close()
        assert await owner.until_closed() == label

    run(main())


def test_the_end_of_the_stream_without_a_close_is_lost() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner)
        sock.close()
        assert await owner.until_closed() == "lost"
        assert client.closed

    run(main())


def test_a_silent_client_is_pinged_and_closed_if_it_does_not_answer() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(
            owner,
            ClientPolicy(ping_seconds=25, settings=ClientSettings(ping_timeout_seconds=20, close_timeout_seconds=0.01)),
        )
        now = asyncio.get_running_loop().time()
        client.check_liveness(now + 24)
        client.check_liveness(now + 26)
        assert await receive(sock, 2) == frame(Opcode.PING, b"")
        client.check_liveness(now + 45)
        assert not client.closing
        client.check_liveness(now + 47)
        assert await owner.until_closed() == "ping_timeout"
        sock.close()

    run(main())


def test_a_pong_keeps_a_client_connected() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner, ClientPolicy(ping_seconds=25, settings=ClientSettings(ping_timeout_seconds=20)))
        now = asyncio.get_running_loop().time()
        client.check_liveness(now + 26)
        await send(sock, masked_frame(Opcode.PONG, b"") + masked_frame(Opcode.TEXT, b"marker"))
        await until(owner, 1)
        client.check_liveness(now + 47)
        assert not client.closing
        client.abort()
        sock.close()

    run(main())


def test_a_client_that_takes_a_large_message_slowly_has_time_to_answer_the_ping_behind_it() -> None:
    async def main() -> None:
        bus = MessageBus()
        owner = Owner()
        policy = ClientPolicy(
            ping_seconds=25, settings=ClientSettings(ping_timeout_seconds=20, close_timeout_seconds=0.01)
        )
        client, sock = connect(owner, policy, receive_buffer=65536)
        bus.attach(client)
        message = Batch.of([frame(Opcode.BINARY, b"." * (4 << 20))])
        bus.publish(message)
        assert client.pending
        now = asyncio.get_running_loop().time() + 26
        client.check_liveness(now)
        left = len(message.data)
        while left > 65536:  # a quarter of the message every 19 seconds
            left -= len(await receive(sock, 65536))
            if left % (1 << 20) < 65536:
                client.check_liveness(now := now + 19)
                assert not client.closing
        await receive(sock, left + 2)  # and the ping
        await until_idle(client)
        client.check_liveness(now := now + 19)
        client.check_liveness(now + 19)
        assert not client.closing
        client.check_liveness(now + 21)  # its answer did not come
        assert await owner.until_closed() == "ping_timeout"
        sock.close()

    run(main())


def test_a_client_that_stops_taking_a_large_message_is_closed() -> None:
    async def main() -> None:
        bus = MessageBus()
        owner = Owner()
        policy = ClientPolicy(
            ping_seconds=25, settings=ClientSettings(ping_timeout_seconds=20, close_timeout_seconds=0.01)
        )
        client, sock = connect(owner, policy, receive_buffer=65536)
        bus.attach(client)
        bus.publish(Batch.of([frame(Opcode.BINARY, b"." * (4 << 20))]))
        await receive(sock, 65536)
        now = asyncio.get_running_loop().time() + 26
        client.check_liveness(now)
        await stays_full(client)
        client.check_liveness(now := now + 1)  # what its kernel took meanwhile
        client.check_liveness(now + 21)
        assert await owner.until_closed() == "ping_timeout"
        sock.close()

    run(main())


def test_control_frames_to_a_full_socket_wait_for_the_end_of_the_begun_message() -> None:
    async def main() -> None:
        bus = MessageBus()
        owner = Owner()
        client, sock = connect(owner, receive_buffer=4096)
        bus.attach(client)
        message = Batch.of([frame(Opcode.BINARY, b"." * 300_000)])
        while not client.pending:
            bus.publish(message)
        for n in range(50):
            await send(sock, masked_frame(Opcode.PING, b"%02d" % n))
        await send(sock, masked_frame(Opcode.TEXT, b"marker"))
        await until(owner, 1)
        client.close(close_codes.NORMAL)
        data = await receive(sock, len(message.data))
        rest = b""
        while not rest.endswith(frame(Opcode.CLOSE, close_payload(1000))):
            rest += await receive(sock, 1)
        assert data == message.data
        stream = (data + rest)[: -len(frame(Opcode.CLOSE, close_payload(1000)))]
        tail = Batch.scan(stream)
        kinds = [tail.opcode(i) for i in range(len(tail))]
        assert kinds.count(Opcode.PONG) <= 2, "a flood of pings leaves one answer waiting"
        client.abort()
        sock.close()

    run(main())


def test_a_client_can_be_aborted_twice_and_notifies_its_owner_once() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner)
        client.abort()
        client.abort()
        client.close(close_codes.NORMAL)
        assert owner.closed == ["lost"]
        sock.close()

    run(main())


def test_owner_may_close_a_client_while_it_reads() -> None:
    class Rejecting(Owner):
        def client_message(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
            super().client_message(client, opcode, payload)
            client.close(close_codes.MESSAGES_REJECTED)

    async def main() -> None:
        owner = Rejecting()
        _, sock = connect(owner)
        await send(sock, masked_frame(Opcode.TEXT, b"1") + masked_frame(Opcode.TEXT, b"2"))
        await send(sock, masked_frame(Opcode.CLOSE, close_payload(1008)))
        answer = await receive_to_end(sock)
        assert struct.unpack("!H", answer[2:4])[0] == 1008
        assert await owner.until_closed() == "messages_rejected"
        assert owner.messages == [(Opcode.TEXT, b"1")]
        sock.close()

    run(main())


FLOODS = {
    "pings": masked_frame(Opcode.PING, b"") * 100,
    "messages": masked_frame(Opcode.TEXT, b"m") * 100,
    "fragments that are no message yet": raw_frame(TEXT, mask=MASK) + raw_frame(CONT, mask=MASK) * 100,
    "bytes": masked_frame(Opcode.BINARY, b"." * 15_000) * 3,
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flooding_client_is_told_and_not_read_any_further(what: str) -> None:
    async def main() -> None:
        owner = Owner()
        limit = FloodLimit(frames_per_second=20, bytes_per_second=10_000, burst_seconds=1)
        client, sock = connect(owner, ClientPolicy(flood=limit, max_message_bytes=20_000))
        await send(sock, FLOODS[what])
        answer = await receive_to_end(sock)
        close_frame = answer[answer.index(b"\x88") :]
        assert struct.unpack("!H", close_frame[2:4])[0] == 1008
        assert close_frame[4:] == b"too many frames or bytes in too short a time"
        assert client.closing
        await send(sock, masked_frame(Opcode.TEXT, b"more"))
        client.abort()
        assert owner.closed == ["flooded"]
        assert (Opcode.TEXT, b"more") not in owner.messages
        sock.close()

    run(main())


def deflated_frame(payload: bytes, *, split: bool = False) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    if not split:
        return raw_frame(FIN | RSV1 | BINARY, data, mask=MASK)
    return raw_frame(RSV1 | BINARY, data[:5], mask=MASK) + raw_frame(FIN | CONT, data[5:], mask=MASK)


@pytest.mark.parametrize("split", [False, True])
def test_inflated_bytes_count_for_the_flood_limit(split: bool) -> None:
    async def main() -> None:
        owner = Owner()
        limit = FloodLimit(frames_per_second=0, bytes_per_second=100_000, burst_seconds=1)
        client, sock = connect(owner, ClientPolicy(flood=limit, max_message_bytes=100_000), deflate=True)
        bomb = deflated_frame(bytes(100_000), split=split)
        assert len(bomb) < 200
        await send(sock, bomb)  # the bucket of two seconds has room for this one
        await until(owner, 1)
        assert not client.closing
        await send(sock, bomb)
        await send(sock, bomb)
        answer = await receive_to_end(sock)
        assert struct.unpack("!H", answer[2:4])[0] == 1008
        assert len(owner.messages) <= 2
        client.abort()
        assert owner.closed == ["flooded"]
        sock.close()

    run(main())


def test_no_more_is_inflated_at_once_than_the_flood_limit_allows() -> None:
    async def main() -> None:
        owner = Owner()
        limit = FloodLimit(frames_per_second=0, bytes_per_second=100_000, burst_seconds=1)
        settings = ClientSettings(deflated_read_bytes=500)
        policy = ClientPolicy(flood=limit, max_message_bytes=100_000, settings=settings)
        bomb = deflated_frame(bytes(100_000))
        for connected in (True, False):
            client, sock = connect(owner, policy, deflate=True)
            inflated: list[int] = []
            inflater = client._parser._deflate
            assert inflater is not None
            client._parser._deflate = Recording(inflater, inflated)  # type: ignore[assignment]
            if connected:
                await send(sock, bomb * 50)
            else:
                client.feed(bomb * 50)  # behind the handshake
            await receive_to_end(sock)
            assert sum(inflated) <= 200_000 + 500 // len(bomb) * 100_000 + 100_000
            client.abort()
            sock.close()
        assert owner.closed == ["flooded", "flooded"]

    run(main())


class Recording:
    """An inflater that records how many bytes it made."""

    def __init__(self, inflater: Inflater, inflated: list[int]) -> None:
        self._inflater = inflater
        self._inflated = inflated

    def inflate(self, payload: bytes) -> bytes:
        plain = self._inflater.inflate(payload)
        self._inflated.append(len(plain))
        return plain


def test_a_message_that_inflating_shortens_counts_as_sent() -> None:
    async def main() -> None:
        owner = Owner()
        limit = FloodLimit(frames_per_second=0, bytes_per_second=1000, burst_seconds=1)
        client, sock = connect(owner, ClientPolicy(flood=limit, max_message_bytes=1000), deflate=True)
        padded = raw_frame(FIN | RSV1 | BINARY, b"\x00\x00\x00\xff\xff" * 150, mask=MASK)  # empty blocks
        await send(sock, padded)
        await until(owner, 1)
        assert owner.messages == [(Opcode.BINARY, b"")]
        await send(sock, padded * 3)
        answer = await receive_to_end(sock)
        assert struct.unpack("!H", answer[2:4])[0] == 1008
        client.abort()
        sock.close()

    run(main())


def test_as_much_as_the_limits_allow_is_not_a_flood() -> None:
    async def main() -> None:
        owner = Owner()
        limit = FloodLimit(frames_per_second=20, bytes_per_second=10_000, burst_seconds=1)
        client, sock = connect(owner, ClientPolicy(flood=limit, max_message_bytes=20_000))
        for _ in range(19):
            await send(sock, masked_frame(Opcode.TEXT, b"m"))
        await send(sock, masked_frame(Opcode.BINARY, b"." * 19_000))
        await until(owner, 20)
        assert not client.closing
        client.abort()
        sock.close()

    run(main())


def test_without_limits_nothing_is_a_flood() -> None:
    async def main() -> None:
        owner = Owner()
        limit = FloodLimit(frames_per_second=0, bytes_per_second=0, burst_seconds=0.001)
        client, sock = connect(owner, ClientPolicy(flood=limit))
        await send(sock, masked_frame(Opcode.TEXT, b"m") * 5000)
        await until(owner, 5000)
        assert not client.closing
        client.abort()
        sock.close()

    run(main())


def test_bytes_behind_the_handshake_of_a_lost_client_are_ignored() -> None:
    async def main() -> None:
        owner = Owner()
        client, sock = connect(owner)
        client.abort()  # the replay could not be sent, say
        client.feed(masked_frame(Opcode.TEXT, b"hello") + 2500 * masked_frame(Opcode.PING, b""))
        assert owner.messages == []
        assert owner.closed == ["lost"]
        sock.close()

    run(main())


@pytest.mark.parametrize(
    ("dropped", "label", "level"),
    [
        (0, close_codes.NORMAL.label, logging.DEBUG),
        (1, close_codes.BY_CLIENT, logging.INFO),
        (0, close_codes.TOO_SLOW.label, logging.INFO),
    ],
)
def test_the_end_of_a_client_that_missed_messages_is_logged_by_default(
    dropped: int, label: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        client, sock = connect(Owner())
        client.dropped = dropped
        log_disconnect(client, label, "192.0.2.7", lobby="shop/prices")
        client.abort()
        sock.close()

    caplog.set_level(logging.DEBUG, "lobby_gateway.clients.connection")
    run(main())
    (record,) = [each for each in caplog.records if each.name == "lobby_gateway.clients.connection"]
    assert (record.levelno, record.getMessage()) == (level, "client disconnected")
    assert (
        vars(record).items()
        >= {"address": "192.0.2.7", "reason": label, "dropped": dropped, "lobby": "shop/prices"}.items()
    )
