"""`lobby check`: what a Lobby's file says, and what its origin says to that."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.origins import FakeOrigin, ticking
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
                "  Waiting: onConnect[1]: no message matching /ok within 2 s; the latest other message: no such key ***"
            )
            assert SECRET not in out

    run(main(), deadline=60)


def test_a_silent_stream_is_exit_code_1(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            code, out, _ = await check("-f", file, "--connect", "--seconds", "0.5")
            assert code == 1
            assert out.splitlines()[-1] == "  the stream began, but brought no message within 0.5 s"

    run(main(), deadline=60)
