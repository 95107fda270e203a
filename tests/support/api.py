"""An HTTP server for `http` steps, which can do anything wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that arrived.

    Attributes:
        method: its method.
        target: path and query.
        headers: values by lower-case name.
        body: the body.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
"""The bytes of an answer, after which the connection is closed, or what writes it until the client closes."""


def http_answer(body: object = "", status: int = 200, *headers: tuple[str, str]) -> bytes:
    """An answer; a body that is not text is sent as JSON."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    fields = "".join(f"{name}: {value}\r\n" for name, value in (("Content-Length", len(data)), *headers))
    return f"HTTP/1.1 {status} Told\r\n{fields}\r\n".encode() + data


async def silence(_: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


class FakeApi:
    """A server on a free port of 127.0.0.1.

    Attributes:
        requests: those that arrived.
        answer: gives the answer to a request.
        closed: connections that the client has closed, or that have ended.
    """

    def __init__(
        self, answer: Callable[[ApiRequest], Answer], *, tls: ssl.SSLContext | None = None, name: str = "127.0.0.1"
    ) -> None:
        self.requests: list[ApiRequest] = []
        self.answer = answer
        self.closed = 0
        self._tls = tls
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"{'http' if self._tls is None else 'https'}://{self._name}:{self.port}"

    async def until_requests(self, count: int) -> None:
        """Waits until so many have arrived."""
        await until(lambda: len(self.requests) >= count, deadline=20)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # asyncio logs the cancellation of a connection's task as an error.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self.closed += 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
        request = ApiRequest(method, target, headers, body)
        self.requests.append(request)
        answer = self.answer(request)
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        writing = asyncio.ensure_future(answer(writer))
        ending = asyncio.ensure_future(reader.read())  # until the client closes
        try:
            await asyncio.wait({writing, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            ending.cancel()
            await asyncio.wait({writing, ending})
