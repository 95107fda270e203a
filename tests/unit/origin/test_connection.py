"""The origin session on real sockets, against origins with faults."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

import pytest
from tests.support.api import FakeApi, http_answer, silence
from tests.support.origins import ConnectionRecord, FakeOrigin, Refuse, authority, fragmented, server_frame
from tests.support.peers import raw_server
from tests.support.sockets import run
from tests.support.specs import http_step, origin_spec, resolved
from tests.support.waiting import stays, until

from lobby_gateway.errors import UserError
from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.origin.connection import OriginConnection
from lobby_gateway.origin.secrets import ResolvedOrigin
from lobby_gateway.origin.states import Failure
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.settings import ORIGIN, OriginSettings
from lobby_gateway.websocket.frames import Batch, Opcode

QUICK = {"minMilliseconds": 10, "maxMilliseconds": 50}
KEY = {"LOBBY_SECRET_FEED_KEY": "hunter22"}
SECRETS = [{"name": "KEY", "secretKeyRef": {"name": "feed", "key": "key"}}]


def lingers(seconds: float) -> OriginSettings:
    return OriginSettings(linger_seconds=seconds)


class Lobby:
    """What a lobby does with an origin connection: it takes the stream."""

    def __init__(self, url: str, environment: dict[str, str] | None = None, **fields: Any) -> None:
        self.epochs: list[list[bytes]] = []
        self.changed = asyncio.Event()
        options = {
            name: fields.pop(name)
            for name in ("settings", "open_timeout", "fraction", "closed", "failed", "allowance")
            if name in fields
        }
        self.environment = environment or {}
        self.spec = spec = origin_spec(url, **{"reconnect": QUICK, **fields})
        self.origin = OriginConnection(
            spec,
            self.current_secrets(),
            read_secrets=lambda: resolved(spec, self.environment),
            publish=self.publish,
            begin_epoch=self.begin_epoch,
            **options,
        )

    def current_secrets(self) -> ResolvedOrigin | None:
        try:
            return resolved(self.spec, self.environment)
        except UserError:
            return None

    def look_at_secrets(self) -> None:
        self.origin.update_secrets(resolved(self.spec, self.environment))

    def begin_epoch(self) -> None:
        self.epochs.append([])
        self.changed.set()

    def publish(self, batch: Batch) -> None:
        self.epochs[-1] += [bytes(batch.payload(i)) for i in range(len(batch))]
        self.changed.set()

    @property
    def messages(self) -> list[bytes]:
        return [message for epoch in self.epochs for message in epoch]

    @property
    def state(self) -> OriginState:
        return self.origin.report().state

    async def until(self, look: Callable[[], Any]) -> None:
        while not look():
            self.changed.clear()
            await self.changed.wait()

    async def until_state(self, state: OriginState) -> None:
        await until(lambda: self.state is state, describe=lambda: str(self.origin.report()), every=0.002)

    async def until_failure(self, failure: Failure) -> None:
        await until(lambda: self.origin.failures.get(failure), describe=lambda: str(self.origin.failures), every=0.002)


@contextlib.asynccontextmanager
async def running(url: str, *, wanted: bool = True, **fields: Any) -> AsyncIterator[Lobby]:
    lobby = Lobby(url, **fields)
    task = asyncio.create_task(lobby.origin.run())
    await asyncio.sleep(0)
    if wanted:
        lobby.origin.set_needed(True)
    try:
        yield lobby
    finally:
        await lobby.origin.close()
        await task


# The log


def test_a_failure_is_told_before_the_connection_is_closed_and_stopping_then_makes_no_other_attempt() -> None:
    async def main() -> None:
        told: list[tuple[str, bool]] = []

        def failed(reason: str, refused: bool) -> None:
            told.append((reason, refused))
            lobby.origin.stop()

        async def speak(_origin: FakeOrigin, record: ConnectionRecord) -> None:
            await record.server.send("no such key")
            record.server.transport.pause_reading()

        rules = [{"contains": "no such", "end": {"refused": True}}]
        async with FakeOrigin(on_open=speak) as origin:
            async with running(origin.url, onMessage=rules, failed=failed) as lobby:
                await until(lambda: told, every=0.002)
                assert told == [("no such key", True)]
                assert lobby.state is OriginState.CLOSING
            assert told == [("no such key", True)]
            assert len(origin.attempts) == 1

    run(main())


def test_attempts_that_fail_alike_are_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            url = origin.url
        async with running(url, reconnect=QUICK) as lobby:
            await until(lambda: lobby.origin.attempts >= 5)

    with caplog.at_level(logging.INFO):
        run(main())
    told = [each.getMessage() for each in caplog.records if each.name.startswith("lobby_gateway")]
    assert [each for each in told if "next attempt in" in each] == told[:1]
    assert told[0].startswith("origin: connection refused")


# The plain way


def test_stream_arrives_whole_and_in_order() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url) as lobby:
            await origin.until_open()
            await origin.send("héllo", b"\x00\xff", "")
            origin.send_raw(fragmented("ça".encode()[:2], "ça".encode()[2:]) + server_frame(2, b"x" * (1 << 20)))
            await lobby.until(lambda: len(lobby.messages) == 5)
            assert lobby.epochs == [["héllo".encode(), b"\x00\xff", b"", "ça".encode(), b"x" * (1 << 20)]]
            assert lobby.origin.report().connections == 1

    run(main())


def test_on_demand_connects_with_the_first_client_and_closes_cleanly_behind_the_last() -> None:
    async def main() -> None:
        async with (
            FakeOrigin() as origin,
            running(origin.url, wanted=False, settings=lingers(0.05)) as lobby,
        ):
            assert lobby.state is OriginState.IDLE
            lobby.origin.set_needed(True)
            seen = await origin.until_open()
            lobby.origin.set_needed(False)
            await origin.until_closed(seen)
            assert seen.close_code == 1000
            await lobby.until_state(OriginState.IDLE)
            assert len(origin.attempts) == 1
            lobby.origin.set_needed(True)
            await origin.until_connected(2)
            assert origin.most_open == 1

    run(main())


def test_always_connects_without_clients() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, wanted=False, connect="Always"):
            await origin.until_open()

    run(main())


def test_close_ends_the_connection_with_1000() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            async with running(origin.url) as lobby:
                seen = await origin.until_open()
                await lobby.until_state(OriginState.CONNECTED)
            await origin.until_closed(seen)
            assert seen.close_code == 1000
            assert lobby.state is OriginState.IDLE
            lobby.origin.set_needed(True)
            assert lobby.state is OriginState.IDLE

    run(main())


def test_close_before_anything_happened() -> None:
    async def main() -> None:
        async with running("ws://127.0.0.1:1/", wanted=False):
            pass

    run(main())


def test_close_while_it_connects() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            async with running(origin.url):
                pass
            await until(lambda: not origin.open)

    run(main())


def test_cancelled_run_leaves_no_connection() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            lobby = Lobby(origin.url, connect="Always")
            task = asyncio.create_task(lobby.origin.run())
            seen = await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await origin.until_closed(seen)
            await lobby.origin.close()
            assert len(origin.attempts) == 1

    run(main())


def test_handshake_carries_headers_query_and_subprotocols() -> None:
    async def main() -> None:
        async with FakeOrigin(subprotocols=["v1"]) as origin:
            key = {"secretKeyRef": {"name": "feed", "key": "key"}}
            fields: dict[str, Any] = {
                "headers": [{"name": "X-Key", "valueFrom": key}, {"name": "X-Plain", "value": "a"}],
                "query": [{"name": "key", "valueFrom": key}],
                "subprotocols": ["v1"],
            }
            async with running(origin.url, environment=KEY, **fields):
                seen = await origin.until_open()
                assert (seen.headers["x-key"], seen.headers["x-plain"]) == ("hunter22", "a")
                assert (seen.path, seen.offered) == ("/?key=hunter22", ("v1",))

    run(main())


def test_expressions_in_the_handshake_are_evaluated_for_each_attempt() -> None:
    async def greet(origin: FakeOrigin, _: object) -> None:
        await origin.send('{"token": "t1"}')

    async def main() -> None:
        async with FakeOrigin(on_open=greet) as origin:
            fields: dict[str, Any] = {
                "environment": KEY,
                "secrets": SECRETS,
                "headers": [{"name": "Authorization", "value": "Bearer $(KEY)"}],
                "query": [{"name": "token", "value": '$(has(saved.token) ? saved.token : "")'}],
                "onConnect": [{"expect": {"json": {}, "save": {"token": "msg.token"}, "timeoutSeconds": 5}}],
            }
            async with running(f"{origin.url}$(1 + 1)", **fields) as lobby:
                await origin.until_connected(1)
                await lobby.until(lambda: len(lobby.epochs) == 1)
                origin.end_connections()
                await lobby.until(lambda: len(lobby.epochs) == 2)
            assert [each.path for each in origin.connections] == ["/2", "/2?token=t1"]
            assert {each.headers["authorization"] for each in origin.connections} == {"Bearer hunter22"}

    run(main())


# HTTP calls


def test_calls_give_the_address_and_are_made_for_each_attempt() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, FakeApi(lambda _: http_answer({"url": origin.url, "token": "t1"})) as api:
            step = http_step(
                url=f"{api.url}/open",
                method="POST",
                headers=[{"name": "Authorization", "value": "Bearer $(KEY)"}],
                save={"url": "http.json.url", "token": "http.json.token"},
            )
            query = [{"name": "token", "value": "$(saved.token)"}]
            async with running(
                "$(saved.url)", environment=KEY, secrets=SECRETS, beforeConnect=[step], query=query
            ) as lobby:
                await origin.until_connected(1)
                origin.end_connections()
                await origin.until_connected(2)
                await lobby.until(lambda: len(lobby.epochs) == 2)
            assert [each.headers["authorization"] for each in api.requests] == ["Bearer hunter22"] * 2
            assert [each.path for each in origin.connections] == ["/?token=t1"] * 2

    run(main())


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (http_answer("hunter22", 401), OriginState.REFUSED, "HTTP 401 Unauthorized"),
        (http_answer("", 429, ("Retry-After", "600")), OriginState.WAITING, "HTTP 429 Too Many Requests"),
        (b"hunter22\r\n\r\n", OriginState.WAITING, "the answer is not HTTP/1.1"),
    ],
)
def test_a_call_that_fails_is_a_failed_attempt_without_a_handshake(
    answer: bytes, state: OriginState, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, FakeApi(lambda _: answer) as api:
            step = http_step(url=f"{api.url}/open?key=$(KEY)")
            slow = {"minMilliseconds": 60_000, "maxMilliseconds": 60_000}
            fields: dict[str, Any] = {
                "environment": KEY,
                "secrets": SECRETS,
                "reconnect": slow,
                "fraction": lambda: 1.0,
            }
            async with running(origin.url, beforeConnect=[step], **fields) as lobby:
                await until(lambda: lobby.origin.report().state is state)
                report = lobby.origin.report()
                assert report.reason == f"beforeConnect[0].http: GET {api.url}/open: {reason}"
                assert report.retry_in_seconds > (600 if "429" in reason else 59)
                assert (len(api.requests), origin.attempts) == (1, [])
            assert "hunter22" not in caplog.text

    run(main())


def test_a_call_of_on_connect_happens_on_the_open_connection() -> None:
    async def greet(origin: FakeOrigin, _: object) -> None:
        await origin.send('{"session": "s1"}', "first")

    async def main() -> None:
        async with FakeOrigin(on_open=greet) as origin, FakeApi(lambda _: http_answer("", 202)) as api:
            steps = [
                {"expect": {"json": {}, "save": {"session": "msg.session"}, "timeoutSeconds": 5}},
                http_step(url=api.url, method="POST", body='{"session":"$(saved.session)"}', status=[202]),
            ]
            async with running(origin.url, onConnect=steps) as lobby:
                await lobby.until(lambda: lobby.messages == [b"first"])
                await origin.send("second")
                await lobby.until(lambda: lobby.messages == [b"first", b"second"])
            assert [each.json() for each in api.requests] == [{"session": "s1"}]

    run(main())


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_call_under_way_ends_with_its_connection(where: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, FakeApi(lambda _: silence) as api:
            steps: dict[str, Any] = {"beforeConnect" if where == "before" else "onConnect": [http_step(url=api.url)]}
            async with running(origin.url, **steps) as lobby:
                await api.until_requests(1)
                await lobby.origin.close()
                await until(lambda: api.closed == 1)
            assert len(origin.connections) == (0 if where == "before" else 1)

    run(main())


def test_an_origin_that_closes_during_a_call_behind_a_message_is_heard_at_once() -> None:
    async def main() -> None:
        async def close(_origin: FakeOrigin, record: ConnectionRecord) -> None:
            await api.until_requests(1)
            await record.server.send("first")
            await asyncio.sleep(0.05)  # so that it arrives in a read of its own
            await record.server.close(4005, "no such session")

        async with FakeApi(lambda _: silence) as api, FakeOrigin(on_open=close) as origin:
            steps = [http_step(url=api.url, timeoutSeconds=60)]
            async with running(origin.url, onConnect=steps, closeCodes={"refused": [4005]}) as lobby:
                await until(lambda: lobby.state is OriginState.REFUSED, every=0.002)
                reason = "onConnect[0]: the origin closed the connection: 4005 (no such session)"
                assert lobby.origin.report().reason == reason
                await until(lambda: api.closed == 1)

    run(main())


# The script


def test_script_logs_in_and_subscribes_and_only_the_stream_is_published() -> None:
    def answer(message: str | bytes) -> list[str]:
        match message:
            case '{"op": "auth", "key": "hunter22"}':
                return ["welcome", '{"status": "authenticated"}']
            case "subscribe":
                return ['{"subscribed": true}', "first", "second"]
        return ["what?"]

    steps = [
        {"expect": {"json": {}, "timeoutSeconds": 5}},
        {"send": '{"op": "auth", "key": "$(KEY)"}'},
        {"expect": {"json": {"/status": "authenticated"}, "timeoutSeconds": 5}},
        {"send": "subscribe"},
        {"expect": {"json": {"/subscribed": True}, "timeoutSeconds": 5}},
    ]

    async def greet(origin: FakeOrigin, _: object) -> None:
        await origin.send("hello, who are you?")

    async def main() -> None:
        async with (
            FakeOrigin(on_open=greet, on_message=answer) as origin,
            running(origin.url, environment=KEY, secrets=SECRETS, onConnect=steps) as lobby,
        ):
            await lobby.until(lambda: len(lobby.messages) == 2)
            assert lobby.epochs == [[b"first", b"second"]]
            origin.end_connections()
            await lobby.until(lambda: len(lobby.messages) == 4)
            assert lobby.epochs == [[b"first", b"second"]] * 2
            assert [each.messages[-1] for each in origin.connections] == ["subscribe", "subscribe"]

    run(main())


def test_answer_and_first_messages_in_one_write_are_parted_rightly() -> None:
    steps = [{"expect": {"json": {"/ready": True}, "timeoutSeconds": 5}}]

    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, onConnect=steps) as lobby:
            await origin.until_open()
            origin.send_raw(b"".join(server_frame(1, each) for each in (b"noise", b'{"ready": true}', b"one", b"two")))
            await lobby.until(lambda: len(lobby.messages) == 2)
            assert lobby.messages == [b"one", b"two"]

    run(main())


def test_an_empty_text_is_a_message_like_others() -> None:
    """SocketCluster pings with one, and wants one."""
    fields: dict[str, Any] = {
        "onConnect": [{"send": ""}, {"expect": {"json": {}, "when": 'text == "hello"', "timeoutSeconds": 5}}],
        "onMessage": [{"when": 'text == ""', "send": "", "forward": False}],
        "every": [{"seconds": 1, "send": ""}],
    }

    async def main() -> None:
        async with FakeOrigin(on_message=lambda _: ["hello"]) as origin, running(origin.url, **fields) as lobby:
            await origin.until_open()
            seen = origin.connections[0]
            await lobby.until_state(OriginState.CONNECTED)
            assert seen.messages == [""]
            await origin.send("")
            await origin.until(lambda: seen.messages == ["", ""])
            await origin.until(lambda: seen.messages == ["", "", ""])  # of `every`

    run(main())


def test_origin_that_does_not_know_us_is_left_and_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    steps = [{"send": "login $(KEY)"}, {"expect": {"json": {"/ok": True}, "timeoutSeconds": 300}}]

    async def main() -> None:
        async with FakeOrigin(on_message=lambda _: ["denied"]) as origin:
            reconnect = {"minMilliseconds": 60_000, "maxMilliseconds": 60_000}
            fields: dict[str, Any] = {"secrets": SECRETS, "onConnect": steps, "reconnect": reconnect}
            async with running(origin.url, environment=KEY, fraction=lambda: 1.0, **fields) as lobby:
                seen = await origin.until_open()
                await origin.until(lambda: seen.messages == ["login hunter22"])
                await origin.close_connections(4001, "no such key: hunter22")
                await lobby.until_state(OriginState.WAITING)
                report = lobby.origin.report()
                assert report.reason == "onConnect[1]: the origin closed the connection: 4001 (no such key: ***)"
                assert lobby.epochs == []

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert "origin: onConnect[1]: the origin closed" in caplog.text
    assert "hunter22" not in "".join(
        each.getMessage() for each in caplog.records if each.name.startswith("lobby_gateway")
    )


# Tries that end


@contextlib.asynccontextmanager
async def speechless() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that reads requests and never answers; what it saw, in order."""
    log: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        log.append("came")
        await reader.read()
        while await reader.read():
            pass
        log.append("left")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", log
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*tasks)


