"""A client of another language: npm's `ws`, proxied and redirected, with and without compression."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support import npm_tools
from tests.support.origins import FakeOrigin
from tests.support.processes import ROOT, Process, running
from tests.support.sockets import run
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

LISTEN = str(ROOT / "tests" / "support" / "npm" / "listen.js")

pytestmark = pytest.mark.skipif(bool(npm_tools.why_not("ws")), reason=npm_tools.why_not("ws"))


def has_more_than(client: Process, lines: int) -> bool:
    return len(client.stdout.lines) > lines


@pytest.mark.parametrize("compression", ["Off", "Shared"])
@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_text_binary_empty_emoji_and_large_messages(tmp_path: Path, mode: str, compression: str) -> None:
    async def main() -> None:
        assert npm_tools.NODE is not None
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, clients_compression=compression, routing={"mode": mode})
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                command = (npm_tools.NODE, LISTEN, up.url, json.dumps({"followRedirects": True}))
                env = {"NODE_MODULES": str(npm_tools.MODULES)}
                async with running("ws", *command, env=env, ends_with=None) as client:

                    def got() -> list[Any]:
                        return [json.loads(line) for line in client.stdout.lines]

                    opened = json.loads((await client.line(r'^\["open".*'))[0])
                    assert opened[2] == ("permessage-deflate" if compression == "Shared" else "")
                    await origin.until_open(1)
                    sent: list[str | bytes] = ["hello", "", b"\x00\xff", "€ 🦊", "x" * (1 << 20), b"y" * (1 << 20)]
                    expected = [
                        ["text", len(message.encode()), message[:200]]
                        if isinstance(message, str)
                        else ["binary", len(message), ""]
                        for message in sent
                    ]
                    for message in sent:
                        before = len(got())
                        await origin.send(message)
                        await until(partial(has_more_than, client, before), describe=client.tail)
                    assert got()[1:] == expected

    run(main(), deadline=60)
