"""Strict versions of public feeds, each from its public documents. Times are scaled down: 30 s there are about 2 s here."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.integration.origins.strict import Peer, StrictOrigin
from tests.support.api import Answer, ApiRequest, http_answer

SOON = 5.0
IDLE = 2.5


Api = Callable[[StrictOrigin, ApiRequest], Answer]
"""What the HTTP server of a feed answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One feed.

    Attributes:
        name: of its manifest in docs/origins.
        serve: talks to one connection.
        is_data: whether a message is data, which clients are to get.
        subprotocol: that it chooses.
        secrets: environment of a lobby that it accepts.
        every: seconds between messages that its rules ask for, scaled; None: it asks for none.
        error: sends an error in a message; None: it has none.
        reason: what a lobby is to show of it.
        renewal: asks for a new connection in a message; None: it never does.
        refused: whether that is a refusal.
        api: answers its HTTP calls; None: it has none.
        check: raises AssertionError unless a client understands all that it got, in this order; None: each message stands
            alone, and is the same on all connections.
    """

    name: str
    serve: Callable[[Peer], Awaitable[None]]
    is_data: Callable[[str], bool]
    subprotocol: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    every: int | None = None
    error: Callable[[Peer], Awaitable[None]] | None = None
    reason: str = ""
    renewal: Callable[[Peer], Awaitable[None]] | None = None
    refused: bool = False
    api: Api | None = None
    check: Callable[[Sequence[str]], None] | None = None


def _json_with(key: str) -> Callable[[str], bool]:
    def is_data(text: str) -> bool:
        message = json.loads(text)
        return isinstance(message, dict) and key in message

    return is_data


async def okx(peer: Peer) -> None:
    request = await peer.receive_json(SOON, "subscribe")
    if request.get("op") != "subscribe" or len(request.get("args", ())) != 2:
        peer.violation(f"not a subscribe: {request}")
    first, second = request["args"]
    await peer.send({"event": "subscribe", "arg": second})
    await peer.send({"arg": first, "action": "snapshot", "data": [{"seq": 0}]})  # before the other answer
    await peer.send({"event": "subscribe", "arg": first})

    async def on_message(message: str | bytes) -> None:
        if message != "ping":
            peer.violation(f"unknown: {message!r}")
        await peer.send("pong")

    await peer.stream(lambda n: {"arg": second, "data": [{"seq": n}]}, on_message, idle=IDLE)


async def kraken(peer: Peer) -> None:
    await peer.send({"channel": "status", "type": "update", "data": [{"system": "online"}]})
    request = await peer.receive_json(SOON, "subscribe")
    if request.get("method") != "subscribe":
        peer.violation(f"not a subscribe: {request}")
    await peer.send({"channel": "heartbeat"})
    await peer.send({"method": "subscribe", "req_id": request["req_id"], "success": True})

    async def on_message(message: str | bytes) -> None:
        if json.loads(message).get("method") != "ping":
            peer.violation(f"unknown: {message!r}")
        await peer.send({"method": "pong", "time_in": "2026-11-29T12:00:00.1Z", "time_out": "2026-11-29T12:00:00.2Z"})
        await peer.send({"channel": "heartbeat"})

    await peer.stream(lambda n: {"channel": "ticker", "type": "update", "data": [{"seq": n}]}, on_message, idle=IDLE)


async def bybit(peer: Peer) -> None:
    request = await peer.receive_json(SOON, "subscribe")
    await peer.send({"success": True, "ret_msg": "", "op": "subscribe", "req_id": request["req_id"]})

    async def on_message(message: str | bytes) -> None:
        if json.loads(message) != {"op": "ping"}:
            peer.violation(f"unknown: {message!r}")
        await peer.send({"success": True, "ret_msg": "pong", "op": "ping"})

    await peer.stream(lambda n: {"topic": "tickers.BTCUSDT", "data": {"seq": n}}, on_message, idle=IDLE)


async def bybit_private(peer: Peer) -> None:
    login = await peer.receive_json(SOON, "auth")
    _, expires, given = login["args"]
    if login["op"] != "auth" or expires / 1000 < time.time():
        peer.violation(f"not an auth: {login}")
    if given != hmac.digest(b"byb1t-s3cr3t", f"GET/realtime{expires}".encode(), "sha256").hex():
        peer.violation(f"not signed: {login}")
    await peer.send({"success": True, "ret_msg": "", "op": "auth", "conn_id": "a"})
    request = await peer.receive_json(SOON, "subscribe")
    if request != {"op": "subscribe", "args": ["execution"]}:
        peer.violation(f"not a subscribe: {request}")
    await peer.send({"success": True, "ret_msg": "", "op": "subscribe", "conn_id": "a"})

    async def on_message(message: str | bytes) -> None:
        if json.loads(message) != {"op": "ping"}:
            peer.violation(f"unknown: {message!r}")
        await peer.send({"req_id": "", "op": "pong", "args": ["1675418560633"], "conn_id": "a"})

    await peer.stream(lambda n: {"topic": "execution", "data": [{"seq": n}]}, on_message, idle=IDLE)


async def deribit(peer: Peer) -> None:
    heartbeat = await peer.receive_json(SOON, "set_heartbeat")
    if heartbeat.get("method") != "public/set_heartbeat":
        peer.violation(f"not set_heartbeat: {heartbeat}")
    await peer.send({"jsonrpc": "2.0", "id": heartbeat["id"], "result": "ok"})
    request = await peer.receive_json(SOON, "subscribe")
    await peer.send({"jsonrpc": "2.0", "id": request["id"], "result": request["params"]["channels"]})
    asked = {"method": "heartbeat", "params": {"type": "test_request"}}

    def tick(n: int) -> object:
        return asked if n % 25 == 0 else {"method": "subscription", "params": {"channel": "ticker", "data": {"seq": n}}}

    async def on_message(message: str | bytes) -> None:
        said = json.loads(message)
        if said.get("method") != "public/test":
            peer.violation(f"unknown: {message!r}")
        await peer.send({"jsonrpc": "2.0", "id": said["id"], "result": {"version": "1.2.26"}})

    await peer.stream(tick, on_message, idle=IDLE)


async def alpaca(peer: Peer) -> None:
    await peer.send([{"T": "success", "msg": "connected"}])
    if (peer.header("APCA-API-KEY-ID"), peer.header("APCA-API-SECRET-KEY")) != ("PK123456", "s3cr3ts3cr3t"):
        await peer.send([{"T": "error", "code": 402, "msg": f"auth failed for {peer.header('APCA-API-SECRET-KEY')}"}])
        await peer.close(1000)
    await peer.send([{"T": "success", "msg": "authenticated"}])
    request = await peer.receive_json(SOON, "subscribe")
    if request != {"action": "subscribe", "trades": ["AAPL"]}:
        peer.violation(f"not a subscribe: {request}")
    await peer.send([{"T": "subscription", "trades": ["AAPL"]}])
    await peer.stream(lambda n: [{"T": "t", "S": "AAPL", "seq": n}], _nothing(peer))


async def socketio(peer: Peer) -> None:
    await peer.send('0{"sid":"a","pingInterval":500,"pingTimeout":500}')
    if await peer.receive(SOON, "40") != "40":
        peer.violation("not a CONNECT packet")
    await peer.send('40{"sid":"b"}')

    async def on_message(message: str | bytes) -> None:
        if message != "3":
            peer.violation(f"not a pong: {message!r}")

    await peer.stream(lambda n: "2" if n % 25 == 0 else f'42["tick",{{"seq":{n}}}]', on_message, idle=IDLE)


async def graphql(peer: Peer) -> None:
    if await peer.receive_json(SOON, "connection_init") != {"type": "connection_init"}:
        await peer.close(4401, "Unauthorized")
    await peer.send({"type": "connection_ack"})
    request = await peer.receive_json(SOON, "subscribe")
    if request.get("type") != "subscribe":
        await peer.close(4400, "Invalid message")

    def tick(n: int) -> object:
        return (
            {"type": "ping"} if n % 25 == 0 else {"id": request["id"], "type": "next", "payload": {"data": {"seq": n}}}
        )

    async def on_message(message: str | bytes) -> None:
        if json.loads(message) != {"type": "pong"}:
            peer.violation(f"unknown: {message!r}")

    await peer.stream(tick, on_message, idle=IDLE)


async def actioncable(peer: Peer) -> None:
    await peer.send({"type": "welcome"})
    request = await peer.receive_json(SOON, "subscribe")
    if request.get("command") != "subscribe":
        peer.violation(f"not a subscribe: {request}")
    await peer.send({"type": "ping", "message": 1})
    await peer.send({"identifier": request["identifier"], "type": "confirm_subscription"})

    def tick(n: int) -> object:
        return (
            {"type": "ping", "message": n}
            if n % 25 == 0
            else {"identifier": request["identifier"], "message": {"seq": n}}
        )

    await peer.stream(tick, _nothing(peer))


async def phoenix(peer: Peer) -> None:
    join = await peer.receive_json(SOON, "phx_join")
    if join[3] != "phx_join":
        peer.violation(f"not a join: {join}")
    await peer.send([join[0], join[1], join[2], "phx_reply", {"status": "ok", "response": {}}])

    async def on_message(message: str | bytes) -> None:
        said = json.loads(message)
        if said[2:4] != ["phoenix", "heartbeat"]:
            peer.violation(f"unknown: {message!r}")
        await peer.send([None, said[1], "phoenix", "phx_reply", {"status": "ok", "response": {}}])

    await peer.stream(lambda n: [join[0], None, "room:lobby", "tick", {"seq": n}], on_message, idle=IDLE)


async def home_assistant(peer: Peer) -> None:
    await peer.send({"type": "auth_required", "ha_version": "2026.11"})
    login = await peer.receive_json(SOON, "auth")
    if login.get("type") != "auth":
        peer.violation(f"the first message is not auth: {login}")
    if login.get("access_token") != "t0kent0kent0ken":
        await peer.send({"type": "auth_invalid", "message": f"Invalid access token {login.get('access_token')}"})
        await peer.close(1000)
    await peer.send({"type": "auth_ok"})
    request = await peer.receive_json(SOON, "subscribe_events")
    await peer.send({"id": request["id"], "type": "result", "success": True, "result": None})
    await peer.stream(lambda n: {"id": 1, "type": "event", "event": {"seq": n}}, _nothing(peer))


async def coinbase(peer: Peer) -> None:
    for channel in ("heartbeats", "ticker"):
        request = await peer.receive_json(SOON, f"subscribe to {channel}")
        if request.get("channel") != channel:
            peer.violation(f"not {channel}: {request}")
        await peer.send({"channel": "subscriptions", "events": []})
        await peer.send({"channel": "heartbeats", "events": []})

    def tick(n: int) -> object:
        return {"channel": "heartbeats"} if n % 25 == 0 else {"channel": "ticker", "sequence_num": n}

    await peer.stream(tick, _nothing(peer))


async def binance(peer: Peer) -> None:
    request = await peer.receive_json(SOON, "SUBSCRIBE")
    if request.get("method") != "SUBSCRIBE":
        peer.violation(f"not SUBSCRIBE: {request}")
    await peer.send({"stream": "btcusdt@trade", "data": {"e": "trade", "seq": 0}})
    await peer.send({"result": None, "id": request["id"]})
    await peer.stream(lambda n: {"stream": "btcusdt@trade", "data": {"e": "trade", "seq": n}}, _nothing(peer))


async def nats(peer: Peer) -> None:
    await peer.send(b'INFO {"server_id":"a","max_payload":1048576}\r\n')
    said = await peer.receive(SOON, "CONNECT")
    if not isinstance(said, str) or not said.startswith("CONNECT {") or not said.endswith("PING\r\n"):
        peer.violation(f"not CONNECT: {said!r}")
    await peer.send(b"PONG\r\n")

    async def on_message(message: str | bytes) -> None:
        if message != "PONG\r\n":
            peer.violation(f"unknown: {message!r}")

    def tick(n: int) -> object:
        if n % 25 == 12:  # its cluster has changed
            return b'INFO {"server_id":"a","connect_urls":["10.0.0.1:4222"]}\r\n'
        return b"PING\r\n" if n % 25 == 0 else b"MSG ticks 1 10\r\n%010d\r\n" % n

    await peer.stream(tick, on_message, idle=IDLE)


async def mqtt(peer: Peer) -> None:
    said = await peer.receive(SOON, "CONNECT")
    if not isinstance(said, bytes) or said[:10] != b"\x10\x30\x00\x04MQTT\x04\x02" or said[12:14] != b"\x00\x24":
        peer.violation(f"not CONNECT: {said!r}")
    peer.claim(str(said[14:]))
    await peer.send(b"\x20\x02\x00\x00")
    said = await peer.receive(SOON, "SUBSCRIBE")
    if not isinstance(said, bytes) or said[:1] != b"\x82":
        peer.violation(f"not SUBSCRIBE: {said!r}")
    await peer.send(b"\x90\x03\x00\x01\x00")

    async def on_message(message: str | bytes) -> None:
        if message != b"\xc0\x00":
            peer.violation(f"not PINGREQ: {message!r}")
        await peer.send(b"\xd0\x00")

    await peer.stream(lambda n: b"\x30\x11\x00\x05ticks%010d" % n, on_message, idle=IDLE)


async def htx(peer: Peer) -> None:
    request = await peer.receive_json(SOON, "sub")
    await peer.send(_zipped({"id": request["id"], "status": "ok", "subbed": request["sub"]}))

    async def on_message(message: str | bytes) -> None:
        if "pong" not in json.loads(message):
            peer.violation(f"not a pong: {message!r}")

    await peer.stream(
        lambda n: _zipped({"ping": n} if n % 25 == 0 else {"ch": "ticker", "tick": n}), on_message, idle=IDLE
    )


async def centrifugo(peer: Peer) -> None:
    login = await peer.receive_json(SOON, "connect")
    if login.get("connect") != {"token": "t0kent0kent0ken"}:
        await peer.close(3500, "invalid token")
    await peer.send('{"id":1,"connect":{"client":"a","ping":1,"pong":true}}')
    request = await peer.receive_json(SOON, "subscribe")
    await peer.send(f'{{"push":{{"seq":0}}}}\n{{"id":{request["id"]},"subscribe":{{}}}}\n')

    async def on_message(message: str | bytes) -> None:
        if message != "{}":
            peer.violation(f"not a pong: {message!r}")

    def tick(n: int) -> object:
        return "{}" if n % 25 == 0 else f'{{"push":{{"seq":{n}}}}}\n{{"push":{{"seq":{n}.5}}}}'

    await peer.stream(tick, on_message, idle=IDLE)


async def okx_login(peer: Peer) -> None:
    login = (await peer.receive_json(SOON, "login"))["args"][0]
    signed = hmac.digest(b"s3cr3ts3cr3t", f"{login['timestamp']}GET/users/self/verify".encode(), "sha256")
    if abs(int(login["timestamp"]) - time.time()) > 30:
        peer.violation(f"the timestamp is old: {login['timestamp']}")
    if login["sign"] != base64.b64encode(signed).decode():
        await peer.send({"event": "error", "code": "60007", "msg": f"Invalid sign {login['sign']}"})
        await peer.close(1000)
    await peer.send({"event": "login", "code": "0"})
    request = await peer.receive_json(SOON, "subscribe")
    arg = request["args"][0]
    await peer.send({"event": "subscribe", "arg": arg})

    async def on_message(message: str | bytes) -> None:
        if message != "ping":
            peer.violation(f"unknown: {message!r}")
        await peer.send("pong")

    await peer.stream(lambda n: {"arg": arg, "data": [{"seq": n}]}, on_message, idle=IDLE)


async def discord(peer: Peer) -> None:
    await peer.send({"op": 10, "d": {"heartbeat_interval": 1000}, "s": None, "t": None})
    login = await peer.receive_json(SOON, "identify")
    if login["d"]["token"] != "t0kent0kent0ken":
        await peer.close(4004, "Authentication failed.")
    first = peer.origin.number
    latest = first
    await peer.send(
        {"op": 0, "t": "READY", "s": first, "d": {"session_id": "a", "resume_gateway_url": "wss://r.example"}}
    )

    def tick(n: int) -> object:
        nonlocal latest
        latest = n
        return {"op": 0, "t": "MESSAGE_CREATE", "s": n, "d": {"content": "hi"}}

    async def on_message(message: str | bytes) -> None:
        beat = json.loads(message)
        if beat["op"] != 1:
            peer.violation(f"not a heartbeat: {message!r}")
        if not isinstance(beat["d"], int) or not first <= beat["d"] <= latest:
            peer.violation(f"a heartbeat with the number {beat['d']}, not from {first} to {latest}")
        await peer.send({"op": 11})

    await peer.stream(tick, on_message, idle=IDLE)


async def bitfinex(peer: Peer) -> None:
    await peer.send({"event": "info", "version": 2, "platform": {"status": 1}})
    request = await peer.receive_json(SOON, "subscribe")
    if request != {"event": "subscribe", "channel": "ticker", "symbol": "tBTCUSD"}:
        peer.violation(f"not a subscribe: {request}")
    channel = 1000 + len(peer.origin.attempts)  # another one on each connection
    await peer.send([channel, [0]])  # a snapshot before the answer
    await peer.send(
        {"event": "subscribed", "channel": "ticker", "chanId": channel, "symbol": "tBTCUSD", "pair": "BTCUSD"}
    )

    def tick(n: int) -> object:
        return [channel, "hb"] if n % 10 == 0 else [channel, [n]]

    await peer.stream(tick, _nothing(peer))


async def bitfinex_private(peer: Peer) -> None:
    await peer.send({"event": "info", "version": 2, "platform": {"status": 1}})
    login = await peer.receive_json(SOON, "auth")
    signed = hmac.digest(b"b1tfinex-s3cr3t", login["authPayload"].encode(), "sha384").hex()
    if (login["event"], login["authPayload"]) != ("auth", f"AUTH{login['authNonce']}") or login["authSig"] != signed:
        peer.violation(f"not an auth: {login}")
    await peer.send({"event": "auth", "status": "OK", "chanId": 0})
    await peer.stream(lambda n: [0, "hb"] if n % 10 == 0 else [0, "te", [n]], _nothing(peer))


def _of_bitfinex(text: str) -> bool:
    message = json.loads(text)
    return bool(message["event"] == "subscribed" if isinstance(message, dict) else message[1] != "hb")


def _channels_are_known(texts: Sequence[str]) -> None:
    """Each message is of the channel that the client was told last, and none is told twice in a row."""
    channel = 0
    for message in map(json.loads, texts):
        if isinstance(message, dict):
            assert message["chanId"] != channel, "told twice"
            channel = message["chanId"]
        else:
            assert message[0] == channel, f"a message of channel {message[0]}, but the client knows {channel}"


async def pusher(peer: Peer) -> None:
    told = json.dumps({"socket_id": "1.2", "activity_timeout": 1})
    await peer.send({"event": "pusher:connection_established", "data": told})
    request = await peer.receive_json(SOON, "subscribe")
    if request.get("event") != "pusher:subscribe":
        peer.violation(f"not a subscribe: {request}")
    await peer.send({"event": "pusher_internal:subscription_succeeded", "channel": "ticks", "data": "{}"})

    async def on_message(message: str | bytes) -> None:
        if json.loads(message)["event"] not in {"pusher:ping", "pusher:pong"}:
            peer.violation(f"unknown: {message!r}")
        await peer.send({"event": "pusher:pong", "data": "{}"})

    await peer.stream(lambda n: {"event": "tick", "channel": "ticks", "data": f'{{"seq":{n}}}'}, on_message, idle=IDLE)


def kucoin_api(origin: StrictOrigin, request: ApiRequest) -> Answer:
    if (request.method, request.target) != ("POST", "/api/v1/bullet-public"):
        origin.violations.append(f"unknown call: {request.method} {request.target}")
    origin.tokens.append(f"kuc0in-t0ken-{len(origin.tokens)}+/=&")
    server = {"endpoint": origin.url, "protocol": "websocket", "pingInterval": 1000, "pingTimeout": 1000}
    return http_answer({"code": "200000", "data": {"token": origin.tokens[-1], "instanceServers": [server]}})


async def kucoin(peer: Peer) -> None:
    if peer.query.get("token") not in peer.origin.tokens:
        await peer.send({"type": "error", "code": 401, "data": "token is invalid"})
        await peer.close(1000)
    peer.origin.tokens.remove(peer.query["token"])  # one connection for each
    await peer.send({"id": peer.query["connectId"], "type": "welcome"})
    request = await peer.receive_json(SOON, "subscribe")
    if (request.get("type"), request.get("response")) != ("subscribe", True):
        peer.violation(f"not a subscribe: {request}")
    await peer.send({"id": request["id"], "type": "ack"})

    async def on_message(message: str | bytes) -> None:
        said = json.loads(message)
        if said.get("type") != "ping" or not said.get("id"):
            peer.violation(f"unknown: {message!r}")
        await peer.send({"id": said["id"], "type": "pong"})

    await peer.stream(
        lambda n: {"type": "message", "topic": request["topic"], "data": {"seq": n}}, on_message, idle=IDLE
    )


def twitch_api(origin: StrictOrigin, request: ApiRequest) -> Answer:
    if (request.method, request.target) != ("POST", "/helix/eventsub/subscriptions"):
        origin.violations.append(f"unknown call: {request.method} {request.target}")
    if request.headers.get("authorization") != "Bearer t0kent0kent0ken":
        said = f"Invalid OAuth token: {request.headers.get('authorization')}"
        return http_answer({"error": "Unauthorized", "status": 401, "message": said}, 401)
    if request.headers.get("client-id") != "cl1entcl1ent":
        origin.violations.append("no Client-Id")
    if request.headers.get("content-type") != "application/json":
        origin.violations.append("not JSON")
    transport = request.json()["transport"]
    subscribed = origin.sessions.get(transport["session_id"])
    if transport["method"] != "websocket" or subscribed is None:
        origin.violations.append(f"no such session: {transport}")
        return http_answer({"error": "Bad Request", "status": 400, "message": "session not found"}, 400)
    if subscribed.is_set():
        return http_answer({"error": "Conflict", "status": 409, "message": "subscription already exists"}, 409)
    subscribed.set()
    return http_answer({"data": [{"status": "enabled"}]}, 202)


def _twitch(kind: str, identifier: str, payload: object) -> dict[str, object]:
    return {"metadata": {"message_id": identifier, "message_type": kind}, "payload": payload}


async def twitch(peer: Peer) -> None:
    # A session that goes on keeps its id and its subscriptions.
    session = peer.query.get("session") or f"s3ssion-{len(peer.origin.attempts)}"
    if peer.query and session not in peer.origin.sessions:
        await peer.close(4007, "invalid reconnect")
    subscribed = peer.origin.sessions.setdefault(session, asyncio.Event())
    about = {"session": {"id": session, "status": "connected", "keepalive_timeout_seconds": 10}}
    await peer.send(_twitch("session_welcome", f"w-{len(peer.origin.attempts)}", about))
    await peer.until_set(subscribed, SOON, "subscription")
    await peer.send(_twitch("session_keepalive", f"k-{len(peer.origin.attempts)}", {}))
    await peer.stream(lambda n: _twitch("notification", f"n-{n}", {"event": {"seq": n}}), _nothing(peer))


async def twitch_renewal(peer: Peer) -> None:
    session = next(iter(peer.origin.sessions)) if len(peer.origin.sessions) == 1 else list(peer.origin.sessions)[-1]
    url = f"{peer.origin.url}?session={session}"
    await peer.send(_twitch("session_reconnect", "r-1", {"session": {"id": session, "reconnect_url": url}}))


def slack_api(origin: StrictOrigin, request: ApiRequest) -> Answer:
    if (request.method, request.target) != ("POST", "/api/apps.connections.open"):
        origin.violations.append(f"unknown call: {request.method} {request.target}")
    if request.headers.get("authorization") != "Bearer xapp-t0kent0ken":
        return http_answer({"ok": False, "error": "invalid_auth"})
    origin.tokens.append(f"t1cket{len(origin.attempts)}")
    return http_answer({"ok": True, "url": f"{origin.url}?ticket={origin.tokens[-1]}"})


async def slack(peer: Peer) -> None:
    if peer.query.get("ticket") not in peer.origin.tokens:
        peer.violation("a ticket that was never given, or is used")
    peer.origin.tokens.remove(peer.query["ticket"])
    await peer.send({"type": "hello", "num_connections": len(peer.origin.open)})
    waiting: list[str] = []

    def tick(n: int) -> object:
        waiting.append(f"e-{n}")
        if len(waiting) > 100:
            peer.violation(f"{waiting[0]} was not acknowledged")
        return {"envelope_id": f"e-{n}", "type": "events_api", "payload": {"seq": n}, "accepts_response_payload": False}

    async def on_message(message: str | bytes) -> None:
        acknowledged = json.loads(message)
        if set(acknowledged) != {"envelope_id"} or acknowledged["envelope_id"] not in waiting:
            peer.violation(f"not an acknowledgement: {message!r}")
        waiting.remove(acknowledged["envelope_id"])

    await peer.stream(tick, on_message)


KRAKEN_SECRET = base64.b64encode(b"kr4ken-s3cr3t-kr4ken").decode()


def kraken_api(origin: StrictOrigin, request: ApiRequest) -> Answer:
    path = "/0/private/GetWebSocketsToken"
    if (request.method, request.target) != ("POST", path):
        origin.violations.append(f"unknown call: {request.method} {request.target}")
    nonce = request.body.removeprefix("nonce=")
    content = path.encode() + hashlib.sha256(f"{nonce}{request.body}".encode()).digest()
    signature = base64.b64encode(hmac.digest(base64.b64decode(KRAKEN_SECRET), content, "sha512")).decode()
    if request.headers.get("api-key") != "kr4ken-key":
        return http_answer({"error": ["EAPI:Invalid key"]})
    if request.headers.get("api-sign") != signature:
        return http_answer({"error": ["EAPI:Invalid signature"]})
    if abs(int(nonce) / 1000 - time.time()) > 30:
        return http_answer({"error": ["EAPI:Invalid nonce"]})
    origin.tokens.append(f"kr4ken-t0ken-{len(origin.attempts)}")
    return http_answer({"error": [], "result": {"token": origin.tokens[-1], "expires": 900}})


async def kraken_private(peer: Peer) -> None:
    await peer.send({"channel": "status", "type": "update", "data": [{"system": "online"}]})
    request = await peer.receive_json(SOON, "subscribe")
    if request["params"].get("token") not in peer.origin.tokens:
        await peer.send({"error": "ESession:Invalid session", "method": "subscribe", "req_id": 1, "success": False})
        await peer.close(1000)
    await peer.send({"channel": "executions", "type": "snapshot", "data": [{"seq": 0}]})
    await peer.send({"method": "subscribe", "req_id": request["req_id"], "success": True})

    async def on_message(message: str | bytes) -> None:
        if json.loads(message).get("method") != "ping":
            peer.violation(f"unknown: {message!r}")
        await peer.send({"method": "pong", "time_in": "2026-11-29T12:00:00.1Z", "time_out": "2026-11-29T12:00:00.2Z"})
        await peer.send({"channel": "heartbeat"})

    await peer.stream(lambda n: {"channel": "executions", "data": [{"seq": n}]}, on_message, idle=IDLE)


async def binance_user(peer: Peer) -> None:
    request = await peer.receive_json(SOON, "subscribe")
    given = request["params"]
    content = f"apiKey={given['apiKey']}&timestamp={given['timestamp']}"
    if given["signature"] != hmac.digest(b"b1nance-s3cr3t", content.encode(), "sha256").hex():
        said = f"Signature for this request is not valid: {given['signature']}"
        await peer.send({"id": request["id"], "status": 400, "error": {"code": -1022, "msg": said}})
        await peer.close(1000)
    if not isinstance(given["timestamp"], int) or abs(given["timestamp"] / 1000 - time.time()) > 5:
        peer.violation(f"the timestamp is not in the window: {given['timestamp']}")
    await peer.send({"id": request["id"], "status": 200, "result": {"subscriptionId": 0}})
    await peer.stream(lambda n: {"subscriptionId": 0, "event": {"e": "executionReport", "seq": n}}, _nothing(peer))


def signalr_api(origin: StrictOrigin, request: ApiRequest) -> Answer:
    if (request.method, request.target) != ("POST", "/hub/negotiate?negotiateVersion=1"):
        origin.violations.append(f"unknown call: {request.method} {request.target}")
    origin.tokens.append(f"s1gnalr/{len(origin.attempts)}")
    return http_answer({"connectionToken": origin.tokens[-1], "connectionId": "c", "availableTransports": []})


async def signalr(peer: Peer) -> None:
    if peer.query.get("id") not in peer.origin.tokens:
        peer.violation("no connection with this id")
    peer.origin.tokens.remove(peer.query["id"])
    if await peer.receive(SOON, "handshake") != '{"protocol":"json","version":1}\x1e':
        peer.violation("not a handshake")
    await peer.send("{}\x1e")
    if json.loads(str(await peer.receive(SOON, "invocation")).removesuffix("\x1e")).get("target") != "Subscribe":
        peer.violation("not an invocation")

    def tick(n: int) -> object:
        data = f'{{"type":1,"target":"tick","arguments":[{n}]}}\x1e'
        return data + '{"type":6}\x1e' if n % 25 == 0 else data

    async def on_message(message: str | bytes) -> None:
        if message != '{"type":6}\x1e':
            peer.violation(f"unknown: {message!r}")

    await peer.stream(tick, on_message, idle=IDLE)


MOST_LOBBIES = int(os.environ.get("ORIGINS_LOBBIES", "2"))


async def jetstream(peer: Peer) -> None:
    if peer.query.get("wantedCollections") != "app.bsky.feed.post":
        peer.violation(f"no collections: {peer.query}")
    cursor = peer.query.get("cursor")
    if cursor is None and peer.origin.number > 100 and len(peer.origin.attempts) > MOST_LOBBIES:
        peer.violation("a reconnect without a cursor")

    def event(n: int) -> object:
        return {"did": "did:plc:a", "time_us": 1725911162329308 + n, "kind": "commit"}

    if cursor is not None:
        first = int(cursor) - 1725911162329308
        if not peer.origin.number - 200 < first <= peer.origin.number:
            peer.violation(f"a cursor that is none of the latest: {cursor}")
        await peer.send(*(event(n) for n in range(first, peer.origin.number + 1)))
    await peer.stream(event, _nothing(peer))


COINBASE_KEY = ec.generate_private_key(ec.SECP256R1())


COINBASE_PEM = COINBASE_KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def _jwt_part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def coinbase_jwt(peer: Peer) -> None:
    nonces = set()
    for channel in ("user", "heartbeats"):
        request = await peer.receive_json(SOON, f"subscribe to {channel}")
        if request.get("channel") != channel:
            peer.violation(f"not {channel}: {request}")
        head, claims, signature = request["jwt"].split(".")
        raw = _jwt_part(signature)
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        content = f"{head}.{claims}".encode()
        try:
            COINBASE_KEY.public_key().verify(encode_dss_signature(r, s), content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            await peer.send({"type": "error", "message": f"authentication failure {request['jwt']}"})
            await peer.close(1000)
        header, said = json.loads(_jwt_part(head)), json.loads(_jwt_part(claims))
        nonces.add(header["nonce"])
        if header["alg"] != "ES256" or header["kid"] != "organizations/o/apiKeys/k" or said["sub"] != header["kid"]:
            peer.violation(f"not this key: {header}, {said}")
        if said["iss"] != "cdp" or not said["nbf"] <= time.time() + 1 <= said["exp"] + 1 <= said["nbf"] + 121:
            peer.violation(f"not these claims: {said}")
        await peer.send({"channel": "subscriptions", "events": [{"subscriptions": {channel: ["u"]}}]})
    if len(nonces) != 2:
        peer.violation("the nonce was used twice")

    def tick(n: int) -> object:
        return {"channel": "heartbeats"} if n % 25 == 0 else {"channel": "user", "sequence_num": n}

    await peer.stream(tick, _nothing(peer))


def _zipped(message: object) -> bytes:
    return gzip.compress(json.dumps(message, separators=(",", ":")).encode())


def _nothing(peer: Peer) -> Callable[[str | bytes], Awaitable[None]]:
    async def on_message(message: str | bytes) -> None:
        peer.violation(f"unknown: {message!r}")

    return on_message


def _says(*messages: object) -> Callable[[Peer], Awaitable[None]]:
    async def error(peer: Peer) -> None:
        await peer.send(*messages)

    return error


def _of(kind: str, at: int) -> Callable[[str], bool]:
    def is_data(text: str) -> bool:
        found: list[Any] = json.loads(text)
        return bool(found[at] == kind)

    return is_data


BITFINEX = Feed(
    name="bitfinex", serve=bitfinex, is_data=_of_bitfinex, check=_channels_are_known,
    error=_says({"event": "error", "msg": "symbol: invalid", "code": 10300}), reason="symbol: invalid",
    renewal=_says({"event": "info", "code": 20051, "msg": "Stopping. Please try to reconnect"}),
)  # fmt: skip

FEEDS = (
    Feed(
        name="okx-public", serve=okx, is_data=_json_with("data"), every=1,
        error=_says({"event": "error", "code": "60018", "msg": "Wrong channel"}), reason="60018 Wrong channel",
        renewal=_says({"event": "notice", "code": "64008", "msg": "The connection will soon be closed for an upgrade."}),
    ),
    Feed(
        name="kraken-v2", serve=kraken, is_data=_json_with("data"), every=1,
        error=_says({"method": "subscribe", "success": False, "error": "Currency pair not supported"}),
        reason="Currency pair not supported",
    ),
    Feed(
        name="bybit", serve=bybit, is_data=_json_with("topic"), every=1,
        error=_says({"success": False, "ret_msg": "error:handler not found", "op": "subscribe"}),
        reason="error:handler not found",
    ),
    Feed(
        name="bybit-private", serve=bybit_private, is_data=_json_with("topic"), every=1,
        secrets={"LOBBY_SECRET_BYBIT_PRIVATE_KEY": "byb1t-key", "LOBBY_SECRET_BYBIT_PRIVATE_SECRET": "byb1t-s3cr3t"},
    ),
    Feed(
        name="deribit", serve=deribit, is_data=lambda text: json.loads(text).get("method") == "subscription",
        error=_says({"jsonrpc": "2.0", "id": 3, "error": {"code": 13009, "message": "unauthorized"}}),
        reason="unauthorized",
    ),
    Feed(
        name="alpaca", serve=alpaca, is_data=lambda text: json.loads(text)[0]["T"] == "t",
        secrets={"LOBBY_SECRET_ALPACA_KEY": "PK123456", "LOBBY_SECRET_ALPACA_SECRET": "s3cr3ts3cr3t"},
        error=_says([{"T": "error", "code": 406, "msg": "connection limit exceeded"}]),
        reason="406 connection limit exceeded", refused=True,
    ),
    Feed(
        name="socketio", serve=socketio, is_data=lambda text: text.startswith("42"),
        error=_says('44{"message":"not authorized"}'), reason='44{"message":"not authorized"}', refused=True,
    ),
    Feed(
        name="graphql-transport-ws", serve=graphql, is_data=lambda text: json.loads(text)["type"] == "next",
        subprotocol="graphql-transport-ws",
        error=_says({"id": "t", "type": "error", "payload": [{"message": "no such field"}]}), reason="no such field",
    ),
    Feed(
        name="actioncable", serve=actioncable, is_data=_json_with("identifier"),
        subprotocol="actioncable-v1-json",
        error=_says({"type": "disconnect", "reason": "unauthorized", "reconnect": False}), reason="unauthorized", refused=True,
    ),
    Feed(
        name="phoenix", serve=phoenix, is_data=_of("tick", 3), every=1,
        error=_says(["1", "1", "room:lobby", "phx_error", {}]), reason="phx_error",
    ),
    Feed(
        name="home-assistant", serve=home_assistant, is_data=lambda text: json.loads(text)["type"] == "event",
        secrets={"LOBBY_SECRET_HOME_ASSISTANT_TOKEN": "t0kent0kent0ken"},
        error=_says({"type": "auth_invalid", "message": "the token was revoked"}),
        reason="the token was revoked", refused=True,
    ),
    Feed(
        name="coinbase-advanced-public", serve=coinbase, is_data=lambda text: json.loads(text)["channel"] == "ticker",
        error=_says({"type": "error", "message": "rate limit exceeded"}), reason="rate limit exceeded",
    ),
    Feed(
        name="mqtt", serve=mqtt, is_data=lambda text: text.startswith("0\x11\x00\x05ticks"), subprotocol="mqtt", every=1,
    ),
    Feed(
        name="htx", serve=htx, is_data=_json_with("tick"),
        error=_says(_zipped({"status": "error", "err-code": "bad-request", "err-msg": "invalid topic"})),
        reason="invalid topic",
    ),
    Feed(
        name="centrifugo", serve=centrifugo, is_data=_json_with("push"),
        secrets={"LOBBY_SECRET_CENTRIFUGO_TOKEN": "t0kent0kent0ken"},
        error=_says('{"id":3,"error":{"code":109,"message":"token expired"}}'), reason="token expired",
    ),
    Feed(
        name="okx-vip-books", serve=okx_login, is_data=_json_with("data"), every=1,
        secrets={f"LOBBY_SECRET_OKX_VIP_BOOKS_{name}": "s3cr3ts3cr3t" for name in ("KEY", "SECRET", "PASS")},
        error=_says({"event": "error", "code": "60011", "msg": "Please log in"}), reason="60011 Please log in", refused=True,
        renewal=_says({"event": "notice", "code": "64008", "msg": "The connection will soon be closed for an upgrade."}),
    ),
    Feed(
        name="discord", serve=discord, is_data=lambda text: json.loads(text)["t"] in {"READY", "MESSAGE_CREATE"},
        secrets={"LOBBY_SECRET_DISCORD_TOKEN": "t0kent0kent0ken"},
        error=_says({"op": 9, "d": False}), reason="invalid session",
    ),
    Feed(
        name="pusher", serve=pusher, is_data=lambda text: json.loads(text)["event"] == "tick",
        error=_says({"event": "pusher:error", "data": {"code": 4301, "message": "Client event rejected"}}),
        reason="Client event rejected",
    ),
    Feed(
        name="binance-spot", serve=binance, is_data=_json_with("stream"),
        error=_says({"error": {"code": 2, "msg": "Invalid request: unknown stream"}}),
        reason="Invalid request: unknown stream",
        renewal=_says({"e": "serverShutdown", "E": 1770123456789}),
    ),
    Feed(
        name="nats", serve=nats, is_data=lambda text: text.startswith("MSG"),
        error=_says(b"-ERR 'Authorization Violation'\r\n"), reason="-ERR 'Authorization Violation'", refused=True,
    ),
    Feed(
        name="kucoin", serve=kucoin, is_data=lambda text: json.loads(text)["type"] == "message", api=kucoin_api,
        error=_says({"id": "1", "type": "error", "code": 404, "data": "topic /market/none is not found"}),
        reason="404 topic /market/none is not found",
    ),
    Feed(
        name="twitch-eventsub", serve=twitch, api=twitch_api,
        is_data=lambda text: json.loads(text)["metadata"]["message_type"] == "notification",
        secrets={"LOBBY_SECRET_TWITCH_TOKEN": "t0kent0kent0ken", "LOBBY_SECRET_TWITCH_CLIENT_ID": "cl1entcl1ent"},
        error=_says(_twitch("revocation", "x", {"subscription": {"status": "authorization_revoked"}})),
        reason="authorization_revoked", refused=True, renewal=twitch_renewal,
    ),
    Feed(
        name="slack-socket-mode", serve=slack, is_data=_json_with("envelope_id"), api=slack_api,
        secrets={"LOBBY_SECRET_SLACK_APP_TOKEN": "xapp-t0kent0ken"},
        error=_says({"type": "disconnect", "reason": "link_disabled"}), reason="link_disabled", refused=True,
        renewal=_says({"type": "disconnect", "reason": "refresh_requested"}),
    ),
    Feed(
        name="kraken-private", serve=kraken_private, is_data=_json_with("data"), every=1, api=kraken_api,
        secrets={"LOBBY_SECRET_KRAKEN_KEY": "kr4ken-key", "LOBBY_SECRET_KRAKEN_SECRET": KRAKEN_SECRET},
        error=_says({"method": "subscribe", "success": False, "error": "EGeneral:Permission denied"}),
        reason="EGeneral:Permission denied",
    ),
    Feed(
        name="binance-user", serve=binance_user, is_data=_json_with("event"),
        secrets={"LOBBY_SECRET_BINANCE_KEY": "b1nance-key", "LOBBY_SECRET_BINANCE_SECRET": "b1nance-s3cr3t"},
        error=_says({"error": {"code": -2015, "msg": "Invalid API-key"}}), reason="-2015 Invalid API-key", refused=True,
        renewal=_says({"subscriptionId": 0, "event": {"e": "serverShutdown", "E": 1770123456789}}),
    ),
    Feed(
        name="signalr", serve=signalr, is_data=_json_with("target"), every=1, api=signalr_api,
        error=_says('{"type":7,"error":"the server stops"}\x1e'), reason="the server stops",
    ),
    BITFINEX,
    Feed(
        name="bitfinex-private", serve=bitfinex_private, is_data=_of("te", 1),
        secrets={
            "LOBBY_SECRET_BITFINEX_PRIVATE_KEY": "b1tfinex-key",
            "LOBBY_SECRET_BITFINEX_PRIVATE_SECRET": "b1tfinex-s3cr3t",
        },
        error=_says({"event": "error", "msg": "auth: expired", "code": 10100}), reason="auth: expired",
    ),
    Feed(name="jetstream", serve=jetstream, is_data=_json_with("time_us")),
    Feed(
        name="coinbase-advanced-jwt", serve=coinbase_jwt, is_data=lambda text: json.loads(text)["channel"] == "user",
        secrets={"LOBBY_SECRET_COINBASE_PEM": COINBASE_PEM, "LOBBY_SECRET_COINBASE_KID": "organizations/o/apiKeys/k"},
        error=_says({"type": "error", "message": "rate limit exceeded"}), reason="rate limit exceeded",
    ),
)  # fmt: skip