def test_origin_that_never_answers_the_handshake() -> None:
    async def main() -> None:
        async with speechless() as (url, _), running(url, open_timeout=0.05) as lobby:
            await lobby.until_failure(Failure.UNREACHABLE)
            assert lobby.origin.report().reason == "timeout: no answer to the handshake within 0.05 s"

    run(main())


def test_origin_in_a_denied_network_is_a_failed_attempt_without_a_connection() -> None:
    async def main() -> None:
        settings = OriginSettings(denied_networks=(ip_network("127.0.0.0/8"),))
        async with FakeOrigin() as origin:
            url = origin.url.replace("localhost", "127.0.0.1")
            async with running(url, settings=settings) as lobby:
                await lobby.until_failure(Failure.UNREACHABLE)
                assert lobby.origin.report().reason == "127.0.0.1 is in the denied network 127.0.0.0/8"
                assert origin.attempts == []

    run(main())


def test_every_reconnect_checks_the_address_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        hosts = ["127.0.0.1", "127.0.0.2"]

        async def getaddrinfo(_host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
            host = hosts.pop(0) if len(hosts) > 1 else hosts[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        settings = OriginSettings(denied_networks=(ip_network("127.0.0.2/32"),))
        async with FakeOrigin() as origin:
            url = origin.url.replace("localhost", "rebinding.example")
            async with running(url, settings=settings) as lobby:
                seen = await origin.until_open()
                await seen.server.close()
                await lobby.until_failure(Failure.UNREACHABLE)
                reason = lobby.origin.report().reason
                assert reason == "rebinding.example resolves to 127.0.0.2, which is in the denied network 127.0.0.2/32"
                assert len(origin.connections) == 1

    run(main())


def test_try_that_nobody_wants_any_more_ends_before_the_next_begins() -> None:
    async def main() -> None:
        async with speechless() as (url, log), running(url, settings=lingers(0.01)) as lobby:
            await until(lambda: log == ["came"])
            lobby.origin.set_needed(False)
            asyncio.get_running_loop().call_later(0.011, lobby.origin.set_needed, True)
            time.sleep(0.02)  # noqa: ASYNC251  both are due now: no longer wanted, and wanted, in one turn of the loop
            await until(lambda: len(log) == 3)
            assert log == ["came", "left", "came"]
            assert lobby.origin.attempts == 2
            assert lobby.origin.failures == {}

    run(main())


def test_next_try_waits_for_a_cancelled_one_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    async def slow_to_leave(*_args: object, **_options: object) -> None:
        log.append("came")
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0.002)
            log.append("left")

    monkeypatch.setattr("lobby_gateway.origin.connection.open_websocket", slow_to_leave)

    async def main() -> None:
        async with running("ws://localhost:1/", settings=lingers(0.0)) as lobby:
            await until(lambda: log == ["came"])
            lobby.origin.set_needed(False)
            await lobby.until_state(OriginState.IDLE)
            lobby.origin.set_needed(True)
            await until(lambda: len(log) == 3)
        assert log == ["came", "left", "came"]

    run(main())


def test_client_that_leaves_while_it_is_served_disturbs_nothing() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, settings=lingers(0.0)) as lobby:
            plain = lobby.publish

            def publish(batch: Batch) -> None:
                plain(batch)
                lobby.origin.set_needed(False)

            lobby.origin._publish = publish
            seen = await origin.until_open()
            await origin.send("last")
            await origin.until_closed(seen)
            assert (lobby.messages, seen.close_code) == ([b"last"], 1000)

    run(main())


