"""A small HTTP/1.1 client: whole responses on a persistent connection, or a response line by line. h11 speaks the protocol.

The lobby host polls lobbies and greeters with it, and a greeter watches the API server. If the peer has closed the persistent
connection in the meantime, the request is retried once on a new one (RFC 9112 §9.3.1), so every `POST` must be idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h11

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.settings import HttpClientSettings


class HttpError(LobbyGatewayError):
    """A request failed. The text is one line with the address and the problem."""


class StaleConnectionError(Exception):
    """The peer closed the connection before it responded."""


class BrokenResponseError(h11.RemoteProtocolError):
    """A response is incomplete or too long. The text quotes nothing of it, as h11's own do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole response.

    Attributes:
        status: HTTP status code.
        headers: values by lower-case name.
        body: the whole body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401  # any JSON value
        """The body as JSON.

        Raises:
            ValueError: the body is not JSON.
        """
        return json.loads(self.body)


class HttpStream:
    """A response whose body is read as it arrives, made by `HttpClient.stream`.

    Attributes:
        status: HTTP status code.
    """

    def __init__(
        self,
        connection: HttpConnection,
        status: int,
        *,
        where: str,
        deadline: float,
        timeout: float,
        max_line_bytes: int,
    ) -> None:
        self.status = status
        self._connection = connection
        self._where = where
        self._deadline = deadline
        self._timeout = timeout
        self._max_line_bytes = max_line_bytes

    async def read(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            HttpError: it does not arrive within the client's timeout, breaks off, or is longer than `max_bytes`.
        """
        with _http_errors(self._where, self._timeout):
            async with asyncio.timeout_at(self._deadline):
                return await self._connection.body(max_bytes)

    async def lines(self, idle_timeout: float) -> AsyncIterator[bytes]:
        """The lines of the body as they arrive, without line ends; an incomplete last line is dropped.

        Args:
            idle_timeout: give up if nothing arrives for this many seconds.

        Raises:
            HttpError: nothing arrived for that long, the body breaks off, or a line is too long.
        """
        rest = b""
        while True:
            try:
                with _http_errors(self._where, self._timeout):
                    async with asyncio.timeout(idle_timeout) as idle:
                        data = await self._connection.data()
            except HttpError as error:
                if idle.expired():
                    raise HttpError(f"{self._where}: no data for {idle_timeout:g} s") from error
                raise
            if data is None:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > self._max_line_bytes:
                raise HttpError(f"{self._where}: a line is longer than {self._max_line_bytes} bytes")


class HttpClient:
    """Requests to one address, one after another.

    Args:
        host: name or address of the peer.
        port: its TCP port.
        timeout: most seconds for a request, from connecting to the last byte of the response (for `stream`: of its head).
        tls: TLS settings; None: no TLS.
        headers: headers of every request, in addition to Host and Content-Length.
        settings: see `HttpClientSettings`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        settings: HttpClientSettings | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._timeout = timeout
        self._tls = tls
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._headers = [("host", self._authority), *({"accept": "*/*"} if headers is None else headers).items()]
        self._settings = settings or HttpClientSettings()
        self._lock = asyncio.Lock()
        self._persistent: HttpConnection | None = None

    async def get(self, target: str) -> HttpResponse:
        """Sends a `GET` request for a path, with a query if there is one.

        Raises:
            HttpError: no whole response arrived in time.
        """
        return await self._request("GET", target, b"")

    async def post(self, target: str, body: bytes = b"") -> HttpResponse:
        """Sends a `POST` request.

        Raises:
            HttpError: no whole response arrived in time.
        """
        return await self._request("POST", target, body)

    @contextlib.asynccontextmanager
    async def stream(self, target: str) -> AsyncIterator[HttpStream]:
        """Sends a `GET` request on a separate connection, which is closed at the end of the `async with` block.

        Raises:
            HttpError: no head of a response arrived in time.
        """
        where = self._where("GET", target)
        deadline = asyncio.get_running_loop().time() + self._timeout
        connection: HttpConnection | None = None
        try:
            with _http_errors(where, self._timeout):
                async with asyncio.timeout_at(deadline):
                    connection = await self._connect()
                    await connection.send("GET", target, self._headers)
                    head = await connection.head()
            yield HttpStream(
                connection,
                head.status_code,
                where=where,
                deadline=deadline,
                timeout=self._timeout,
                max_line_bytes=self._settings.max_line_bytes,
            )
        finally:
            if connection is not None:
                connection.abort()

    def close(self) -> None:
        """Closes the persistent connection at once."""
        if self._persistent is not None:
            self._persistent.abort()
            self._persistent = None

    def _where(self, method: str, target: str) -> str:
        return f"{method} {'http' if self._tls is None else 'https'}://{self._authority}{target.partition('?')[0]}"

    async def _request(self, method: str, target: str, body: bytes) -> HttpResponse:
        with _http_errors(self._where(method, target), self._timeout):
            async with self._lock, asyncio.timeout(self._timeout):
                try:
                    if self._persistent is not None:
                        with contextlib.suppress(StaleConnectionError):
                            return await self._exchange(self._persistent, method, target, body)
                        self.close()
                    self._persistent = await self._connect()
                    return await self._exchange(self._persistent, method, target, body)
                except BaseException:
                    # After a failed, timed out or cancelled exchange, the state of the connection is unknown.
                    self.close()
                    raise

    async def _connect(self) -> HttpConnection:
        async with asyncio.timeout(self._settings.connect_timeout_seconds):
            name = None if self._tls is None else self.host.removesuffix(".")  # RFC 6066 §3
            opened = await asyncio.open_connection(self.host, self.port, ssl=self._tls, server_hostname=name)
            return HttpConnection(*opened)

    async def _exchange(self, connection: HttpConnection, method: str, target: str, body: bytes) -> HttpResponse:
        headers = [*self._headers, ("content-length", str(len(body)))]
        await connection.send(method, target, headers, body)
        head = await connection.head()
        whole = await connection.body(self._settings.max_body_bytes)
        if not connection.reusable():
            self.close()
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return HttpResponse(status=head.status_code, headers=fields, body=whole)


class HttpConnection:
    """A TCP connection and the state of HTTP on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._responding = False  # the response has begun to arrive

    async def send(
        self, method: str, target: str, headers: list[tuple[str, str]] | list[tuple[bytes, bytes]], body: bytes = b""
    ) -> None:
        """Sends a request."""
        self._responding = False
        data = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as error:
            raise StaleConnectionError from error

    async def head(self) -> h11.Response:
        """The head of the response; interim ones (RFC 9110 §15.2) are skipped."""
        event = await self._event()
        while isinstance(event, h11.InformationalResponse):
            event = await self._event()
        if not isinstance(event, h11.Response):
            raise BrokenResponseError("closed before the end of the response")
        return event

    async def body(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            BrokenResponseError: it breaks off, or is longer than `max_bytes`.
        """
        body = bytearray()
        while (data := await self.data()) is not None:
            body += data
            if len(body) > max_bytes:
                raise BrokenResponseError(f"the response is longer than {max_bytes} bytes")
        return bytes(body)

    async def data(self) -> bytes | None:
        """The next bytes of the body; None at its end."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise BrokenResponseError("closed before the end of the response")

    def reusable(self) -> bool:
        """Prepares for another request; returns False if the peer does not allow one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def abort(self) -> None:
        """Closes the connection at once."""
        self._writer.transport.abort()

    async def _event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = await self._reader.read(65536)
            except ConnectionError as error:
                if not self._responding:
                    raise StaleConnectionError from error
                raise
            if not data and not self._responding:
                raise StaleConnectionError
            self._responding = True
            self._http.receive_data(data)
        return event


@contextlib.contextmanager
def _http_errors(where: str, timeout: float) -> Iterator[None]:
    """Turns every error of a request into an `HttpError`."""
    try:
        yield
    except TimeoutError as error:
        raise HttpError(f"{where}: no response within {timeout:g} s") from error
    except OSError as error:  # includes errors of TLS
        raise HttpError(f"{where}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise HttpError(f"{where}: the host is not a DNS name") from error
    except h11.RemoteProtocolError as error:
        raise HttpError(f"{where}: {error}") from error
    except StaleConnectionError as error:
        raise HttpError(f"{where}: closed without a response") from error
