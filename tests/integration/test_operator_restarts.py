"""`origin.limits.connects` holds while operators are killed, lobbies with them, and a status is written late or never."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import web
from tests.support.kube_api import Asked, FakeKubeApi, fake_kube_api, status
from tests.support.kubelet import LobbyKubelet, reserve_port
from tests.support.origins import ConnectionRecord, FakeOrigin
from tests.support.processes import Process, running
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import LOBBIES_PATH, PODS_PATH, lobby_resource
from tests.unit.operator.kube.support import running as running_task

COUNT = 3
LOBBIES = 3
LEASE = "/apis/coordination.k8s.io/v1/namespaces/system/leases/lobby-operator"
RECONNECT = {"minMilliseconds": 50, "maxMilliseconds": 50, "jitter": "None"}


class Cluster:
    """A server of the API with the Lobby `prices`, whose lobbies are real.

    Attributes:
        server: the server.
        kubelet: runs the lobbies.
        origin: it ends each connection at once, so that all lobbies always want the next one.
        seconds: time in which it may have `COUNT` attempts to connect.
    """

    def __init__(
        self, server: FakeKubeApi, kubelet: LobbyKubelet, origin: FakeOrigin, folder: Path, seconds: int
    ) -> None:
        self.server = server
        self.kubelet = kubelet
        self.origin = origin
        self.seconds = seconds
        self._kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
        self._key = folder / "key"
        self._key.write_text(secrets.token_hex(32))

    @contextlib.asynccontextmanager
    async def operator(self, identity: str = "one") -> AsyncIterator[Process]:
        """An operator, which is killed at the end of the block."""
        module = (sys.executable, "-m", "tests.support.operator_process")
        command = (*module, str(self._key), str(self.kubelet.port), identity)
        async with running(
            f"operator {identity}", *command, env={"KUBECONFIG": self._kubeconfig}, ends_with=None
        ) as process:
            yield process
            process.send(signal.SIGKILL)

    async def tries(self, count: int) -> None:
        """Waits for more attempts to connect."""
        await self.origin.until_attempts(len(self.origin.attempts) + count, deadline=60)

    async def reports(self) -> dict[str, Any]:
        """What each lobby reports, by name."""
        return {
            name: (await web.get(f"http://{each.address}:{self.kubelet.port}/seats")).json()
            for name, each in self.kubelet.lobbies.items()
        }

    def lose_lobby(self, name: str) -> None:
        """A pod is gone, with its process."""
        self.server.remove(f"{PODS_PATH.format('shop')}/{name}")

    def hand_lease_to(self, identity: str) -> None:
        """Another identity holds the Lease from now on; empty: whoever takes it."""
        self.server.put(LEASE, {"spec": {"holderIdentity": identity, "leaseDurationSeconds": 100}})

    def assert_within_limit(self) -> None:
        """No time has more attempts than the Lobby allows."""
        attempts = self.origin.attempts
        late = zip(attempts, attempts[COUNT:], strict=False)
        assert all(after - before >= self.seconds for before, after in late), attempts


@contextlib.asynccontextmanager
async def cluster(folder: Path, *, seconds: int = 5) -> AsyncIterator[Cluster]:
    async def end(_origin: FakeOrigin, record: ConnectionRecord) -> None:
        await record.server.close(1012)

    async with FakeOrigin(on_open=end) as origin, fake_kube_api() as server:
        kubelet = LobbyKubelet(server, folder)
        await reserve_port(kubelet)
        lobby = lobby_resource(
            "prices",
            origin={
                "url": origin.url,
                "connect": "Always",
                "reconnect": RECONNECT,
                "limits": {"connects": {"count": COUNT, "seconds": seconds}},
            },
            replicas=LOBBIES,
            maxReplicas=LOBBIES,
            spareSeats=0,
        )
        server.put(f"{LOBBIES_PATH.format('shop')}/prices", lobby)
        async with running_task(kubelet.run()):
            yield await asyncio.to_thread(Cluster, server, kubelet, origin, folder, seconds)


@pytest.mark.timeout(180)
def test_killed_operators_and_lobbies_connect_no_more_often_than_allowed(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as it:
            for round_ in range(4):
                async with it.operator():
                    await it.tries(COUNT)  # so that nothing is left of the limit when the next one starts
                if round_ % 2:
                    it.lose_lobby(min(it.kubelet.lobbies))
            async with it.operator():
                await it.tries(COUNT)
            it.assert_within_limit()

    asyncio.run(main())


@pytest.mark.timeout(120)
def test_a_standby_that_missed_the_status_connects_no_more_often_than_allowed(tmp_path: Path) -> None:
    """Its watch of Lobbies was blind while the other operator named the lobbies, and one of these ends before it acts."""

    async def main() -> None:
        async with cluster(tmp_path, seconds=15) as it:  # longer than it takes the standby to act
            it.hand_lease_to("one")
            async with it.operator("two") as standby:
                await until(lambda: it.server.watches == 3, deadline=60, describe=standby.tail)
                it.server.deafen("/lobbies")
                async with it.operator("one"):
                    await it.tries(COUNT)
                reports = await it.reports()
                it.lose_lobby(max(reports, key=lambda name: int(reports[name]["connects"])))
                it.hand_lease_to("")
                await until(lambda: standby.stderr.find('"active"'), deadline=60, describe=standby.tail)
                it.server.end_watches()  # the next ones tell all
                await it.tries(COUNT)
            it.assert_within_limit()

    asyncio.run(main())


@pytest.mark.timeout(120)
def test_a_lobby_that_the_stored_status_does_not_name_never_connects(tmp_path: Path) -> None:
    """If it ended together with the operator, nobody would know of its attempts."""

    def refuse(asked: Asked) -> Any:
        return status(503, "ServiceUnavailable", "the test says so") if asked.path.endswith("prices/status") else None

    async def main() -> None:
        async with cluster(tmp_path) as it:
            it.server.instead = refuse
            async with it.operator() as operator:

                async def told() -> bool:
                    reports = await it.reports()
                    return len(reports) == LOBBIES and all(each["told"] > [0, 0] for each in reports.values())

                await until(told, deadline=60, describe=operator.tail)
                await stays(lambda: it.origin.attempts == [], seconds=1.0, describe="a lobby connected")
                it.server.instead = lambda _asked: None
                await it.tries(COUNT)
            it.assert_within_limit()

    asyncio.run(main())
