"""An origin that sends a secret back in every way: no output of any process contains it."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

from tests.support import web
from tests.support.api import Answer, ApiRequest, FakeApi, http_answer
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


KEY = "k3y-0f-the-f33d+/="
TOKEN = "cap7ured-t0ken"  # what its HTTP server tells
SESSION = "cap7ured-s3ssion"  # what the origin tells
CAUSES = ("http", "answer", "close", "message", "handshake")


def test_a_secret_in_any_field_is_shown_nowhere(tmp_path: Path) -> None:
    """In URL, headers, query, sends, HTTP calls, saved values, timed messages and reasons; everybody sends back all of it."""
    computed: set[str] = set()
    known: set[str] = set()  # what the lobby was told to keep
    latest: list[str] = []  # signatures of the latest attempt
    failures: list[str] = []

    def told() -> str:
        return " ".join((KEY, *known, quote(KEY, safe=""), *latest))

    def answer(request: ApiRequest) -> Answer:
        assert KEY in request.body
        assert quote(KEY, safe="") in request.target
        latest[:] = [request.headers["x-sign"]]
        computed.update(latest)
        cause = CAUSES[len(failures) % len(CAUSES)]
        if cause == "http":
            failures.append(cause)
            return http_answer(told(), 500)
        if cause == "answer":
            failures.append(cause)
            return http_answer({"error": told()}, 400)
        known.add(TOKEN)
        return http_answer({"token": TOKEN})

    async def greet(origin: FakeOrigin, record: ConnectionRecord) -> None:
        assert record.headers["authorization"] == f"Bearer {KEY}"
        assert record.path.startswith(f"/{TOKEN}?key={quote(KEY, safe='')}&sign=")
        latest.append(record.path.rpartition("=")[2])
        await record.server.send(json.dumps({"session": SESSION}))
        known.add(SESSION)
        latest.append(str(await record.server.recv()).rpartition(" ")[2])
        computed.update(latest)
        cause = CAUSES[len(failures) % len(CAUSES)]
        failures.append(cause)
        if cause == "close":
            await record.server.close(4000, told()[:120])
        elif cause == "message":
            await record.server.send(json.dumps({"error": told()}))
        else:
            await record.server.recv()  # a timed message
            origin.refuse = Refuse(404, (("X-Told", told()),))
            await record.server.close(4001, SESSION)

    async def main() -> None:
        sign = '$(hex(hmac("SHA256", KEY, string(nowMillis) + uuid())))'
        async with FakeOrigin(on_open=greet) as origin, FakeApi(answer) as api:
            call = {
                "method": "POST",
                "url": f"{api.url}/$(uuid())",
                "query": [{"name": "key", "value": "$(KEY)"}],
                "headers": [{"name": "X-Sign", "value": sign}],
                "body": '{"key":"$(json:KEY)"}',
                "save": {"token": "http.json.token"},
                "end": {"when": "has(http.json.error)", "reason": "http.json.error + KEY"},
            }
            login = [
                {"expect": {"json": {}, "save": {"session": "msg.session"}}},
                {"send": f"$(KEY) $(saved.session) {sign}"},
            ]
            resource = lobby_resource(
                "prices",
                f"{origin.url}$(saved.token)",
                origin_connect="Always",
                origin_secrets=[{"name": "KEY", "secretKeyRef": {"name": "feed", "key": "key"}}],
                origin_headers=[{"name": "Authorization", "value": "Bearer $(KEY)"}],
                origin_query=[{"name": "key", "value": "$(KEY)"}, {"name": "sign", "value": sign}],
                origin_beforeConnect=[{"http": call}],
                origin_onConnect=login,
                origin_every=[{"seconds": 1, "send": f"$(KEY) {sign}"}],
                origin_onMessage=[{"contains": "error", "end": {"reason": "msg.error + saved.session + KEY"}}],
                origin_reconnect={"minMilliseconds": 20, "maxMilliseconds": 100},
                replicas=1,
            )
            file = lobby_file(tmp_path, resource)
            async with lobby_up("-f", file, env={VARIABLE: KEY, "LOBBY_LOG_LEVEL": "debug"}) as up:
                seen: list[str] = []

                async def look() -> bool:
                    pages = [await web.get(f"{up.admin}{page}") for page in ("/lobbies", "/status", "/metrics")]
                    seen.extend(page.body.decode() for page in pages)
                    try:
                        seen.append(json.dumps(await up.reports(), ensure_ascii=False))
                    except LookupError:
                        return False  # the lobby does not listen yet
                    if origin.refuse is not None and len(origin.attempts) > len(origin.connections) + 2:
                        origin.refuse = None
                    return len(failures) > 2 * len(CAUSES)

                await until(look, deadline=60, describe=lambda: f"{failures}; {up.process.tail()}")
                seen.append(up.process.tail(10_000))
                output = "\n".join(seen)
                for reason in (
                    "beforeConnect[0].http: POST http://127.0.0.1",
                    "HTTP 500 Internal Server Error",
                    "beforeConnect[0].http:*** ***",
                    "the origin closed the connection: 4000 (***",
                ):
                    assert reason in output
                assert len(computed) > 10
                secret = {KEY, TOKEN, SESSION, quote(KEY, safe=""), b64encode(KEY.encode()).decode(), *computed}
                assert [each for each in secret if each in output] == []

    run(main(), deadline=100)


PINS = (8675309123, 555123)
QUOTES = ("8675309123", "8675309123.0", "8.675309123e+09", "-555123", "%38675309123")


def test_numbers_and_signatures_are_shown_nowhere_however_many_values_are_captured_later(tmp_path: Path) -> None:
    signatures: list[str] = []

    async def converse(_: FakeOrigin, record: ConnectionRecord) -> None:
        signatures.append(str(await record.server.recv()))
        await record.server.send(json.dumps({"pins": PINS}))
        for number in range(500):
            await record.server.send(json.dumps({"cur": f"cursor-{number:08}"}))
        quote = QUOTES[len(signatures) % len(QUOTES)]
        await record.server.close(4000, f"bad sig {signatures[-1]} or pin {quote}")

    async def main() -> None:
        async with FakeOrigin(on_open=converse) as origin:
            resource = lobby_resource(
                "prices",
                origin.url,
                origin_connect="Always",
                origin_onConnect=[
                    {"send": '$(hex(hmac("SHA256", "key", string(nowMillis))))'},
                    {"expect": {"json": {}, "save": {"pins": "msg.pins"}}},
                ],
                origin_onMessage=[{"contains": "cur", "save": {"cur": "msg.cur"}, "forward": False}],
                origin_reconnect={"minMilliseconds": 20, "maxMilliseconds": 100},
                replicas=1,
            )
            file = lobby_file(tmp_path, resource)
            async with lobby_up("-f", file, env={"LOBBY_LOG_LEVEL": "debug"}) as up:
                seen: list[str] = []

                async def look() -> bool:
                    pages = [await web.get(f"{up.admin}{page}") for page in ("/lobbies", "/status")]
                    seen.extend(page.body.decode() for page in pages)
                    return len(signatures) > 2 * len(QUOTES)

                await until(look, deadline=60, describe=lambda: f"{len(signatures)}; {up.process.tail()}")
                seen.append(up.process.tail(10_000))
                output = "\n".join(seen)
                assert "bad sig *** or pin ***" in output
                shown = [each for each in (*signatures, "8675309123", "8.675309123", "555123") if each in output]
                assert shown == []

    run(main(), deadline=90)
