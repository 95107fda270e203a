"""The Ethereum node of the README as an origin, on the cluster's network."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from tests.cluster.support.background import background
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import run
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.faults import inside
from tests.cluster.support.release import Release
from tests.cluster.support.resources import SMALL
from tests.support import npm_tools
from tests.support.examples import readme_lobby
from tests.support.swarm import Client
from tests.support.tally import by_block
from tests.support.up import summary

CLIENTS = 1100
PORT = 18545
OPTIONS = (
    *("--server.host", "0.0.0.0", "--server.port", str(PORT), "--miner.blockTime", "1"),
    *("--wallet.totalAccounts", "1", "--logging.quiet"),
)
SKIP_REASON = npm_tools.skip_reason("ganache") or ENVIRONMENT.faults_skip_reason()
# This machine's address in the cluster's network: the local address of a route to a node.
OWN_ADDRESS = (
    "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 9)); "
    "print(s.getsockname()[0])"
)
ASK = (
    "import sys, urllib.request; print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], "
    "sys.argv[2].encode(), {'Content-Type': 'application/json'}), timeout=10).read().decode())"
)

pytestmark = pytest.mark.skipif(bool(SKIP_REASON), reason=SKIP_REASON)


def heads(client: Client) -> dict[int, str]:
    """Hashes of the heads that a client received, by number."""
    found = [json.loads(payload)["params"]["result"] for _, payload in client.kept if by_block(payload) is not None]
    return {int(head["number"], 16): str(head["hash"]) for head in found}


def hash_of_block(address: str, number: int) -> str:
    """A block as the node itself returns it."""
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": [hex(number), False]}
    answer = run(*inside(sys.executable, "-c", ASK, f"http://{address}:{PORT}/", json.dumps(question)))
    return str(json.loads(answer)["result"]["hash"])


def test_1100_clients_get_every_head_of_three_connections(installed: Release, cluster: Cluster) -> None:
    node_address = run(*inside(sys.executable, "-c", OWN_ADDRESS, cluster.node_address(cluster.kept_node()))).strip()
    resource: dict[str, Any] = readme_lobby("heads")
    resource["spec"]["origin"]["url"] = f"ws://{node_address}:{PORT}/"
    resource["spec"]["template"] = SMALL
    with (
        background(*inside(str(npm_tools.NODE), str(npm_tools.GANACHE), *OPTIONS)) as node,
        cluster.lobby(resource) as name,
        Crowd(installed.url("/heads"), sequence=by_block, keep=64) as crowd,
    ):
        node.until_line("RPC Listening", deadline=npm_tools.START_DEADLINE)
        cluster.until_condition(name, "Ready", "True")
        crowd.connect(CLIENTS)
        cluster.until_ready(name, 3)
        crowd.each_gets(6, deadline=40)
        reports = cluster.reports(name)
        assert sorted(report["clients"] for report in reports.values()) == [76, 512, 512], summary(reports)
        assert all(report["origin"]["connections"] == 1 for report in reports.values()), summary(reports)
        checked(crowd, node_address)


def checked(crowd: Crowd, node_address: str) -> None:
    """Every client has every head, with the hash that the node itself returns."""
    all_heads, others = crowd.look(
        lambda: ([heads(client) for client in crowd.swarm.clients], {c.tally.other for c in crowd.swarm.clients})
    )
    assert crowd.look(lambda: (len(crowd.swarm.open), crowd.swarm.gaps, crowd.swarm.disorder)) == (CLIENTS, 0, 0)
    assert others == {0}, "what the script was answered is not part of the stream"
    first = all_heads[0]
    for seen in all_heads:
        both = first.keys() & seen.keys()
        assert len(both) >= 5
        assert all(seen[number] == first[number] for number in both)
    for number in sorted(first)[-3:]:
        assert first[number] == hash_of_block(node_address, number)
