"""The I/O of an `http` step: one request on a connection of its own, and its answer. `http_calls.py` decides the rest.

Everything is bounded: the time from the name to the last byte of the answer, and the length of head and body. Redirects are
not followed, and nothing of a broken answer is quoted.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import h11

from lobby_gateway import __version__
from lobby_gateway.http.client import BrokenResponseError, HttpConnection, HttpError, StaleConnectionError
from lobby_gateway.origin.http_calls import HttpAnswer, HttpRequest
from lobby_gateway.settings import OriginSettings, WebSocketClientSettings
from lobby_gateway.websocket.client import connect_tls, dial, dial_through, explain
from lobby_gateway.websocket.client_handshake import ConnectFailedError, retry_after_seconds, without_query
from lobby_gateway.websocket.proxy import Proxy

_WORD = re.compile(r"[A-Za-z0-9.+/-]{1,40}")


async def exchange(
    request: HttpRequest, *, tls: ssl.SSLContext | None, proxy: Proxy | None = None, settings: OriginSettings
) -> HttpAnswer:
    """Makes a call.

    Args:
        request: what to ask.
        tls: for `https://`; None: verifies against the system's certificates.
        proxy: goes through this proxy; None: directly.
        settings: limits.

    Raises:
        HttpError: there is no whole answer. The text is for people and contains neither the URL nor the answer.
    """
    host = urlsplit(request.request.url).hostname or ""
    try:
        async with asyncio.timeout(request.timeout_seconds):
            return await _exchange(request, host, tls, proxy, settings)
    except TimeoutError as error:
        through = "" if proxy is None else f" through {proxy}"
        raise HttpError(f"no answer within {request.timeout_seconds:g} s{through}") from error
    except (OSError, UnicodeError) as error:
        raise HttpError(explain(error, host)) from error
    except ConnectFailedError as error:
        raise HttpError(error.reason) from error
    except StaleConnectionError as error:
        raise HttpError("the connection was closed without an answer") from error
    except BrokenResponseError as error:
        raise HttpError(str(error)) from error
    except h11.RemoteProtocolError:  # its text quotes the answer
        raise HttpError("the answer is not HTTP/1.1") from None
    except h11.LocalProtocolError:  # its text quotes the request
        raise HttpError("the request is not valid in HTTP/1.1") from None


async def _exchange(
    request: HttpRequest, host: str, tls: ssl.SSLContext | None, proxy: Proxy | None, settings: OriginSettings
) -> HttpAnswer:
    url = urlsplit(request.request.url)
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    delay = WebSocketClientSettings().attempt_delay_seconds
    context = await asyncio.to_thread(ssl.create_default_context) if secure and tls is None else tls
    denied = settings.denied_networks
    if proxy is None:
        sock = await dial(host, port, attempt_delay=delay, denied_networks=denied)
    else:
        sock = await dial_through(proxy, host, port, denied_networks=denied)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport: asyncio.Transport
    if secure and context is not None:
        transport = await connect_tls(protocol, sock, context, host)
    else:
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
    try:
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = HttpConnection(reader, writer)
        body = (request.body or "").encode()
        target = url._replace(scheme="", netloc="", path=url.path or "/").geturl()
        await connection.send(request.method, target, _headers(request, url.netloc, body), body)
        head = await connection.head()
        answer = await connection.body(settings.answer_bytes)
    finally:
        transport.abort()
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    retry_after = fields.get("retry-after")
    redirects = 300 <= head.status_code < 400 and "location" in fields
    return HttpAnswer(
        status=head.status_code,
        body=answer,
        retry_after_seconds=None if retry_after is None else retry_after_seconds(retry_after, time.time()),
        location=without_query(fields["location"]) if redirects else "",
        media=_media(fields),
    )


def _media(fields: Mapping[str, str]) -> str:
    """The media type without its parameters, and the content coding (RFC 9110 §8.3, §8.4), if they are plain words."""
    found = (fields.get("content-type", "").partition(";")[0].strip(), fields.get("content-encoding", "").strip())
    return ", ".join(each for each in found if _WORD.fullmatch(each))


def _headers(request: HttpRequest, authority: str, body: bytes) -> list[tuple[bytes, bytes]]:
    """Ours, replaced by those of the request, and then what the exchange itself needs."""
    headers = [
        ("User-Agent", f"lobby-gateway/{__version__}"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
    ]
    given = {name.lower() for name, _ in request.request.headers}
    headers = [each for each in headers if each[0].lower() not in given]
    headers += [*request.request.headers, ("Host", authority), ("Connection", "close")]
    if body or request.method != "GET":
        headers.append(("Content-Length", str(len(body))))
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]
