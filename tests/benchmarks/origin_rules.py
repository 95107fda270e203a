"""What rules and expressions cost a lobby: CPU time for a message, memory, and time to connect. Prints tables in Markdown.

    PYTHONPATH=. .venv/bin/python -m tests.benchmarks.origin_rules

The figures are in docs/origins/README.md, "What rules cost". Each is the least of many runs, so it may run on a machine that does
other things, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.lobby import lobby_process
from tests.support.specs import origin_spec, resolved
from tests.support.swarm import Swarm
from tests.support.waiting import until
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from lobby_gateway.origin.session import OriginSession
from lobby_gateway.origin.states import State
from lobby_gateway.websocket.frames import Batch, Opcode, frame

MESSAGES = 4000  # of each run
IN_ONE_READ = 800
CLIENTS = 512
LOBBIES = 3  # whose memory is compared
CONNECTIONS = 60

RULES: list[dict[str, Any]] = [
    {"contains": '"ping"', "when": "has(msg.ping)", "forward": False},
    {"contains": '"error"', "when": "has(msg.error)", "end": {"reason": "msg.error"}},
    {"contains": '"heartbeat"', "when": 'msg.type == "heartbeat"', "forward": False},
    {"contains": '"notice"', "when": "msg.code == 64008", "forward": False},
    {"contains": '"subscribed"', "when": "has(msg.subscribed)", "forward": False},
]
LAST_HIT = [*RULES[1:], RULES[0]]  # the rule that matches is the last one
SAVING = {"contains": '"cursor"', "save": {"cursor": "msg.cursor"}}
SAVED: dict[str, Callable[[int], object]] = {
    "a text of 30 characters": lambda number: f"{number:030}",
    "a list of 56 KB": lambda number: [f"{number:06}-{each:06}-{'x' * 23}" for each in range(1400)],
}
LOGIN: dict[int, list[dict[str, Any]]] = {
    0: [],
    1: [{"send": "subscribe"}],
    3: [
        {"send": '{"login":"$(hex(hmac("SHA256", "secret", string(now))))","at":$(nowMillis)}'},
        {"expect": {"json": {"/ok": True}, "save": {"token": "msg.token"}, "timeoutSeconds": 20}},
        {"send": '{"subscribe":"$(saved.token)"}'},
    ],
}
JWT: list[dict[str, Any]] = [{"send": '{"login":"$(jwt("ES256", KEY, {"exp": now + 120}, {}))"}'}, *LOGIN[3][1:]]
SECRETS = [{"name": "KEY", "secretKeyRef": {"name": "feed", "key": "key"}}]
# What is compiled in a process would stay in its memory; an image has all bytecode.
WITH_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


def data(**fields: object) -> bytes:
    """A message of 300 bytes."""
    message = {"channel": "trades", "sequence": 123456, **fields, "trades": [{"price": "64123.5", "size": "0.001"}]}
    text = json.dumps({**message, "padding": ""})
    return json.dumps({**message, "padding": "x" * (300 - len(text))}).encode()


# CPU time


def session(rules: Sequence[dict[str, Any]]) -> OriginSession:
    """A session whose stream flows."""
    spec = origin_spec(onMessage=list(rules), connect="Always")
    made = OriginSession(
        spec,
        dialogue=resolved(spec).dialogue,
        fraction=lambda: 0.5,
        wall_clock=time.time,
    )
    made.start(0.0)
    made.opened(0.0)
    made.commands()
    assert made.state is State.STREAMING
    return made


def least(runs: int, work: Callable[[], None], messages: int) -> float:
    """Least CPU time of several runs, in µs for a message."""
    taken = []
    for _ in range(runs):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken) / messages * 1e6


def us_a_message(runs: int, rules: Sequence[dict[str, Any]], message: bytes, in_one_read: int) -> float:
    """CPU time of everything that a session does for a message."""
    made = session(rules)
    one = frame(Opcode.TEXT, message)
    reads = MESSAGES // in_one_read

    def work() -> None:
        for read in batches:
            made.receive([read], 1.0)
            made.commands()

    taken = []
    for _ in range(runs):
        batches = [Batch.of([one] * in_one_read) for _ in range(reads)]
        taken.append(least(1, work, reads * in_one_read))
    return min(taken)


def saving(runs: int, value: Callable[[int], object]) -> tuple[float, float]:
    """CPU time for a message of which a new value is saved, in µs, and for the line that is shown next, in ms."""
    made = session([SAVING])
    taken, shown = [], []

    def show() -> None:
        made.redacted("the origin closed the connection: 4000 (bad cursor)")

    for run in range(runs):
        numbers = range(run * 100, run * 100 + 100)
        batches = [Batch.of([frame(Opcode.TEXT, data(cursor=value(number)))]) for number in numbers]

        def work(batches: list[Batch] = batches) -> None:
            for read in batches:
                made.receive([read], 1.0)
                made.commands()

        taken.append(least(1, work, len(batches)))
        shown.append(least(1, show, 1000))
    return min(taken), min(shown)


def cpu(runs: int) -> Iterator[str]:
    """The table of CPU times."""
    plain, ping = data(), data(ping=1)
    yield f"| rules | one message in a read | {IN_ONE_READ} in a read | a hit by the last rule |"
    yield "| --- | --- | --- | --- |"
    for rules in ([], LAST_HIT[-1:], LAST_HIT):
        single, many = (us_a_message(runs, rules, plain, count) for count in (1, IN_ONE_READ))
        hit = f"{us_a_message(runs, rules, ping, 1):.0f} µs" if rules else ""
        yield f"| {len(rules)} | {single:.2f} µs | {many:.3f} µs | {hit} |"
    yield ""
    yield "| each message brings a new value to save | a message | a line that is shown |"
    yield "| --- | --- | --- |"
    for name, value in SAVED.items():
        message, line = saving(runs, value)
        yield f"| {name} | {message:.0f} µs | {line:.1f} ms |"
    yield ""

    def parse() -> None:
        for _ in range(MESSAGES):
            json.loads(plain)

    yield f"`json.loads` of the same message: {least(runs, parse, MESSAGES):.1f} µs"


# Memory and time to connect


def resource(url: str, *, rules: Sequence[dict[str, Any]] = (), steps: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A Lobby."""
    reconnect = {"minMilliseconds": 10, "maxMilliseconds": 10}
    origin = {"url": url, "connect": "Always", "onMessage": rules, "onConnect": steps, "reconnect": reconnect}
    origin["secrets"] = SECRETS if steps == JWT else []
    return {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": "rules"},
        "spec": {"origin": json.loads(json.dumps(origin)), "clients": {"seats": CLIENTS}},
    }


