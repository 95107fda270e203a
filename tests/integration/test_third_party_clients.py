"""Third-party clients, all on one lobby, proxied and redirected, with and without compression."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.support import third_party
from tests.support.origins import FakeOrigin
from tests.support.sockets import run
from tests.support.third_party import ECHOED, NAMES, ThirdPartyClient, listening
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

MIB = 1 << 20
NOISE = random.Random(0)  # incompressible
BOUNDARIES = (1, 125, 126, 127, 65_535, 65_536)  # where the encoding of a frame length changes
MESSAGES: list[str | bytes] = [
    "hello", "", b"", b"\x00\xff", "€ \N{FOX FACE} \N{FAMILY}\N{ZERO WIDTH JOINER}", "\x00",
    *("t" * size for size in BOUNDARIES), *(NOISE.randbytes(size) for size in BOUNDARIES),
    "\N{FOX FACE}" * (MIB // 4), "x" * MIB, b"y" * MIB, NOISE.randbytes(MIB),
]  # fmt: skip
BURST = [f"message {number}" for number in range(300)]


def line_for(message: str | bytes) -> list[Any]:
    """The line that a client prints for a message."""
    data = message.encode() if isinstance(message, str) else message
    return ["text" if isinstance(message, str) else "binary", len(data), hashlib.sha256(data).hexdigest()]


def size(message: str | bytes) -> int:
    return len(message.encode() if isinstance(message, str) else message)


async def until_output(clients: list[ThirdPartyClient], lines: int) -> None:
    def behind() -> list[str]:
        return [client.tail() for client in clients if len(client.output) < lines]

    await until(lambda: not behind(), deadline=30, describe=lambda: "\n".join(behind()))


@pytest.mark.parametrize("compression", ["Off", "Shared"])
@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_messages_arrive_intact_both_ways(tmp_path: Path, mode: str, compression: str) -> None:
    skipped = [f"{name}: {third_party.skip_reason(name)}" for name in NAMES if third_party.skip_reason(name)]
    names = [name for name in NAMES if not third_party.skip_reason(name)]

    async def main() -> None:
        async with FakeOrigin(subprotocols=["v2.json"]) as origin, contextlib.AsyncExitStack() as stack:
            resource = lobby_resource(
                "prices", origin.url, routing={"mode": mode}, clients_compression=compression,
                clients_messages="Forward", clients_maxMessageBytes=MIB, origin_subprotocols=["v2.json"],
                clients_forward={"messagesPerSecondPerClient": 0, "messagesPerSecond": 0},
            )  # fmt: skip
            up = await stack.enter_async_context(lobby_up("-f", lobby_file(tmp_path, resource)))
            how = {"compress": compression == "Shared", "redirect": mode == "Redirect"}
            clients = [
                await stack.enter_async_context(
                    listening(name, up.url, tmp_path, subprotocols=("v1.json", "v2.json"), **how)
                )
                for name in names
            ]
            connection = await origin.until_open(1, deadline=30)
            await up.until_origin("Connected")
            await until_output(clients, 1)
            for client in clients:
                opened, subprotocol, extensions = client.output[0]
                assert (opened, subprotocol) == ("open", "v2.json"), client.name
                assert extensions.startswith("permessage-deflate") is (compression == "Shared"), client.name

            expected = [["text", len(each), line_for(each)[2]] for each in BURST]
            await origin.send(*BURST)
            await until_output(clients, 1 + len(BURST))
            for message in MESSAGES:
                await origin.send(message)
                expected.append(line_for(message))
                await until_output(clients, 1 + len(expected))
            for client in clients:
                assert client.output[1:] == expected, client.name

            # Each client echoes all but the large messages, masked and perhaps compressed by its own library.
            back = [*BURST, *(each for each in MESSAGES if size(each) <= ECHOED)]
            await origin.until(lambda: len(connection.messages) == len(clients) * len(back), deadline=30)
            assert Counter(connection.messages) == Counter({each: len(clients) * back.count(each) for each in back})
            assert len(await up.until_clients(len(clients))) >= 1

    run(main(), deadline=110)
    if skipped:
        pytest.skip(f"passed without {'; '.join(skipped)}")
