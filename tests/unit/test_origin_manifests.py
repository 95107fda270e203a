"""The manifests in docs/origins are valid, name themselves after their file, and are listed on their page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.dialogue import dialogue
from lobby_gateway.resource.schema import load_file
from lobby_gateway.resource.spec import OriginSpec, lobby_from_resource
from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.websocket.frames import Batch, Opcode, frame

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


ANSWERS: dict[str, tuple[str | bytes, ...]] = {
    "bitfinex-private": ('[0,"hb"]',),
    "bybit": ('{"success":true,"ret_msg":"pong","conn_id":"a","req_id":"","op":"ping"}',),
    "bybit-private": ('{"req_id":"","op":"pong","args":["1675418560633"],"conn_id":"a"}',),
    "coinbase-advanced-jwt": ('{"channel":"subscriptions","events":[{"subscriptions":{"user":["u"]}}]}',),
    "coinbase-advanced-public": ('{"channel":"subscriptions","events":[{"subscriptions":{"ticker":["BTC-USD"]}}]}',),
    "deribit": ('{"jsonrpc":"2.0","id":9,"result":{"version":"1.2.26"},"testnet":false}',),
    "discord": ('{"t":null,"s":null,"op":11,"d":null}',),
    "gate": ('{"time":1545404023,"channel":"spot.pong","event":"","error":null,"result":null}',),
    "kraken-private": ('{"method":"pong","time_in":"2026-11-29T12:00:00.1Z","time_out":"2026-11-29T12:00:00.2Z"}',),
    "kraken-v2": ('{"method":"pong","time_in":"2026-11-29T12:00:00.1Z","time_out":"2026-11-29T12:00:00.2Z"}',),
    "kucoin": ('{"id":"1545910590801","type":"pong","timestamp":1764417600000}',),
    "mqtt": (b"\xd0\x00",),
    "nats": (b'INFO {"server_id":"a","connect_urls":["10.0.0.1:4222"]}\r\n',),
    "nostr": ('["EOSE","s"]', '["NOTICE","too many filters"]'),
    "okx-public": ("pong",),
    "okx-vip-books": ("pong",),
    "phoenix": ('[null,"hb","phoenix","phx_reply",{"response":{},"status":"ok"}]',),
    "pusher": ('{"event":"pusher:pong","data":{}}',),
    "signalr": ('{"type":6}',),
    "stomp": ("\n",),
    "twelvedata": ('{"event":"heartbeat","status":"ok"}',),
}
"""What a feed answers to what its manifest says, beside what a step waits for."""


def origin_of(name: str) -> OriginSpec:
    return lobby_from_resource(load_file(FOLDER / f"{name}.yaml")).spec.origin


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_to_what_a_manifest_says_do_not_reach_clients(name: str) -> None:
    rules = dialogue(origin_of(name), lambda _: "s3cr3t").rules
    assert rules is not None
    for answer in ANSWERS[name]:
        text, opcode = (answer.encode(), Opcode.TEXT) if isinstance(answer, str) else (answer, Opcode.BINARY)
        verdict = rules.judge_one(Batch.of([frame(opcode, text)]), 0, Known())
        assert (verdict.forward, verdict.send, verdict.end) == (False, None, None), answer


def test_the_answers_to_all_timed_messages_are_known() -> None:
    assert {path.stem for path in MANIFESTS if origin_of(path.stem).every} <= set(ANSWERS)


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
