"""A lobby, or a greeter in front of one, to be attacked, with well-behaved clients that must not be affected."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support import proc, raw_client
from tests.support.lobby import GreeterProcess, LobbyProcess, greeter_process, lobby_process, new_key, with_open
from tests.support.raw_client import RawClient
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_resource
from tests.support.waiting import until

BYSTANDERS = 10
BOTH_KINDS = pytest.mark.parametrize("kind", ["greeter", "lobby"])
FAILURE = r'Traceback|"level": "(error|critical)"|ERROR'


@dataclass(slots=True, kw_only=True)
class Target:
    """A running process under attack.

    Attributes:
        kind: `greeter` or `lobby`, the attacked process.
        lobby: the lobby.
        greeter: the greeter, if there is one.
        bystanders: well-behaved clients, connected before the attack.
        files: open descriptors of the attacked process before the attack.
        token_seconds: validity of the tokens in `path`, in seconds.
    """

    kind: str
    lobby: LobbyProcess
    greeter: GreeterProcess | None
    bystanders: Swarm
    files: int = 0
    token_seconds: float = 60.0

    @property
    def server(self) -> LobbyProcess | GreeterProcess:
        """The attacked process."""
        return self.greeter or self.lobby

    @property
    def port(self) -> int:
        """Client port of the attacked process."""
        return self.server.port

    @property
    def pid(self) -> int:
        """Process ID of the attacked process."""
        return self.server.process.pid

    @property
    def path(self) -> str:
        """Path for a client; for a lobby, with a new token in its query."""
        if self.greeter:
            return self.lobby.path
        return "/" + self.lobby.client_url(expires_in=self.token_seconds).split("/", 3)[3]

    def request(self, headers: Mapping[str, str | None] | None = None, **options: Any) -> bytes:
        """A request that would be let in, but for what is said (see `raw_client.request`)."""
        return raw_client.request(self.path, headers, **options)

    async def connect(self, data: bytes = b"", **options: Any) -> RawClient:
        """A TCP connection on which `data` was sent."""
        return await RawClient.connect(self.port, data, **options)

    async def client(self, headers: Mapping[str, str | None] | None = None, **options: Any) -> RawClient:
        """A connected client."""
        return await RawClient.upgraded(self.port, self.request(headers), **options)

    async def count(self, metric: str, **labels: str) -> float:
        """Value of a metric of the attacked process; `metric` is its name without the prefix."""
        metrics = await self.server.metrics()
        return metrics(f"{self.kind}_{metric}", **labels)

    def resident(self) -> int:
        """Resident bytes of the attacked process."""
        return proc.resident_bytes(self.pid)

    async def assert_unaffected(self) -> None:
        """Asserts that bystanders missed nothing and that no seat, descriptor or exception of other clients remains.

        Call it after all other clients have disconnected.
        """
        swarm = self.bystanders
        await swarm.each_gets(3)
        assert len(swarm.open) == BYSTANDERS, swarm.summary()
        assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
        await self.lobby.until_clients(BYSTANDERS)
        await until(
            lambda: proc.open_files(self.pid) <= self.files,
            describe=lambda: f"{proc.open_files(self.pid)} descriptors, {self.files} before",
        )
        for each in {self.lobby.process, self.server.process}:
            assert each.stderr.find(FAILURE) is None, each.tail()


@contextlib.asynccontextmanager
async def attacked(
    kind: str,
    *,
    rate: float = 50,
    size: int = 0,
    options: tuple[str, ...] = (),
    prefix: tuple[str, ...] = (),
    compression: bool = False,
    **spec: Any,
) -> AsyncIterator[Target]:
    """Runs a process to attack; at the end of the block, the bystanders must be unaffected.

    Args:
        kind: `greeter` or `lobby`.
        rate: messages per second.
        size: bytes per message; 0: as few as possible.
        options: options of the attacked process.
        prefix: command that runs the attacked process.
        compression: whether the Lobby and the bystanders use compression.
        spec: fields of the Lobby (see `lobby_resource`).
    """
    key = new_key()
    if compression:
        spec["clients_compression"] = "Shared"
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(ticker(rate=rate, size=size))
        resource = lobby_resource("prices", origin.url, **spec)
        own = (options, prefix) if kind == "lobby" else ((), ())
        lobby = await stack.enter_async_context(
            lobby_process(resource, key=key, validated=True, options=own[0], prefix=own[1])
        )
        greeter = None
        if kind == "greeter":
            greeter = await stack.enter_async_context(greeter_process(key=key, options=options, prefix=prefix))
            greeter.set_directory(with_open(resource, lobby))
        url = greeter.url("/prices") if greeter else lobby.client_url
        swarm = await stack.enter_async_context(Swarm(url, compression=compression))
        made = Target(kind=kind, lobby=lobby, greeter=greeter, bystanders=swarm)
        await swarm.connect_all(BYSTANDERS)
        await swarm.each_has(1)
        made.files = proc.open_files(made.pid)
        yield made
        await made.assert_unaffected()
