"""The contestants: each takes an origin's address and serves clients for the duration of a block."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import build
from tests.benchmarks.children import Child, child
from tests.benchmarks.machine import LOAD_CORE, SERVER_CORE
from tests.benchmarks.place import HERE, Place
from tests.support.npm_tools import MODULES, NODE
from tests.support.npm_tools import skip_reason as no_package
from tests.support.processes import ROOT, free_port

from lobby_gateway.clients.tokens import Purpose, sign
from lobby_gateway.resource.schema import validate_and_default

PEERS = Path(__file__).parent / "peers"
NGINX = Path("/usr/sbin/nginx")
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
TOKEN_SECONDS = 600
READY_SECONDS = 20
SEATS = 512
_NAME = "prices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A running server.

    Attributes:
        port: for clients.
        paths: clients use them in turn.
        address: for clients.
        holders: processes that hold the clients.
        helpers: other processes a message passes through.
        servers: how many connections the origin will get.
        publish_path: where messages are published, for servers that do not connect to the origin.
        admins: admin ports with metrics, and where they can be reached.
    """

    port: int
    paths: Sequence[str]
    holders: Sequence[int]
    helpers: Sequence[int] = ()
    servers: int = 1
    publish_path: str = ""
    address: str = "127.0.0.1"
    admins: Sequence[tuple[Place, int]] = ()

    def line(self, paths: str) -> str:
        """What the load has to know (see `c/origin.h`), given a file with the paths."""
        return f"{self.address} {self.port} {self.servers} {paths} {self.publish_path}"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python interpreter that runs lobbies and greeters.

    Attributes:
        name: short, for tables.
        path: of the executable.
        env: lets it find the installed packages if it is not the environment's own.
    """

    name: str
    path: str
    env: Mapping[str, str] = field(default_factory=dict)


OWN = Interpreter(f"Python {sys.version.split()[0]}", sys.executable)


def other_interpreter(path: str, name: str) -> Interpreter:
    """Another interpreter of the same version that uses the packages of this environment."""
    folders = [str(ROOT / "gateway"), str(ROOT / "operator"), sysconfig.get_paths()["purelib"]]
    return Interpreter(name, path, {"PYTHONPATH": os.pathsep.join(folders)})


@dataclass(frozen=True, slots=True)
class Demand:
    """The load a server must be ready for, and where it runs.

    Attributes:
        clients: connected at once.
        handshakes: in total.
        place: of the server.
        greeter_place: of the greeters; None: beside the lobbies.
    """

    clients: int
    handshakes: int
    place: Place = HERE
    greeter_place: Place | None = None


Serve = Callable[[str, Demand], AbstractContextManager[Serving]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to share an origin.

    Attributes:
        name: in tables.
        serve: starts it, given the origin's address (HOST:PORT) and the load.
        missing: why it can't run here; empty if it can.
    """

    name: str
    serve: Serve
    missing: str = ""


@contextlib.contextmanager
def c_loop(origin: str, _demand: Demand) -> Iterator[Serving]:
    """The reference: an epoll loop in C."""
    with child("c-loop", str(build.program("fan_out")), origin, core=SERVER_CORE) as process:
        yield Serving(port=int(process.line()), paths=["/"], holders=[process.pid])


@contextlib.contextmanager
def websockets_broadcast(origin: str, demand: Demand, *options: str) -> Iterator[Serving]:
    """Python's `websockets`."""
    script = str(PEERS / "websockets_broadcast.py")
    command, at = (sys.executable, script, origin, demand.place.address, *options), demand.place
    with child("websockets", *command, core=SERVER_CORE, place=at) as process:
        yield Serving(address=at.address, port=int(process.line()), paths=["/"], holders=[process.pid])


@contextlib.contextmanager
def npm_ws(origin: str, demand: Demand, *options: str) -> Iterator[Serving]:
    """npm's `ws`."""
    assert NODE is not None
    script = str(PEERS / "ws_broadcast.js")
    env = {"NODE_PATH": str(MODULES)}
    command, at = (NODE, script, origin, demand.place.address, *options), demand.place
    with child("npm-ws", *command, core=SERVER_CORE, env=env, place=at) as process:
        yield Serving(address=at.address, port=int(process.line()), paths=["/"], holders=[process.pid])


