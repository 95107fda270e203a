"""A kubelet for `kube_api.FakeKubeApi`: each pod of a lobby gets an address and answers on its admin port.

It is the garbage collector, too, which deletes objects whose owner is gone.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tests.support.kube_api import FakeKubeApi
from tests.support.processes import Process

from lobby_gateway.clients.tokens import DELETED_QUERY
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.seat_reports import LobbyReport, OriginReport, OriginState
from lobby_operator.kube import names

INTERVAL_SECONDS = 0.005


class Lobby(Protocol):
    """What runs in a pod.

    Attributes:
        name: of the pod.
        address: of the pod.
    """

    name: str
    address: str

    async def close(self) -> None:
        """Ends it."""


L = TypeVar("L", bound=Lobby)


class RunningLobby:
    """The process of a pod, as far as an operator sees it.

    Attributes:
        name: of the pod.
        clients: number of taken seats.
        draining: it was asked to drain.
        deleted: it was told that its Lobby was deleted.
        origin: state of its origin connection.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.clients = 0
        self.draining = False
        self.deleted = False
        self.origin = OriginReport(state=OriginState.CONNECTED)
        self.server = AdminServer({("GET", "/seats"): self._seats, ("POST", "/drain"): self._drain})

    async def close(self) -> None:
        """Ends it."""
        await self.server.close()

    async def _seats(self, _request: AdminRequest) -> AdminResponse:
        report = LobbyReport(
            name=self.name,
            lobby=self.name.rpartition("-")[0],
            seats=512,
            clients=self.clients,
            draining=self.draining,
            origin=self.origin,
        )
        return AdminResponse.json(report.to_json())

    async def _drain(self, request: AdminRequest) -> AdminResponse:
        self.draining = True
        self.deleted = request.query == DELETED_QUERY
        return AdminResponse.json({}, 202)


class Kubelet(Generic[L]):
    """Runs pods.

    Attributes:
        port: admin port of all pods.
        started: number of starts, by name of the pod.
    """

    def __init__(self, api: FakeKubeApi) -> None:
        self.port = 0
        self._running: dict[str, L] = {}  # by path of the pod
        self.started: Counter[str] = Counter()
        self._api = api
        self._uids: set[str] = set()

    @property
    def lobbies(self) -> dict[str, L]:
        """The running lobbies, by name."""
        return {lobby.name: lobby for lobby in self._running.values()}

    async def run(self) -> None:
        """Runs pods until cancelled."""
        try:
            while True:
                for path, item in list(self._api.objects.items()):
                    if self._is_orphan(item):
                        await self._end(path)
                    elif "/pods/" in path:
                        await self._sync(path, item)
                for path in self._running.keys() - self._api.objects.keys():
                    await self._running.pop(path).close()
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            await asyncio.gather(*(lobby.close() for lobby in self._running.values()))

    async def launch(self, pod: dict[str, Any], address: str) -> L:
        """Starts what runs in a pod; returns when it answers on its admin port."""
        raise NotImplementedError

    def _is_orphan(self, item: dict[str, Any]) -> bool:
        owners = item["metadata"].get("ownerReferences") or ()
        there = {each["metadata"]["uid"] for each in self._api.objects.values()}
        return any(owner["uid"] not in there for owner in owners)

    async def _sync(self, path: str, pod: dict[str, Any]) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            await self._end(path)
        elif pod["metadata"]["uid"] not in self._uids:
            self._uids.add(pod["metadata"]["uid"])
            await self._start(path, pod)

    async def _start(self, path: str, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        self.started[name] += 1
        lobby = self._running[path] = await self.launch(pod, f"127.0.1.{len(self._uids)}")
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": lobby.address, "conditions": [ready]}
        self._api.put(path, {**self._api.objects[path], "status": status})

    async def _end(self, path: str) -> None:
        lobby = self._running.pop(path, None)
        if lobby is not None:
            await lobby.close()
        self._api.remove(path)


class FakeKubelet(Kubelet[RunningLobby]):
    """Its pods only answer an operator."""

    async def launch(self, pod: dict[str, Any], address: str) -> RunningLobby:
        """See `Kubelet`."""
        lobby = RunningLobby(pod["metadata"]["name"], address)
        self.port = await lobby.server.start(address, self.port)
        return lobby


class LobbyPod:
    """A pod with a real lobby.

    Attributes:
        name: of the pod.
        address: of the pod.
        process: its process.
    """

    def __init__(self, name: str, address: str, process: Process) -> None:
        self.name = name
        self.address = address
        self.process = process

    async def close(self) -> None:
        """Kills it."""
        await self.process.destroy()


class LobbyKubelet(Kubelet[LobbyPod]):
    """Its pods are real lobbies, which relay nothing to each other: the port for that is not the one of their pods.

    Args:
        api: the server.
        folder: for the files that a pod mounts.
    """

    def __init__(self, api: FakeKubeApi, folder: Path) -> None:
        super().__init__(api)
        self._folder = folder

    async def launch(self, pod: dict[str, Any], address: str) -> LobbyPod:
        """See `Kubelet`."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        sources = {each["name"]: each for each in pod["spec"]["volumes"]}
        config = self._mounted("configmaps", namespace, sources["config"]["configMap"]["name"])[names.CONFIG_KEY]
        key = self._mounted("secrets", namespace, sources["token"]["secret"]["secretName"])[names.TOKEN_KEY]
        file = self._folder / f"{name}.json"
        file.write_text(config)
        process = await Process.start(
            name,
            *(sys.executable, "-m", "lobby_gateway.lobby", "--file", str(file), "--validated", "--name", name),
            *("--host", address, "--admin-host", address, "--admin-port", str(self.port), "--end-with-stdin"),
            env={"LOBBY_TOKEN_KEY": base64.b64decode(key).decode().split()[0]},
        )
        await process.line('"listening"')
        return LobbyPod(name, address, process)

    def _mounted(self, kind: str, namespace: str, name: str) -> dict[str, str]:
        data: dict[str, str] = self._api.objects[f"/api/v1/namespaces/{namespace}/{kind}/{name}"]["data"]
        return data


async def free_port(api: FakeKubeApi) -> FakeKubelet:
    """A kubelet with a free port that is known before the first pod runs."""
    kubelet = FakeKubelet(api)
    await reserve_port(kubelet)
    return kubelet


async def reserve_port(kubelet: Kubelet[Any]) -> None:
    """Gives a kubelet a port that is free now."""
    probe = AdminServer({})
    kubelet.port = await probe.start("127.0.1.0", 0)
    await probe.close()
