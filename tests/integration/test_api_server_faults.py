"""The operator under 24 faults of the API server: in each it ends knowing exactly what there is, and goes on.

Before a fault ends, a pod and a Lobby with its pods are deleted and a Lobby is added, and no watch tells of it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.support.kube_api import Answer, Asked, FakeKubeApi, fake_kube_api, status
from tests.support.kubelet import FakeKubelet, free_port
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import LOBBIES_PATH, PODS_PATH, lobby_resource, running

from lobby_gateway.process.lifecycle import Shutdown
from lobby_operator.kube.client import connect
from lobby_operator.kube.lease import LeaseLostError
from lobby_operator.kube.process import Operator
from lobby_operator.settings import ApiSettings, KopfSettings, LeaseSettings, OperatorSettings, PodSettings

EXACT_SECONDS = 30.0
"""From the end of a fault until the operator knows all there is, and has done what follows from it."""

IDLE = KopfSettings(idle_seconds=6.0)  # a watch that gets no answer counts as lost sooner than the default, 70 s
AWARE = KopfSettings(idle_seconds=6.0, audit_seconds=5.0)

SHORT_LEASE = LeaseSettings(duration_seconds=3, deadline_seconds=2.5, renew_seconds=0.5)

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    410: "Expired",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}


def verb(asked: Asked) -> str:
    if asked.method != "GET":
        return "write"
    return "watch" if "watch" in asked.query else "read"


async def never() -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def fault(how: int | str, *, verbs: Sequence[str] = (), path: str = "", times: int = 1_000_000) -> Answer:
    """Answers of the server: a status, or what a proxy or a dying server sends; to some requests or to the first ones."""
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcdserver: leader changed"}}
    bodies = {
        "event": json.dumps(error) + "\n",
        "nothing": "",
        "cut": '{"type":"ADDED","obj',
        "garbage": "bad gateway\n",
    }
    left = times

    def answer(asked: Asked) -> Any:
        nonlocal left
        if (verbs and verb(asked) not in verbs) or not re.search(path, asked.path) or left == 0:
            return None
        left -= 1
        if isinstance(how, int):
            return status(how, _REASONS[how], "the test says so")
        if how == "hang":
            return never()
        if how == "html":
            return web.Response(text="<html>maintenance</html>", content_type="text/html")
        return web.Response(text=bodies[how], content_type="application/json")

    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault.

    Attributes:
        at_start: from before the operator starts; otherwise while it runs.
        answer: what the server answers meanwhile.
        refused: the server refuses connections.
        deaf: open watches live and tell nothing.
        seconds: its duration.
        settings: settings of kopf.
        lease: settings of the Lease.
        ends: the operator loses the Lease and is started again.
    """

    at_start: bool = False
    answer: Answer | None = None
    refused: bool = False
    deaf: bool = False
    seconds: float = 3.0
    settings: KopfSettings = IDLE
    lease: LeaseSettings = LeaseSettings()  # noqa: RUF009  # frozen
    ends: bool = False


WATCH = ("watch",)
FAULTS: dict[str, Callable[[], Fault]] = {
    "start: refuses connections": lambda: Fault(at_start=True, refused=True),
    "start: 503": lambda: Fault(at_start=True, answer=fault(503)),
    "start: 403": lambda: Fault(at_start=True, answer=fault(403)),
    "start: 401": lambda: Fault(at_start=True, answer=fault(401)),
    "start: Lobbies are not served": lambda: Fault(at_start=True, answer=fault(404, path="^/apis/lobby-gateway")),
    "start: HTML": lambda: Fault(at_start=True, answer=fault("html")),
    "start: no discovery": lambda: Fault(at_start=True, answer=fault(404, path="^/apis/lobby-gateway.io/v1alpha1$")),
    "410": lambda: Fault(seconds=1.0),
    "refuses connections": lambda: Fault(refused=True),
    "refuses connections until the Lease is lost": lambda: Fault(refused=True, lease=SHORT_LEASE, ends=True),
    "503": lambda: Fault(answer=fault(503)),
    "503 to reads": lambda: Fault(answer=fault(503, verbs=("read", "watch")), seconds=10.0),
    "event of type ERROR": lambda: Fault(answer=fault("event", verbs=WATCH, path="pods", times=1)),
    "410 as an answer": lambda: Fault(answer=fault(410, verbs=WATCH, path="pods", times=1)),
    "404 to Lobbies": lambda: Fault(answer=fault(404, path="lobbies")),
    "400 to a watch": lambda: Fault(answer=fault(400, verbs=WATCH, path="pods", times=1)),
    "401": lambda: Fault(answer=fault(401)),
    "429": lambda: Fault(answer=fault(429)),
    "watches end at once": lambda: Fault(answer=fault("nothing", verbs=WATCH)),
    "a line is cut": lambda: Fault(answer=fault("cut", verbs=WATCH, path="pods", times=1)),
    "garbage in a watch": lambda: Fault(answer=fault("garbage", verbs=WATCH, path="pods", times=1)),
    "HTML to lists": lambda: Fault(answer=fault("html", verbs=("read",), path="pods", times=4)),
    "no answer to reads": lambda: Fault(answer=fault("hang", verbs=("read", "watch")), seconds=6.0),
    "watches live and tell nothing": lambda: Fault(deaf=True, settings=AWARE),
}