def new_es256_key() -> str:
    """A private key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def talk(connection: ServerConnection) -> None:
    """An origin that accepts a login, and sends data and pings."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            for fields in ({}, {}, {"ping": 1}):
                await connection.send(data(**fields).decode())
                await asyncio.sleep(0.01)


async def memory_of(rules: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]] = ()) -> tuple[int, int]:
    """Memory of a lobby with all its clients, once each got 100 messages: resident, and what no file backs."""

    async def origin(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            if steps:
                await connection.recv()
                await connection.send('{"ok":true,"token":"t0ken"}')
                await connection.recv()
            await talk(connection)

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(origin, "127.0.0.1", 0))
        port = next(iter(server.sockets)).getsockname()[1]
        made = resource(f"ws://127.0.0.1:{port}/", rules=rules, steps=steps)
        env = {**WITH_BYTECODE, "LOBBY_SECRET_FEED_KEY": new_es256_key()}
        lobby = await stack.enter_async_context(lobby_process(made, env=env))
        swarm = await stack.enter_async_context(Swarm(lobby.client_url, keep=100))
        await swarm.connect_all(CLIENTS)
        await until(lambda: all(len(client.kept) == 100 for client in swarm.clients), deadline=120)
        return lobby.resident(), lobby.own_memory()


async def memory() -> list[str]:
    """The table of memory."""
    kinds: dict[str, dict[str, Any]] = {
        "none": {"rules": ()},
        "5 rules without an expression": {
            "rules": [{"contains": rule["contains"], "forward": False} for rule in RULES[1:]] + [{"contains": "§"}]
        },
        "5 rules and 3 steps with expressions": {"rules": RULES, "steps": LOGIN[3]},
        "the same with a JWT (ES256)": {"rules": RULES, "steps": JWT},
    }
    lines = [
        f"| rules and steps | a lobby with {CLIENTS} clients | of that, its own |",
        "| --- | --- | --- |",
    ]
    for name, fields in kinds.items():
        found = [await memory_of(**fields) for _ in range(LOBBIES)]
        resident, own = (min(each) / 2**20 for each in zip(*found, strict=True))
        lines.append(f"| {name} | {resident:.1f} MiB | {own:.1f} MiB |")
    return lines


async def seconds_to_connect(steps: Sequence[dict[str, Any]]) -> list[float]:
    """Times from the arrival of the TCP connection to the last message of the script."""
    taken: list[float] = []
    done = asyncio.Event()

    class Timed(ServerConnection):
        arrived = 0.0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.arrived = time.perf_counter()
            super().connection_made(transport)

    async def origin(connection: ServerConnection) -> None:
        assert isinstance(connection, Timed)
        with contextlib.suppress(ConnectionClosed):
            for step in steps:
                if "send" in step:
                    await connection.recv()
                else:
                    await connection.send('{"ok":true,"token":"t0ken"}')
            taken.append(time.perf_counter() - connection.arrived)
            if len(taken) == CONNECTIONS:
                done.set()
            await connection.close(1012)

    async with serve(origin, "127.0.0.1", 0, create_connection=Timed) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        made = resource(f"ws://127.0.0.1:{port}/", steps=steps)
        async with lobby_process(made, env=WITH_BYTECODE), asyncio.timeout(120):
            await done.wait()
    return taken


async def connecting() -> list[str]:
    """The table of times to connect."""
    lines = ["| steps | least | median |", "| --- | --- | --- |"]
    for count, steps in LOGIN.items():
        taken = await seconds_to_connect(steps)
        lines.append(f"| {count} | {min(taken) * 1e3:.1f} ms | {statistics.median(taken) * 1e3:.1f} ms |")
    return lines


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="of each measurement of CPU time")
    options = parser.parse_args()
    print("\n".join(cpu(options.runs)), end="\n\n")
    print("\n".join(asyncio.run(memory())), end="\n\n")
    print("\n".join(asyncio.run(connecting())))


if __name__ == "__main__":
    main()