# Messages from clients


def test_clients_messages_reach_the_origin_while_the_stream_is_up() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url) as lobby:
            assert not lobby.origin.send_to_origin(Opcode.TEXT, b"too early")
            seen = await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            assert lobby.origin.send_to_origin(Opcode.TEXT, "ü".encode())
            assert lobby.origin.send_to_origin(Opcode.BINARY, b"\xff")
            await origin.until(lambda: len(seen.messages) == 2)
            assert seen.messages == ["ü", b"\xff"]

    run(main())


def test_origin_that_does_not_read_bounds_what_is_kept_for_it() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url) as lobby:
            await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            origin.go_silent()
            message = bytes(65536)
            taken = 0
            while lobby.origin.send_to_origin(Opcode.BINARY, message):
                taken += 1
                assert taken < 1000
            assert lobby.origin._websocket is not None
            assert lobby.origin._websocket.buffered <= ORIGIN.max_buffered_bytes + len(message)
            origin.kill_connections()

    run(main(), deadline=30)


# Secrets that are replaced

KEY_HEADER = [{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "key"}}}]
SLOW = {"minMilliseconds": 60000, "maxMilliseconds": 60000}


def test_a_replaced_secret_is_tried_at_once_where_the_old_one_was_refused() -> None:
    async def main() -> None:
        async with (
            FakeOrigin(refuse=Refuse(401)) as origin,
            running(origin.url, environment=dict(KEY), headers=KEY_HEADER, reconnect=SLOW) as lobby,
        ):
            await lobby.until_state(OriginState.REFUSED)
            lobby.look_at_secrets()
            assert lobby.state is OriginState.REFUSED  # it is the same
            origin.refuse = None
            lobby.environment = {"LOBBY_SECRET_FEED_KEY": "another"}
            lobby.look_at_secrets()
            seen = await origin.until_open()
            assert seen.headers["x-key"] == "another"

    run(main())


