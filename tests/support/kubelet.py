"""A kubelet for `kube_api.FakeKubeApi`: each pod of a lobby gets an address and answers on its admin port.

It is the garbage collector, too, which deletes objects whose owner is gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.support.kube_api import FakeKubeApi

from lobby_gateway.clients.tokens import DELETED_QUERY
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.process.seat_reports import LobbyReport, OriginReport, OriginState

INTERVAL_SECONDS = 0.005


class RunningLobby:
    """The process of a pod.

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


class FakeKubelet:
    """Runs pods.

    Attributes:
        port: admin port of all pods.
        started: number of starts, by name of the pod.
    """

    def __init__(self, api: FakeKubeApi) -> None:
        self.port = 0
        self._running: dict[str, RunningLobby] = {}  # by path of the pod
        self.started: Counter[str] = Counter()
        self._api = api
        self._uids: set[str] = set()

    @property
    def lobbies(self) -> dict[str, RunningLobby]:
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
                    await self._running.pop(path).server.close()
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            await asyncio.gather(*(lobby.server.close() for lobby in self._running.values()))

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
        lobby = RunningLobby(name, f"127.0.1.{len(self._uids)}")
        self._running[path] = lobby
        self.port = await lobby.server.start(lobby.address, self.port)
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": lobby.address, "conditions": [ready]}
        self._api.put(path, {**self._api.objects[path], "status": status})

    async def _end(self, path: str) -> None:
        lobby = self._running.pop(path, None)
        if lobby is not None:
            await lobby.server.close()
        self._api.remove(path)


async def free_port(api: FakeKubeApi) -> FakeKubelet:
    """A kubelet with a free port that is known before the first pod runs."""
    kubelet = FakeKubelet(api)
    probe = AdminServer({})
    kubelet.port = await probe.start("127.0.1.0", 0)
    await probe.close()
    return kubelet
