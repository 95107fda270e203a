"""Reads from the Kubernetes API server: a JSON document, or the lines of a watch. h11 speaks the protocol.

Not the Kubernetes client: it is for much more than two kinds of `GET`, and its import alone would double an idle greeter
(docs/architecture.md has the figures). A pod's credentials are files that are replaced while it runs: they are read for each
request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import h11

from lobby_gateway import __version__
from lobby_gateway.errors import LobbyGatewayError, UserError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the certificate of the API server ("Accessing the Kubernetes API from a Pod")."""

MAX_DOCUMENT_BYTES = 64 << 20
MAX_LINE_BYTES = 8 << 20
"""An object in etcd has at most 1.5 MiB, which JSON may make some longer."""

_READ_BYTES = 65536
_GONE = 410


class ApiServerError(LobbyGatewayError):
    """No answer that can be used.

    Attributes:
        status: of HTTP; 0: there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def gone(self) -> bool:
        """The server no longer knows the version, or the part of a list, that was asked for."""
        return self.status == _GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """Where it is, and how it knows us.

    Attributes:
        host: name or address.
        port: TCP port.
        ca_file: certificates that it is verified by; None: no TLS.
        token_file: of our service account; None: none is sent.
        connect_seconds: for connecting, TLS included.
        answer_seconds: for an answer to begin, and for a whole document.
    """

    host: str
    port: int
    ca_file: Path | None = None
    token_file: Path | None = None
    connect_seconds: float = 5.0
    answer_seconds: float = 10.0

    @classmethod
    def of_pod(cls, environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> ApiServer:
        """The one that a pod is told of.

        Args:
            environment: of the process.
            folder: of its service account.

        Raises:
            UserError: this is no pod.
        """
        host, port = (environment.get(f"KUBERNETES_SERVICE_{each}", "") for each in ("HOST", "PORT"))
        if not host or not port.isdigit():
            raise UserError(
                "--directory-from-kubernetes: KUBERNETES_SERVICE_HOST and _PORT are not set; "
                "accepted: in a pod, or together with --api-server"
            )
        return cls(host=host, port=int(port), ca_file=folder / "ca.crt", token_file=folder / "token")

    @classmethod
    def of_url(cls, url: str) -> ApiServer:
        """One without credentials, such as `kubectl proxy` offers it.

        Raises:
            UserError: the URL is no such.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query or parts.username:
            raise UserError(
                f"--api-server: {url[:100]!r} is no such URL; accepted: http://host:port of a kubectl proxy"
            )
        return cls(host=host, port=port or 80)

    async def document(self, path: str, query: Mapping[str, str]) -> Any:  # noqa: ANN401  # any JSON value
        """The JSON at a path.

        Raises:
            ApiServerError: there is none.
        """
        try:
            async with asyncio.timeout(self.answer_seconds + self.connect_seconds), self._opened(path, query) as answer:
                body = bytearray()
                async for data in answer.body():
                    body += data
                    if len(body) > MAX_DOCUMENT_BYTES:
                        raise ApiServerError(f"the answer is longer than {MAX_DOCUMENT_BYTES} bytes")
                return json.loads(body)
        except TimeoutError as error:
            raise ApiServerError(f"no whole answer within {self.answer_seconds:g} s") from error
        except ValueError as error:
            raise ApiServerError("the answer is no JSON") from error

    @contextlib.asynccontextmanager
    async def lines(self, path: str, query: Mapping[str, str], *, idle: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer, as they come, until it ends.

        Args:
            path: to read from.
            query: of it.
            idle: a connection on which nothing comes for so many seconds is lost.

        Raises:
            ApiServerError: there is no such answer, or it breaks off.
        """
        async with self._opened(path, query) as answer:
            yield answer.lines(idle)

    @contextlib.asynccontextmanager
    async def _opened(self, path: str, query: Mapping[str, str]) -> AsyncIterator[_Answer]:
        writer: asyncio.StreamWriter | None = None
        try:
            context, token = await asyncio.to_thread(self._credentials)
            async with asyncio.timeout(self.connect_seconds):
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=context)
            answer = _Answer(reader)
            async with asyncio.timeout(self.answer_seconds):
                await answer.begin(writer, self._request(path, query, token))
            yield answer
        except TimeoutError as error:
            raise ApiServerError(f"{self.host}:{self.port} does not answer") from error
        except OSError as error:  # of TLS, too
            raise ApiServerError(f"{self.host}:{self.port}: {error.strerror or error}") from error
        except h11.RemoteProtocolError as error:
            raise ApiServerError(f"{self.host}:{self.port}: {error}") from error
        finally:
            if writer is not None:
                writer.transport.abort()

    def _credentials(self) -> tuple[ssl.SSLContext | None, str]:
        context = None
        if self.ca_file is not None:
            context = ssl.create_default_context(cafile=self.ca_file)
            # Python 3.13 began to ask for extensions that the own CAs of many clusters lack; Go's clients don't.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        token = self.token_file.read_text(encoding="ascii").strip() if self.token_file is not None else ""
        return context, token

    def _request(self, path: str, query: Mapping[str, str], token: str) -> h11.Request:
        host = f"[{self.host}]" if ":" in self.host else self.host
        headers = [
            ("host", f"{host}:{self.port}"),
            ("user-agent", f"lobby-greeter/{__version__}"),
            ("accept", "application/json"),
            ("connection", "close"),
        ]
        if token:
            headers.append(("authorization", f"Bearer {token}"))
        given = {name: value for name, value in query.items() if value}
        return h11.Request(method="GET", target=f"{path}?{urlencode(given)}", headers=headers)


class _Answer:
    """What comes on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._connection = h11.Connection(h11.CLIENT)

    async def begin(self, writer: asyncio.StreamWriter, request: h11.Request) -> None:
        """Asks, and reads the head of the answer.

        Raises:
            ApiServerError: it is not 200.
        """
        data = self._connection.send(request) or b""
        writer.write(data + (self._connection.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        head = await self._event()
        while isinstance(head, h11.InformationalResponse):
            head = await self._event()
        if not isinstance(head, h11.Response):
            raise h11.RemoteProtocolError("the answer begins without a head")
        if head.status_code != 200:
            raise ApiServerError(_problem(head.status_code, await self._beginning()), head.status_code)

    async def body(self) -> AsyncIterator[bytes]:
        """Its parts, to its end."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise h11.RemoteProtocolError("broken off")

    async def lines(self, idle: float) -> AsyncIterator[bytes]:
        """Its lines, to its end."""
        rest = b""
        while True:
            try:
                async with asyncio.timeout(idle):
                    event = await self._event()
            except TimeoutError as error:
                raise ApiServerError(f"nothing came for {idle:g} s") from error
            if isinstance(event, h11.EndOfMessage):
                return
            if not isinstance(event, h11.Data):
                raise h11.RemoteProtocolError("broken off")
            *lines, rest = (rest + event.data).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > MAX_LINE_BYTES:
                raise ApiServerError(f"a line is longer than {MAX_LINE_BYTES} bytes")

    async def _beginning(self) -> bytes:
        """What a refusal says, as far as it is read."""
        body = b""
        with contextlib.suppress(h11.RemoteProtocolError, OSError):
            async for data in self.body():
                body += data
                if len(body) > _READ_BYTES:
                    break
        return body

    async def _event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        while True:
            event = self._connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self._reader.read(_READ_BYTES)
            if not data and self._connection.their_state is h11.SEND_RESPONSE:
                raise h11.RemoteProtocolError("closed without an answer")
            self._connection.receive_data(data)


def _problem(status: int, body: bytes) -> str:
    """A refusal as the API server explains it (its kind Status), or its number."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = ""
    return f"answer {status}{f': {message[:300]}' if message else ''}"
