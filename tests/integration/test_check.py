"""`lobby check`: what a Lobby's file says, and what its origin says to that."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import FakeApi, http_answer
from tests.support.origins import (
    INVALID_UTF8,
    MASKED,
    Behavior,
    ConnectionRecord,
    FakeOrigin,
    Refuse,
    server_frame,
    ticking,
)
from tests.support.processes import LOBBY
from tests.support.sockets import run
from tests.support.up import lobby_file, lobby_resource

SECRET = "hunter2hunter2"
CAPTURED = "cap7ured-token"


async def check(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        LOBBY,
        "check",
        *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


def login(origin: str, **more: Any) -> dict[str, Any]:
    return lobby_resource(
        "prices",
        origin,
        origin_secrets=[{"name": "KEY", "secretKeyRef": {"name": "feed", "key": "key"}}],
        origin_onConnect=[
            {"send": '{"login":"$(KEY)"}'},
            {"expect": {"json": {"/ok": True}, "save": {"token": "msg.token"}, "timeoutSeconds": 2}},
            {"send": "subscribe $(saved.token)"},
        ],
        **more,
    )


def test_a_file_is_told_in_words_without_its_texts(tmp_path: Path) -> None:
    async def main() -> None:
        rules = [
            {"contains": "error", "end": {"reason": "msg.error", "refused": True}},
            {"contains": "going away", "renew": True},
            {"contains": "state", "keep": "state", "forward": False},
            {"when": "text == ''", "send": ""},
        ]
        file = lobby_file(tmp_path, login("wss://feed.example", origin_onMessage=rules))
        code, out, error = await check("-f", file)
        assert (code, error) == (0, "")
        assert out.splitlines() == [
            f"{file}: Lobby prices is valid",
            "  clients connect to /prices; a lobby connects to wss://feed.example when the first client arrives",
            "  onConnect[0]: send a text of 18 characters",
            "  onConnect[1]: wait up to 2 s for a message in which /ok is True, save token; others are dropped meanwhile",
            "  onConnect[2]: send a text of 24 characters",
            "  onMessage[0]: if it contains 'error': end the connection (refused; the reason is msg.error)",
            "  onMessage[1]: if it contains 'going away': renew the connection",
            "  onMessage[2]: if it contains 'state': keep it as state for clients that join, drop it",
            "  onMessage[3]: if text == '': send an empty text",
        ]

    run(main(), deadline=60)


def test_users_passwords_and_queries_of_all_urls_are_hidden(tmp_path: Path) -> None:
    async def main() -> None:
        resource = lobby_resource(
            "prices",
            f"wss://$(saved.user):{SECRET}@feed.example/ws?key={SECRET}&of=$(saved.of)",
            origin_beforeConnect=[
                {"http": {"url": f"https://api.example/token?key={SECRET}", "save": {"of": "http.json.of"}}}
            ],
            origin_onConnect=[{"http": {"url": f"https://$(saved.of):{SECRET}@api.example/open?key={SECRET}"}}],
        )
        code, out, error = await check("-f", lobby_file(tmp_path, resource))
        assert (code, error) == (0, "")
        assert SECRET not in out
        assert "a lobby connects to wss://feed.example/ws when" in out
        assert "beforeConnect[0]: GET https://api.example/token within" in out
        assert "onConnect[0]: GET https://api.example/open within" in out

    run(main(), deadline=60)


@pytest.mark.parametrize("text", ["spec: {}", "nonsense: [", ""])
def test_an_invalid_file_is_one_line_and_exit_code_2(tmp_path: Path, text: str) -> None:
    async def main() -> None:
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        code, out, error = await check("-f", str(path))
        assert (code, out) == (2, "")
        assert error.startswith(f"lobby check: {path}: ")
        assert "Traceback" not in error

    run(main(), deadline=60)


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        code, _, error = await check("-f", lobby_file(tmp_path, login("ws://127.0.0.1:1")), "--connect")
        assert code == 2
        assert "accepted: a value in the environment variable LOBBY_SECRET_FEED_KEY" in error

    run(main(), deadline=60)


def answers(message: str | bytes) -> list[str]:
    return [json.dumps({"ok": True, "token": CAPTURED})] if b"login" in str(message).encode() else []


def test_an_origin_is_tried_step_by_step_with_secrets_hidden(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin(on_message=answers) as origin, ticking(origin):
            file = lobby_file(tmp_path, login(origin.url))
            code, out, error = await check("-f", file, "--connect", LOBBY_SECRET_FEED_KEY=SECRET)
            assert (code, error) == (0, ""), out
            told = [line.split(" s  ", 1)[1] for line in out.splitlines() if " s  " in line]
            assert told[0] == "connecting"
            steps = [line for line in told if "sequence" not in line]
            assert steps[1:] == [
                'sent {"login":"***"}',
                'received {"ok": true, "token": "***"}',
                "sent subscribe ***",
                "the stream begins",
            ]
            assert any("sequence" in line for line in told)
            assert out.splitlines()[-1] == "  the stream flows"
            assert SECRET not in out
            assert CAPTURED not in out
            record = await origin.until_closed(origin.connections[0])
            assert record.close_code == 1000
            assert len(origin.attempts) == 1

    run(main(), deadline=60)


def test_secrets_in_binary_messages_are_hidden(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, ticking(origin):
            resource = login(origin.url)
            resource["spec"]["origin"]["onConnect"] = [{"sendBytes": 'b"key=" + bytes(KEY)'}, {"sendBytes": 'b"hi"'}]
            file = lobby_file(tmp_path, resource)
            code, out, error = await check("-f", file, "--connect", LOBBY_SECRET_FEED_KEY=SECRET)
            assert (code, error) == (0, ""), out
            assert "sent 18 bytes: ***" in out
            assert "sent 2 bytes: 6869" in out
            assert SECRET.encode().hex() not in out.replace(" ", "")

    run(main(), deadline=60)


def test_an_origin_that_refuses_is_exit_code_1_with_the_reason(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin(on_message=lambda _message: [f"no such key {SECRET}"]) as origin:
            file = lobby_file(tmp_path, login(origin.url))
            code, out, _ = await check("-f", file, "--connect", LOBBY_SECRET_FEED_KEY=SECRET)
            assert code == 1
            assert out.splitlines()[-1] == (
                "  failed: onConnect[1]: no message matching /ok within 2 s; the latest other message: no such key ***"
            )
            assert SECRET not in out

    run(main(), deadline=60)


TOKEN = json.dumps({"ok": True, "token": CAPTURED})
EXPECT_TOKEN = {"expect": {"json": {"/ok": True}, "save": {"token": "msg.token"}, "timeoutSeconds": 5}}


def says(*messages: str | bytes) -> Behavior:
    async def say(_origin: FakeOrigin, record: ConnectionRecord) -> None:
        for message in messages:
            await record.server.send(message)

    return say


async def told_with_a_token(tmp_path: Path, origin: FakeOrigin, **spec: Any) -> tuple[int, list[str]]:
    """The exit code, and the lines of steps without their times; the token is in none of them."""
    file = lobby_file(tmp_path, lobby_resource("prices", origin.url, **spec))
    code, out, error = await check("-f", file, "--connect", "--seconds", "6")
    assert error == ""
    assert CAPTURED not in out, out
    lines = out.split("connecting\n")[1].splitlines()
    return code, [line.rpartition(" s  ")[2].strip() for line in lines]


def test_a_token_that_arrives_during_a_call_is_hidden(tmp_path: Path) -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        writer.write(http_answer("{}"))
        await asyncio.Event().wait()

    async def main() -> None:
        async with FakeApi(lambda _: slowly) as api, FakeOrigin(on_open=says(TOKEN, "1", "2", "3")) as origin:
            steps = [{"http": {"url": f"{api.url}/subscribe"}}, EXPECT_TOKEN]
            code, told = await told_with_a_token(tmp_path, origin, origin_onConnect=steps)
            assert (code, told) == (
                0,
                [
                    f"calling GET {api.url}/subscribe",
                    "answered HTTP 200, 2 bytes",
                    'received {"ok": true, "token": "***"}',
                    "the stream begins",
                    "received 1",
                    "received 2",
                    "received 3",
                    "the stream flows",
                ],
            )

    run(main(), deadline=60)


def test_a_token_that_no_step_takes_is_hidden(tmp_path: Path) -> None:
    async def main() -> None:
        near = json.dumps({"ok": "soon", "token": CAPTURED})
        async with FakeOrigin(on_open=says(near)) as origin:
            expect = {**EXPECT_TOKEN["expect"], "timeoutSeconds": 1}
            code, told = await told_with_a_token(tmp_path, origin, origin_onConnect=[{"expect": expect}])
            hidden = '{"ok": "soon", "token": "***"}'
            assert (code, told) == (
                1,
                [
                    f"received {hidden}",
                    f"failed: onConnect[0]: no message matching /ok within 1 s; the latest other message: {hidden}",
                ],
            )

    run(main(), deadline=60)


@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")])
def test_a_token_is_hidden_if_something_else_can_not_be_saved(tmp_path: Path, names: tuple[str, str]) -> None:
    async def main() -> None:
        there, absent = names
        save = {there: "msg.token", absent: "msg.nope"}
        async with FakeOrigin(on_open=says(TOKEN)) as origin:
            code, told = await told_with_a_token(tmp_path, origin, origin_onConnect=[{"expect": {"save": save}}])
            assert (code, told[0]) == (1, 'received {"ok": true, "token": "***"}')
            assert told[1].startswith(f"failed: onConnect[0].expect.save.{absent}: there is no field")

    run(main(), deadline=60)


def test_messages_are_shown_decompressed_and_split(tmp_path: Path) -> None:
    async def main() -> None:
        data = gzip.compress(f"{TOKEN}\n1\n2\n3".encode())
        async with FakeOrigin(on_open=says(data)) as origin:
            code, told = await told_with_a_token(
                tmp_path, origin, origin_decode="Gzip", origin_split="\n", origin_onConnect=[EXPECT_TOKEN]
            )
            shown = ["received 1", "received 2", "received 3", "the stream flows"]
            assert (code, told) == (0, ['received {"ok": true, "token": "***"}', "the stream begins", *shown])

    run(main(), deadline=60)


async def told_of_one_connection(tmp_path: Path, origin: FakeOrigin, **spec: Any) -> str:
    """The last line about an origin that is lost; it connects once."""
    file = lobby_file(tmp_path, lobby_resource("prices", origin.url, **spec))
    code, out, error = await check("-f", file, "--connect", "--seconds", "6")
    assert (code, error) == (1, ""), out
    assert len(origin.attempts) == 1, out
    return out.splitlines()[-1].strip()


def says_and_ignores_the_close(*frames: bytes) -> Behavior:
    async def say(origin: FakeOrigin, record: ConnectionRecord) -> None:
        origin.send_raw(b"".join(frames), to=[record])
        record.server.transport.pause_reading()

    return say


@pytest.mark.parametrize("reconnect", [{}, {"minMilliseconds": 10, "maxMilliseconds": 10}])
def test_a_stream_that_a_rule_ends_is_lost_with_its_reason(tmp_path: Path, reconnect: dict[str, int]) -> None:
    async def main() -> None:
        rules = [{"contains": "a", "end": {"reason": "'wrong key'"}}]
        async with FakeOrigin(on_open=says_and_ignores_the_close(server_frame(1, b"a"))) as origin:
            told = await told_of_one_connection(tmp_path, origin, origin_onMessage=rules, origin_reconnect=reconnect)
            assert told == "the stream was lost after 1 message: wrong key"

    run(main(), deadline=60)


@pytest.mark.parametrize(
    ("frame", "why"), [(INVALID_UTF8, "(1007): text is not UTF-8"), (MASKED, "(1002): masked frame")]
)
def test_an_origin_that_breaks_the_protocol_is_lost_with_the_reason(tmp_path: Path, frame: bytes, why: str) -> None:
    async def main() -> None:
        async with FakeOrigin(on_open=says_and_ignores_the_close(frame)) as origin:
            told = await told_of_one_connection(tmp_path, origin)
            assert told == f"the stream was lost before its first message: the origin broke the protocol {why}"

    run(main(), deadline=60)


def test_an_origin_that_never_answers_is_lost_in_that_step(tmp_path: Path) -> None:
    async def main() -> None:
        steps = [{"send": "hi"}, {"expect": {"contains": "welcome", "timeoutSeconds": 1}}]
        async with FakeOrigin(on_open=says_and_ignores_the_close()) as origin:
            told = await told_of_one_connection(tmp_path, origin, origin_onConnect=steps)
            assert told == "failed: onConnect[1]: no matching message within 1 s"

    run(main(), deadline=60)


def test_an_origin_that_closes_at_once_is_connected_to_once(tmp_path: Path) -> None:
    async def close(_origin: FakeOrigin, record: ConnectionRecord) -> None:
        await record.server.send("a")
        await record.server.close(1000, "bye")

    async def main() -> None:
        async with FakeOrigin(on_open=close) as origin:
            reconnect = {"minMilliseconds": 10, "maxMilliseconds": 10}
            told = await told_of_one_connection(tmp_path, origin, origin_reconnect=reconnect)
            assert told == (
                "the stream was lost after 1 message: the origin closed the connection: 1000 (normal closure: bye)"
            )

    run(main(), deadline=60)


def test_an_origin_that_vanishes_is_lost_in_that_step(tmp_path: Path) -> None:
    async def vanish(_origin: FakeOrigin, record: ConnectionRecord) -> None:
        record.server.transport.abort()

    async def main() -> None:
        steps = [{"send": "hi"}, {"expect": {"contains": "welcome", "timeoutSeconds": 5}}]
        async with FakeOrigin(on_open=vanish) as origin:
            told = await told_of_one_connection(tmp_path, origin, origin_onConnect=steps)
            assert told.startswith("failed: onConnect[1]: "), told

    run(main(), deadline=60)


@pytest.mark.parametrize(
    ("status", "told"), [(401, "refused: connecting: HTTP 401"), (503, "failed: connecting: HTTP 503")]
)
def test_a_refused_handshake_is_told_with_its_status(tmp_path: Path, status: int, told: str) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(status)) as origin:
            assert (await told_of_one_connection(tmp_path, origin)).startswith(told)

    run(main(), deadline=60)


def test_a_step_that_takes_too_long_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        steps = [{"send": "hi"}, {"expect": {"contains": "welcome", "timeoutSeconds": 60}}]
        async with FakeOrigin() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, origin_onConnect=steps))
            code, out, _ = await check("-f", file, "--connect", "--seconds", "0.5")
            assert code == 1
            assert out.splitlines()[-1] == "  onConnect[1]: not done within 0.5 s"

    run(main(), deadline=60)


def test_a_silent_stream_is_exit_code_1(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            code, out, _ = await check("-f", file, "--connect", "--seconds", "0.5")
            assert code == 1
            assert out.splitlines()[-1] == "  the stream began, but brought no message within 0.5 s"

    run(main(), deadline=60)
