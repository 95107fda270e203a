"""Frames that violate RFC 6455: each gets its close code and ends the connection; other clients are not affected."""

from __future__ import annotations

import asyncio
import os
import struct
import zlib

from tests.support.attack import BOTH_KINDS, BYSTANDERS, Target, attacked
from tests.support.raw_client import RawClient, RawResponse, masked
from tests.support.sockets import run
from tests.support.wire import BINARY, CLOSE, CONT, FIN, PING, PONG, RSV1, RSV2, RSV3, TEXT, raw_frame

LIMIT = 65536


def close(code: int, reason: bytes = b"") -> bytes:
    return masked(FIN | CLOSE, struct.pack("!H", code) + reason)


def deflated(payload: bytes, *, first: int = FIN | RSV1 | TEXT) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return masked(first, (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4])


CASES: dict[str, tuple[bytes, int]] = {
    # §5.1 masking, §5.2 bits, opcodes and lengths
    "no mask": (raw_frame(FIN | TEXT, b"hello"), 1002),
    "no mask on a ping": (raw_frame(FIN | PING), 1002),
    **{f"reserved bit {bit:#x}": (masked(FIN | bit | TEXT, b"x"), 1002) for bit in (RSV1, RSV2, RSV3)},
    "reserved bit on a ping": (masked(FIN | RSV1 | PING), 1002),
    **{f"opcode {opcode:#x}": (masked(FIN | opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "16 bits for a short length": (masked(FIN | TEXT, b"x", size=2), 1002),
    "64 bits for a short length": (masked(FIN | TEXT, b"x" * 200, size=8), 1002),
    "a length with its highest bit": (masked(FIN | TEXT, length=1 << 63), 1002),
    # §5.4, §5.5 fragments and control frames
    "continuation without a message": (masked(FIN | CONT, b"x"), 1002),
    "message within a message": (masked(TEXT, b"x") + masked(FIN | TEXT, b"x"), 1002),
    "fragmented ping": (masked(PING, b"x"), 1002),
    "fragmented close": (masked(CLOSE), 1002),
    "ping of 126 bytes": (masked(FIN | PING, b"x" * 126), 1002),
    "pong of 64 KiB": (masked(FIN | PONG, b"x" * 65536), 1002),
    "close of 126 bytes": (masked(FIN | CLOSE, struct.pack("!H", 1000) + b"x" * 124), 1002),
    # §5.6, §8.1 UTF-8
    "text that is not UTF-8": (masked(FIN | TEXT, b"\xff\xfe"), 1007),
    "text that ends within a character": (masked(FIN | TEXT, "€".encode()[:2]), 1007),
    "surrogate": (masked(FIN | TEXT, b"\xed\xa0\x80"), 1007),
    "overlong slash": (masked(FIN | TEXT, b"\xc0\xaf"), 1007),
    "beyond Unicode": (masked(FIN | TEXT, b"\xf4\x90\x80\x80"), 1007),
    "invalid UTF-8 across two fragments": (masked(TEXT, "€".encode()[:1]) + masked(FIN | CONT, b"x"), 1007),
    # §5.5.1, §7.4 close frames
    "close with half a code": (masked(FIN | CLOSE, b"\x03"), 1002),
    **{f"close with {c}": (close(c), 1002) for c in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)},
    "close reason that is not UTF-8": (close(1000, b"\xff"), 1007),
    # larger than `maxMessageBytes`: refused by its header, before its bytes arrive
    "a byte too many": (masked(FIN | BINARY, b"x" * (LIMIT + 1)), 1009),
    "4 GiB, announced": (masked(FIN | BINARY, length=1 << 32), 1009),
    "half of it twice, and a byte": (masked(TEXT, b"x" * (LIMIT // 2)) * 1 + masked(CONT, b"x" * (LIMIT // 2 + 1)), 1009),
    "fragment after fragment": (masked(BINARY) + masked(CONT, b"x" * 1000) * 66, 1009),
}  # fmt: skip

DEFLATED_CASES: dict[str, tuple[bytes, int]] = {
    # RFC 7692 §6, §7.2
    "reserved bit 1 after the first fragment": (
        deflated(b"hello", first=RSV1 | TEXT) + masked(FIN | RSV1 | CONT), 1002,
    ),
    "reserved bit 1 on a control frame": (masked(FIN | RSV1 | PING), 1002),
    "reserved bit 2": (deflated(b"hello", first=FIN | RSV1 | RSV2 | TEXT), 1002),
    "data that is not deflated": (masked(FIN | RSV1 | BINARY, b"\xff" * 20), 1007),
    "inflated text that is not UTF-8": (deflated(b"\xff\xfe"), 1007),
    "64 MiB in 64 KiB": (deflated(bytes(64 << 20), first=FIN | RSV1 | BINARY), 1009),
}  # fmt: skip


async def attack(target: Target, data: bytes, *, cut: bool = False, deflate: bool = False) -> int:
    """Sends bytes as a connected client; returns the close code."""
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"} if deflate else {}
    async with await target.client(headers) as client:
        if cut:
            for at in range(0, len(data), 1 if len(data) < 500 else 9999):
                await client.send(data[at : at + (1 if len(data) < 500 else 9999)])
                await asyncio.sleep(0)
        else:
            await client.send(data)
        return await client.closed_with()


@BOTH_KINDS
def test_each_violation_gets_its_close_code(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            wrong = {}
            for name, (data, code) in CASES.items():
                early = masked(FIN | TEXT, b"before") + masked(FIN | PING, b"p")
                got = await asyncio.gather(
                    attack(target, data),
                    attack(target, data, cut=True),
                    attack(target, early + data + b"\x81\x80after"),
                )
                if list(got) != [code] * 3:
                    wrong[name] = (code, got)
            assert not wrong
            for label, code in {"protocol_error": 1002, "invalid_data": 1007, "too_big": 1009}.items():
                cases = sum(1 for _, each in CASES.values() if each == code)
                assert await target.count("closes_total", reason=label) == 3 * cases, label

    run(main(), deadline=90)


@BOTH_KINDS
def test_each_violation_of_compression_gets_its_close_code(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, compression=True) as target:
            before = target.resident()
            wrong = {}
            for name, (data, code) in DEFLATED_CASES.items():
                got = await asyncio.gather(
                    attack(target, data, deflate=True), attack(target, data, cut=True, deflate=True)
                )
                if list(got) != [code] * 2:
                    wrong[name] = (code, got)
            assert not wrong
            assert target.resident() - before < 8 << 20, "a bomb was inflated"

    run(main(), deadline=60)


@BOTH_KINDS
def test_a_violation_in_the_same_packet_as_the_handshake_is_detected(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            for data, code in ((raw_frame(FIN | TEXT, b"no mask"), 1002), (masked(FIN | TEXT, b"\xff"), 1007)):
                async with await target.connect(target.request() + data) as client:
                    answer: RawResponse = await client.head()
                    assert answer.status == 101
                    assert await client.closed_with() == code

    run(main(), deadline=60)


@BOTH_KINDS
def test_valid_frames_are_answered(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            for code in (1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999):
                async with await target.client() as client:
                    await client.send(close(code, "bye €".encode()))
                    assert await client.closed_with() == code
            async with await target.client() as client:
                await client.send(masked(FIN | CLOSE))
                assert await client.closed_with() == 1005
            async with await target.client() as client:
                text = "€".encode()
                await client.send(masked(TEXT, text[:1]) + masked(FIN | PING, b"between"))
                pong = await client.control()
                assert pong is not None
                assert (pong.opcode, pong.payload) == (PONG, b"between")
                await client.send(masked(CONT, text[1:2]) + masked(FIN | CONT, text[2:]))
                await client.send(masked(FIN | BINARY, os.urandom(LIMIT)) + masked(FIN | PONG, b"unasked"))
                await client.send(masked(FIN | PING, b"x" * 125))
                pong = await client.control()
                assert pong is not None
                assert pong.payload == b"x" * 125
            assert await target.count("closes_total", reason="by_client") == 14

    run(main(), deadline=60)


@BOTH_KINDS
def test_bytes_after_a_close_frame_are_ignored(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, clients_messages="Reject") as target:
            async with await target.client() as client:
                await client.send(close(1000) + masked(FIN | TEXT, b"\xff") + masked(FIN | PING, b"x"))
                assert await client.closed_with() == 1000
            async with await target.client() as client:
                await client.send(masked(FIN | TEXT, b"rejected") * 5 + raw_frame(FIN | TEXT, b"no mask"))
                frame = await client.control()
                assert frame is not None
                assert frame.close_code == 1008
            assert await target.count("client_messages_total", fate="rejected") == 1

    run(main(), deadline=60)


async def never_answers(target: Target) -> RawClient:
    client = await target.client()
    await client.send(masked(FIN | TEXT, b"\xff"))
    return client


def test_a_client_that_never_answers_a_close_is_disconnected() -> None:
    async def main() -> None:
        async with attacked("greeter") as target:
            clients = [await never_answers(target) for _ in range(20)]
            for client in clients:
                assert await client.closed_with() == 1007  # and leaves its own half open
            await target.lobby.until_clients(BYSTANDERS)  # after the 5 s for which an answer is awaited
            for client in clients:
                client.close()

    run(main(), deadline=60)
