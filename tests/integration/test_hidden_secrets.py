"""An origin that sends a secret back in every way: no output of any process contains it."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

from tests.support import web
from tests.support.origins import ConnectionRecord, FakeOrigin, Refuse
from tests.support.sockets import run
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

SECRET = 'hunter22"/é+%41'
PLAIN = "hidden-in-the-file"
VARIABLE = "LOBBY_SECRET_FEED_KEY"
FORMS = {
    form
    for secret in (SECRET, PLAIN)
    for form in (
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, safe=""),
        quote(secret, safe="").lower(),
        html.escape(secret),
        b64encode(secret.encode()).decode(),
        b64encode(f"user:{secret}".encode()).decode(),
        secret.encode().hex(),
    )
}


def test_secret_that_an_origin_sends_back_is_shown_nowhere(tmp_path: Path) -> None:
    said: list[str] = []

    async def close(_: FakeOrigin, record: ConnectionRecord) -> None:
        said.append(sorted(FORMS)[len(said) % len(FORMS)])
        await record.server.close(4000, f"no such key: {said[-1]}")

    async def main() -> None:
        async with FakeOrigin(on_open=close) as origin:
            key = {"secretKeyRef": {"name": "feed", "key": "key"}}
            resource = lobby_resource(
                "prices",
                origin.url,
                origin_connect="Always",
                origin_query=[{"name": "key", "valueFrom": key}, {"name": "plain", "value": PLAIN}],
                origin_reconnect={"minMilliseconds": 20, "maxMilliseconds": 200},
                replicas=1,
            )
            resource["metadata"]["annotations"] = {
                "kubectl.kubernetes.io/last-applied-configuration": json.dumps(resource)
            }
            file = lobby_file(tmp_path, resource)
            env = {VARIABLE: SECRET, "LOBBY_LOG_LEVEL": "debug"}
            async with lobby_up("-f", file, env=env) as up:
                seen: list[str] = []

                async def look() -> bool:
                    pages = [await web.get(f"{up.admin}{page}") for page in ("/lobbies", "/status", "/metrics")]
                    seen.extend(page.body.decode() for page in pages)
                    try:
                        seen.append(json.dumps(await up.reports(), ensure_ascii=False))
                    except LookupError:
                        return False  # the lobby does not listen yet
                    return len(said) > len(FORMS)

                await until(look, deadline=30, describe=lambda: f"{len(said)} connections; {up.process.tail()}")
                location = f"ws://{quote(SECRET, safe='')}.example.com/{quote(PLAIN)}"
                origin.refuse = Refuse(302, (("Location", location),))
                attempts = len(origin.attempts)
                await origin.until_attempts(attempts + 2)
                await until(look)
                seen.append(up.process.tail(10_000))
                output = "\n".join(seen)
                assert "no such key: ***" in output
                assert "redirects are not followed" in output
                assert [form for form in FORMS if form in output or json.dumps(form)[1:-1] in output] == []

    run(main(), deadline=90)
