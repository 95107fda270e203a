"""Servers that nobody here wrote, from npm and Debian, each sending numbered ticks: origins for the manifests in docs/origins.

The times at which they ping, and after which they give up a client, are scaled down: `lobby` says how the manifest is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tests.support import npm_tools
from tests.support.processes import ROOT, WITH_PARENT, Process, free_port, running
from tests.support.waiting import until

MANIFESTS = ROOT / "docs" / "origins"
SCRIPTS = ROOT / "tests" / "support" / "servers"
TICK_SECONDS = 0.1
NATS_TICK_SECONDS = 1.3  # longer than its ping interval: it does not ping while messages flow
START_DEADLINE = 60.0
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"  # Debian's brokers are in sbin
_MQTT_TOPIC = b"\x00\x05ticks"
_SEQ = re.compile(rb'"seq":(\d+)')
_HEAD = re.compile(rb'"number":"0x([0-9a-f]+)"')
Spec = dict[str, Any]


def numbered(payload: bytes) -> list[int]:
    """The numbers in a message; NATS puts several of its messages into one when it is late."""
    return [int(each) for each in _SEQ.findall(payload)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServer:
    """One server.

    Attributes:
        name: of its manifest in docs/origins.
        program: what it is.
        run: runs it during a block; returns the URL for lobbies.
        scale: changes the manifest's origin to the scaled times.
        silence: takes out what the server demands; None: it demands nothing.
        numbers: the numbers of the ticks in a message.
        kept: how many messages each client gets first (`keep`).
        secrets: environment of its lobbies.
        missing: why it is not available; empty if it is.
    """

    name: str
    program: str
    run: Callable[[], AbstractAsyncContextManager[str]]
    scale: Callable[[Spec], None] = lambda _origin: None
    silence: Callable[[Spec], None] | None = None
    numbers: Callable[[bytes], list[int]] = numbered
    kept: int = 0
    secrets: dict[str, str] = field(default_factory=dict)
    missing: str = ""

    def lobby(self, url: str) -> dict[str, Any]:
        """The published manifest, with the address of the server and scaled times."""
        resource: dict[str, Any] = yaml.safe_load((MANIFESTS / f"{self.name}.yaml").read_text())
        resource["spec"]["origin"]["url"] = url
        self.scale(resource["spec"]["origin"])
        return resource

    def silent_lobby(self, url: str) -> dict[str, Any]:
        """The same without the messages that the server demands, under another name."""
        assert self.silence is not None
        resource = self.lobby(url)
        resource["metadata"]["name"] += "-silent"
        resource["spec"]["origin"]["connect"] = "Always"
        self.silence(resource["spec"]["origin"])
        return resource


def _missing(*commands: str, packages: str) -> str:
    absent = [each for each in commands if shutil.which(each, path=_PATH) is None]
    return f"{', '.join(absent)} not found (Debian: {packages})" if absent else ""


def _command(name: str) -> str:
    return shutil.which(name, path=_PATH) or name


# npm


@contextlib.asynccontextmanager
async def _node(script: str, *milliseconds: int, path: str) -> AsyncIterator[str]:
    command = (*WITH_PARENT, npm_tools.NODE or "node", str(SCRIPTS / script), *map(str, milliseconds))
    env = {"NODE_MODULES": str(npm_tools.MODULES), "TICK_MILLISECONDS": str(round(TICK_SECONDS * 1000))}
    async with running(script, *command, env=env, ends_with=None) as process:
        port = (await process.line(r"^listening on (\d+)", deadline=START_DEADLINE))[1]
        yield f"ws://127.0.0.1:{port}{path}"


@contextlib.asynccontextmanager
async def _ganache() -> AsyncIterator[str]:
    async with npm_tools.ethereum_node(block_seconds=1) as node:
        yield node.url


# Debian


@contextlib.asynccontextmanager
async def _action_cable() -> AsyncIterator[str]:
    port = free_port()
    env = {"BEAT_SECONDS": "1", "TICK_MILLISECONDS": str(round(TICK_SECONDS * 1000)), "RACK_ENV": "production"}
    command = (_command("puma"), "--threads", "2:8", "--bind", f"tcp://127.0.0.1:{port}")
    async with running(
        "Action Cable", *WITH_PARENT, *command, str(SCRIPTS / "actioncable.ru"), env=env, ends_with=None
    ) as process:
        await process.line("Listening on", deadline=START_DEADLINE)
        yield f"ws://127.0.0.1:{port}/"


@contextlib.asynccontextmanager
async def _nats() -> AsyncIterator[str]:
    port, for_lobbies = free_port(), free_port()
    config = (
        f'listen: "127.0.0.1:{port}"\nping_interval: "1s"\nping_max: 2\n'
        f'websocket {{ listen: "127.0.0.1:{for_lobbies}", no_tls: true }}\n'
    )
    async with _broker("nats-server", "--config", config=config) as process:
        await process.logged("Server is ready", deadline=START_DEADLINE)
        async with _publishing(port, b'CONNECT {"verbose":false}\r\n', _nats_message, NATS_TICK_SECONDS, b"PONG\r\n"):
            yield f"ws://127.0.0.1:{for_lobbies}/"


def _nats_message(number: int) -> bytes:
    payload = b'{"seq":%d}' % number
    return b"PUB ticks %d\r\n%b\r\n" % (len(payload), payload)


@contextlib.asynccontextmanager
async def _mosquitto() -> AsyncIterator[str]:
    port, for_lobbies = free_port(), free_port()
    config = (
        f"allow_anonymous true\nlistener {port} 127.0.0.1\n"
        f"listener {for_lobbies} 127.0.0.1\nprotocol websockets\nlog_dest stderr\n"
    )
    async with _broker("mosquitto", "-c", config=config) as process:
        await process.logged("mosquitto version .* running", deadline=START_DEADLINE)
        connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04tick"  # keep alive 0: it needs not ping
        async with _publishing(port, connect, _mqtt_message):
            yield f"ws://127.0.0.1:{for_lobbies}/"


def _mqtt_message(number: int) -> bytes:
    packet = _MQTT_TOPIC + b'{"seq":%d}' % number
    return bytes((0x30, len(packet))) + packet


@contextlib.asynccontextmanager
async def _broker(program: str, option: str, *, config: str) -> AsyncIterator[Process]:
    with _readable_file(config) as file:
        async with running(program, *WITH_PARENT, _command(program), option, file, ends_with=None) as process:
            yield process


@contextlib.contextmanager
def _readable_file(text: str) -> Iterator[str]:
    """A file that everybody may read: mosquitto is root no more when it does."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "broker.conf"
        file.write_text(text)
        file.chmod(0o644)
        file.parent.chmod(0o755)
        yield str(file)


