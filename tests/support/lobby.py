"""A single lobby or greeter process without a lobby host; the test controls it."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import proc, web
from tests.support.processes import Process, running
from tests.support.waiting import until

from lobby_gateway.clients.tokens import (
    DELETED_QUERY,
    DRAIN_PATH,
    PEERS_PATH,
    Purpose,
    key_from_hex,
    namespace_key,
    sign,
)
from lobby_gateway.process.peer_list import PeerList
from lobby_gateway.resource.schema import crd, validate_and_default

TOKEN_SECONDS = 60.0
crd()  # is read from its file now, and not later on an event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyProcess:
    """A running lobby.

    Attributes:
        process: its process.
        name: name of the lobby.
        path: path for clients.
        key: token key in hex.
        port: port for clients and trunks.
        admin: `http://` address of its admin port.
    """

    process: Process
    name: str
    path: str
    key: str
    port: int
    admin: str

    def client_url(
        self, *, lobby: str | None = None, path: str | None = None, expires_in: float = TOKEN_SECONDS
    ) -> str:
        """URL with a new token, for one client."""
        token = sign(
            key_from_hex(self.key),
            purpose=Purpose.SEAT,
            lobby=lobby or self.name,
            path=path or self.path,
            expires=time.time() + expires_in,
        )
        return f"ws://127.0.0.1:{self.port}{self.path}?token={token}"

    def resident(self) -> int:
        """Resident memory in bytes."""
        return proc.resident_bytes(self.process.pid)

    def own_memory(self) -> int:
        """Memory in bytes that no file backs."""
        return proc.own_bytes(self.process.pid)

    async def seats(self) -> dict[str, Any]:
        """Its report from `/seats`."""
        report: dict[str, Any] = (await web.get(f"{self.admin}/seats")).json()
        return report

    async def metrics(self) -> web.Metrics:
        """Its metrics."""
        return await web.metrics(f"{self.admin}/metrics")

    async def drain(self) -> None:
        """Starts its drain."""
        answer = await drain(self.admin, key_from_hex(self.key), self.name)
        assert answer.status == 202, answer

    async def tell_peers(self, told: PeerList) -> None:
        """Tells it whether it may connect to its origin, and which peers it has, as the lobby host does."""
        key = key_from_hex(self.key)
        token = sign(key, purpose=Purpose.PEERS, lobby=self.name, path=PEERS_PATH, expires=time.time() + TOKEN_SECONDS)
        body = json.dumps(told.to_json()).encode()
        answer = await web.request("POST", f"{self.admin}{PEERS_PATH}", body, Authorization=f"Bearer {token}")
        assert answer.status == 200, answer

    async def tell_deleted(self) -> None:
        """Tells it that its Lobby was deleted."""
        answer = await drain(self.admin, key_from_hex(self.key), self.name, query=f"?{DELETED_QUERY}")
        assert answer.status == 202, answer

    async def until_clients(self, count: int, *, deadline: float = 10.0) -> None:
        """Waits until `count` seats are taken."""

        async def look() -> bool:
            taken: int = (await self.seats())["clients"]
            return taken == count

        await until(look, deadline=deadline, describe=f"{count} seats taken")

    async def until_origin(self, state: str, *, deadline: float = 10.0) -> dict[str, Any]:
        """Waits until the origin connection is in `state`; returns its report."""
        seen: dict[str, Any] = {}

        async def look() -> bool:
            seen.update((await self.seats())["origin"])
            return bool(seen["state"] == state)

        await until(look, deadline=deadline, describe=lambda: f"origin {state}, not {seen}; {self.process.tail()}")
        return seen

    @property
    def directory_entry(self) -> dict[str, Any]:
        """Its entry in `status.open`."""
        return {"name": self.name, "address": f"127.0.0.1:{self.port}", "clients": 0, "seats": 512}


async def drain(admin: str, key: bytes, lobby: str, *, query: str = "") -> web.HttpResponse:
    """Asks a lobby to drain, as the lobby host does; `admin` is the URL of its admin port."""
    token = sign(key, purpose=Purpose.DRAIN, lobby=lobby, path=DRAIN_PATH, expires=time.time() + TOKEN_SECONDS)
    return await web.request("POST", f"{admin}{DRAIN_PATH}{query}", Authorization=f"Bearer {token}")


def new_key() -> str:
    """A token key."""
    return secrets.token_hex(32)


@contextlib.asynccontextmanager
async def lobby_process(
    resource: Mapping[str, Any],
    *,
    number: int = 1,
    key: str | None = None,
    env: Mapping[str, str] | None = None,
    validated: bool = False,
    file: Path | None = None,
    options: tuple[str, ...] = (),
    prefix: tuple[str, ...] = (),
    ends_with: Sequence[int] | None = (0,),
) -> AsyncIterator[LobbyProcess]:
    """Runs a lobby for the duration of a block.

    Args:
        resource: the Lobby.
        number: number of the lobby.
        key: master key of tokens; by default a new one. The lobby gets the key of its namespace.
        env: additional environment variables.
        validated: whether to validate and default the file here, as the lobby host does, instead of in the lobby.
        file: an already validated file; by default one is written.
        options: additional command-line options.
        prefix: command that runs the lobby.
        ends_with: expected exit codes; None: any.
    """
    name = resource["metadata"]["name"]
    path = resource["spec"].get("path", f"/{name}")
    key = key or new_key()
    given = file is not None
    with tempfile.TemporaryDirectory() as folder:
        if file is None:
            file = Path(folder) / "lobby.json"
            file.write_text(json.dumps(validate_and_default(dict(resource), "test") if validated else resource))
        command = ("-m", "lobby_gateway.lobby", "--file", str(file), "--name", f"{name}-{number}")
        ports = (
            "--port",
            "0",
            "--admin-port",
            "0",
            "--end-with-stdin",
            *(["--validated"] if validated or given else []),
        )
        key = namespace_key(key_from_hex(key), resource["metadata"].get("namespace", "")).hex()
        environment = {**(env or {}), "LOBBY_TOKEN_KEY": key}
        async with running(
            f"{name}-{number}",
            *(*prefix, sys.executable, *command, *ports, *options),
            env=environment,
            ends_with=ends_with,
        ) as process:
            listening = json.loads((await process.line(r'^\{.*"listening".*\}$'))[0])
            yield LobbyProcess(
                process=process,
                name=f"{name}-{number}",
                path=path,
                key=key,
                port=listening["port"],
                admin=f"http://127.0.0.1:{listening['admin_port']}",
            )


@contextlib.asynccontextmanager
async def lobby_processes(
    resource: Mapping[str, Any], count: int, *, key: str | None = None
) -> AsyncIterator[list[LobbyProcess]]:
    """Lobbies of one Lobby, numbered from 1; they are stopped together."""
    key = key or new_key()
    async with contextlib.AsyncExitStack() as stack:
        lobbies = [
            await stack.enter_async_context(lobby_process(resource, number=number, key=key, validated=True))
            for number in range(1, count + 1)
        ]
        yield lobbies
        for lobby in lobbies:
            lobby.process.send(signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class GreeterProcess:
    """A running greeter.

    Attributes:
        process: its process.
        port: for clients.
        admin: `http://` address of its admin port.
    """

    process: Process
    port: int
    admin: str

    def set_directory(self, *resources: Mapping[str, Any]) -> None:
        """Replaces its whole directory."""
        self.process.write(json.dumps({"items": resources}) + "\n")

    def url(self, path: str) -> str:
        """Client URL of a path."""
        return f"ws://127.0.0.1:{self.port}{path}"

    async def metrics(self) -> web.Metrics:
        """Its metrics."""
        return await web.metrics(f"{self.admin}/metrics")


@contextlib.asynccontextmanager
async def greeter_process(
    *, key: str, options: tuple[str, ...] = (), prefix: tuple[str, ...] = ()
) -> AsyncIterator[GreeterProcess]:
    """Runs a greeter for the duration of a block; its directory is empty until it is set."""
    command = ("-m", "lobby_gateway.greeter", "--port", "0", "--admin-port", "0", "--directory-from-stdin", *options)
    async with running("greeter", *prefix, sys.executable, *command, env={"LOBBY_TOKEN_KEY": key}) as process:
        listening = json.loads((await process.line(r'^\{.*"listening".*\}$'))[0])
        yield GreeterProcess(
            process=process, port=listening["port"], admin=f"http://127.0.0.1:{listening['admin_port']}"
        )


def with_open(resource: Mapping[str, Any], *lobbies: LobbyProcess, draining: tuple[str, ...] = ()) -> dict[str, Any]:
    """The Lobby with a status that lists its open lobbies in the order to try them."""
    entries = [lobby.directory_entry for lobby in lobbies]
    status = {"open": entries, "draining": list(draining), **({"latest": entries[0]} if entries else {})}
    return {**validate_and_default(dict(resource), "test"), "status": status}
