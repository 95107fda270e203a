"""The one place from which the operator calls the Kubernetes API: objects are JSON, every call has a deadline and is counted.

`kubernetes.aio` brings addresses, credentials and TLS, and makes the requests. Of its generated classes none is used: an
object that the server gave is passed on as it came, with fields that this version of the client may not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

import lobby_gateway
from lobby_gateway.errors import UserError
from lobby_operator.kube.errors import (
    AlreadyExistsError,
    ApiError,
    BusyError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnreachableError,
)
from lobby_operator.kube.resources import Resource

Object = dict[str, Any]
"""An object of the API, as JSON."""

REQUEST_SECONDS = 10.0
"""For one call. The server answers in milliseconds; admission webhooks may take up to 10 s, and ours are not behind any."""

FIELD_MANAGER = "lobby-operator"
"""Under which the server keeps who set which field."""

_NEVER_FIRST = 2
"""The client's own deadline, which can't be left out, is later than ours."""

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML

_ERRORS: Mapping[int, type[ApiError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidError,
    422: InvalidError,
    429: BusyError,
}


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to be made; as a text, what is asked for."""

    verb: str
    method: str
    resource: Resource
    namespace: str
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content: str = _JSON

    @property
    def plural(self) -> str:
        """As in RBAC rules: `lobbies/status`."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    def __str__(self) -> str:
        where = "/".join(each for each in (self.namespace, self.name) if each)
        return f"{self.verb} {self.plural} {where}".rstrip()


class KubeApi:
    """Calls the API.

    Args:
        client: of `kubernetes.aio`; is closed with this.
        timeout: seconds for one call.
        before: is called with verb and resource before each call: where tests end the process.

    Attributes:
        calls: how often, by verb, resource and outcome (`ok`, or the exception's name without `Error`).
        seconds: that they took together, by verb and resource.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        timeout: float = REQUEST_SECONDS,
        before: Callable[[str, Resource], None] | None = None,
    ) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._client: Any = client  # half of its methods have no types
        self._client.user_agent = f"lobby-operator/{lobby_gateway.__version__}"
        self._timeout = timeout
        self._before = before
        self._clock = asyncio.get_running_loop().time

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Reads one object.

        Raises:
            NotFoundError: there is none.
            ApiError: as all of the calls here.
        """
        return await self._call(_Call("get", "GET", resource, namespace, name))

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", limit: int = 0, after: str = ""
    ) -> Object:
        """Reads many objects, of one namespace or of all: `items`, and `metadata` with the `resourceVersion`.

        Args:
            resource: which kind.
            namespace: empty: all.
            labels: only those that this label selector fits.
            limit: so many at a time; the rest comes with `metadata.continue` as `after`. 0: all.
            after: see `limit`.

        Raises:
            GoneError: the first part of the list is too long ago.
        """
        query = {"labelSelector": labels, "limit": str(limit or ""), "continue": after}
        return await self._call(_Call("list", "GET", resource, namespace, query=query))

    @contextlib.asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str, version: str, *, labels: str = "", seconds: float, idle: float
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """The events behind a version, bookmarks among them, until the server ends the watch.

        Args:
            resource: which kind.
            namespace: empty: all.
            version: `resourceVersion` of what is known.
            labels: only those that this label selector fits.
            seconds: how long the server is to go on.
            idle: a connection on which nothing comes for so long is lost.

        Raises:
            GoneError: the server no longer knows that version.
            ApiError: as all of the calls here, when the connection breaks, too.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "labelSelector": labels}
        call = _Call("watch", "GET", resource, namespace, query={**query, "timeoutSeconds": f"{seconds:.0f}"})
        limits = aiohttp.ClientTimeout(total=seconds + idle, sock_connect=self._timeout, sock_read=idle)
        with self._counted(call):
            try:
                response = await self._open(call, limits)
                data = await response.read() if response.status >= 300 else b"{}"
            except (aiohttp.ClientError, OSError) as error:
                raise _no_answer(call, error) from error
            _answer(call, response.status, data, response.headers.get("Retry-After", ""))
        try:
            yield _events(call, response)
        finally:
            response.close()

    async def create(
        self, resource: Resource, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> Object:
        """Makes an object; returns it as it is now.

        Raises:
            AlreadyExistsError: there is one of that name.
            InvalidError: the server refuses it.
        """
        query = {"fieldManager": FIELD_MANAGER, "dryRun": "All" if dry_run else ""}
        return await self._call(_Call("create", "POST", resource, namespace, query=query, body=body))

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        """Merges fields into an object (RFC 7396: null takes a field away, a list takes the place of a list).

        With `metadata.resourceVersion` or `metadata.uid` in `body` only the object that is meant is changed.

        Raises:
            ConflictError: it is another, or was changed in the meantime.
        """
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call(
            _Call("patch", "PATCH", resource, namespace, name, subresource, query, body, _MERGE_PATCH)
        )

    async def apply(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        """Makes an object, or makes it have these fields, and takes away those that an earlier `apply` set and this does not.

        Fields that somebody else set in the meantime are taken back (server-side apply, forced). RBAC: `patch`, and `create`
        where there is no such object yet.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._call(
            _Call("apply", "PATCH", resource, namespace, name, subresource, query, body, _APPLY_PATCH)
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace_seconds: int | None = None
    ) -> Object:
        """Deletes an object; returns before it is gone.

        Args:
            resource: which kind.
            namespace: where it is.
            name: of the object.
            uid: only the object that has it.
            grace_seconds: for a pod to end; None: as it says itself.

        Raises:
            NotFoundError: there is none.
            ConflictError: it has another uid.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        return await self._call(_Call("delete", "DELETE", resource, namespace, name, body=options))

    async def _call(self, call: _Call) -> Object:
        with self._counted(call):
            try:
                async with asyncio.timeout(self._timeout):
                    response = await self._open(call, aiohttp.ClientTimeout(total=_NEVER_FIRST * self._timeout))
                    data: bytes = await response.read()
            except TimeoutError as error:
                raise UnreachableError(str(call), message=f"no answer within {self._timeout:g} s") from error
            except (aiohttp.ClientError, OSError) as error:
                raise _no_answer(call, error) from error
            return _answer(call, response.status, data, response.headers.get("Retry-After", ""))

    @contextlib.contextmanager
    def _counted(self, call: _Call) -> Iterator[None]:
        if self._before is not None:
            self._before(call.verb, call.resource)
        started = self._clock()
        outcome = "Cancelled"
        try:
            yield
            outcome = "ok"
        except ApiError as error:
            outcome = type(error).__name__.removesuffix("Error")
            raise
        finally:
            self.calls[call.verb, call.plural, outcome] += 1
            self.seconds[call.verb, call.plural] += self._clock() - started

    async def _open(self, call: _Call, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        method, url, headers, body, _ = await self._client.param_serialize(
            call.method,
            call.resource.path(call.namespace, call.name, call.subresource),
            query_params=[(name, value) for name, value in call.query.items() if value],
            header_params={"Accept": _JSON, "Content-Type": call.content},
            body=dict(call.body) if call.body is not None else None,
            auth_settings=["BearerToken"],
        )
        response = await self._client.call_api(method, url, headers, body, _request_timeout=limits)
        opened: aiohttp.ClientResponse = response.response
        return opened


async def _events(call: _Call, response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    try:
        while line := await response.content.readline():
            yield json.loads(line)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        problem = str(error) or type(error).__name__
        raise UnreachableError(str(call), message=f"broken off: {problem}") from error


def _no_answer(call: _Call, error: Exception) -> UnreachableError:
    return UnreachableError(str(call), message=f"no answer: {str(error) or type(error).__name__}")


def _answer(call: _Call, status: int, data: bytes, retry_after: str) -> Object:
    try:
        answer = json.loads(data)
    except ValueError as error:
        if status < 300:
            raise UnreachableError(str(call), status=status, message="the answer is no JSON") from error
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if status < 300:
        return answer
    reason = str(answer.get("reason") or "")
    message = str(answer.get("message") or "") or f"answer {status}"
    kind = _ERRORS.get(status, UnreachableError if status >= 500 else ApiError)
    if reason == "AlreadyExists":
        kind = AlreadyExistsError
    failed = kind(str(call), status=status, reason=reason, message=message)
    if isinstance(failed, BusyError) and retry_after.isdigit():
        failed.retry_after = float(retry_after)
    raise failed


async def connect(kubeconfig: str = "", *, before: Callable[[str, Resource], None] | None = None) -> KubeApi:
    """Access to the API: by a kubeconfig file, by the one that `KUBECONFIG` names, or by what a pod is given.

    Args:
        kubeconfig: path of the file; empty: as said.
        before: see `KubeApi`.

    Raises:
        UserError: there is no such file, or it can't be used; or this is no pod.
    """
    settings = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG", "")
    try:
        await _load(path, settings)
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError) as error:
        where = f"KUBECONFIG: {path}" if path else "KUBECONFIG: is not set, and this is no pod"
        problem = " ".join(str(error).split())
        raise UserError(f"{where}: {problem}; accepted: the path of a kubeconfig file") from error
    # What Go's clients verify, no more: certificates of many clusters lack extensions that Python 3.13 began to ask for.
    settings.disable_strict_ssl_verification = True
    return KubeApi(ApiClient(settings), before=before)


async def _load(path: str, settings: Configuration) -> None:
    # Reads and writes files on the loop: at the start of the process, where nothing else runs yet.
    loader: Any = config  # without types
    if path:
        await loader.load_kube_config(config_file=path, client_configuration=settings, persist_config=False)
    else:
        loader.load_incluster_config(client_configuration=settings)
