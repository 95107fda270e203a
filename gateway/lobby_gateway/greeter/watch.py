"""The directory from Kubernetes: every Lobby of one namespace, or of all, by list and watch.

Whatever goes wrong, the directory keeps what it knows: a Lobby is removed only when the API server says that it is gone. A
watch that ends, breaks or falls silent resumes at the last version; if the server no longer has that version, everything is
listed again (`resource/list_watch.py`).

This does not use the Kubernetes client, which is made for much more than two kinds of `GET`: its import alone would double
the memory of an idle greeter (docs/architecture.md has the figures).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from lobby_gateway import __version__
from lobby_gateway.errors import LobbyGatewayError, UserError
from lobby_gateway.greeter.directory import Directory
from lobby_gateway.http.client import HttpClient, HttpError, HttpStream
from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.resource.list_watch import Change, ListWatch, WatchEndedError
from lobby_gateway.settings import HttpClientSettings, WatchSettings

logger = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the certificate of the API server ("Accessing the Kubernetes API from a Pod")."""

_ROOT = "/apis/lobby-gateway.io/v1alpha1"
_GONE = 410
_MAX_STATUS_BYTES = 65536  # of an error's body: the kind Status takes a few hundred
_INVALID_EVENT = (KeyError, TypeError, AttributeError, ValueError)