def test_a_replaced_secret_leaves_the_stream_alone_and_is_used_the_next_time() -> None:
    async def main() -> None:
        steps = [{"send": "key $(KEY)"}]
        async with (
            FakeOrigin() as origin,
            running(origin.url, environment=dict(KEY), secrets=SECRETS, onConnect=steps) as lobby,
        ):
            await origin.until(lambda: origin.connections and origin.connections[0].messages == ["key hunter22"])
            lobby.environment = {"LOBBY_SECRET_FEED_KEY": "another"}
            lobby.look_at_secrets()
            await origin.send("still here")
            await lobby.until(lambda: lobby.messages == [b"still here"])
            assert len(origin.connections) == 1
            origin.kill_connections()
            await origin.until(
                lambda: len(origin.connections) == 2 and origin.connections[1].messages == ["key another"]
            )

    run(main())


def test_certificates_are_replaced_like_other_secrets() -> None:
    good, other = authority(ask_client=True), authority()
    tls = {
        "caSecretRef": {"name": "ca", "key": "crt"},
        "clientCertSecretRef": {"name": "client"},
        "insecureSkipVerify": False,
    }
    right = {
        "LOBBY_SECRET_CA_CRT": good.ca_pem,
        "LOBBY_SECRET_CLIENT_TLS_CRT": good.certificate_pem,
        "LOBBY_SECRET_CLIENT_TLS_KEY": good.key_pem,
    }

    async def main() -> None:
        async with FakeOrigin(tls=good.server) as origin:
            wrong = {**right, "LOBBY_SECRET_CA_CRT": other.ca_pem}
            async with running(origin.url, environment=wrong, tls=tls, reconnect=SLOW) as lobby:
                await lobby.until_state(OriginState.WAITING)
                lobby.environment = right
                lobby.look_at_secrets()
                await origin.until_open()

    run(main())