@contextlib.contextmanager
def nchan(_origin: str, demand: Demand) -> Iterator[Serving]:
    """nginx with nchan, one worker."""
    with tempfile.TemporaryDirectory() as folder:
        port, at = free_port(), demand.place
        user = "user root;" if os.geteuid() == 0 else ""
        config = Path(folder) / "nginx.conf"
        filled = {"folder": folder, "address": at.address, "port": port, "user": user}
        config.write_text((PEERS / "nchan.conf").read_text() % filled)
        with child("nchan", str(NGINX), "-c", str(config), "-e", "stderr", core=SERVER_CORE, place=at) as process:
            until_answered(at, port, "/", host=at.address)
            yield Serving(
                address=at.address, port=port, paths=["/subscribe"], holders=[process.pid], publish_path="/publish"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Lobby Gateway: lobbies alone, or behind greeters.

    Attributes:
        greeters: number of processes, each on its own core as far as possible; 0: clients connect to the only lobby.
        interpreter: runs them.
        compiled: they must use the compiled send loop.
        clients_spec: additional fields of `spec.clients`.
        seats: per lobby; there are as many lobbies as the clients need.
        lobby_core: the core of the lobbies if there is a greeter.
    """

    greeters: int = 0
    interpreter: Interpreter = OWN
    compiled: bool = True
    clients_spec: Mapping[str, Any] = field(default_factory=dict)
    seats: int = SEATS
    lobby_core: int = LOAD_CORE

    @contextlib.contextmanager
    def serve(self, origin: str, demand: Demand) -> Iterator[Serving]:
        """Starts the lobbies, then the greeters."""
        seats = self.seats if self.greeters else max(self.seats, demand.clients)
        resource = validate_and_default(_resource(origin, {"seats": seats, **self.clients_spec}), "benchmark")
        key = secrets.token_hex(32)
        env = {**self.interpreter.env, "LOBBY_TOKEN_KEY": key, "LOBBY_LOG_LEVEL": "warning"}
        if not self.compiled:
            env["LOBBY_PURE_PYTHON"] = "1"
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "lobby.json").write_text(json.dumps(resource))
            count = -(-demand.clients // seats) if self.greeters else 1
            file, at = folder / "lobby.json", demand.place
            lobbies = [self._lobby(stack, file, number, env, at) for number in range(1, count + 1)]
            told = [json.loads(lobby.line()) for lobby in lobbies]
            ports, admins = [each["port"] for each in told], [(at, int(each["admin_port"])) for each in told]
            pids = [lobby.pid for lobby in lobbies]
            if not self.greeters:
                paths = _seat_paths(key, demand.handshakes)
                yield Serving(address=at.address, port=ports[0], paths=paths, holders=pids, admins=admins)
                return
            entries = [
                {"name": f"{_NAME}-{number}", "address": f"{at.address}:{port}", "clients": 0, "seats": seats}
                for number, port in enumerate(ports, start=1)
            ]
            directory = json.dumps({"items": [{**resource, "status": {"open": entries, "latest": entries[0]}}]})
            beside = demand.greeter_place or at
            greeters, port, more = self._greeters(stack, directory, env, beside)
            yield Serving(
                address=beside.address,
                port=port,
                paths=[f"/{_NAME}"],
                holders=greeters,
                helpers=pids,
                servers=count,
                admins=[*more, *admins],
            )

    def _lobby(
        self, stack: contextlib.ExitStack, file: Path, number: int, env: Mapping[str, str], place: Place
    ) -> Child:
        core = self.lobby_core if self.greeters else SERVER_CORE
        name = f"{_NAME}-{number}"
        options = ("--file", str(file), "--validated", "--name", name, "--host", place.address, "--end-with-stdin")
        command = (self.interpreter.path, "-m", "lobby_gateway.lobby", *options)
        return stack.enter_context(child(name, *command, core=core, env=env, place=place))

    def _greeters(
        self, stack: contextlib.ExitStack, directory: str, env: Mapping[str, str], place: Place
    ) -> tuple[list[int], int, list[tuple[Place, int]]]:
        cores = [SERVER_CORE, LOAD_CORE]
        pids: list[int] = []
        admins: list[tuple[Place, int]] = []
        port = 0
        for number in range(self.greeters):
            options = ("--host", place.address, "--port", str(port), "--reuse-port", "--directory-from-stdin")
            command = (self.interpreter.path, "-m", "lobby_gateway.greeter", *options)
            core = cores[number % len(cores)]
            greeter = stack.enter_context(child(f"greeter-{number + 1}", *command, core=core, env=env, place=place))
            told = json.loads(greeter.line())
            greeter.write(directory)
            admins.append((place, int(told["admin_port"])))
            until_answered(*admins[-1], "/readyz", 200)
            port = told["port"]
            pids.append(greeter.pid)
        return pids, port, admins


def _resource(origin: str, clients: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": _NAME},
        "spec": {"origin": {"url": f"ws://{origin}/"}, "clients": dict(clients)},
    }


def _seat_paths(key: str, count: int) -> list[str]:
    """Paths with single-use seat tokens."""
    expires = time.time() + TOKEN_SECONDS
    return [
        f"/{_NAME}?token="
        + sign(bytes.fromhex(key), purpose=Purpose.SEAT, lobby=f"{_NAME}-1", path=f"/{_NAME}", expires=expires)
        for _ in range(count)
    ]


def until_answered(place: Place, port: int, path: str, status: int = 0, *, host: str = "127.0.0.1") -> None:
    """Waits until an HTTP server answers, with this status if given."""
    place.inside(lambda: _until_answered(f"http://{host}:{port}{path}", status))


def _until_answered(url: str, status: int) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        found = 0
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = answer.status
        except urllib.error.HTTPError as error:
            found = error.code
        except OSError:
            pass
        if found and status in {0, found}:
            return
        if time.monotonic() > end:
            raise RuntimeError(f"{url} does not respond")
        time.sleep(0.02)


C_LOOP = Contestant("C epoll loop", c_loop)
DIRECT = Contestant("Lobby Gateway, direct", Gateway().serve)
PROXIED = Contestant("Lobby Gateway, proxied", Gateway(greeters=1).serve)
DIRECT_IN_PYTHON = Contestant("Lobby Gateway, direct, pure Python", Gateway(compiled=False).serve)
WEBSOCKETS = Contestant("websockets.broadcast", websockets_broadcast)
WS = Contestant("npm ws", npm_ws, no_package("ws"))
NCHAN_CONTESTANT = Contestant(
    "nchan",
    nchan,
    "" if NGINX.exists() and NCHAN.exists() else "nginx with nchan is not installed (libnginx-mod-nchan)",
)
PEERS_ALL = (WEBSOCKETS, WS, NCHAN_CONTESTANT)
