"""Reading from an API server on a real socket, and from what is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.support.kube_api import fake_kube_api, status
from tests.support.origins import authority
from tests.support.sockets import run

from lobby_gateway.errors import UserError
from lobby_gateway.greeter.watch import ApiServer, ApiServerError
from lobby_gateway.settings import WatchSettings

LOBBIES = "/apis/lobby-gateway.io/v1alpha1/lobbies"


@contextlib.asynccontextmanager
async def answering(data: bytes, *, then: str = "close", idle: float = 5.0) -> AsyncIterator[ApiServer]:
    """A server that answers anything with these bytes, and then closes or stays silent."""

    answers: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
            if then != "close":
                await reader.read()  # until the client goes
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        settings = WatchSettings(connect_timeout_seconds=0.2, response_timeout_seconds=0.3, idle_seconds=idle)
        yield ApiServer(host=host, port=port, settings=settings)
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*(each for each in answers if each is not None))


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + (b"0\r\n\r\n" if end else b"")


async def lines_of(server: ApiServer) -> list[bytes]:
    async with server.lines("/", {}) as lines:
        return [line async for line in lines]


def refused(read: Callable[[ApiServer], Any], data: bytes, *, then: str = "close", idle: float = 5.0) -> ApiServerError:
    """What comes of reading from a server that answers so."""

    async def main() -> ApiServerError:
        async with answering(data, then=then, idle=idle) as server:
            with pytest.raises(ApiServerError) as caught:
                await read(server)
            return caught.value

    return run(main())


async def document(server: ApiServer) -> Any:
    return await server.document("/", {})


def test_a_document_is_read() -> None:
    async def main() -> None:
        async with fake_kube_api() as api:
            api.put(f"{LOBBIES.replace('/lobbies', '')}/namespaces/n/lobbies/a", {"spec": {}})
            server = ApiServer.of_url(api.url)
            read = await server.document(LOBBIES, {"limit": "5", "continue": ""})
            assert [item["metadata"]["name"] for item in read["items"]] == ["a"]
            (asked,) = api.asked
            assert asked.query == {"limit": "5"}
            assert asked.headers["accept"] == "application/json"
            assert "authorization" not in asked.headers

    run(main())


def test_credentials_of_a_pod_are_read_for_each_request(tmp_path: Path) -> None:
    trusted = authority()
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "ca.crt").write_text(trusted.ca_pem)
    tokens: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        tokens.append(request.headers["Authorization"])
        return web.json_response({})

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trusted.server).start()
        where = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(runner.addresses[0][1])}
        server = ApiServer.of_pod(where, folder)
        with pytest.raises(ApiServerError, match="No such file"):
            await document(server)
        for token in ("one", "two\n"):
            await asyncio.to_thread((folder / "token").write_text, token)
            assert await document(server) == {}
        await asyncio.to_thread((folder / "ca.crt").write_text, authority().ca_pem)
        with pytest.raises(ApiServerError, match=r"(?i)certificate"):
            await document(server)
        await runner.cleanup()

    run(main())
    assert tokens == ["Bearer one", "Bearer two"]


def test_a_clusters_own_ca_may_lack_extensions(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(authority().ca_pem)
    (tmp_path / "token").write_text("one")
    where = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": "443"}
    context, _ = ApiServer.of_pod(where, tmp_path)._credentials()
    assert context is not None
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT  # which Python sets by itself since 3.13
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_outside_a_pod_is_a_user_error() -> None:
    with pytest.raises(UserError, match="--directory-from-kubernetes: KUBERNETES_SERVICE_HOST"):
        ApiServer.of_pod({})


@pytest.mark.parametrize(
    "url", ["https://h:1", "h:1", "http://", "http://h/path", "http://me@h", "http://h:x", "http://[::1"]
)
def test_a_url_that_is_not_a_proxy_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"--api-server: .* accepted: http://host:port"):
        ApiServer.of_url(url)


def test_lines_are_read_however_they_are_split() -> None:
    async def main() -> None:
        async with answering(chunked(b'{"a', b'": 1}\n{"b": 2}\n', b"\n", b"{}\nunfinished")) as server:
            assert await lines_of(server) == [b'{"a": 1}', b'{"b": 2}', b"", b"{}"]

    run(main())


def test_an_informational_response_is_skipped() -> None:
    async def main() -> None:
        data = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        async with answering(data) as server:
            assert await document(server) == {}

    run(main())


def test_a_refusal_has_the_servers_explanation() -> None:
    async def main() -> None:
        async with fake_kube_api() as api:
            server = ApiServer.of_url(api.url)
            api.instead = lambda _: status(403, "Forbidden", "lobbies is forbidden")
            with pytest.raises(ApiServerError, match="HTTP 403: lobbies is forbidden") as caught:
                await server.document(LOBBIES, {})
            assert (caught.value.status, caught.value.gone) == (403, False)
            api.instead = lambda _: status(410, "Expired", "too old")
            with pytest.raises(ApiServerError, match="HTTP 410: too old") as caught:
                async with server.lines(LOBBIES, {}):
                    pytest.fail("there are no lines")
            assert caught.value.gone
            api.instead = lambda _: web.Response(status=502, text="<html>")
            with pytest.raises(ApiServerError, match=r"HTTP 502$"):
                await server.document(LOBBIES, {})

    run(main())


@pytest.mark.parametrize(
    ("data", "then", "said"),
    [
        (b"", "close", "closed without a response"),
        (b"SSH-2.0\r\n", "close", "illegal|closed connection"),
        (b"", "silence", "no response"),
        (chunked(b"{", end=False), "close", "incomplete|closed"),
        (chunked(b"{", end=False), "silence", "no response within"),
        (chunked(b"{"), "close", "not JSON"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nshort", "close", "HTTP 500"),
    ],
)
def test_an_unusable_response_is_an_error(data: bytes, then: str, said: str) -> None:
    async def main() -> None:
        async with answering(data, then=then) as server:
            with pytest.raises(ApiServerError, match=said):
                await server.document("/", {})

    run(main())


def test_a_refused_connection_is_an_error() -> None:
    async def main() -> None:
        with pytest.raises(ApiServerError, match=r"127\.0\.0\.1:1/: "):
            await ApiServer(host="127.0.0.1", port=1).document("/", {})

    run(main())


def test_a_silent_watch_is_an_error() -> None:
    error = refused(lines_of, chunked(b"{}\n", end=False), then="silence", idle=0.05)
    assert "no data for 0.05 s" in str(error)


def test_a_watch_that_breaks_off_is_an_error() -> None:
    assert refused(lines_of, chunked(b"{}\n", end=False)).status == 0


def test_an_endless_line_is_an_error() -> None:
    async def main() -> None:
        async with answering(
            chunked(b"x" * (WatchSettings().max_event_bytes + 1), end=False), then="silence"
        ) as server:
            with pytest.raises(ApiServerError, match="longer than"):
                await lines_of(server)

    run(main())


def test_a_watch_that_is_left_in_the_middle_leaves_no_connection() -> None:
    async def main() -> None:
        async with fake_kube_api() as api:
            api.put(f"{LOBBIES.replace('/lobbies', '')}/namespaces/n/lobbies/a", {"spec": {}})
            server = ApiServer.of_url(api.url)
            async with server.lines(LOBBIES, {"watch": "true", "resourceVersion": "0"}) as lines:
                first = json.loads(await anext(lines))
                assert first["type"] == "ADDED"
                assert api.watches == 1
            async with asyncio.timeout(5):
                while api.watches:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    run(main())