@pytest.mark.parametrize("environment", [{}, {"LOBBY_SECRET_FEED_KEY": "line\nbreak"}])
def test_a_secret_that_is_gone_or_not_usable_is_a_failed_try(environment: dict[str, str]) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, environment=dict(KEY), headers=KEY_HEADER) as lobby:
            await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            lobby.environment = environment
            origin.kill_connections()
            await lobby.until_failure(Failure.UNREACHABLE)
            await lobby.until(lambda: "spec.origin.headers[0]" in lobby.origin.report().reason)
            lobby.environment = dict(KEY)
            await origin.until_connected(2)

    run(main())


# What goes wrong in here


CA = {"caSecretRef": {"name": "ca", "key": "crt"}, "insecureSkipVerify": False}


@pytest.mark.parametrize(
    ("url", "fields", "reason"),
    [
        ("wss://localhost/", {"environment": {"LOBBY_SECRET_CA_CRT": "no pem"}, "tls": CA}, "spec.origin.tls.caSecretRef: "),
        ("ws://localhost:99999/", {}, "url: its port is not a number from 1 to 65535"),
        ("ws://[1.2.3]/", {}, "url: its host is not an IPv6 address"),
        ("ws://localhost/", {"headers": KEY_HEADER}, "spec.origin.headers[0].valueFrom.secretKeyRef: key key of Secret feed "),
        ("ws://localhost/", {"query": KEY_HEADER, "environment": {"LOBBY_SECRET_FEED_KEY": "hunter\udcff22"}},
         "spec.origin.query[0].valueFrom.secretKeyRef: key key of Secret feed is not UTF-8"),
    ],
)  # fmt: skip
def test_setting_that_can_not_be_used_is_a_failed_attempt(url: str, fields: dict[str, Any], reason: str) -> None:
    async def main() -> None:
        async with running(url, **fields) as lobby:
            await until(lambda: lobby.origin.failures.get(Failure.UNREACHABLE, 0) >= 2)
            assert lobby.origin.report().reason.startswith(reason)

    run(main())


