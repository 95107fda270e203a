"""A small HTTP/1.1 client: how the lobby host reads `/seats` and `/waiting` and asks for a drain. h11 speaks the protocol.

One connection to one address, kept open between requests. Where the peer closed the kept connection in the meantime, a request
is made once more on a new one (RFC 9112, section 9.3.1); so what is asked for with `POST` must bear being asked twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h11

from lobby_gateway.errors import LobbyGatewayError

DEFAULT_TIMEOUT = 1.0
MAX_BODY_BYTES = 4 * 1024 * 1024


class HttpError(LobbyGatewayError):
    """No answer, or none that can be read. The text is one line that names the address."""


class _StaleConnectionError(Exception):
    """The peer closed the kept connection before it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """An answer.

    Attributes:
        status: HTTP status code.
        headers: by lower-case name.
        body: its whole body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401  # any JSON value
        """The body as JSON.

        Raises:
            ValueError: the body is no JSON.
        """
        return json.loads(self.body)


class HttpClient:
    """Requests to one address, one after another.

    Args:
        host: name or address of the peer.
        port: its TCP port.
        timeout: seconds for one request, from connecting to the last byte of the answer.
        max_body_bytes: of an answer; a longer one is an error.
    """

    def __init__(
        self, host: str, port: int, *, timeout: float = DEFAULT_TIMEOUT, max_body_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self.host = host
        self.port = port
        self._timeout = timeout
        self._max_body_bytes = max_body_bytes
        self._lock = asyncio.Lock()
        self._connection: h11.Connection | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> HttpResponse:
        """A `GET` request.

        Raises:
            HttpError: no whole answer came in time.
        """
        return await self._request("GET", path, b"")

    async def post(self, path: str, body: bytes = b"") -> HttpResponse:
        """A `POST` request.

        Raises:
            HttpError: no whole answer came in time.
        """
        return await self._request("POST", path, body)

    def close(self) -> None:
        """Closes the kept connection, at once."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._connection = self._reader = self._writer = None

    async def _request(self, method: str, path: str, body: bytes) -> HttpResponse:
        where = f"{method} http://{self.host}:{self.port}{path}"
        try:
            async with self._lock, asyncio.timeout(self._timeout):
                return await self._try(method, path, body)
        except TimeoutError as error:
            raise HttpError(f"{where}: no answer within {self._timeout:g} s") from error
        except OSError as error:
            raise HttpError(f"{where}: {error.strerror or error}") from error
        except h11.RemoteProtocolError as error:
            raise HttpError(f"{where}: {error}") from error

    async def _try(self, method: str, path: str, body: bytes) -> HttpResponse:
        try:
            if self._writer is not None:
                try:
                    return await self._exchange(method, path, body)
                except _StaleConnectionError:
                    self.close()
            await self._connect()
            try:
                return await self._exchange(method, path, body)
            except _StaleConnectionError as error:
                raise h11.RemoteProtocolError("closed without an answer") from error
        except BaseException:
            # After a failed, timed out or cancelled exchange nobody knows what comes next on the connection.
            self.close()
            raise

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        self._connection = h11.Connection(h11.CLIENT)

    async def _exchange(self, method: str, path: str, body: bytes) -> HttpResponse:
        connection, writer = self._connection, self._writer
        assert connection is not None  # noqa: S101  # _try connects first
        assert writer is not None  # noqa: S101
        headers = [("host", f"{self.host}:{self.port}"), ("accept", "*/*"), ("content-length", str(len(body)))]
        data = connection.send(h11.Request(method=method, target=path, headers=headers)) or b""
        if body:
            data += connection.send(h11.Data(data=body)) or b""
        data += connection.send(h11.EndOfMessage()) or b""
        try:
            writer.write(data)
            await writer.drain()
        except ConnectionError as error:
            raise _StaleConnectionError from error
        response = await self._read(connection)
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        else:
            self.close()
        return response

    async def _read(self, connection: h11.Connection) -> HttpResponse:
        assert self._reader is not None  # noqa: S101  # _try connects first
        head: h11.Response | None = None
        body = bytearray()
        nothing_came = True
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await self._reader.read(65536)
                except ConnectionError as error:
                    if nothing_came:
                        raise _StaleConnectionError from error
                    raise
                if not data and nothing_came:
                    raise _StaleConnectionError
                nothing_came = False
                connection.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._max_body_bytes:
                    raise h11.RemoteProtocolError(f"the answer is longer than {self._max_body_bytes} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
                return HttpResponse(status=head.status_code, headers=headers, body=bytes(body))
            elif not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("closed before the end of the answer")
