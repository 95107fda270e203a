"""The manifests in docs/origins hold strict feeds: connect, quiet hours, a reconnect, a renewal, an error, a wrong key.

`make origins` does so with 200 clients in four lobbies for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.origins.feeds import BITFINEX, FEEDS, Api, Feed
from tests.integration.origins.strict import StrictOrigin
from tests.support.api import Answer, ApiRequest, FakeApi
from tests.support.sockets import run
from tests.support.swarm import Client, Swarm
from tests.support.up import LobbyUp, lobby_file, lobby_up
from tests.support.waiting import stays, until

MANIFESTS = Path(__file__).resolve().parents[3] / "docs" / "origins"
CLIENTS = int(os.environ.get("ORIGINS_CLIENTS", "8"))
LOBBIES = int(os.environ.get("ORIGINS_LOBBIES", "2"))
TOGETHER = 5 if CLIENTS <= 20 else 1  # feeds that are tried at the same time: most of the time each waits
QUIET_SECONDS = 4.0
"""Longer than any feed waits for a message that its rules ask for."""
KEPT = 100_000  # messages of each client: all of them
RECONNECT = {"minMilliseconds": 100, "maxMilliseconds": 2000, "jitter": "None"}
SETTLED_SECONDS = 1.0  # ten times the first pause of a reconnect that is no refusal
RENEWED_SECONDS = 10  # the least that the schema accepts; a renewal is up to a tenth earlier
RENEWED = [
    feed for feed in FEEDS if CLIENTS > 20 or feed.name in {"binance-user", "kucoin", "slack-socket-mode"}
]  # `make origins` renews all, by the clock
WATCHED_SECONDS = 100.0 if CLIENTS > 20 else SETTLED_SECONDS  # after a refusal: `make origins` sees three more tries


def manifest(feed: Feed, url: str, api: str = "", *, renew: int = 0) -> dict[str, Any]:
    """The published manifest, with the addresses of the strict feed, scaled intervals, and seats that need all lobbies.

    Args:
        feed: the feed.
        url: its address.
        api: that of its HTTP server.
        renew: seconds between renewals; 0: as published. Where the feed allows one connection, the old one is closed first.
    """
    resource: dict[str, Any] = yaml.safe_load((MANIFESTS / f"{feed.name}.yaml").read_text())
    seats = -(-CLIENTS // (LOBBIES - 1)) - 1
    resource["spec"] |= {"replicas": LOBBIES, "maxReplicas": LOBBIES, "spareSeats": 0, "clients": {"seats": seats}}
    origin = resource["spec"]["origin"]
    origin |= {"connect": "Always", "reconnect": RECONNECT}
    if not origin["url"].startswith("$("):
        origin["url"] = url
    elif "wss://" in origin["url"]:  # otherwise its HTTP server tells it
        origin["url"] = re.sub('wss://[^"]*', url, origin["url"])
    for step in (*origin.get("beforeConnect", ()), *origin.get("onConnect", ())):
        if "http" in step:
            step["http"]["url"] = re.sub("https?://[^/]+", api, step["http"]["url"])
    for timed in origin.get("every", ()):
        if feed.every is not None and "seconds" in timed:
            timed["seconds"] = feed.every
    if renew:
        overlap = origin.get("limits", {}).get("connections") != 1
        origin["renew"] = {"overlap": overlap, **origin.get("renew", {}), "everySeconds": renew}
    return resource


def calling(answer: Api, origin: StrictOrigin) -> Callable[[ApiRequest], Answer]:
    """Answers the HTTP calls around a feed, and counts them."""

    def called(request: ApiRequest) -> Answer:
        origin.calls.append(time.monotonic())
        return answer(origin, request)

    return called


@contextlib.asynccontextmanager
async def held(
    feeds: Sequence[Feed], folder: Path, secrets: Mapping[str, str] | None = None, *, renew: int = 0
) -> AsyncIterator[tuple[LobbyUp, dict[str, StrictOrigin]]]:
    """Runs feeds, and a lobby host with a Lobby for each."""
    async with contextlib.AsyncExitStack() as stack:
        origins = {
            each.name: await stack.enter_async_context(
                StrictOrigin(feed=each.serve, subprotocol=each.subprotocol).running()
            )
            for each in feeds
        }
        apis = {
            each.name: (await stack.enter_async_context(FakeApi(calling(each.api, origins[each.name])))).url
            for each in feeds
            if each.api is not None
        }
        files = [
            lobby_file(folder, manifest(each, origins[each.name].url, apis.get(each.name, ""), renew=renew))
            for each in feeds
        ]
        env = {name: value for each in feeds for name, value in each.secrets.items()} | dict(secrets or {})
        up = await stack.enter_async_context(
            lobby_up(*(part for file in files for part in ("-f", file)), env=env, deadline=60)
        )
        yield up, origins


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "feeds",
    [FEEDS[at : at + TOGETHER] for at in range(0, len(FEEDS), TOGETHER)],
    ids=lambda feeds: ",".join(feed.name for feed in feeds),
)
def test_feeds_are_held(feeds: tuple[Feed, ...], tmp_path: Path) -> None:
    async def main() -> None:
        async with held(feeds, tmp_path) as (up, origins):
            await asyncio.gather(*(hold(feed, origins[feed.name], up) for feed in feeds))

    run(main(), deadline=190)


def most_connections(spec: Mapping[str, Any]) -> int:
    """How many lobbies are connected."""
    return min(LOBBIES, spec.get("limits", {}).get("connections") or LOBBIES)


def overlaps(spec: Mapping[str, Any]) -> bool:
    """Whether the next connection is opened before the old one is closed."""
    return bool(spec.get("renew", {}).get("overlap", True))


async def hold(feed: Feed, origin: StrictOrigin, up: LobbyUp) -> None:
    spec = manifest(feed, origin.url)["spec"]["origin"]
    connections = most_connections(spec)
    most_open = connections * (1 if feed.renewal is None or not overlaps(spec) else 2)

    async def connected(attempts: int) -> None:
        await until(
            lambda: len(origin.attempts) >= attempts and len(origin.open) == connections,
            deadline=60,
            describe=lambda: f"{connections} connections, not {len(origin.open)}; {up.process.tail()}",
        )
        assert len(origin.attempts) == attempts, origin.violations

    try:
        await connected(connections)
        async with Swarm(up.at(f"/{feed.name}"), keep=KEPT) as swarm:
            await swarm.connect_all(CLIENTS)
            await flows(swarm, up)

            await stays(lambda: not origin.violations, seconds=QUIET_SECONDS, describe=lambda: str(origin.violations))
            assert len(origin.attempts) == connections, "the feed ended a connection"

            await origin.each(lambda peer: peer.connection.close(1012, "restart"))
            await connected(2 * connections)
            await flows(swarm, up)

            if feed.renewal is not None:
                start = [len(each.kept) for each in swarm.clients]
                await origin.each(feed.renewal)
                await connected(3 * connections)
                await flows(swarm, up)
                exact = feed.check is None and overlaps(spec)
                for client, count in zip(swarm.clients, start, strict=True) if exact else ():
                    ticks = [numbered(json.loads(text)) for text in texts(client)[count:]]
                    assert ticks == list(range(ticks[0], ticks[-1] + 1)), "a gap or a duplicate"
            assert origin.most_open <= most_open
            assert_understood(feed, swarm)
            attempts = len(origin.attempts)

            if feed.error is not None:
                since = time.monotonic()
                await origin.fail(feed.error)
                await shown(up, feed.name, "Refused" if feed.refused else "Away", feed.reason)
                if feed.refused:
                    await stays(
                        lambda: len(origin.attempts) == attempts,
                        seconds=SETTLED_SECONDS,
                        describe="tried again at once",
                    )
                tries = len(origin.attempts) - attempts
                assert tries <= connections * most_tries(time.monotonic() - since), f"{tries} tries"
            assert origin.violations == []
            assert len(swarm.open) == CLIENTS, swarm.summary()
        print(f"{feed.name}: {CLIENTS} clients, {attempts} connections of {LOBBIES} lobbies")  # noqa: T201  # `pytest -s`
    except Exception as error:
        error.add_note(f"the feed is {feed.name}")
        raise


async def flows(swarm: Swarm, up: LobbyUp) -> None:
    """Waits until each client has got more than ten further messages."""
    before = [len(each.kept) for each in swarm.clients]
    await until(
        lambda: all(len(each.kept) > count + 10 for each, count in zip(swarm.clients, before, strict=True)),
        deadline=60,
        describe=lambda: f"{swarm.summary()} {up.process.tail()}",
    )


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "feeds",
    [RENEWED[at : at + TOGETHER] for at in range(0, len(RENEWED), TOGETHER)],
    ids=lambda feeds: ",".join(feed.name for feed in feeds),
)
def test_connections_are_renewed_in_time(feeds: tuple[Feed, ...], tmp_path: Path) -> None:
    async def main() -> None:
        async with held(feeds, tmp_path, renew=RENEWED_SECONDS) as (up, origins):
            await asyncio.gather(*(renewed(feed, origins[feed.name], up) for feed in feeds))

    run(main(), deadline=190)


async def renewed(feed: Feed, origin: StrictOrigin, up: LobbyUp) -> None:
    spec = manifest(feed, origin.url, renew=RENEWED_SECONDS)["spec"]["origin"]
    connections = most_connections(spec)
    try:
        await until(lambda: len(origin.open) == connections, deadline=60, describe=up.process.tail)
        async with Swarm(up.at(f"/{feed.name}"), keep=KEPT) as swarm:
            await swarm.connect_all(CLIENTS)
            await flows(swarm, up)
            first = set(origin.open)
            await until(
                lambda: len(origin.open) == connections and first.isdisjoint(origin.open),
                deadline=60,
                describe=lambda: f"{len(origin.open)} connections; {origin.violations} {up.process.tail()}",
            )
            await flows(swarm, up)
            assert_understood(feed, swarm)
            assert origin.violations == []
            assert origin.most_open <= connections * (2 if overlaps(spec) else 1)
            assert len(swarm.open) == CLIENTS, swarm.summary()
            if overlaps(spec) and spec.get("identity") != "None":
                metrics = await up.lobby_metrics(feed.name)
                assert [each("lobby_stream_gaps_total") for each in metrics] == [0] * LOBBIES
        print(f"{feed.name}: {len(origin.attempts)} connections of {LOBBIES} lobbies")  # noqa: T201  # `pytest -s`
    except Exception as error:
        error.add_note(f"the feed is {feed.name}")
        raise


def assert_understood(feed: Feed, swarm: Swarm) -> None:
    """No client got a control message, or one that it cannot make sense of."""
    for client in swarm.clients:
        assert [text for text in texts(client) if not feed.is_data(text)] == [], "control messages arrived"
        if feed.check is not None:
            feed.check(texts(client))


def most_tries(seconds: float) -> float:
    """Most attempts of a lobby that fail within that time: the waits double from the least to the most (`RECONNECT`)."""
    return 1 + math.log2(1 + seconds / 0.1) + seconds / 2


async def shown(up: LobbyUp, name: str, reason: str, sentence: str) -> None:
    """Waits until the condition OriginConnected, which `kubectl get lobbies` shows too, has this reason and these words."""
    seen: dict[str, Any] = {}

    async def look() -> bool:
        conditions = (await up.status(name))["conditions"]
        seen.update(next(each for each in conditions if each["type"] == "OriginConnected"))
        return seen["status"] == "False" and seen["reason"] == reason and sentence in seen["message"]

    await until(look, deadline=60, every=0.1, describe=lambda: f"{reason} {sentence}, not {seen}")


def texts(client: Client) -> list[str]:
    """What a client got."""
    return [payload.decode() for _, payload in client.kept]


def numbered(message: dict[str, Any]) -> int:
    """The number of a tick."""
    data = message.get("event") or (message["payload"]["event"] if "payload" in message else message["data"])
    number: int = (data[0] if isinstance(data, list) else data)["seq"]
    return number


WRONG_KEY = "wr0ngwr0ngwr0ngw"  # valid base64, which some feeds have for keys
WRONG = {
    "alpaca": ("LOBBY_SECRET_ALPACA_SECRET", "onConnect[0]: 402 auth failed for ***"),
    "centrifugo": ("LOBBY_SECRET_CENTRIFUGO_TOKEN", "the origin closed the connection: 3500 (invalid token)"),
    "discord": ("LOBBY_SECRET_DISCORD_TOKEN", "the origin closed the connection: 4004 (Authentication failed.)"),
    "okx-vip-books": ("LOBBY_SECRET_OKX_VIP_BOOKS_SECRET", "onConnect[1]: 60007 Invalid sign ***"),
    "home-assistant": ("LOBBY_SECRET_HOME_ASSISTANT_TOKEN", "onConnect[2]: Invalid access token ***"),
    "twitch-eventsub": ("LOBBY_SECRET_TWITCH_TOKEN", "onConnect[1].http: Invalid OAuth token: ***"),
    "slack-socket-mode": ("LOBBY_SECRET_SLACK_APP_TOKEN", "beforeConnect[0].http: invalid_auth"),
    "kraken-private": ("LOBBY_SECRET_KRAKEN_SECRET", "beforeConnect[0].http: EAPI:Invalid signature"),
    "binance-user": (
        "LOBBY_SECRET_BINANCE_SECRET",
        "onConnect[1]: -1022 Signature for this request is not valid: ***",
    ),
}


@pytest.mark.timeout(WATCHED_SECONDS + 200)
def test_a_wrong_key_is_refused_once_and_shown_without_the_key(tmp_path: Path) -> None:
    feeds = [feed for feed in FEEDS if feed.name in WRONG]

    async def main() -> None:
        secrets = {variable: WRONG_KEY for variable, _ in WRONG.values()}
        async with held(feeds, tmp_path, secrets) as (up, origins):
            for name, (_, sentence) in WRONG.items():
                await shown(up, name, "Refused", sentence)
            await stays(
                lambda: all(origin.hammered(LOBBIES) == [] for origin in origins.values()),
                seconds=WATCHED_SECONDS,
                describe=lambda: (
                    f"tried too early: { {name: each.hammered(LOBBIES) for name, each in origins.items()} }"
                ),
            )
            assert {name: origin.violations for name, origin in origins.items()} == {name: [] for name in origins}
            lobbies = json.dumps(await up.lobbies())
            assert "wr0ng" not in lobbies + up.process.stdout.text + up.process.stderr.text

    run(main(), deadline=WATCHED_SECONDS + 190)


@pytest.mark.timeout(120)
def test_every_client_knows_the_channels_of_what_it_gets(tmp_path: Path) -> None:
    """Bitfinex has a channel of another number on each connection."""

    async def main() -> None:
        async with held([BITFINEX], tmp_path) as (up, origins):
            origin = origins["bitfinex"]
            async with Swarm(up.at("/bitfinex"), keep=KEPT) as swarm:

                async def flows() -> None:
                    before = {id(each): len(each.kept) for each in swarm.clients}
                    await until(
                        lambda: all(len(each.kept) > before[id(each)] + 10 for each in swarm.clients),
                        deadline=60,
                        describe=up.process.tail,
                    )

                await until(lambda: len(origin.open) == LOBBIES, deadline=60, describe=up.process.tail)
                for count in range(2, 4):
                    late = await swarm.connect_all(CLIENTS // 4)
                    await flows()
                    assert all(json.loads(texts(client)[0])["event"] == "subscribed" for client in late)
                    await origin.each(lambda peer: peer.connection.close(1012, "restart"))
                    attempts = count * LOBBIES
                    await until(lambda: len(origin.attempts) >= attempts, deadline=60, describe="connections")  # noqa: B023
                    await flows()
                assert BITFINEX.check is not None
                assert_understood(BITFINEX, swarm)
            assert origin.violations == []

    run(main(), deadline=110)
