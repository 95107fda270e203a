"""Two thousand clients of one Lobby live through all failures; what each failure does to them is measured and bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.cluster.support.api import Api
from tests.cluster.support.cluster import LOBBY_PODS, OF_LOBBY, Cluster, Pod, name_of
from tests.cluster.support.crowd import Crowd, NewClients, Seen
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.pod_watch import PodWatch
from tests.cluster.support.release import NAMESPACE, Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

LOAD = "load"
CLIENTS = 2000
SEATS = 512
LOBBIES = 5  # four for the clients, and one more for the spare seats


@dataclass(slots=True)
class Disruption:
    """The effects of a failure.

    Attributes:
        new_clients: clients that connected meanwhile.
        seen: what the clients saw; set when it is over.
        made: names of the lobbies created meanwhile; set when it is over.
    """

    new_clients: NewClients
    seen: Seen | None = None
    made: tuple[str, ...] = ()


class Load:
    """The Lobby under load.

    Attributes:
        release: the installed chart.
        cluster: its namespace.
        crowd: the clients.
        name: of the Lobby.
    """

    def __init__(self, release: Release, crowd: Crowd, watch: PodWatch) -> None:
        self.release = release
        self.cluster = release.cluster
        self.crowd = crowd
        self.name = LOAD
        self._watch = watch

    def pods(self) -> list[Pod]:
        """Its pods."""
        return self.cluster.pods(self.name)

    def is_balanced(self) -> bool:
        """Whether each node has a lobby, and each greeter a quarter of the clients."""
        nodes = {pod["spec"]["nodeName"] for pod in self.pods()}
        clients = self.cluster.clients_of_greeters()
        return len(nodes) > 1 and min(clients.values()) >= CLIENTS // 4

    def fullest(self) -> str:
        """The lobby with the most clients."""
        reports = self.cluster.reports(self.name)
        return max(reports, key=lambda name: int(reports[name]["clients"]))

    def until_settled(self, *, deadline: float = 120.0) -> None:
        """Waits until exactly the needed lobbies run, and the release is complete."""
        self.release.until_whole(deadline=deadline)
        self.cluster.until_ready(self.name, LOBBIES, deadline=deadline)

    @contextlib.contextmanager
    def disruption(
        self, failure: str, *, made: Callable[[int], bool], lost: int = 0, refused: bool = False, settle: float = 120.0
    ) -> Iterator[Disruption]:
        """Something fails in this block; afterwards the cluster must settle, and the clients must be fine.

        Args:
            failure: its name, for the table.
            made: whether this number of created lobbies is right.
            lost: most clients that may be closed or receive nothing: those whose greeter is lost. They reconnect at once.
            refused: new clients may be refused: those that connect to a lost greeter or node.
            settle: seconds within which everything must be as before.
        """
        self.crowd.mark()
        before = self._watch.mark()
        with self.crowd.coming_back() as back, self.crowd.new_clients() as new_clients:
            disruption = Disruption(new_clients)
            yield disruption
            self.until_settled(deadline=settle)
            self.crowd.each_gets(2)
            disruption.seen = seen = self.crowd.seen()
        disruption.made = tuple(self._watch.made_since(before))
        FIGURES.row(failure, seen, new_clients, back, len(disruption.made))
        told = f"{seen}; {new_clients}; {back}; made {disruption.made}; {self.crowd.summary()}"
        assert seen.clients - seen.open <= lost, told
        assert seen.missing == seen.duplicates == 0, told
        assert refused or not new_clients.refused, told
        assert new_clients.came > sum(new_clients.refused.values()), told
        assert made(len(disruption.made)), told
        names = [name_of(pod) for pod in self.pods()]
        assert len(names) == len(set(names)) == LOBBIES, told


@pytest.fixture(scope="session")
def crowd_of_load(installed: Release, origin: str, api: Api) -> Iterator[Load]:
    """The Lobby, its clients and the watch of its pods."""
    cluster = installed.cluster
    # No compaction, so that a test sees the effects of its failure alone.
    resource = lobby(LOAD, origin, compaction={"enabled": False})
    labels = f"{LOBBY_PODS},{OF_LOBBY}={LOAD}"
    with (
        cluster.lobby(resource),
        PodWatch(api, NAMESPACE, labels=labels) as watch,
        Crowd(installed.url(f"/{LOAD}")) as crowd,
    ):
        cluster.until_condition(LOAD, "Ready", "True")
        yield Load(installed, crowd, watch)


@pytest.fixture
def load(crowd_of_load: Load, cluster: Cluster) -> Load:
    """Two thousand connected clients in a healthy cluster, spread over both nodes."""
    crowd_of_load.release.until_whole()
    eventually(crowd_of_load.pods, what=lambda: f"a lobby of {LOAD}; {cluster.describe(LOAD)}", deadline=60)
    crowd_of_load.crowd.fill(CLIENTS)
    crowd_of_load.until_settled()
    if not crowd_of_load.is_balanced():
        crowd_of_load.crowd.fill(0)
        cluster.until_ready(LOAD, 1)
        crowd_of_load.crowd.fill(CLIENTS)
        crowd_of_load.until_settled()
    return crowd_of_load