@pytest.mark.parametrize("secret", ["hunter22"])
def test_unexpected_error_while_connecting_is_a_failed_attempt(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise LookupError(f"a bug: {secret}")

    async def main() -> None:
        async with FakeOrigin() as origin:
            with monkeypatch.context() as patch:
                patch.setattr("lobby_gateway.origin.connection.open_websocket", broken)
                async with running(origin.url) as lobby:
                    await until(lambda: lobby.origin.failures.get(Failure.INTERNAL, 0) >= 2)
                    reason = lobby.origin.report().reason
                    assert reason.startswith("internal error: LookupError in test_connection.py:")
                    assert secret not in reason
                    patch.undo()
                    await origin.until_open()

    run(main())
    assert "internal error: LookupError in test_connection.py:" in caplog.text
    assert secret not in caplog.text


def test_error_of_our_own_in_an_open_connection_is_a_failure_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url) as lobby:
            await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            with monkeypatch.context() as patch:
                patch.setattr(lobby, "publish", None)
                patch.setattr(lobby.origin, "_publish", lambda _batch: KEY["a bug: hunter22"])
                await origin.send("breaks")
                await lobby.until_failure(Failure.INTERNAL)
                assert lobby.origin.report().reason.startswith("internal error: KeyError in test_connection.py:")
            await origin.until_connected(2)
            await origin.send("works")
            await lobby.until(lambda: lobby.messages == [b"works"])

    run(main())


