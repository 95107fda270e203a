"""The manifests in docs/origins hold strict feeds: connect, quiet hours, a reconnect, an error, a wrong key."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.origins.feeds import FEEDS, Feed
from tests.integration.origins.strict import StrictOrigin
from tests.support.lobby import LobbyProcess, lobby_process
from tests.support.sockets import run
from tests.support.waiting import until
from websockets.asyncio.client import connect

MANIFESTS = Path(__file__).resolve().parents[3] / "docs" / "origins"
QUIET_SECONDS = 4.0
"""Longer than any feed waits for a message that its rules ask for."""


def manifest(feed: Feed, url: str) -> dict[str, Any]:
    """The published manifest, with the address of the strict feed and scaled intervals."""
    resource: dict[str, Any] = yaml.safe_load((MANIFESTS / f"{feed.name}.yaml").read_text())
    origin = resource["spec"]["origin"]
    origin["url"] = url
    origin["connect"] = "Always"
    origin.pop("limits", None)  # a lobby host hands out permits, and there is none here
    origin["reconnect"] = {"minMilliseconds": 100, "maxMilliseconds": 200}
    for timed in origin.get("every", ()):
        if feed.every is not None:
            timed["seconds"] = feed.every
    return resource


@contextlib.asynccontextmanager
async def held(feed: Feed, **secrets: str) -> AsyncIterator[tuple[StrictOrigin, LobbyProcess]]:
    async with (
        StrictOrigin(feed=feed.serve, subprotocol=feed.subprotocol).running() as origin,
        lobby_process(manifest(feed, origin.url), env={**feed.secrets, **secrets}) as lobby,
    ):
        yield origin, lobby


class Listener:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def listen(self, url: str) -> None:
        async with connect(url) as connection:
            async for message in connection:
                self.texts.append(message if isinstance(message, str) else message.decode())


TOGETHER = 6  # feeds that are tried at the same time: most of the time each waits


@pytest.mark.parametrize(
    "feeds",
    [FEEDS[at : at + TOGETHER] for at in range(0, len(FEEDS), TOGETHER)],
    ids=lambda feeds: ",".join(feed.name for feed in feeds),
)
def test_feeds_are_held(feeds: tuple[Feed, ...]) -> None:
    async def main() -> None:
        await asyncio.gather(*(hold(feed) for feed in feeds))

    run(main(), deadline=110)


async def hold(feed: Feed) -> None:
    try:
        async with held(feed) as (origin, lobby), asyncio.TaskGroup() as tasks:
            listeners = [Listener() for _ in range(3)]
            listening = [tasks.create_task(each.listen(lobby.client_url())) for each in listeners]
            await until(
                lambda: all(len(each.texts) > 10 for each in listeners), deadline=30, describe=lobby.process.tail
            )

            await asyncio.sleep(QUIET_SECONDS)
            assert origin.violations == []
            assert len(origin.attempts) == 1, "the feed ended the connection"

            before = [len(each.texts) for each in listeners]
            await origin.open[0].connection.close(1012, "restart")
            await until(lambda: len(origin.attempts) == 2, deadline=20, describe=lobby.process.tail)
            await lobby.until_origin("Connected")
            await until(
                lambda: all(len(each.texts) > count + 10 for each, count in zip(listeners, before, strict=True)),
                deadline=20,
            )
            if feed.renewal is not None:
                most = origin.most_open
                before = [len(each.texts) for each in listeners]
                await feed.renewal(origin.open[0])
                await until(lambda: len(origin.attempts) == 3, deadline=20, describe=lobby.process.tail)
                await until(lambda: len(origin.open) == 1, deadline=20, describe=lobby.process.tail)
                assert (most, origin.most_open) == (1, 2)
                await asyncio.sleep(1.0)  # long enough for a mistake at the seam to arrive
                for each, start in zip(listeners, before, strict=True):
                    ticks = [numbered(json.loads(text)) for text in each.texts[start:]]
                    assert len(ticks) > 10
                    assert ticks == list(range(ticks[0], ticks[-1] + 1)), "a gap or a duplicate"
            connections = len(origin.attempts)
            for each in listeners:
                assert [text for text in each.texts if not feed.is_data(text)] == [], (
                    "control messages reached a client"
                )

            if feed.error is not None:
                await feed.error(origin.open[0])
            if feed.error is None:
                pass
            elif feed.refused:
                assert (await lobby.until_origin("Refused"))["reason"] == feed.reason
                await asyncio.sleep(1.0)  # ten times the longest pause of a reconnect that is no refusal
                assert len(origin.attempts) == connections, "a refusing feed was tried again at once"
            else:
                await until(lambda: len(origin.attempts) > connections, deadline=20, describe=lobby.process.tail)
                await until(
                    lambda: f"origin: {feed.reason}; next attempt" in reasons(lobby), describe=lobby.process.tail
                )
            assert origin.violations == []
            assert origin.most_open == (1 if feed.renewal is None else 2)
            assert not any(task.done() for task in listening), "a client was closed"
            for task in listening:
                task.cancel()
    except Exception as error:
        error.add_note(f"the feed is {feed.name}")
        raise


def numbered(message: dict[str, Any]) -> int:
    """The number of a tick."""
    data = message["data"]
    number: int = (data[0] if isinstance(data, list) else data)["seq"]
    return number


def reasons(lobby: LobbyProcess) -> str:
    return "\n".join(json.loads(line)["message"] for line in lobby.process.stderr.lines)


WRONG = (
    ("alpaca", "LOBBY_SECRET_ALPACA_SECRET", "onConnect[0]: 402 auth failed for ***"),
    (
        "discord",
        "LOBBY_SECRET_DISCORD_TOKEN",
        "onConnect[2]: the origin closed the connection: 4004 (Authentication failed.)",
    ),
    ("okx-vip-books", "LOBBY_SECRET_OKX_VIP_BOOKS_SECRET", "onConnect[1]: 60007 Invalid sign ***"),
    ("home-assistant", "LOBBY_SECRET_HOME_ASSISTANT_TOKEN", "onConnect[2]: Invalid access token ***"),
)


@pytest.mark.parametrize(("name", "variable", "reason"), WRONG, ids=lambda each: each)
def test_a_wrong_key_is_refused_once_and_shown_without_the_key(name: str, variable: str, reason: str) -> None:
    feed = next(each for each in FEEDS if each.name == name)

    async def main() -> None:
        async with held(feed, **{variable: "wr0ngwr0ngwr0ng"}) as (origin, lobby):
            report = await lobby.until_origin("Refused", deadline=30)
            assert report["reason"] == reason
            assert report["retry_in_seconds"] > 30
            await asyncio.sleep(1.0)
            assert len(origin.attempts) == 1
            assert origin.violations == []
            assert "wr0ng" not in "\n".join(lobby.process.stderr.lines)

    run(main(), deadline=60)
