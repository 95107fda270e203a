from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.support.api import FakeApi, http_answer
from tests.support.origins import FakeOrigin, authority
from tests.support.proxies import fake_proxy
from tests.support.sockets import run
from tests.support.specs import http_step, origin_spec, resolved
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
                    f"the proxy 127.0.0.1:{proxy.port} refused to connect: 407 Proxy Authentication Required"
                )
            assert origin.attempts == []
        login = base64.b64encode(LOGIN.encode()).decode()
        assert not any(each in caplog.text for each in ("s3cret-of-joe", login))

    run(main())


def test_calls_before_and_after_the_handshake_go_through_the_proxy_of_the_lobby() -> None:
    async def main() -> None:
        async with (
            FakeOrigin() as origin,
            FakeApi(lambda _: http_answer({"url": "ws://feed.invalid/stream"})) as api,
            fake_proxy(("127.0.0.1", origin.port), LOGIN, {"api.invalid": ("127.0.0.1", api.port)}) as proxy,
        ):
            async with running(
                "$(saved.url)",
                beforeConnect=[http_step(url="http://api.invalid:8080/open", save={"url": "http.json.url"})],
                onConnect=[http_step(url="http://api.invalid/subscribe", method="POST")],
                proxy={"url": f"http://127.0.0.1:{proxy.port}", **REF},
                environment=VALUES,
            ) as lobby:
                await lobby.until_state(OriginState.CONNECTED)
            assert proxy.violations == []
            assert [each.split(" ")[1] for each in proxy.requests] == [
                "api.invalid:8080",
                "feed.invalid:80",
                "api.invalid:80",
            ]
            assert [each.target for each in api.requests] == ["/open", "/subscribe"]

    run(main())


def test_calls_go_through_the_proxy_of_the_environment_unless_it_excepts_their_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, FakeApi(lambda _: http_answer({})) as api, fake_proxy(("", 1)) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://joe:s3cret@127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", "other.example")
            proxy.others = {"api.invalid": ("127.0.0.1", api.port)}
            steps = [http_step(url="http://api.invalid/a"), http_step(url=f"{api.url}/b")]
            async with running(origin.url, beforeConnect=steps) as lobby:
                await lobby.until_state(OriginState.CONNECTED)
            assert [each.target for each in api.requests] == ["/a", "/b"]
            assert len(proxy.requests) == 1

    run(main())


@pytest.mark.parametrize("where", ["beforeConnect", "onConnect"])
def test_an_unusable_proxy_of_the_environment_is_why_a_call_fails_and_its_password_is_not_shown(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://joe:s3cret@proxy:1")

    async def main() -> None:
        steps: dict[str, Any] = {where: [http_step(url="http://api.invalid/")]}
        async with FakeOrigin() as origin, running(origin.url, reconnect=QUICK, **steps) as lobby:
            await lobby.until_failure(Failure.HTTP_CALL)
            assert lobby.origin.report().reason == (
                f"{where}[0].http: GET http://api.invalid/: the environment variable HTTP_PROXY: "
                "not the URL of an HTTP proxy; accepted: http://host:port"
            )
        assert "s3cret" not in caplog.text

    run(main())


def test_a_call_that_the_proxy_refuses_names_the_step_and_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, fake_proxy(("127.0.0.1", origin.port), "joe:other") as proxy:
            settings = {"url": f"http://127.0.0.1:{proxy.port}", **REF}
            step = http_step(url="https://api.invalid/open?key=1")
            async with running(
                origin.url, beforeConnect=[step], proxy=settings, reconnect=QUICK, environment=VALUES
            ) as lobby:
                await lobby.until_failure(Failure.HTTP_CALL)
                report = lobby.origin.report()
                assert report.state is not OriginState.REFUSED
                assert report.reason == (
                    f"beforeConnect[0].http: GET https://api.invalid/open: the proxy 127.0.0.1:{proxy.port} "
                    "refused to connect: 407 Proxy Authentication Required"
                )
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
