"""Calls over real sockets, to servers that do what they should not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from typing import Any

import pytest
from tests.support.api import Answer, ApiRequest, FakeApi, http_answer, silence
from tests.support.origins import authority
from tests.support.proxies import fake_proxy
from tests.support.sockets import run
from tests.support.waiting import until

from lobby_gateway.http.client import HttpError
from lobby_gateway.origin.http_calls import HttpAnswer, HttpRequest
from lobby_gateway.origin.http_exchange import exchange
from lobby_gateway.origin.requests import Request
from lobby_gateway.settings import OriginSettings
from lobby_gateway.websocket.proxy import Proxy, proxy_of

SETTINGS = OriginSettings(answer_bytes=1000)


async def ask(
    url: str,
    *,
    tls: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
    settings: OriginSettings = SETTINGS,
    **fields: Any,
) -> HttpAnswer:
    headers = fields.pop("headers", ())
    given = {"what": "", "method": "GET", "body": None, "timeout_seconds": 5, **fields}
    return await exchange(HttpRequest(request=Request(url, headers), **given), tls=tls, proxy=proxy, settings=settings)


def always(answer: Answer) -> Callable[[ApiRequest], Answer]:
    return lambda _: answer


def test_a_call_sends_what_it_should_and_gets_the_whole_answer() -> None:
    async def main() -> None:
        async with FakeApi(always(http_answer({"token": "t"}, 201, ("Retry-After", "7")))) as api:
            answer = await ask(
                f"{api.url}/v1/token?a=b%20c",
                method="POST",
                body='{"a":"é"}',
                headers=(("User-Agent", "me"), ("X-Key", "k")),
            )
            assert (answer.status, answer.body, answer.retry_after_seconds) == (201, b'{"token": "t"}', 7.0)
            (request,) = api.requests
            assert (request.method, request.target, request.json()) == ("POST", "/v1/token?a=b%20c", {"a": "é"})
            assert request.headers == {
                "host": f"127.0.0.1:{api.port}",
                "user-agent": "me",
                "accept": "application/json",
                "accept-encoding": "identity",
                "x-key": "k",
                "connection": "close",
                "content-length": "10",
            }
            await ask(api.url)
            assert (api.requests[1].target, "content-length" in api.requests[1].headers) == ("/", False)

    run(main())


@pytest.mark.parametrize(
    ("fields", "media"),
    [
        (b"Content-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip\r\n", "text/html, gzip"),
        (b"Content-Type: <b>text, html\r\n", ""),
        (b"", ""),
    ],
)
def test_the_media_type_is_told_if_it_is_a_plain_word(fields: bytes, media: str) -> None:
    async def main() -> None:
        async with FakeApi(always(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + fields + b"\r\n1")) as api:
            assert (await ask(api.url)).media == media

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.0 200 OK\r\n\r\nabcde",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
    ],
)
def test_every_form_of_a_body_is_read(answer: bytes) -> None:
    async def main() -> None:
        async with FakeApi(always(answer)) as api:
            assert (await ask(api.url)).body == b"abcde"

    run(main())


def endless(start: bytes, piece: bytes, *, pause: float = 0) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer


endless_body = endless(b"Transfer-Encoding: chunked\r\n\r\n", b"9\r\ns3cr3ts3c\r\n" * 100)
endless_head = endless(b"", b"X-S3cr3t: s3cr3t\r\n" * 100)
dripping = endless(b"Content-Length: 900\r\n\r\n", b".", pause=0.01)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (endless_body, "the response is longer than 1000 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"s3cr3t" * 999,
            "the response is longer than 1000 bytes",
        ),
        (endless_head, "the answer is not HTTP/1.1"),
        (silence, "no answer within 0.3 s"),
        (dripping, "no answer within 0.3 s"),
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ns3cr3t", "the answer is not HTTP/1.1"),
        (b"HTTP/1.1 s3cr3t\r\n\r\n", "the answer is not HTTP/1.1"),
        (b"s3cr3t-s3cr3t\r\n\r\n", "the answer is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ns3cr3t\r\n\r\n", "the answer is not HTTP/1.1"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: s3cr3t\r\n\r\n", "the answer is not HTTP/1.1"),
    ],
)
def test_a_hostile_server_is_left_in_bounded_time_and_not_quoted(answer: Answer, problem: str) -> None:
    async def main() -> None:
        async with FakeApi(always(answer)) as api:
            bounded_by_time = answer in {silence, dripping}
            began = time.monotonic()
            with pytest.raises(HttpError) as raised:
                await ask(f"{api.url}/s3cr3t?s3cr3t", timeout_seconds=0.3 if bounded_by_time else 30)
            assert time.monotonic() - began < 20
            assert str(raised.value) == problem
            await until(lambda: api.closed == 1)

    run(main())


def test_a_redirect_is_an_answer_like_others_and_told_without_its_query() -> None:
    async def main() -> None:
        location = ("Location", "https://user:s3cr3t@other.example/path?key=s3cr3t#s3cr3t")
        async with FakeApi(always(http_answer("", 307, location))) as api:
            answer = await ask(api.url)
            assert (answer.status, answer.location) == (307, "https://other.example/path")
            assert len(api.requests) == 1

    run(main())


def test_a_cancelled_call_closes_its_connection() -> None:
    async def main() -> None:
        async with FakeApi(always(silence)) as api:
            task = asyncio.create_task(ask(api.url))
            await api.until_requests(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: api.closed == 1)

    run(main())


def test_https_is_verified_and_failures_name_the_cause() -> None:
    async def main() -> None:
        ours = authority("localhost")
        trusting = ssl.create_default_context(cadata=ours.ca_pem)
        async with FakeApi(always(http_answer("ok")), tls=ours.server, name="localhost") as api:
            assert (await ask(api.url, tls=trusting)).body == b"ok"
            with pytest.raises(HttpError, match=r"^TLS: certificate is not trusted \("):
                await ask(api.url)
            with pytest.raises(HttpError, match=r"^TLS: certificate is not trusted \(IP address mismatch"):
                await ask(api.url.replace("localhost", "127.0.0.1"), tls=trusting)
            assert len(api.requests) == 1

    run(main())


@contextlib.asynccontextmanager
async def speaking_plainly(*, first: bool) -> AsyncIterator[int]:
    """The port of a server that sends an answer without TLS, before or after it gets something."""
    ended = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if not first:
                await reader.read(1)
            writer.write(http_answer("forged"))
            await reader.read()
        writer.transport.abort()
        ended.set()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()
        await asyncio.sleep(0)  # its transport ends in the next turn


def test_a_server_without_tls_is_named_so() -> None:
    async def main() -> None:
        async with speaking_plainly(first=False) as port:
            with pytest.raises(HttpError, match=r"^TLS: the origin does not speak TLS on this port$"):
                await ask(f"https://127.0.0.1:{port}")

    run(main())


def test_what_arrives_before_tls_is_not_taken_for_the_answer() -> None:
    async def main() -> None:
        async with speaking_plainly(first=True) as port:
            with pytest.raises(HttpError):  # it was read as a part of the handshake, or not at all
                await ask(f"https://127.0.0.1:{port}", timeout_seconds=1)

    run(main())


def test_a_server_that_is_not_there_is_named_by_its_cause() -> None:
    async def main() -> None:
        async with FakeApi(always(b"")) as api:
            url = api.url
        with pytest.raises(HttpError, match=r"^connection refused$"):
            await ask(url)
        with pytest.raises(HttpError, match=r"^DNS: no address for nowhere\.invalid"):
            await ask("http://nowhere.invalid/s3cr3t")

    run(main())


def test_a_server_in_a_denied_network_is_not_called() -> None:
    async def main() -> None:
        async with FakeApi(always(http_answer("ok"))) as api:
            settings = OriginSettings(denied_networks=(ip_network("127.0.0.0/8"),))
            with pytest.raises(HttpError, match=r"^127\.0\.0\.1 is in the denied network 127\.0\.0\.0/8$"):
                await ask(api.url, settings=settings)
            assert api.closed == 0

    run(main())


# Through a proxy

LOGIN = "joe:s3cr3t"


def through(port: int, login: str = LOGIN) -> Proxy:
    return proxy_of(f"http://127.0.0.1:{port}", login, where="spec.origin.proxy")


@pytest.mark.parametrize("secure", [False, True])
def test_a_call_goes_through_the_proxy_and_only_the_proxy_gets_its_login(secure: bool) -> None:
    ours = authority("api.invalid")

    async def main() -> None:
        async with (
            FakeApi(always(http_answer("ok")), tls=ours.server if secure else None) as api,
            fake_proxy(("127.0.0.1", api.port), LOGIN) as proxy,
        ):
            answer = await ask(
                f"{'https' if secure else 'http'}://api.invalid/v1?key=s3cr3t",
                tls=ssl.create_default_context(cadata=ours.ca_pem),
                proxy=through(proxy.port),
                method="POST",
                body="{}",
            )
            assert answer.body == b"ok"
            (request,) = api.requests
            assert (request.target, request.headers["host"]) == ("/v1?key=s3cr3t", "api.invalid")
            assert "proxy-authorization" not in request.headers
            assert proxy.violations == []
            (head,) = proxy.requests
            assert head.startswith(f"CONNECT api.invalid:{443 if secure else 80} HTTP/1.1\r\n")
            assert "s3cr3t" not in head

    run(main())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "refused to connect: 407 Proxy Authentication Required"),
        (b"HTTP/1.1 403 s3cr3t\r\n\r\n", "refused to connect: 403 Forbidden"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "sent data of its own"),
        (b"", "closed the connection without an answer"),
        (b"s3cr3t\r\n\r\n", "did not answer in HTTP"),
    ],
)
def test_a_refusal_of_the_proxy_is_not_taken_for_one_of_the_server(answer: bytes | None, problem: str) -> None:
    async def main() -> None:
        async with fake_proxy(("127.0.0.1", 1), LOGIN if answer is not None else "joe:other") as proxy:
            proxy.answer = answer
            with pytest.raises(HttpError) as raised:
                await ask("https://api.invalid/s3cr3t", proxy=through(proxy.port))
            assert str(raised.value) == f"the proxy 127.0.0.1:{proxy.port} {problem}"

    run(main())


def test_a_proxy_that_says_nothing_is_named_when_the_time_is_over() -> None:
    async def main() -> None:
        async with FakeApi(always(silence)) as mute:
            with pytest.raises(HttpError, match=f"^no answer within 0.2 s through the proxy 127.0.0.1:{mute.port}$"):
                await ask("http://api.invalid/", proxy=through(mute.port), timeout_seconds=0.2)
            await until(lambda: mute.closed == 1)

    run(main())


def test_denied_networks_hold_for_the_server_and_for_a_proxy_that_the_lobby_names() -> None:
    settings = OriginSettings(denied_networks=(ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")))

    async def main() -> None:
        async with FakeApi(always(http_answer("ok"))) as api, fake_proxy(("127.0.0.1", api.port)) as proxy:
            ours = through(proxy.port, "")
            with pytest.raises(HttpError, match=r"^the proxy 127\.0\.0\.1:\d+: 127\.0\.0\.1 is in the denied network"):
                await ask("http://api.invalid/", proxy=ours, settings=settings)
            trusted = Proxy(ours.host, ours.port, trusted=True)
            with pytest.raises(HttpError, match=r"^10\.1\.2\.3 is in the denied network 10\.0\.0\.0/8$"):
                await ask("http://10.1.2.3/", proxy=trusted, settings=settings)
            assert proxy.requests == []
            assert (await ask("http://api.invalid/", proxy=trusted, settings=settings)).body == b"ok"

    run(main())
