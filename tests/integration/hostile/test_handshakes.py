"""Malformed requests, whole or in pieces: each gets its status, and other clients are not affected."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import pytest
from tests.support.attack import BOTH_KINDS, BYSTANDERS, Target, attacked
from tests.support.raw_client import RawClient, RawResponse
from tests.support.sockets import run

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
Make = Callable[[Target], bytes]


def with_headers(**headers: str | None) -> Make:
    return lambda target: target.request({name.replace("_", "-"): value for name, value in headers.items()})


def with_line(line: str) -> Make:
    return lambda target: target.request(line=line.replace("PATH", target.path))


def with_more(more: bytes) -> Make:
    return lambda target: target.request(more=more)


def replaced(old: bytes, new: bytes) -> Make:
    return lambda target: target.request().replace(old, new)


CASES: dict[str, tuple[Make, int, str]] = {
    # RFC 9112 §3: the request line
    "HTTP/1.0": (with_line("GET PATH HTTP/1.0"), 426, "upgrade_required"),
    "HTTP/2.0": (with_line("GET PATH HTTP/2.0"), 505, "http_version"),
    "POST": (with_line("POST PATH HTTP/1.1"), 405, "method_not_allowed"),
    "CONNECT": (with_line("CONNECT PATH HTTP/1.1"), 405, "method_not_allowed"),
    "lower-case method": (with_line("get PATH HTTP/1.1"), 405, "method_not_allowed"),
    "no version": (with_line("GET PATH"), 400, "bad_request"),
    "absolute target with a user": (with_line("GET http://me@localhostPATH HTTP/1.1"), 400, "bad_request"),
    "fragment in the target": (with_line("GET PATH#top HTTP/1.1"), 400, "bad_request"),
    "space in the target": (with_line("GET PATH x HTTP/1.1"), 400, "bad_request"),
    "backslash in the target": (with_line("GET \\prices HTTP/1.1"), 400, "bad_request"),
    "two spaces": (with_line("GET  PATH HTTP/1.1"), 400, "bad_request"),
    "a bare line feed in front": (lambda target: b"\n" + target.request(), 400, "bad_request"),
    # RFC 9112 §5, §6: headers, body
    "no Host": (with_headers(Host=None), 400, "bad_request"),
    "two Hosts": (with_more(b"Host: other\r\n"), 400, "bad_request"),
    "Host with a path": (with_headers(Host="localhost/prices"), 400, "bad_request"),
    "folded header": (with_more(b"X-Long: one\r\n two\r\n"), 400, "bad_request"),
    "space before the colon": (replaced(b"Host:", b"Host :"), 400, "bad_request"),
    "header without a colon": (with_more(b"X-Nothing\r\n"), 400, "bad_request"),
    "header without a name": (with_more(b": x\r\n"), 400, "bad_request"),
    "NUL in a header": (with_more(b"X-Nul: a\0b\r\n"), 400, "bad_request"),
    "bare line feed": (replaced(b"\r\nHost", b"\nHost"), 400, "bad_request"),
    "bare carriage return": (with_more(b"X-Cr: a\rb\r\n"), 400, "bad_request"),
    "a body": (with_headers(Content_Length="5"), 400, "bad_request"),
    "chunks": (with_headers(Transfer_Encoding="chunked"), 400, "bad_request"),
    "64 KiB of headers": (with_more(b"X-Long: " + b"x" * 65536 + b"\r\n"), 431, "headers_too_large"),
    "200 headers": (with_more(b"".join(b"X-%d: x\r\n" % n for n in range(200))), 431, "headers_too_large"),
    # RFC 6455 §4.2.1: the upgrade
    "no upgrade": (with_headers(Upgrade=None), 426, "upgrade_required"),
    "another upgrade": (with_headers(Upgrade="h2c"), 426, "upgrade_required"),
    "no connection option": (with_headers(Connection="keep-alive"), 426, "upgrade_required"),
    "version 8": (with_headers(Sec_WebSocket_Version="8"), 426, "wrong_version"),
    "no version header": (with_headers(Sec_WebSocket_Version=None), 426, "wrong_version"),
    "two versions": (with_headers(Sec_WebSocket_Version="13, 8"), 426, "wrong_version"),
    "no key": (with_headers(Sec_WebSocket_Key=None), 400, "bad_request"),
    "short key": (with_headers(Sec_WebSocket_Key="c2hvcnQ="), 400, "bad_request"),
    "key that is no base64": (with_headers(Sec_WebSocket_Key="!" * 24), 400, "bad_request"),
    "two keys": (with_more(f"Sec-WebSocket-Key: {KEY}\r\n".encode()), 400, "bad_request"),
    "empty subprotocol": (with_headers(Sec_WebSocket_Protocol=","), 400, "bad_request"),
    "subprotocol twice": (with_headers(Sec_WebSocket_Protocol="a, a"), 400, "bad_request"),
    # Not HTTP at all
    "HTTP/2 without asking": (lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"),
    "SSH": (lambda _: b"SSH-2.0-OpenSSH_9.2p1\r\n", 400, "bad_request"),
    "a proxy's header": (lambda _: b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 400, "bad_request"),
    "noise": (lambda _: bytes(range(256)) * 8, 400, "bad_request"),
    "zeros": (lambda _: bytes(4096), 400, "bad_request"),
    # The path
    "another path": (lambda target: target.request(line="GET /nowhere HTTP/1.1"), 404, "no_such_path"),
    "the path in other words": (lambda target: target.request(line="GET /%70rices HTTP/1.1"), 404, "no_such_path"),
    "the path with a slash": (lambda target: target.request(line="GET /prices/ HTTP/1.1"), 404, "no_such_path"),
    "dots": (lambda target: target.request(line="GET /x/../prices HTTP/1.1"), 404, "no_such_path"),
    # The Origin of a browser (RFC 6454 §7)
    "another page": (with_headers(Origin="https://evil.example"), 403, "origin_not_allowed"),
    "no page": (with_headers(Origin="null"), 403, "origin_not_allowed"),
    "a page whose name begins alike": (
        with_headers(Origin="https://page.example.evil.example"), 403, "origin_not_allowed",
    ),
    "the page in plain text": (with_headers(Origin="http://page.example"), 403, "origin_not_allowed"),
}  # fmt: skip
ALLOWED = ["https://page.example"]


async def asked(target: Target, pieces: list[bytes]) -> RawResponse:
    async with await target.connect() as client:
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(0)
        return await client.response()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@BOTH_KINDS
def test_each_request_gets_its_status_however_its_bytes_are_split(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, clients_allowedOrigins=ALLOWED) as target:
            wrong = {}
            for name, (make, status, _) in CASES.items():
                data = make(target)
                cuts = [[data], pieces(data, 7 if len(data) < 1000 else 8000), [data[:-1], data[-1:]]]
                answers = await asyncio.gather(*(asked(target, cut) for cut in cuts))
                got = [answer.status for answer in answers]
                if got != [status] * len(cuts):
                    wrong[name] = (status, got)
                for answer in answers:
                    assert answer.headers["connection"].endswith("close")
                    assert answer.body.endswith(b"\n"), "the body explains the error"
                    if status == 426:
                        assert answer.headers["sec-websocket-version"] == "13"
                        assert answer.headers["upgrade"] == "websocket"
            assert not wrong
            for label in {label for _, _, label in CASES.values()}:
                cases = sum(1 for _, _, each in CASES.values() if each == label)
                assert await target.count("refusals_total", reason=label) == 3 * cases, label
            assert await target.count("handshakes_total") >= (BYSTANDERS if kind == "lobby" else 0)

    run(main(), deadline=60)


@BOTH_KINDS
def test_a_valid_request_is_accepted_however_its_bytes_are_split(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, clients_allowedOrigins=ALLOWED) as target:
            for size in (1, 2, 100, 10_000):
                async with await target.connect() as client:
                    for piece in pieces(target.request({"Origin": "https://PAGE.example:443"}), size):
                        await client.send(piece)
                        await asyncio.sleep(0)
                    assert (await client.head()).status == 101
                    frame = await client.frame()
                    assert frame is not None
                    assert b'"seq"' in frame.payload

    run(main(), deadline=60)


@BOTH_KINDS
def test_unusual_but_valid_requests_are_accepted(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            for data in (
                target.request(line=f"GET http://localhost{target.path} HTTP/1.1"),
                target.request(line=f"GET ws://127.0.0.1:8000{target.path} HTTP/1.1"),
                target.request(line=f"GET {target.path}{'&' if '?' in target.path else '?'}x=\\ HTTP/1.1"),
                b"\r\n" + target.request(),
            ):
                async with await target.connect() as client:
                    await client.send(data)
                    assert (await client.head()).status == 101, data

    run(main(), deadline=60)


@BOTH_KINDS
def test_tls_on_the_plain_port_is_answered_and_closed(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl.create_default_context()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                hello = outgoing.read()
            async with await target.connect(hello) as client:
                answer = await client.response()
                assert answer.status == 400
                assert b"does not speak TLS" in answer.body
            with pytest.raises(ssl.SSLError):  # as a real TLS client sees it
                await asyncio.open_connection("127.0.0.1", target.port, ssl=context, server_hostname="localhost")

    run(main(), deadline=60)


@BOTH_KINDS
def test_a_client_that_sends_nothing_or_disconnects_early_is_forgotten(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            request = target.request()
            clients: list[RawClient] = []
            for data in (b"", b"G", request[:60], request[:-1]):
                for leave in (RawClient.close, RawClient.reset):
                    client = await target.connect(data)
                    leave(client)
                clients.append(await target.connect(data))
            for client in clients:
                client.half_close()
                assert (await client.response()).status == 0
                client.close()

    run(main(), deadline=60)
