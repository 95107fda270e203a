"""Invalid tokens: forged, expired, replayed, or for something else. None takes a seat, or reveals the details."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

from tests.support import raw_client, web
from tests.support.attack import BYSTANDERS, Target, attacked
from tests.support.lobby import drain, greeter_process, lobby_process, new_key, with_open
from tests.support.raw_client import RawClient
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up

from lobby_gateway.clients.tokens import Purpose, key_from_hex, namespace_key, sign
from lobby_gateway.trunk.records import PATH, SUBPROTOCOL

TRUNK = {"Sec-WebSocket-Protocol": SUBPROTOCOL}


def token(target: Target, *, key: str | None = None, purpose: Purpose = Purpose.SEAT, **claims: object) -> str:
    """A valid token, except for the changes."""
    good = {"lobby": target.lobby.name, "path": target.lobby.path, "expires": time.time() + 30, **claims}
    return sign(key_from_hex(key or target.lobby.key), purpose=purpose, **good)  # type: ignore[arg-type]


def rewritten(good: str, index: int, value: object) -> str:
    """A token with a changed claim and its original signature."""
    version, claims, signature = good.split(".")
    read = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    read[index] = value
    changed = urlsafe_b64encode(json.dumps(read).encode()).decode().rstrip("=")
    assert changed != claims
    return f"{version}.{changed}.{signature}"


def bad_tokens(target: Target) -> dict[str, str]:
    good = token(target)
    version, claims, signature = good.split(".")
    return {
        "none": "",
        "no token": "hello",
        "dots": "...",
        "signed with another key": token(target, key=new_key()),
        "a bit changed": good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1],
        "no signature": f"{version}.{claims}.",
        "half a signature": f"{version}.{claims}.{signature[:20]}",
        "another version": f"v0.{claims}.{signature}",
        "a longer life": rewritten(good, 3, time.time() + 10_000),
        "another lobby, rewritten": rewritten(token(target, lobby="prices-2"), 1, target.lobby.name),
        "expired": token(target, expires=time.time() - 200),
        "expired long ago": token(target, expires=0),
        "for another lobby": token(target, lobby="prices-2"),
        "for another path": token(target, path="/other"),
        "for a trunk": token(target, purpose=Purpose.TRUNK, path=PATH),
        "for a trunk, at this path": token(target, purpose=Purpose.TRUNK),
        "very long": "v1." + "a" * 12_000 + ".b",
    }


async def status(target: Target, request: bytes) -> int:
    async with await RawClient.connect(target.port, request) as client:
        head = await client.head()
        assert head.status != 401 or head.headers["www-authenticate"] == "Bearer"
        return head.status


def asking(target: Target, given: str, *, in_header: bool) -> bytes:
    if in_header:
        return raw_client.request(target.lobby.path, {"Authorization": f"Bearer {given}"})
    return raw_client.request(f"{target.lobby.path}?token={given}")


def test_invalid_tokens_get_no_seat() -> None:
    async def main() -> None:
        async with attacked("lobby") as target:
            bad = bad_tokens(target)
            for name, given in bad.items():
                for in_header in (False, True):
                    assert await status(target, asking(target, given, in_header=in_header)) == 401, name
            assert await status(target, raw_client.request(target.lobby.path)) == 401
            good = token(target)
            for in_header in (False, True):
                assert await status(target, asking(target, token(target), in_header=in_header)) == 101
                # Two tokens: the one in the query counts, and the other is not tried instead.
                both = raw_client.request(
                    f"{target.lobby.path}?token=bad&token={good}", {"Authorization": f"Bearer {good}"}
                )
                assert await status(target, both) == 401
            assert await target.count("refusals_total", reason="bad_token") == 2 * len(bad) + 1 + 2
            logs = target.lobby.process.stderr.text
            assert good not in logs
            assert not any(given in logs for given in bad.values() if len(given) > 20), "a token appears in the logs"

    run(main(), deadline=60)


def test_the_key_of_a_namespace_opens_no_lobby_of_another() -> None:
    """A tenant knows the key that its own lobbies mount, and names, addresses and paths of all others."""

    async def main() -> None:
        master = new_key()
        async with ticker() as origin:
            resource = lobby_resource("prices", origin.url)
            victim = {**resource, "metadata": {**resource["metadata"], "namespace": "victim"}}
            async with (
                lobby_process(victim, key=master) as lobby,
                greeter_process(key=master) as greeter,
            ):

                async def enters(key: bytes, purpose: Purpose) -> int:
                    path, protocol = (lobby.path, {}) if purpose is Purpose.SEAT else (PATH, TRUNK)
                    good = {"lobby": f"victim/{lobby.name}", "path": path, "expires": time.time() + 30}
                    bearer = {"Authorization": f"Bearer {sign(key, purpose=purpose, **good)}"}  # type: ignore[arg-type]
                    async with await RawClient.connect(
                        lobby.port, raw_client.request(path, {**protocol, **bearer})
                    ) as it:
                        return (await it.head()).status

                mine = namespace_key(key_from_hex(master), "tenant")
                assert (await drain(lobby.admin, mine, f"victim/{lobby.name}")).status == 401
                for purpose in (Purpose.SEAT, Purpose.TRUNK):
                    assert await enters(mine, purpose) == 401, "with the key of another namespace"
                    assert await enters(key_from_hex(master), purpose) == 401, "lobbies don't know the master key"
                    assert await enters(key_from_hex(lobby.key), purpose) == 101
                greeter.set_directory(with_open(victim, lobby))
                async with Swarm(greeter.url("/prices")) as swarm:
                    await swarm.connect_all(2)  # the greeter derives the right key

    run(main(), deadline=60)


def test_one_of_many_clients_with_the_same_token_is_accepted() -> None:
    async def main() -> None:
        async with attacked("lobby") as target:
            for _ in range(5):
                request = asking(target, token(target), in_header=False)
                statuses = await asyncio.gather(*(status(target, request) for _ in range(20)))
                assert sorted(statuses) == [101] + [401] * 19
            await target.lobby.until_clients(BYSTANDERS)
            assert await status(target, request) == 401, "the token stays used after its client disconnects"

    run(main(), deadline=60)


def test_only_a_greeter_opens_a_trunk() -> None:
    async def main() -> None:
        async with attacked("lobby") as target:
            trunk = {"Sec-WebSocket-Protocol": SUBPROTOCOL}
            for name, given in bad_tokens(target).items():
                if name == "for a trunk":
                    continue
                headers = {**trunk, "Authorization": f"Bearer {given}"}
                assert await status(target, raw_client.request(PATH, headers)) == 401, name
            seat = {**trunk, "Authorization": f"Bearer {token(target)}"}
            assert await status(target, raw_client.request(PATH, seat)) == 401
            right = token(target, purpose=Purpose.TRUNK, path=PATH)
            # In the query, a token would appear in the logs of proxies; greeters send it in a header.
            assert await status(target, raw_client.request(f"{PATH}?token={right}", trunk)) == 401
            assert await status(target, raw_client.request(PATH, {"Authorization": f"Bearer {right}"})) == 404
            assert await target.count("trunks") == 0

    run(main(), deadline=60)


def test_the_token_of_a_redirect_is_valid_for_one_seat_in_one_lobby(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            resource = lobby_resource(
                "prices", origin.url, routing={"mode": "Redirect"}, replicas=2, placement="Latest"
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                await up.until_ready(2)
                # A token that the client sends is not passed on.
                url = up.url.replace("ws://", "http://") + "?token=mine&x=1"
                ticket = (await web.get(url, accept="application/json")).json()
                assert ticket["url"].count("token=") == 1
                assert "x=1" in ticket["url"]
                async with Swarm(ticket["url"]) as swarm:
                    await swarm.connect_all(1)
                    (again,) = await swarm.connect(1)
                    assert again.status == 401
                other = (await web.get(url, accept="application/json")).json()
                ports = [each["address"].rpartition(":")[2] for each in (await up.status())["open"]]
                own = other["url"].split("/")[2].rpartition(":")[2]
                (elsewhere,) = [port for port in ports if port != own]
                async with Swarm(other["url"].replace(own, elsewhere, 1)) as swarm:
                    (client,) = await swarm.connect(1)
                    assert client.status == 401

    run(main(), deadline=60)