@contextlib.asynccontextmanager
async def _publishing(
    port: int, connect: bytes, message: Callable[[int], bytes], seconds: float = TICK_SECONDS, answers: bytes = b""
) -> AsyncIterator[None]:
    """Publishes ticks to a broker over TCP during a block, with `answers` to all that it says."""

    async def open_connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        return None

    reader, writer = await until(open_connection, deadline=START_DEADLINE, describe=f"a broker at port {port}")
    writer.write(connect)

    async def listen() -> None:
        while await reader.read(4096):
            writer.write(answers)

    async def talk() -> None:
        number = 0
        while True:
            await asyncio.sleep(seconds)
            number += 1
            writer.write(message(number))
            await writer.drain()

    tasks = [asyncio.create_task(listen()), asyncio.create_task(talk())]
    try:
        yield
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)
        writer.close()


# Manifests


def _set_every(seconds: int, origin: Spec) -> None:
    for timed in origin["every"]:
        timed["seconds"] = seconds


def _without_rule(word: str, origin: Spec) -> None:
    """Takes the answer out of the rule that has this word: the lobby goes on without it."""
    (rule,) = (rule for rule in origin["onMessage"] if word in rule["when"] and "send" in rule)
    del rule["send"]


def _without_every(origin: Spec) -> None:
    del origin["every"]


def _without_asking_again(origin: Spec) -> None:
    _without_rule("/meta/connect", origin)
    origin["staleSeconds"] = 5  # a server that has forgotten a client says nothing to it


def _fast_mqtt(origin: Spec) -> None:
    first = origin["onConnect"][0]
    assert r"\x00\x3c" in first["sendBytes"], "no keep alive of 60 seconds"
    first["sendBytes"] = first["sendBytes"].replace(r"\x00\x3c", r"\x00\x02")
    _set_every(1, origin)


def _fast_stomp(origin: Spec) -> None:
    first = origin["onConnect"][0]
    assert "heart-beat:10000,10000" in first["send"]
    first["send"] = first["send"].replace("10000,10000", "1500,1500")
    _set_every(1, origin)


def _fast_beats(origin: Spec) -> None:
    origin["staleSeconds"] = 4


SERVERS = (
    RealServer(
        name="socketio",
        program="npm's socket.io",
        run=partial(_node, "socketio.js", 1000, 2000, path="/socket.io/?EIO=4&transport=websocket"),
        silence=partial(_without_rule, '"2"'),
        missing=npm_tools.skip_reason("socket.io"),
    ),
    RealServer(
        name="graphql-transport-ws",
        program="npm's graphql-ws",
        run=partial(_node, "graphql_ws.js", 1000, path="/graphql"),
        missing=npm_tools.skip_reason("graphql-ws"),
    ),
    RealServer(
        name="socketcluster",
        program="npm's socketcluster-server",
        run=partial(_node, "socketcluster.js", 800, 3000, path="/socketcluster/"),
        silence=partial(_without_rule, '""'),
        missing=npm_tools.skip_reason("socketcluster-server"),
    ),
    RealServer(
        name="stomp",
        program="npm's stomp-broker-js",
        run=partial(_node, "stomp.js", 1500, 1500, path="/ws"),
        scale=_fast_stomp,
        silence=_without_every,
        secrets={"LOBBY_SECRET_STOMP_USER": "anyone", "LOBBY_SECRET_STOMP_PASS": "anything"},
        missing=npm_tools.skip_reason("stomp-broker-js"),
    ),
    RealServer(
        name="bayeux",
        program="npm's faye",
        run=partial(_node, "faye.js", 1500, path="/faye"),
        silence=_without_asking_again,
        missing=npm_tools.skip_reason("faye"),
    ),
    RealServer(
        name="ethereum",
        program="npm's ganache",
        run=_ganache,
        numbers=lambda payload: [int(each, 16) for each in _HEAD.findall(payload)],
        kept=2,
        missing=npm_tools.skip_reason("ganache"),
    ),
    RealServer(
        name="nats",
        program="nats-server",
        run=_nats,
        silence=partial(_without_rule, "PING"),
        missing=_missing("nats-server", packages="nats-server"),
    ),
    RealServer(
        name="mqtt",
        program="mosquitto",
        run=_mosquitto,
        scale=_fast_mqtt,
        silence=_without_every,
        missing=_missing("mosquitto", packages="mosquitto"),
    ),
    RealServer(
        name="actioncable",
        program="Rails' Action Cable",
        run=_action_cable,
        scale=_fast_beats,
        missing=_missing("puma", packages="puma, ruby-actioncable"),
    ),
)
