"""Large, fragmented, empty and broken messages from an origin: clients get each one whole and unchanged, or not at all."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.origins import INVALID_UTF8, FakeOrigin, fragmented
from tests.support.sockets import run
from tests.support.swarm import Client, Swarm
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until
from websockets.frames import Opcode

MIB = 1 << 20
EMOJI = "prix 12 € 🦊 " + "\U0001f468‍\U0001f469‍\U0001f467"
FAST = {"minMilliseconds": 20, "maxMilliseconds": 100}

WHOLE: list[str | bytes] = [
    "",
    b"",
    "a",
    EMOJI,
    bytes(range(256)),
    "x" * 125,
    "x" * 126,
    b"y" * 65535,
    b"y" * 65536,
    "€" * (MIB // 3),
    "z" * MIB,
    bytes(MIB),
]


def all_have(clients: list[Client], messages: int) -> bool:
    return all(len(client.kept) == messages for client in clients)


@pytest.mark.parametrize("compression", ["Off", "Shared"])
def test_messages_arrive_whole_and_with_their_opcode(tmp_path: Path, compression: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, clients_compression=compression)
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, keep=100) as plain,
                Swarm(up.url, keep=100, compression=True) as deflated,
            ):
                await plain.connect_all(5)
                (first, *_) = await deflated.connect_all(5)
                assert first.extensions == (["permessage-deflate"] if compression == "Shared" else [])
                await origin.until_open(1)
                clients = [*plain.clients, *deflated.clients]
                # One at a time: a mailbox of 16 drops messages that arrive faster than the client reads.
                for number, message in enumerate(WHOLE, 1):
                    await origin.send(message)
                    await until(partial(all_have, clients, number), describe=f"message {number} for each client")
                expected = [
                    (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
                    for message in WHOLE
                ]
                for client in clients:
                    assert list(client.kept) == expected

    run(main(), deadline=100)


def test_fragmented_messages_arrive_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            async with lobby_up("-f", file) as up, Swarm(up.url, keep=10) as swarm:
                await swarm.connect_all(5)
                await origin.until_open(1)
                text = EMOJI.encode()
                origin.send_raw(
                    fragmented(*(text[i : i + 1] for i in range(len(text))))  # split inside every character
                    + fragmented(b"", b"bin", b"", b"ary", opcode=2)
                    + fragmented(*([b"m" * 65536] * 16))
                )
                await origin.send("after")
                await until(partial(all_have, swarm.clients, 4), describe=swarm.summary)
                for client in swarm.clients:
                    assert list(client.kept) == [
                        (Opcode.TEXT, text),
                        (Opcode.BINARY, b"binary"),
                        (Opcode.TEXT, b"m" * MIB),
                        (Opcode.TEXT, b"after"),
                    ]

    run(main(), deadline=60)


@pytest.mark.parametrize(
    ("spec", "bad", "code"),
    [
        ({}, INVALID_UTF8, 1007),
        ({}, fragmented(b"\xf0\x9f", b"\xa6"), 1007),
        ({"origin_maxMessageBytes": 2048}, fragmented(b"x" * 2049), 1009),
        ({"origin_maxMessageBytes": 2048}, fragmented(b"x" * 1500, b"x" * 1500), 1009),
        ({}, b"\xf1\x00", 1002),
    ],
    ids=["invalid UTF-8", "UTF-8 cut short", "oversize", "oversize in fragments", "reserved bits"],
)
def test_broken_message_closes_the_origin_connection_and_no_client(
    tmp_path: Path, spec: dict[str, Any], bad: bytes, code: int
) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST, **spec)
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url, keep=10) as swarm:
                await swarm.connect_all(5)
                first = await origin.until_open(1)
                await origin.send(json.dumps({"seq": 1}))
                await swarm.each_has(1)
                origin.send_raw(bad)
                await origin.until_closed(first)
                assert first.close_code == code, first
                await origin.until_connected(2)
                await origin.until_open(1)
                await origin.send(json.dumps({"seq": 2}))
                await swarm.each_has(2)
                assert len(swarm.open) == 5, swarm.summary()
                for client in swarm.clients:
                    assert [payload for _, payload in client.kept] == [b'{"seq": 1}', b'{"seq": 2}']

    run(main(), deadline=60)
