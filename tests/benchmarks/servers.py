"""The servers that are measured, each started on the measured core, behind one interface."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from lobby_gateway.model.schema import validate_and_default
from lobby_gateway.model.token import Purpose, key_from_hex, sign

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUILT = ROOT / ".cache" / "benchmarks"
MODULES = ROOT / ".cache" / "npm" / "node_modules"
MEASURED_CORE, OTHER_CORE = "0", "1"
MAX_SEATS = 4096


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        port: where clients connect.
        paths: one for each client in turn.
        holder: id of the process that holds the clients.
        processes: ids of all processes that a message goes through.
    """

    port: int
    paths: tuple[str, ...]
    holder: int
    processes: tuple[int, ...]


def build() -> None:
    """Compiles the C programs.

    Raises:
        subprocess.CalledProcessError: gcc has something to say.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    for name in ("load", "fan_out"):
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(BUILT / name), str(HERE / "c" / f"{name}.c")]
        subprocess.run(command, check=True)


def available() -> dict[str, str]:
    """Names of the servers that this machine can run, with a sentence for each that it can't."""
    missing = {}
    if shutil.which("node") is None or not (MODULES / "ws").is_dir():
        missing["npm ws"] = "node, or its package ws, is not there (make tools)"
    return missing


@contextmanager
def serving(name: str, origin_port: int, clients: int, python: str) -> Iterator[Server]:
    """Starts a server for so many clients of an origin; ends it afterwards."""
    with ExitStack() as stack:
        if name == "C loop":
            yield _simple(stack, [str(BUILT / "fan_out"), str(origin_port)])
        elif name == "websockets.broadcast":
            yield _simple(stack, [python, str(HERE / "peers" / "broadcast.py"), str(origin_port)])
        elif name == "npm ws":
            yield _simple(stack, ["node", str(HERE / "peers" / "ws.js"), str(origin_port)])
        else:
            yield _ours(stack, origin_port, clients, python, proxied=name == "lobby + greeter")


def _simple(stack: ExitStack, command: list[str]) -> Server:
    process = _start(stack, command, MEASURED_CORE)
    return Server(int(_line(process)), ("/",), process.pid, (process.pid,))


def _ours(stack: ExitStack, origin_port: int, clients: int, python: str, *, proxied: bool) -> Server:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    key = secrets.token_hex(32)
    resource = validate_and_default(
        {
            "apiVersion": "lobby-gateway.io/v1alpha1",
            "kind": "Lobby",
            "metadata": {"name": "bench"},
            "spec": {
                "origin": {"url": f"ws://127.0.0.1:{origin_port}/"},
                "clients": {"seats": min(clients, MAX_SEATS)},
            },
        },
        "benchmark",
    )
    names = [f"bench-{n}" for n in range(1, -(-clients // MAX_SEATS) + 1)]
    file = folder / "lobby.json"
    file.write_text(json.dumps(resource), encoding="utf-8")
    command = [python, "-m", "lobby_gateway.lobby", "--file", str(file), "--validated", "--name"]
    lobbies = [_start(stack, [*command, name], OTHER_CORE if proxied else MEASURED_CORE, key=key) for name in names]
    addresses = [f"127.0.0.1:{json.loads(_line(lobby))['port']}" for lobby in lobbies]
    if not proxied:
        expires = time.time() + 600
        paths = (
            sign(key_from_hex(key), purpose=Purpose.SEAT, lobby=names[0], path="/bench", expires=expires)
            for _ in range(max(clients, 512))
        )
        port = int(addresses[0].rpartition(":")[2])
        return Server(port, tuple(f"/bench?token={each}" for each in paths), lobbies[0].pid, (lobbies[0].pid,))
    greeter = _start(
        stack, [python, "-m", "lobby_gateway.greeter", "--directory-from-stdin"], MEASURED_CORE, key=key, piped=True
    )
    pairs = zip(names, addresses, strict=True)
    openings = [{"name": name, "address": address, "clients": 0, "seats": MAX_SEATS} for name, address in pairs]
    resource["status"] = {"open": openings, "latest": openings[0]}
    assert greeter.stdin is not None
    greeter.stdin.write(json.dumps({"items": [resource]}) + "\n")
    greeter.stdin.flush()
    port = json.loads(_line(greeter))["port"]
    return Server(port, ("/bench",), greeter.pid, (greeter.pid, *(lobby.pid for lobby in lobbies)))


def _start(
    stack: ExitStack, command: list[str], core: str, *, key: str = "", piped: bool = False
) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "LOBBY_TOKEN_KEY": key,
        "LOBBY_LOG_LEVEL": "warning",
        "NODE_PATH": str(MODULES),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "gateway"), *(path for path in sys.path if "site-packages" in path)]),
    }
    process = subprocess.Popen(
        ["taskset", "-c", core, *command],
        stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    pipes: list[IO[str] | None] = [process.stdin, process.stdout]
    for pipe in pipes:
        if pipe is not None:
            pipe.close()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended before it listened")
    return line