# Liveness

IMPATIENT = {"pingSeconds": 1, "timeoutSeconds": 1}


async def drip(origin: FakeOrigin, data: bytes, *, seconds: float) -> None:
    """Sends bytes in small parts over some time; the origin neither reads nor answers meanwhile."""
    origin.go_silent()
    pieces = 50
    size = -(-len(data) // pieces)
    for at in range(0, len(data), size):
        origin.send_raw(data[at : at + size])
        await asyncio.sleep(seconds / pieces)


@pytest.mark.parametrize("fields", [{"keepalive": IMPATIENT}, {"staleSeconds": 1}], ids=["ping", "stale"])
def test_origin_whose_message_takes_longer_than_the_timeout_stays_connected(fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, maxMessageBytes=4 << 20, **fields) as lobby:
            await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            message = b"x" * (3 << 20)
            await drip(origin, server_frame(2, message), seconds=3.5)
            await lobby.until(lambda: lobby.messages)
            assert lobby.messages == [message]
            assert len(origin.connections) == 1, lobby.origin.failures
            assert not lobby.origin.failures
            origin.kill_connections()

    run(main())


def test_message_that_stalls_half_way_does_not_keep_the_origin_connected() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, keepalive=IMPATIENT) as lobby:
            await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            origin.go_silent()
            origin.send_raw(server_frame(2, bytes(1000))[:500])
            await lobby.until_failure(Failure.PING_TIMEOUT)
            origin.kill_connections()

    run(main())


@pytest.mark.parametrize("stops", [False, True], ids=["reads", "stops reading"])
def test_ping_behind_messages_that_the_origin_takes_slowly_has_its_time(stops: bool) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        ended = asyncio.Event()

        async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            writer.write(accept)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            sock = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
            with sock:
                sock.setblocking(False)
                await begun.wait()
                for _ in range(100):
                    if not stops:
                        with contextlib.suppress(BlockingIOError):
                            sock.recv(20_000)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), 0.04)

        async with raw_server(handle) as url, running(url, keepalive=IMPATIENT) as lobby:
            await lobby.until_state(OriginState.CONNECTED)
            while lobby.origin.send_to_origin(Opcode.BINARY, bytes(65536)):
                pass
            begun.set()
            if stops:
                await lobby.until_failure(Failure.PING_TIMEOUT)
            else:
                await stays(lambda: not lobby.origin.failures, seconds=3.5, describe=lambda: str(lobby.origin.failures))
            ended.set()

    run(main())


def test_a_failure_is_logged_even_if_the_next_attempt_follows_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, fraction=lambda: 0.0) as lobby:
            await lobby.until_state(OriginState.CONNECTED)
            await origin.close_connections(1012, "restart")
            await origin.until_connected(2)
            await lobby.until_state(OriginState.CONNECTED)

    with caplog.at_level("WARNING"):
        run(main())
    assert [record.message for record in caplog.records] == [
        "origin: the origin closed the connection: 1012 (service restart: restart); next attempt in 0.0 s"
    ]


# Clients' messages that the origin objects to


@pytest.mark.parametrize(("blamed", "quick"), [(True, True), (False, False)])
def test_origin_that_objects_to_a_clients_message_is_tried_again_soon(blamed: bool, quick: bool) -> None:
    async def main() -> None:
        codes: list[tuple[int, float]] = []

        def closed(code: int, round_trip: float) -> bool:
            codes.append((code, round_trip))
            return blamed

        reconnect = {"minMilliseconds": 20, "maxMilliseconds": 60000}
        async with (
            FakeOrigin() as origin,
            running(
                origin.url,
                closed=closed,
                reconnect=reconnect,
                fraction=lambda: 1.0,
                closeCodes={"refused": [1008] if blamed else []},
            ) as lobby,
        ):
            for number in range(1, 5):
                await origin.until_connected(number)
                await origin.until_open()
                await lobby.until_state(OriginState.CONNECTED)
                await origin.close_connections(1008, "no such method")
                await origin.until(lambda: not origin.open)
            await until(lambda: len(codes) == 4, every=0.002)
            assert [code for code, _ in codes] == [1008] * 4
            assert all(0 < round_trip < 1 for _, round_trip in codes)
            await until(lambda: lobby.state is not OriginState.CONNECTED, every=0.001)
            assert (lobby.origin._session._backoff.ceiling <= 0.04) is quick

    run(main())


