from __future__ import annotations

import base64

import pytest
from tests.support.origins import FakeOrigin, authority
from tests.support.proxies import fake_proxy
from tests.support.sockets import run
from tests.support.specs import origin_spec, resolved
from tests.unit.origin.test_connection import QUICK, running

from lobby_gateway.origin.proxy import proxy_to
from lobby_gateway.origin.states import Failure
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.websocket.proxy import Proxy

LOGIN = "joe:s3cret-of-joe"
REF = {"credentialsSecretRef": {"name": "proxy", "key": "login"}}
VALUES = {"LOBBY_SECRET_PROXY_LOGIN": LOGIN}


def test_the_lobby_names_the_proxy_rather_than_the_environment() -> None:
    spec = origin_spec("wss://feed.example/", proxy={"url": "http://mine:1", **REF})
    found = proxy_to(spec, spec.url, VALUES, {"HTTPS_PROXY": "http://other:2", "NO_PROXY": "*"})
    assert found == Proxy("mine", 1, "Basic " + base64.b64encode(LOGIN.encode()).decode())
    without = origin_spec("wss://feed.example/")
    assert proxy_to(without, without.url, {}, {"HTTPS_PROXY": "http://other:2"}) == Proxy("other", 2, trusted=True)
    assert proxy_to(without, without.url, {}, {}) is None


def test_the_password_is_hidden_alone_too() -> None:
    spec = origin_spec("wss://feed.example/", proxy={"url": "http://mine:1", **REF})
    assert {LOGIN, "s3cret-of-joe"} <= resolved(spec, VALUES).secrets


def test_tls_goes_through_the_proxy_to_the_origin() -> None:
    ca = authority("feed.invalid")

    async def main() -> None:
        async with FakeOrigin(tls=ca.server) as origin, fake_proxy(("127.0.0.1", origin.port), LOGIN) as proxy:
            url = "wss://feed.invalid/stream"
            async with running(
                url,
                tls={"insecureSkipVerify": False, "caSecretRef": {"name": "feed", "key": "ca.crt"}},
                proxy={"url": f"http://127.0.0.1:{proxy.port}", **REF},
                environment={**VALUES, "LOBBY_SECRET_FEED_CA_CRT": ca.ca_pem},
            ) as lobby:
                await lobby.until_state(OriginState.CONNECTED)
                await origin.send("hello")
                await lobby.until(lambda: lobby.messages == [b"hello"])
            assert proxy.violations == []
            assert proxy.requests[0].startswith("CONNECT feed.invalid:443 HTTP/1.1")

    run(main())


def test_a_refusal_names_the_proxy_and_never_its_password(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, fake_proxy(("127.0.0.1", origin.port), "joe:other") as proxy:
            settings = {"url": f"http://127.0.0.1:{proxy.port}", **REF}
            async with running("ws://feed.invalid/", proxy=settings, reconnect=QUICK, environment=VALUES) as lobby:
                await lobby.until_failure(Failure.UNREACHABLE)
                reason = lobby.origin.report().reason
                assert reason == (
                    f"the proxy 127.0.0.1:{proxy.port} refused the connection to the origin: "
                    "407 Proxy Authentication Required"
                )
            assert origin.attempts == []
        login = base64.b64encode(LOGIN.encode()).decode()
        assert not any(each in caplog.text for each in ("s3cret-of-joe", login))

    run(main())


def test_a_proxy_that_is_not_there_is_named() -> None:
    async def main() -> None:
        async with fake_proxy(("127.0.0.1", 1)) as proxy:
            port = proxy.port
        async with running("ws://feed.invalid/", proxy={"url": f"http://127.0.0.1:{port}"}, reconnect=QUICK) as lobby:
            await lobby.until_failure(Failure.UNREACHABLE)
            assert lobby.origin.report().reason == f"the proxy 127.0.0.1:{port}: connection refused"

    run(main())