class ApiServerError(LobbyGatewayError):
    """There is no usable response.

    Attributes:
        status: HTTP status; 0: there was no response.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def gone(self) -> bool:
        """The server no longer has the version, or the page of a list, that was requested."""
        return self.status == _GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """The Kubernetes API server: where it is, and how we authenticate.

    A pod's credentials are files that are replaced while it runs, so they are read for each request.

    Attributes:
        host: name or address.
        port: TCP port.
        ca_file: CA certificates to verify it with; None: no TLS.
        token_file: token of our service account; None: no token is sent.
        settings: timeouts and limits.
    """

    host: str
    port: int
    ca_file: Path | None = None
    token_file: Path | None = None
    settings: WatchSettings = field(default_factory=WatchSettings)

    @classmethod
    def of_pod(cls, environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> ApiServer:
        """The API server of the cluster that this pod runs in.

        Args:
            environment: environment of the process.
            folder: folder of its service account.

        Raises:
            UserError: this is not a pod.
        """
        host, port = (environment.get(f"KUBERNETES_SERVICE_{each}", "") for each in ("HOST", "PORT"))
        if not host or not port.isdigit():
            raise UserError(
                "--directory-from-kubernetes: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
                "accepted: in a pod, or together with --api-server"
            )
        return cls(host=host, port=int(port), ca_file=folder / "ca.crt", token_file=folder / "token")

    @classmethod
    def of_url(cls, url: str) -> ApiServer:
        """An API server without credentials, such as `kubectl proxy`.

        Raises:
            UserError: the URL is not one of those.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query or parts.username:
            raise UserError(
                f"--api-server: {url[:100]!r} is not the URL of a proxy; accepted: http://host:port of a kubectl proxy"
            )
        return cls(host=host, port=port or 80)

    async def document(self, path: str, query: Mapping[str, str]) -> Any:  # noqa: ANN401  # any JSON value
        """The JSON at a path.

        Raises:
            ApiServerError: there is none.
        """
        async with self._response(path, query) as response:
            body = await response.read(self.settings.max_list_bytes)
        try:
            return json.loads(body)
        except ValueError as error:
            raise ApiServerError("the response is not JSON") from error

    @contextlib.asynccontextmanager
    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a response as they arrive, until it ends.

        Raises:
            ApiServerError: there is no such response, or it breaks off.
        """
        async with self._response(path, query) as response:
            yield response.lines(self.settings.idle_seconds)

    @contextlib.asynccontextmanager
    async def _response(self, path: str, query: Mapping[str, str]) -> AsyncIterator[HttpStream]:
        settings = self.settings
        try:
            tls, headers = await asyncio.to_thread(self._credentials)
        except OSError as error:
            raise ApiServerError(f"the credentials of this pod can't be read: {error}") from error
        client = HttpClient(
            self.host,
            self.port,
            timeout=settings.connect_timeout_seconds + settings.response_timeout_seconds,
            tls=tls,
            headers=headers,
            settings=HttpClientSettings(
                connect_timeout_seconds=settings.connect_timeout_seconds, max_line_bytes=settings.max_event_bytes
            ),
        )
        parameters = urlencode({name: value for name, value in query.items() if value})
        try:
            async with client.stream(f"{path}?{parameters}") as response:
                if response.status != 200:
                    raise ApiServerError(await _problem(response), response.status)
                yield response
        except HttpError as error:
            raise ApiServerError(str(error)) from error

    def _credentials(self) -> tuple[ssl.SSLContext | None, dict[str, str]]:
        context = None
        if self.ca_file is not None:
            context = ssl.create_default_context(cafile=self.ca_file)
            # Python 3.13 requires extensions that the CAs of many clusters lack; Go's clients don't.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        headers = {"user-agent": f"lobby-greeter/{__version__}", "accept": "application/json", "connection": "close"}
        token = self.token_file.read_text(encoding="ascii").strip() if self.token_file is not None else ""
        if token:
            headers["authorization"] = f"Bearer {token}"
        return context, headers


async def _problem(response: HttpStream) -> str:
    """A refusal as the API server explains it (its kind Status), or its status code."""
    try:
        message = str(json.loads(await response.read(_MAX_STATUS_BYTES))["message"])
    except (HttpError, ValueError, KeyError, TypeError):
        message = ""
    return f"HTTP {response.status}{f': {message[:300]}' if message else ''}"


class KubernetesSource:
    """Feeds a directory from the API server (`DirectorySource`).

    Args:
        server: the API server.
        namespace: namespace of the Lobbies; empty: all namespaces.
    """

    def __init__(self, server: ApiServer, namespace: str = "") -> None:
        self._server = server
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        self._path = f"{_ROOT}{scope}/lobbies"
        self._settings = server.settings
        self._objects = ListWatch()
        self._failures = RepeatedFailures(time.monotonic)
        self._task: asyncio.Task[None] | None = None

    async def start(self, directory: Directory, ended: Callable[[str], None]) -> None:
        """Begins to watch; returns once the first list has arrived, or after `start_seconds`."""
        listed = asyncio.Event()

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.critical("the watch of Lobbies failed", exc_info=error)
                ended("the watch of Lobbies failed")

        self._task = asyncio.create_task(self._run(directory, listed), name="watch Lobbies")
        self._task.add_done_callback(done)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.start_seconds):
                await listed.wait()

    async def close(self) -> None:
        """Stops watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, directory: Directory, listed: asyncio.Event) -> None:
        settings = self._settings
        backoff = Backoff(base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds, fraction=random.random)
        while True:
            tried_at = time.monotonic()
            try:
                if not self._objects.version:
                    await self._list(directory)
                    listed.set()
                async with contextlib.aclosing(self._events(directory)) as events:
                    async for event in events:
                        for change in self._objects.event(event):
                            _apply(directory, change)
                        backoff.reset()
            except ApiServerError as error:
                if error.gone:
                    self._expired(error)
                else:
                    self._failed(directory, str(error))
            except WatchEndedError as error:
                if self._objects.version:
                    self._failed(directory, str(error))
                else:
                    self._expired(error)
            except _INVALID_EVENT as error:
                self._objects.expired()
                self._failed(directory, f"the API server sent an invalid event: {error!r}"[:200])
            else:
                backoff.reset()
                # A server that ends each watch at once must not be asked again without a pause.
                await asyncio.sleep(settings.min_backoff_seconds * random.random())  # noqa: S311  # no secret
                continue
            if time.monotonic() - tried_at > settings.max_backoff_seconds:
                backoff.reset()  # it went well for a while
            await asyncio.sleep(backoff.next())

    def _expired(self, error: Exception) -> None:
        self._objects.expired()
        logger.info("Lobbies are listed again", extra={"reason": str(error)})

    async def _list(self, directory: Directory) -> None:
        items: list[Mapping[str, Any]] = []
        token = ""
        while True:
            query = {"limit": str(self._settings.page), "continue": token}
            page = await self._server.document(self._path, query)
            items += map(_relevant_part, page["items"])
            token = page["metadata"].get("continue") or ""
            if not token:
                break
        self._recovered(directory)
        for change in self._objects.listed(items, page["metadata"]["resourceVersion"]):
            _apply(directory, change)
        directory.known = True

    async def _events(self, directory: Directory) -> AsyncGenerator[Mapping[str, Any], None]:
        seconds = self._settings.watch_seconds * (1 - 0.1 * random.random())  # noqa: S311  # no secret
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._objects.version,
            "timeoutSeconds": f"{seconds:.0f}",
        }
        # The server ends the watch in time; `idle_seconds` is for one that keeps the connection and forgets to.
        async with self._server.lines(self._path, query) as lines:
            self._recovered(directory)
            async for line in lines:
                if line.strip():
                    yield json.loads(line)

    def _recovered(self, directory: Directory) -> None:
        directory.problem = ""
        if (told := self._failures.worked()) is not None:
            logger.info("the API server responds again", extra=told)

    def _failed(self, directory: Directory, problem: str) -> None:
        directory.problem = problem
        if (told := self._failures.failed(problem)) is not None:
            logger.warning("Lobbies can't be watched: the known ones stay as they are", extra=told)


_METADATA = frozenset(
    {"name", "namespace", "uid", "generation", "creationTimestamp", "deletionTimestamp", "resourceVersion"}
)


def _relevant_part(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a Lobby that is kept, and what distinguishes one version from another."""
    metadata = {name: value for name, value in item["metadata"].items() if name in _METADATA}
    return {"metadata": metadata, "spec": item.get("spec"), "status": item.get("status") or {}}


def _apply(directory: Directory, change: Change) -> None:
    # A Lobby that is being deleted gives up its path at once: the lobby host sees it the same way.
    if change.object is None or change.object["metadata"].get("deletionTimestamp"):
        directory.remove(change.key)
    else:
        directory.put(_relevant_part(change.object))
