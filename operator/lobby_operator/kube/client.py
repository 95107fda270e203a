"""The only module that calls the Kubernetes API. Objects are JSON; calls have a deadline, are counted, and raise `ApiError`.

`kubernetes.aio` provides addresses, credentials and TLS, and makes the requests. None of its generated classes is used: an
object is passed on as the server sent it, including fields that this version of the client does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

import lobby_gateway
from lobby_gateway.errors import LobbyGatewayError, UserError
from lobby_operator.kube.names import Object, Resource
from lobby_operator.settings import ApiSettings

FIELD_MANAGER = "lobby-operator"
"""Name under which the server records which fields the operator set."""

_LIBRARY_TIMEOUT = 2
"""Multiple of our deadline: the library needs a timeout, too, which must not expire first."""

_JSON = "application/json"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_VERSION_FIELDS = frozenset({"items", "metadata", "uid", "resourceVersion"})
_MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML


class ApiError(LobbyGatewayError):
    """A failed call. The text is one line for people: the call, and what the server answered.

    Attributes:
        status: HTTP status of the answer; 0: there was none.
        reason: the server's reason, one word such as `NotFound`.
        message: the server's explanation.
    """

    def __init__(self, call: str, *, status: int = 0, reason: str = "", message: str = "") -> None:
        super().__init__(f"{call}: {message or reason or status}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFoundError(ApiError):
    """There is no such object (or no such resource: its definition is not installed)."""


class AlreadyExistsError(ApiError):
    """An object of that name exists."""


class ConflictError(ApiError):
    """The object is not, or is no longer, the one that was meant: its resourceVersion or its uid differs."""


class GoneError(ApiError):
    """The server no longer has that resourceVersion: list again."""


class ForbiddenError(ApiError):
    """Refused by RBAC or by an admission rule (Pod Security, a quota), or the credentials are not accepted."""


class InvalidError(ApiError):
    """The server rejects the object as it is. `message` names the fields."""


class BusyError(ApiError):
    """The server is overloaded, or an eviction is not possible now; a later call may succeed.

    Attributes:
        retry_after: seconds after which to call again; None: the server did not say.
    """

    retry_after: float | None = None


class UnreachableError(ApiError):
    """No answer in time, or the server says that it can't answer now. The call may or may not have been executed."""


class NotHolderError(ApiError):
    """This process does not hold the Lease and may not write. The call was not made."""


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


def versions_of(answer: Mapping[str, Any], call: str) -> tuple[dict[str, str], str]:
    """The `resourceVersion` of each object of a list by uid, and that of the list.

    Args:
        answer: the list.
        call: what was called, for the error.

    Raises:
        UnreachableError: it is not a list.
    """
    try:
        # Of no objects at all, the server writes null.
        each = [item["metadata"] for item in answer["items"] or ()]
        versions = {str(metadata["uid"]): str(metadata["resourceVersion"]) for metadata in each}
        return versions, str(answer["metadata"]["resourceVersion"])
    except (KeyError, TypeError) as error:
        raise UnreachableError(call, message="the answer is not a list") from error


