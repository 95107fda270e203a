"""The manifests in docs/origins are valid, name themselves after their file, and are listed on their page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lobby_gateway.resource.schema import load_file
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_gateway.trunk.identity import identity_of

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "origins"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_valid_and_says_what_it_is(path: Path) -> None:
    made = lobby_from_resource(load_file(path))
    assert made.name == path.stem
    assert path.read_text().startswith("# ")


def test_the_page_lists_every_manifest() -> None:
    page = (FOLDER / "README.md").read_text()
    assert sorted(re.findall(r"\]\(([a-z0-9-]+\.yaml)\)", page)) == [path.name for path in MANIFESTS]


def test_heads_and_logs_of_two_connections_to_ethereum_are_the_same_if_only_their_subscriptions_differ() -> None:
    identity = identity_of(lobby_from_resource(load_file(FOLDER / "ethereum.yaml")).spec.origin.identity)

    def received(subscription: str, **result: object) -> bytes:
        params = {"subscription": subscription, "result": result}
        return json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}).encode()

    stream: list[dict[str, object]] = [
        {"hash": "0xa", "number": "0x1"},
        {"hash": "0xb", "number": "0x2"},
        {"blockHash": "0xb", "logIndex": "0x0", "removed": False},
        {"blockHash": "0xb", "logIndex": "0x1", "removed": False},
        {"blockHash": "0xb", "logIndex": "0x1", "removed": True},
    ]
    one, other = ([identity(received(connection, **each)) for each in stream] for connection in ("0x1", "0x2"))
    assert one == other
    assert len(set(one) - {None}) == len(stream)
    assert identity(b'{"jsonrpc":"2.0","id":2,"result":"0x5"}') is None
