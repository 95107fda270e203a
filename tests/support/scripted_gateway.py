"""A server that clients take for a greeter or a lobby: each connection goes as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator, Awaitable, Callable

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

Step = Callable[[ServerConnection], Awaitable[None]] | Response
"""What happens to one connection: it is served, or refused."""


def sends(*messages: str | bytes, close: int = 1012) -> Step:
    """Sends messages, then closes with a code; 0: drops the TCP connection."""

    async def serve_one(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        if close:
            await connection.close(close)
        else:
            connection.transport.abort()

    return serve_one


def refuses(status: int, body: bytes = b"", /, **headers: str) -> Response:
    """An answer other than 101."""
    fields = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    fields["Content-Length"] = str(len(body))
    return Response(status, http.HTTPStatus(status).phrase, fields, body)


class Server:
    """Serves each connection with the next step.

    Attributes:
        asked: the targets of the requests.
        times: when they came.
    """

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []
        self.times: list[float] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Of a Lobby."""
        return f"ws://127.0.0.1:{self.port}/prices"

    def _request(self, _connection: ServerConnection, request: Request) -> Response | None:
        self.asked.append(request.path)
        self.times.append(asyncio.get_running_loop().time())
        step = self.steps[0]
        return self.steps.pop(0) if isinstance(step, Response) else None  # type: ignore[return-value]

    async def _serve(self, connection: ServerConnection) -> None:
        step = self.steps.pop(0)
        assert not isinstance(step, Response)
        await step(connection)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Server]:
        """Serves on a free port."""
        async with serve(self._serve, "127.0.0.1", 0, process_request=self._request) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self
