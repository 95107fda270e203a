"""A running `lobby up` for tests: its addresses, child processes and status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.support import proc, web
from tests.support.proc import ProcessInfo
from tests.support.processes import LOBBY, Process, running
from tests.support.waiting import until

START_DEADLINE = 30.0


def lobby_resource(name: str, origin: str, **spec: Any) -> dict[str, Any]:
    """A Lobby resource. A keyword with the prefix `origin_` goes into `spec.origin`, with `clients_` into `spec.clients`.

    Args:
        name: name of the Lobby.
        origin: URL of the origin.
        spec: fields of the spec.
    """
    resource: dict[str, Any] = {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": name},
        "spec": {"origin": {"url": origin}, "clients": {}},
    }
    for key, value in spec.items():
        group, _, field = key.partition("_")
        place = resource["spec"][group] if field and group in {"origin", "clients"} else resource["spec"]
        place[field or key] = value
    return resource


def lobby_file(folder: Path, resource: Mapping[str, Any]) -> str:
    """Writes a Lobby to a file in a folder; returns its name."""
    path = folder / f"{resource['metadata']['name']}.yaml"
    path.write_text(yaml.safe_dump(dict(resource), sort_keys=False))
    return str(path)


class LobbyUp:
    """A running `lobby up`.

    Attributes:
        process: its process.
        url: `ws://` address of its first Lobby.
        admin: `http://` address of its admin port, without a slash at the end.
    """

    def __init__(self, process: Process, url: str, admin: str) -> None:
        self.process = process
        self.url = url
        self.admin = admin
        self._admins: dict[int, str] = {}  # of its processes; to find a port costs much more than a request

    def at(self, path: str) -> str:
        """URL of another path on the same greeter."""
        return "/".join(self.url.split("/")[:3]) + path

    async def lobbies(self) -> list[dict[str, Any]]:
        """The Lobbies from `/lobbies`, with status."""
        answer = await web.get(f"{self.admin}/lobbies")
        assert answer.status == 200, answer
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def status(self, name: str | None = None) -> dict[str, Any]:
        """Status of a Lobby; without a name, of the only one."""
        items = await self.lobbies()
        chosen = [item for item in items if name in {None, item["metadata"]["name"]}]
        assert len(chosen) == 1, items
        status: dict[str, Any] = chosen[0].get("status") or {}
        return status

    async def metrics(self) -> web.Metrics:
        """Metrics of the admin port."""
        return await web.metrics(f"{self.admin}/metrics")

    def lobby_processes(self) -> dict[str, ProcessInfo]:
        """Running lobbies by name."""
        found = [each for each in proc.descendants(self.process.pid) if "lobby_gateway.lobby" in each.command]
        return {each.command[each.command.index("--name") + 1]: each for each in found if each.state != "Z"}

    def greeter_processes(self) -> list[ProcessInfo]:
        """Running greeters."""
        found = [each for each in proc.descendants(self.process.pid) if "lobby_gateway.greeter" in each.command]
        return [each for each in found if each.state != "Z"]

    async def admin_of(self, pid: int) -> str:
        """`http://` address of the admin port of a lobby or greeter."""
        if (known := self._admins.get(pid)) is not None:
            return known
        for port in proc.listening_ports(pid):
            address = f"http://127.0.0.1:{port}"
            with contextlib.suppress(OSError):
                answer = await web.get(f"{address}/healthz")
                if answer.status == 200 and answer.body == b"ok\n":
                    self._admins[pid] = address
                    return address
        raise LookupError(f"process {pid} has no admin port (yet): {self.process.tail()}")

    async def seats(self, name: str) -> dict[str, Any]:
        """Report of a lobby from `/seats`."""
        return await self.seats_of(self.lobby_processes()[name].pid)

    async def seats_of(self, pid: int) -> dict[str, Any]:
        """Report of a lobby from `/seats`, by its process ID."""
        report: dict[str, Any] = (await web.get(f"{await self.admin_of(pid)}/seats")).json()
        return report

    async def reports(self) -> dict[str, dict[str, Any]]:
        """`/seats` of every running lobby."""
        return {name: await self.seats_of(each.pid) for name, each in sorted(self.lobby_processes().items())}

    async def until_clients(self, count: int, *, deadline: float = 20.0) -> dict[str, dict[str, Any]]:
        """Waits until `count` seats are taken in all lobbies together; returns their reports."""
        seen: dict[str, dict[str, Any]] = {}

        async def look() -> bool:
            nonlocal seen
            try:
                seen = await self.reports()
            except (OSError, LookupError):
                return False  # a lobby exited meanwhile, or does not listen yet
            taken: int = sum(report["clients"] for report in seen.values())
            return taken == count

        await until(look, deadline=deadline, every=0.1, describe=lambda: f"{count} seats taken; {summary(seen)}")
        return seen

    async def until_origin(self, *states: str, deadline: float = 20.0) -> None:
        """Waits until the origin connection of each lobby is in one of these states."""
        seen: dict[str, dict[str, Any]] = {}

        async def look() -> bool:
            nonlocal seen
            try:
                seen = await self.reports()
            except (OSError, LookupError):
                return False  # a lobby exited meanwhile, or does not listen yet
            return all(report["origin"]["state"] in states for report in seen.values())

        await until(look, deadline=deadline, every=0.1, describe=lambda: f"origin {states}; {summary(seen)}")

    async def delivered(self) -> None:
        """Waits until clients have received everything that lobbies have sent so far.

        Processes are asked one after another; by the time of its answer, each has passed on what came earlier.
        """
        for each in (*self.lobby_processes().values(), *self.greeter_processes() * 2):
            await web.get(f"{await self.admin_of(each.pid)}/healthz")
        for _ in range(2):
            await asyncio.sleep(0)  # the clients run on this loop and read what has arrived

    async def until_lobbies(self, count: int, *, deadline: float = 20.0) -> dict[str, ProcessInfo]:
        """Waits until `count` lobbies are running."""
        await until(
            lambda: len(self.lobby_processes()) == count,
            deadline=deadline,
            describe=lambda: f"{count} lobbies; {sorted(self.lobby_processes())}",
        )
        return self.lobby_processes()

    async def greeter_metrics(self) -> list[web.Metrics]:
        """Metrics of each greeter."""
        return [await web.metrics(f"{await self.admin_of(each.pid)}/metrics") for each in self.greeter_processes()]

    async def lobby_metrics(self, lobby: str) -> list[web.Metrics]:
        """Metrics of each lobby of a Lobby."""
        found = self.lobby_processes()
        pids = [each.pid for name, each in found.items() if name.rpartition("-")[0] == lobby]
        return [await web.metrics(f"{await self.admin_of(pid)}/metrics") for pid in pids]

    async def until_waiting(self, count: int, *, deadline: float = 10.0) -> None:
        """Waits until greeters hold `count` clients without a seat."""

        async def look() -> bool:
            waiting = [greeter("greeter_waiting_clients") for greeter in await self.greeter_metrics()]
            return sum(waiting) == count

        await until(look, deadline=deadline, describe=f"{count} waiting clients")

    async def until_gone(self, pid: int, *, deadline: float = 20.0) -> None:
        """Waits until one of its processes has exited."""
        await until(lambda: proc.process(pid) is None, deadline=deadline, describe=f"process {pid} to exit")

    async def until_ready(self, count: int, *, deadline: float = 20.0) -> None:
        """Waits until `count` lobbies of the only Lobby are ready, including full ones."""

        async def look() -> bool:
            ready: int = (await self.status()).get("readyReplicas", 0)
            return ready == count

        await until(look, deadline=deadline, describe=lambda: f"{count} ready lobbies; {self.process.tail()}")

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to one of its processes."""
        assert pid in {each.pid for each in proc.descendants(self.process.pid)}, f"{pid} is not one of its processes"
        os.kill(pid, number)


def summary(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Reports on one line, for failure messages."""
    return ", ".join(
        f"{name}: {each['clients']}/{each['seats']}{' draining' if each['draining'] else ''} {each['origin']['state']}"
        for name, each in reports.items()
    )


@contextlib.asynccontextmanager
async def lobby_up(
    *arguments: str, env: Mapping[str, str] | None = None, deadline: float = START_DEADLINE
) -> AsyncIterator[LobbyUp]:
    """Runs `lobby up` on free ports for the duration of a block; no process may be left afterwards."""
    command = (LOBBY, "up", *arguments, "--port", "0", "--admin-port", "0")
    async with running("lobby up", *command, env=env) as process:
        url = await process.line(r"(ws://\S+)", deadline=deadline)
        admin = await process.line(r"(http://[^\s/]+)", deadline=deadline)
        up = LobbyUp(process, url[1], admin[1])
        yield up
        # Verifies that all processes carry the mark by which leftovers are found.
        started = {each.pid for each in proc.descendants(process.pid)}
        marked = {each.pid for each in process.left()}
        unmarked = [each for each in map(proc.process, started - marked) if each is not None and each.state != "Z"]
        assert not unmarked, f"started without the mark of the test: {unmarked}"
