"""The admin port: small HTTP/1.1 responses for probes, Prometheus, the lobby host and people. h11 speaks the protocol."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lobby_gateway.clients.admission import address_key
from lobby_gateway.http.hosts import host_of, is_rebindable, split_target
from lobby_gateway.process.arguments import cannot_listen
from lobby_gateway.process.bind import bind
from lobby_gateway.settings import AdminSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRequest:
    """A request.

    Attributes:
        method: `GET`, `HEAD` or `POST`.
        path: without the query.
        query: text after `?`, not decoded.
        headers: values by lower-case name.
        body: body, at most `AdminSettings.max_body_bytes`.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminResponse:
    """A response.

    Attributes:
        status: HTTP status code.
        body: body.
        content_type: media type of the body.
        headers: additional headers.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, data: Any, status: int = 200) -> AdminResponse:  # noqa: ANN401  # any JSON value
        """A response with one JSON value."""
        return cls(status=status, body=json.dumps(data).encode() + b"\n", content_type="application/json")

    @classmethod
    def text(cls, text: str, status: int = 200) -> AdminResponse:
        """A response with one line."""
        return cls(status=status, body=text.encode() + b"\n")

    @classmethod
    def unauthorized(cls, text: str) -> AdminResponse:
        """The response to a request without a valid token (RFC 6750 §3)."""
        return cls(status=401, body=text.encode() + b"\n", headers={"www-authenticate": "Bearer"})


Handler = Callable[[AdminRequest], Awaitable[AdminResponse]]
Routes = Mapping[tuple[str, str], Handler]


def metrics_handler(registry: CollectorRegistry, *, large: bool = False) -> Handler:
    """A handler for `/metrics`: what the registry collects now, in the format that the scraper accepts.

    Args:
        registry: the metrics.
        large: there are thousands of samples. Formatting takes ten times as long as collecting, so a thread does it.
    """

    async def metrics(request: AdminRequest) -> AdminResponse:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        if not large:
            return AdminResponse(body=encode(registry), content_type=content_type)
        collected = CollectorRegistry()
        collected.register(_Collected(tuple(registry.collect())))
        return AdminResponse(body=await asyncio.to_thread(encode, collected), content_type=content_type)

    return metrics


class _Collected(Collector):
    """Metrics that have been collected."""

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._metrics = metrics

    def collect(self) -> tuple[Metric, ...]:
        return self._metrics


def health_handlers(ready: Callable[[], str], alive: Callable[[], str] = lambda: "") -> dict[tuple[str, str], Handler]:
    """Handlers for `/healthz` and `/readyz`.

    Args:
        ready: returns why the process is not ready; empty: it is.
        alive: returns why it should be restarted; empty: it should not. A response itself shows that the event loop runs.
    """

    async def healthz(_request: AdminRequest) -> AdminResponse:
        problem = alive()
        return AdminResponse.text(problem or "ok", 503 if problem else 200)

    async def readyz(_request: AdminRequest) -> AdminResponse:
        problem = ready()
        return AdminResponse.text(problem or "ok", 503 if problem else 200)

    return {("GET", "/healthz"): healthz, ("GET", "/readyz"): readyz}


class AdminServer:
    """Serves routes, given as `{(method, path): handler}`; `GET` routes also serve `HEAD`.

    Args:
        routes: what is served.
        settings: limits and timeouts.
        hosts: names under which it may be reached, in addition to those that no web page can have rebound (see `hosts`).
    """

    def __init__(self, routes: Routes, settings: AdminSettings | None = None, *, hosts: Iterable[str] = ()) -> None:
        self._routes = routes
        self._settings = settings or AdminSettings()
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], str] = {}  # the connections, with their peers
        # Those of them that wait for their peer; the one that has waited longest is first.
        self._waiting: dict[asyncio.Task[None], None] = {}

    async def start(self, host: str, port: int) -> int:
        """Starts to listen; returns the port (if `port` is 0, a free one).

        Raises:
            UserError: listening on the address failed.
        """
        try:
            self._server = await asyncio.start_server(
                self._connected, sock=bind(host, port), backlog=self._settings.backlog
            )
        except OSError as error:
            raise cannot_listen(error, host, port, "--admin-port") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stops listening and closes all connections."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a callback of start_server runs in a task
        address = writer.get_extra_info("peername")
        if address is None:  # it was reset before it was accepted
            writer.transport.abort()
            return
        peer = address_key(address[0])
        try:
            if self._make_room(peer):
                self._tasks[task] = peer
                await self._serve(reader, writer, task)
            writer.close()
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                await writer.wait_closed()
        except (ConnectionError, TimeoutError):
            pass  # the peer disconnected, was silent for too long, or does not read the response
        except asyncio.CancelledError:
            pass  # close() closes the connections, and `_make_room` some
        except Exception:  # a bug, as in a handler; asyncio would log it without our formatter
            logger.exception("a connection to the admin port failed", extra={"peer": peer})
        finally:
            self._tasks.pop(task, None)
            self._waiting.pop(task, None)
            writer.transport.abort()  # has no effect on a closed one; discards the unsent rest of a response

    def _make_room(self, peer: str) -> bool:
        """Closes a connection that waits for its peer if there are too many; returns whether there is room for another."""
        if sum(each == peer for each in self._tasks.values()) >= self._settings.max_connections_per_peer:
            waiting = (task for task in self._waiting if self._tasks[task] == peer)
        elif len(self._tasks) >= self._settings.max_connections:
            waiting = (task for task in self._waiting)
        else:
            return True
        evicted = next(waiting, None)
        if evicted is None:
            return False
        del self._tasks[evicted], self._waiting[evicted]
        evicted.cancel()
        return True

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            self._waiting[task] = None
            try:
                async with asyncio.timeout(self._settings.request_timeout_seconds):
                    request = await _read_request(connection, reader, self._settings.max_body_bytes)
            except h11.RemoteProtocolError as error:
                await _write(connection, writer, AdminResponse.text(str(error), error.error_status_hint), head=False)
                return
            if request is None:
                return
            del self._waiting[task]
            response = await self._respond(request)
            self._waiting[task] = None
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                await _write(connection, writer, response, head=request.method == "HEAD")
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
            del self._waiting[task]

    async def _respond(self, request: AdminRequest) -> AdminResponse:
        host = host_of(request.headers.get("host", ""))
        if is_rebindable(host) and host.removesuffix(".") not in self._hosts:
            # A web page that let its name point here would be able to read the response (DNS rebinding).
            return AdminResponse.text(
                f"{host[:100]!a} is not accepted as Host; accepted: IP addresses, localhost, names outside public DNS, and "
                "those of --admin-hosts",
                HTTPStatus.MISDIRECTED_REQUEST,
            )
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._routes.get((method, request.path))
        if handler is None:
            methods = sorted(method for method, path in self._routes if path == request.path)
            if methods:
                return AdminResponse.text(f"{request.path} accepts {', '.join(methods)}", 405)
            paths = ", ".join(sorted({path for _, path in self._routes}))
            return AdminResponse.text(f"{request.path[:100]} is not served here; served: {paths}", 404)
        if request.method == "POST" and "origin" in request.headers:
            # Any page in a browser on this machine could send a POST here; programs send no Origin.
            return AdminResponse.text("POST is not accepted from web pages", 403)
        try:
            return await handler(request)
        except Exception:  # one failed handler must not end the process; it is logged with its traceback
            logger.exception("handling a request failed", extra={"path": request.path})
            return AdminResponse.text("internal error, see the log", 500)


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader, max_body_bytes: int
) -> AdminRequest | None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_body_bytes:
                raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            authority, target = split_target(head.target.decode("latin-1"))
            path, _, query = target.partition("?")
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            if authority:
                headers["host"] = authority
            return AdminRequest(method=head.method.decode(), path=path, query=query, headers=headers, body=body)
        else:
            return None  # the connection was closed, or the client wants to switch protocols


async def _write(
    connection: h11.Connection, writer: asyncio.StreamWriter, response: AdminResponse, *, head: bool
) -> None:
    headers = {
        "content-type": response.content_type,
        "content-length": str(len(response.body)),
        "cache-control": "no-store",
        **response.headers,
    }
    reason = HTTPStatus(response.status).phrase
    data = (
        connection.send(h11.Response(status_code=response.status, reason=reason, headers=list(headers.items()))) or b""
    )
    if not head:
        data += connection.send(h11.Data(data=response.body)) or b""
        data += connection.send(h11.EndOfMessage()) or b""
    writer.write(data)
    await writer.drain()