# Permits


def test_a_planned_reconnect_keeps_its_connection_until_there_is_a_permit() -> None:
    async def main() -> None:
        allowance = ConnectAllowance(1)
        async with FakeOrigin() as origin, running(origin.url, allowance=allowance) as lobby:
            await lobby.until_state(OriginState.CONNECTED)
            lobby.origin.reconnect()
            assert (lobby.origin.reconnecting, lobby.origin.wants_permit) == (True, True)
            await origin.send("goes on")
            await lobby.until(lambda: lobby.messages == [b"goes on"])
            allowance.allowed = 2
            lobby.origin.permits_came()
            await origin.until_connected(2)
            await lobby.until_state(OriginState.CONNECTED)
            assert not lobby.origin.reconnecting
            assert [each.close_code for each in origin.connections] == [1000, None]
            assert origin.most_open == 1

    run(main())


# Floods


@contextlib.asynccontextmanager
async def short_turns(most: float = 0.2) -> AsyncIterator[None]:
    """Asserts that no turn of the event loop takes more seconds of CPU time: the machine may be busy with other things."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    assert longest < most, longest


def test_more_messages_for_rules_than_fit_a_turn_are_judged_without_a_pause() -> None:
    async def main() -> None:
        rules = [{"contains": "x", "when": 'text == "xdrop"', "forward": False}]
        settings = OriginSettings(judged_per_turn=10)
        async with FakeOrigin() as origin, running(origin.url, onMessage=rules, settings=settings) as lobby:
            await lobby.until_state(OriginState.CONNECTED)
            origin.send_raw(b"".join(server_frame(1, b"x%d" % number) for number in range(100)))
            async with asyncio.timeout(5):  # far less than the time of the next ping
                await lobby.until(lambda: len(lobby.messages) == 100)
            assert lobby.messages == [b"x%d" % number for number in range(100)]

    run(main())


def test_a_close_code_behind_messages_for_rules_counts_though_the_origin_is_gone_before_they_are_judged() -> None:
    async def main() -> None:
        rules = [{"contains": "x", "when": "true", "send": "reply", "forward": False}]
        settings = OriginSettings(judged_per_turn=10)
        async with (
            FakeOrigin() as origin,
            running(origin.url, onMessage=rules, settings=settings, closeCodes={"refused": [4401]}) as lobby,
        ):
            await lobby.until_state(OriginState.CONNECTED)
            close = server_frame(8, (4401).to_bytes(2) + b"no more")
            origin.send_raw(server_frame(1, b"x") * 100 + server_frame(1, b"y") + close)
            origin.kill_connections()  # so the answer to the close frame fails
            await lobby.until_state(OriginState.REFUSED)
            assert lobby.messages == [b"y"]
            assert lobby.origin.report().reason == "the origin closed the connection: 4401 (no more)"

    run(main())


def test_a_read_of_many_bombs_does_not_block_the_loop() -> None:
    async def main() -> None:
        bomb = server_frame(2, gzip.compress(b" " * 1_000_000, mtime=0))
        last = server_frame(2, gzip.compress(b"last", mtime=0))
        async with FakeOrigin() as origin, running(origin.url, decode="Gzip") as lobby:
            await lobby.until_state(OriginState.CONNECTED)
            async with short_turns():
                origin.send_raw(bomb * 200 + last)  # one read
                await lobby.until(lambda: lobby.messages and lobby.messages[-1] == b"last")
            assert len(lobby.messages) == 201

    run(main())


def test_a_flood_before_the_awaited_message_does_not_block_the_loop() -> None:
    async def main() -> None:
        flood = server_frame(1, b"{}") * 400_000
        steps = [{"expect": {"json": {"/ok": True}, "timeoutSeconds": 60}}]
        async with FakeOrigin() as origin, running(origin.url, onConnect=steps) as lobby:
            await origin.until_open()
            async with short_turns():
                origin.send_raw(flood + server_frame(1, b'{"ok": true}') + server_frame(1, b"first"))
                await lobby.until(lambda: lobby.messages)
            assert lobby.messages == [b"first"]

    run(main())