@dataclass(frozen=True, slots=True)
class _Call:
    """A call; its text is verb, resource and object.

    Attributes:
        kept: fields of the answer to keep, on all levels; empty: all. Of the metadata of 2,000 pods, 65 MiB as objects, most
            is `managedFields`.
    """

    verb: str
    method: str
    resource: Resource
    namespace: str
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content: str = _JSON
    accept: str = _JSON
    kept: AbstractSet[str] = frozenset()

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
        client: client of `kubernetes.aio`; `close` closes it, too.
        settings: deadline of a call.
        before: called with verb and resource before each call; may raise. Tests end the process here.

    Attributes:
        calls: number of calls, by verb, resource and outcome (`ok`, or the exception's name without `Error`).
        seconds: their total duration in seconds, by verb and resource.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        settings: ApiSettings | None = None,
        before: Callable[[str, Resource], None] | None = None,
    ) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._client: Any = client  # half of its methods have no types
        self._client.user_agent = f"lobby-operator/{lobby_gateway.__version__}"
        self._timeout = (settings or ApiSettings()).request_seconds
        self._before = before
        self._clock = asyncio.get_running_loop().time

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Reads one object.

        Raises:
            NotFoundError: there is none.
            ApiError: like all calls here.
        """
        return await self._call(_Call("get", "GET", resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        after: str = "",
    ) -> Object:
        """Reads many objects, of one namespace or of all: `items`, and `metadata` with the `resourceVersion`.

        Args:
            resource: their kind.
            namespace: their namespace; empty: all.
            labels: a label selector that they must match.
            fields: a field selector that they must match.
            limit: most objects to return; `metadata.continue` as `after` gives the next ones. 0: all.
            after: see `limit`.

        Raises:
            GoneError: the previous pages are too old; start again.
        """
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(limit or ""), "continue": after}
        return await self._call(_Call("list", "GET", resource, namespace, query=query))

    async def list_versions(
        self, resource: Resource, namespace: str = "", *, labels: str = "", cached: bool = False
    ) -> tuple[dict[str, str], str]:
        """Reads which objects there are: the `resourceVersion` of each by uid, and that of the list.

        Args:
            resource: their kind.
            namespace: their namespace; empty: all.
            labels: a label selector that they must match.
            cached: the server may answer from its cache, which may be a little old; that costs it least.
        """
        query = {"labelSelector": labels, "resourceVersion": "0" if cached else ""}
        call = _Call("list", "GET", resource, namespace, query=query, accept=_METADATA_LIST, kept=_VERSION_FIELDS)
        return versions_of(await self._call(call), str(call))

    @property
    def server(self) -> str:
        """Address of the server."""
        return str(self._client.configuration.host)

    def open_session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """A session with the same credentials, for the running event loop; whoever opens it closes it.

        Args:
            middlewares: called for each request, first to last, after its credentials were added.
        """
        rest = self._client.rest_client
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=rest.ssl_context),
            headers={"User-Agent": self._client.user_agent},
            middlewares=[self._authorized, *middlewares],
            proxy=rest.proxy,
        )

    async def _authorized(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Adds the current credentials: a token in a file is replaced every hour."""
        headers: dict[str, str] = {}
        path, method = request.url.path, request.method
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        request.headers.update(headers)
        return await handler(request)

    def count(self, verb: str, plural: str, status: int, seconds: float) -> None:
        """Counts a call that was made with `open_session`.

        Args:
            verb: as in RBAC rules.
            plural: of the resource.
            status: HTTP status of the answer; 0: there was none.
            seconds: its duration, in seconds; of a watch, until its answer began.
        """
        outcome = "ok" if 0 < status < 300 else _error_type(status).__name__.removesuffix("Error")
        self.calls[verb, plural, outcome] += 1
        self.seconds[verb, plural] += seconds

    async def create(
        self, resource: Resource, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> Object:
        """Creates an object; returns it as the server stored it.

        Raises:
            AlreadyExistsError: there is one of that name.
            InvalidError: the server rejects it.
        """
        query = {"fieldManager": FIELD_MANAGER, "dryRun": "All" if dry_run else ""}
        return await self._call(_Call("create", "POST", resource, namespace, query=query, body=body))

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        """Merges fields into an object (RFC 7396: null removes a field, a list replaces a list).

        `metadata.resourceVersion` or `metadata.uid` in `body` are preconditions.

        Raises:
            ConflictError: a precondition failed.
        """
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call(
            _Call("patch", "PATCH", resource, namespace, name, subresource, query, body, _MERGE_PATCH)
        )

    async def apply(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        """Creates an object, or sets these fields of it and removes those that an earlier `apply` set and this one does not.

        Overwrites fields that someone else set in the meantime (server-side apply, forced). RBAC: `patch`, and `create` where
        the object does not exist.
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
            resource: its kind.
            namespace: its namespace.
            name: its name.
            uid: the uid that it must have; empty: any.
            grace_seconds: seconds for a pod to terminate; None: as its spec says.

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
                    response = await self._open(call, aiohttp.ClientTimeout(total=_LIBRARY_TIMEOUT * self._timeout))
                    data: bytes = await response.read()
            except TimeoutError as error:
                raise UnreachableError(str(call), message=f"no answer within {self._timeout:g} s") from error
            except (aiohttp.ClientError, OSError) as error:
                raise _unanswered(call, error) from error
            return _content(call, response.status, data, response.headers.get("Retry-After", ""))

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
            header_params={"Accept": call.accept, "Content-Type": call.content},
            body=dict(call.body) if call.body is not None else None,
            auth_settings=["BearerToken"],
        )
        response = await self._client.call_api(method, url, headers, body, _request_timeout=limits)
        opened: aiohttp.ClientResponse = response.response
        return opened


def _unanswered(call: _Call, error: Exception) -> UnreachableError:
    return UnreachableError(str(call), message=f"no answer: {str(error) or type(error).__name__}")


def _error_type(status: int) -> type[ApiError]:
    return _ERRORS.get(status, UnreachableError if status >= 500 or not status else ApiError)


def _content(call: _Call, status: int, data: bytes, retry_after: str) -> Object:
    def trimmed(fields: Object) -> Object | None:
        return None if call.kept.isdisjoint(fields) else {name: fields[name] for name in call.kept & fields.keys()}

    try:
        answer = json.loads(data, object_hook=trimmed if call.kept and status < 300 else None)
    except ValueError as invalid:
        if status < 300:
            raise UnreachableError(str(call), status=status, message="the answer is not JSON") from invalid
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if status < 300:
        return answer
    reason = str(answer.get("reason") or "")
    message = str(answer.get("message") or "") or f"answer {status}"
    error_type = _error_type(status)
    if reason == "AlreadyExists":
        error_type = AlreadyExistsError
    error = error_type(str(call), status=status, reason=reason, message=message)
    if isinstance(error, BusyError) and retry_after.isdigit():
        error.retry_after = float(retry_after)
    raise error


async def connect(
    kubeconfig: str = "",
    *,
    settings: ApiSettings | None = None,
    before: Callable[[str, Resource], None] | None = None,
) -> KubeApi:
    """Connects to the API with a kubeconfig file, with the one that `KUBECONFIG` names, or with a pod's service account.

    Args:
        kubeconfig: path of the file; empty: `KUBECONFIG`, then the service account.
        settings: see `KubeApi`.
        before: see `KubeApi`.

    Raises:
        UserError: the file does not exist or can't be used; or there is neither a file nor a service account.
    """
    # Otherwise aiohttp reads ~/.netrc in a thread for each call. Proxies of the environment are none of ours: kopf's session
    # does without them, too; one in the kubeconfig counts.
    configuration = Configuration(client_session_kwargs={"trust_env": False})
    path = kubeconfig or os.environ.get("KUBECONFIG", "")
    try:
        await _load(path, configuration)
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError) as error:
        where = f"KUBECONFIG: {path}" if path else "KUBECONFIG: is not set, and this is not a pod"
        problem = " ".join(str(error).split())
        raise UserError(f"{where}: {problem}; accepted: the path of a kubeconfig file") from error
    # Verify no more than Go's clients do: certificates of many clusters lack extensions that Python 3.13 requires.
    configuration.disable_strict_ssl_verification = True
    return KubeApi(ApiClient(configuration), settings=settings, before=before)


async def _load(path: str, configuration: Configuration) -> None:
    # Blocks the event loop with file I/O, but only when the process starts and nothing else runs yet.
    loader: Any = config  # it has no types
    if path:
        await loader.load_kube_config(config_file=path, client_configuration=configuration, persist_config=False)
    else:
        loader.load_incluster_config(client_configuration=configuration)