class Cluster:
    """A server of the API, a kubelet and an operator, which is started again when it has lost the Lease."""

    def __init__(self, server: FakeKubeApi, kubelet: FakeKubelet, kubeconfig: str, meant: Fault) -> None:
        self.server = server
        self.starts = 0
        self._kubeconfig = kubeconfig
        self._operator: Operator | None = None
        self._settings = OperatorSettings(
            pods=PodSettings(image="lobby:1", token_secret="token"),
            namespace="shop",
            own_namespace="system",
            identity="one",
            admin_host="127.0.0.1",
            admin_port=0,
            api=ApiSettings(request_seconds=2.0),
            kopf=meant.settings,
            lease=meant.lease,
            lobby_admin_port=kubelet.port,
        )

    async def run(self, stopping: Shutdown) -> None:
        """Runs the operator, and again when it has lost the Lease."""
        while not stopping.event.is_set():
            try:
                await self._run_once(stopping)
            except LeaseLostError:
                self._operator = None

    async def _run_once(self, stopping: Shutdown) -> None:
        self.starts += 1
        api = await connect(
            self._kubeconfig,
            settings=self._settings.api,
            before=lambda verb, resource: operator.before_call(verb, resource, lambda *_: None),
        )
        lease_api = await connect(self._kubeconfig, settings=self._settings.api)
        self._operator = operator = Operator(api, self._settings, lease_api)
        try:
            await operator.run(stopping)
        finally:
            await api.close()
            await lease_api.close()

    def put_lobby(self, name: str, *, silent: bool = False) -> None:
        made = lobby_resource(name, path=f"/{name}", replicas=2, spareSeats=0)
        self.server.put(f"{LOBBIES_PATH.format('shop')}/{name}", made, silent=silent)

    def remove(self, path: str, name: str) -> None:
        self.server.remove(f"{path.format('shop')}/{name}", silent=True)

    def there(self) -> dict[str, set[str]]:
        """Names of the Lobbies and pods on the server."""
        return {
            kind: {each.rpartition("/")[2] for each in self.server.objects if f"/{kind}/" in each}
            for kind in ("lobbies", "pods")
        }

    def known(self) -> dict[str, set[str]]:
        """Names of the Lobbies and pods that the operator acts on."""
        operator = self._operator
        if operator is None or not operator.manager.active:
            return {}
        manager = operator.manager
        return {
            "lobbies": {record.name for record in manager.lobbies},
            "pods": {lobby.name for each in manager.reconcilers for lobby in each.observed.lobbies},
        }

    def healthy(self) -> bool:
        return self._operator is not None and self._operator.ready() == self._operator.alive() == ""

    def exact(self, *lobbies: str) -> bool:
        """The operator knows these Lobbies and no other, and two pods of each: what there is on the server."""
        there = self.there()
        pods = sorted(pod.rpartition("-")[0] for pod in there["pods"])
        return self.known() == there and there["lobbies"] == {*lobbies} and pods == sorted([*lobbies, *lobbies])

    def __str__(self) -> str:
        return f"known: {self.known()}; there: {self.there()}"


@asynccontextmanager
async def cluster(tmp_path: Path, meant: Fault) -> AsyncIterator[Cluster]:
    async with fake_kube_api() as server:
        server.bookmark_seconds = 3.0
        kubeconfig = await asyncio.to_thread(server.write_kubeconfig, tmp_path / "kubeconfig")
        kubelet = await free_port(server)
        async with running(kubelet.run()):
            it = Cluster(server, kubelet, kubeconfig, meant)
            it.put_lobby("a")
            it.put_lobby("b")
            yield it


@asynccontextmanager
async def operating(it: Cluster) -> AsyncIterator[None]:
    stopping = Shutdown()
    task = asyncio.create_task(it.run(stopping))
    try:
        yield
    finally:
        stopping.stop("the test is over")
        await task


async def begin(it: Cluster, meant: Fault) -> None:
    if meant.answer is not None:
        it.server.instead = meant.answer
    if meant.refused:
        await it.server.refuse()
    if meant.deaf:
        it.server.deafen()


async def end(it: Cluster, meant: Fault) -> None:
    it.server.instead = lambda _asked: None
    if meant.refused:
        await it.server.listen()


def change_unseen(it: Cluster) -> None:
    """Deletes a pod, and a Lobby with its pods, and adds a Lobby."""
    for path, name in ((PODS_PATH, "a-1"), (LOBBIES_PATH, "b"), (PODS_PATH, "b-1"), (PODS_PATH, "b-2")):
        it.remove(path, name)
    it.put_lobby("c", silent=True)
    it.server.compact()


@pytest.mark.parametrize("name", FAULTS)
def test_the_operator_ends_exact(tmp_path: Path, name: str) -> None:
    meant = FAULTS[name]()

    async def main() -> None:
        async with cluster(tmp_path, meant) as it:
            if meant.at_start:
                await begin(it, meant)
            async with operating(it):
                if not meant.at_start:
                    await until(lambda: it.exact("a", "b"), describe=it.__str__)
                    await until(lambda: it.server.watches == 3)
                    await begin(it, meant)
                    change_unseen(it)
                    if not meant.deaf:
                        it.server.end_watches()
                await until_over(meant.seconds)
                await end(it, meant)
                lobbies = ("a", "b") if meant.at_start else ("a", "c")
                await until(lambda: it.exact(*lobbies), deadline=EXACT_SECONDS, describe=it.__str__)
                it.put_lobby("z")
                await until(lambda: it.exact(*lobbies, "z"), deadline=EXACT_SECONDS, describe=it.__str__)
                await until(it.healthy)
                await stays(lambda: it.exact(*lobbies, "z"), seconds=0.5)
                assert it.starts == (2 if meant.ends else 1)

    asyncio.run(main())


async def until_over(seconds: float) -> None:
    """The duration of a fault."""
    at = asyncio.get_running_loop().time() + seconds
    await until(lambda: asyncio.get_running_loop().time() >= at)


def test_there_are_24_faults() -> None:
    assert len(FAULTS) == 24
