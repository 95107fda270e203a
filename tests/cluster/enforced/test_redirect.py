"""Redirect mode while NetworkPolicies are enforced: clients reach lobbies themselves, and nothing but their client port."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.enforced.conftest import Redirecting, reachable
from tests.cluster.support.api import ADMIN_PORT
from tests.cluster.support.background import Background, background
from tests.cluster.support.cluster import Cluster, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.faults import inside, needs_faults
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually
from tests.support import npm_tools, third_party
from tests.support.third_party import BROWSER, COMMANDS

pytestmark = needs_faults

REDIRECT = {"mode": "Redirect"}
CLIENTS, SEATS = 30, 10


@contextlib.contextmanager
def clients(url: str, count: int) -> Iterator[Background]:
    """Clients that follow redirects and come back after each close."""
    with background(*inside(sys.executable, "-m", "tests.cluster.support.redirected", url, str(count))) as running:
        yield running


def state(running: Background) -> dict[str, Any]:
    """What they last said; empty before that."""
    lines = [line for line in running.text.rpartition("\n")[0].splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found


def until_all_open(running: Background, count: int = CLIENTS, *, more: int = 0, deadline: float = 60.0) -> None:
    """Waits until all clients are connected and have received `more` messages in all."""
    first = state(running).get("messages", 0)
    eventually(
        lambda: state(running).get("open") == count and state(running)["messages"] >= first + more,
        deadline=deadline,
        what=lambda: f"{count} clients receive messages; {running.text[-1500:]}",
    )


@pytest.mark.parametrize("name", [*COMMANDS, BROWSER])
def test_a_program_follows_the_307_and_a_page_its_ticket(redirecting: Redirecting, name: str, tmp_path: Path) -> None:
    if reason := third_party.skip_reason(name):
        pytest.skip(reason)
    cluster = redirecting.cluster
    resource = lobby("direct", redirecting.origin, routing=REDIRECT, clients_allowedOrigins=["*"])
    url = f"{redirecting.url}/direct"
    page = (sys.executable, "-m", "tests.cluster.support.page", url, str(tmp_path))
    program = ("env", f"NODE_MODULES={npm_tools.MODULES}", *COMMANDS[name], url, "plain") if name != BROWSER else page
    with cluster.lobby(resource):
        cluster.until_condition("direct", "Ready", "True")
        with background(*inside(*program)) as client:
            client.until_line(r'^\["open"')
            client.until_line(r'^\["text"(.|\n)*^\["text"(.|\n)*^\["text"')
            eventually(lambda: cluster.status("direct")["clients"] == 1, what=lambda: cluster.describe("direct"))
            (pod,) = cluster.pods("direct")
            address = str(pod["status"]["podIP"])
            assert reachable(address, 8000)
            assert not reachable(address, ADMIN_PORT), "only the operator and Prometheus may connect to it"


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_clients_of_a_lobby_that_dies_come_back_through_the_greeter(redirecting: Redirecting, how: str) -> None:
    cluster = redirecting.cluster
    resource = lobby("dying", redirecting.origin, routing=REDIRECT, clients_seats=SEATS, spareSeats=SEATS)
    with cluster.lobby(resource), clients(f"{redirecting.url}/dying", CLIENTS) as running:
        until_all_open(running, more=4 * CLIENTS)
        eventually(
            lambda: [each["clients"] for each in cluster.status("dying")["lobbies"]].count(SEATS) >= 2,
            what=lambda: f"two full lobbies; {cluster.describe('dying')}",
        )
        full = next(each["name"] for each in cluster.status("dying")["lobbies"] if each["clients"] == SEATS)
        dying = next(pod for pod in cluster.pods("dying") if name_of(pod) == full)
        lost = f"{dying['status']['podIP']}:8000"
        before = state(running)
        began = time.monotonic()
        kill = ("--grace-period=0", "--force") if how == "killed" else ()
        kubectl("delete", "pod", full, "-n", cluster.namespace, "--wait=false", *kill)
        eventually(
            lambda: state(running)["open"] == CLIENTS and not state(running)["peers"].get(lost),
            deadline=60,
            what=lambda: f"all clients are elsewhere; {running.text[-1500:]}",
        )
        seconds = time.monotonic() - began
        until_all_open(running, more=2 * CLIENTS)
        after = state(running)
        closes = {key: count - before["closes"].get(key, 0) for key, count in after["closes"].items()}
        assert sum(closes.values()) == SEATS, closes
        if how == "deleted":
            assert closes == {"1012 resume": SEATS}, closes
        FIGURES.note(
            f"redirected, a lobby of {SEATS} clients {how}: all elsewhere after {seconds:.1f} s; closed {closes}, "
            f"refused {after['refused']}, messages missing {after['missing']} (most for one client "
            f"{after['most_missing']}), repeated {after['repeated']}"
        )


def test_clients_of_a_deleted_lobby_are_closed_at_once(redirecting: Redirecting) -> None:
    cluster = redirecting.cluster
    resource = lobby(
        "deleted",
        redirecting.origin,
        routing=REDIRECT,
        clients_seats=SEATS,
        spareSeats=SEATS,
        compaction={"enabled": False},
    )  # nobody is on the way from one lobby to another when it is deleted
    with cluster.lobby(resource), clients(f"{redirecting.url}/deleted", CLIENTS) as running:
        until_all_open(running, more=2 * CLIENTS)
        began = time.monotonic()
        kubectl("delete", "lobby", "deleted", "-n", cluster.namespace, "--wait=false")
        assert running.ended(deadline=60) == 0, running.text[-1500:]
        seconds = time.monotonic() - began
        assert state(running)["closes"] == {"1001 the Lobby was deleted": CLIENTS}, running.text[-1500:]
        FIGURES.note(f"redirected, Lobby deleted: {CLIENTS} clients closed with 1001 within {seconds:.1f} s")
        with clients(f"{redirecting.url}/deleted", 1) as newcomer:
            eventually(lambda: state(newcomer).get("refused", {}).get("404"), what=lambda: newcomer.text[-1500:])


@pytest.mark.usefixtures("redirecting")
def test_lobbies_can_be_reached_by_greeters_only_unless_the_chart_allows_redirects(
    installed: Release, cluster: Cluster, origin: str
) -> None:
    with cluster.lobby(lobby("closed", origin, routing=REDIRECT)):
        cluster.until_condition("closed", "Ready", "True")
        assert installed.answers()
        (pod,) = cluster.pods("closed")
        address = str(pod["status"]["podIP"])
        eventually(lambda: not reachable(address, 8000), what="the lobby's client port is closed to strangers")
