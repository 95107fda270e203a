"""A small Kubernetes API server on a real socket, with objects in memory.

Any path is an object or a collection; discovery shows the kinds that kopf watches. It implements the rules that our code
relies on: uids and resourceVersions, 404, both kinds of 409, preconditions, merge patches (RFC 7396), apply as create or
merge, graceful deletion of pods, dry runs, paged lists, lists of metadata, and watches. Validation and admission take a real
cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import itertools
import json
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        method: HTTP method.
        path: without the query.
        query: by name.
        body: parsed from JSON; None: there was none.
        content_type: of the body.
        headers: of the request.
    """

    method: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str
    headers: dict[str, str]


Answer = Callable[[Asked], web.StreamResponse | Awaitable[web.StreamResponse | None] | None]
"""The answer; None: the usual one."""

LOBBY_GROUP = "lobby-gateway.io"

_DISCOVERED = {
    "/api/v1": {"pods": "Pod", "namespaces": "Namespace"},
    f"/apis/{LOBBY_GROUP}/v1alpha1": {"lobbies": "Lobby"},
    "/apis/apiextensions.k8s.io/v1": {"customresourcedefinitions": "CustomResourceDefinition"},
}
"""Kinds by plural name, by path of their group and version."""


class FakeKubeApi:
    """The server.

    Attributes:
        url: its URL.
        objects: all objects, by path.
        asked: all requests so far.
        instead: called for each request, may replace the answer; if it raises, the connection breaks.
        mute: while set, requests get no answer.
        oldest: the oldest version from which a watch may start; an older one gets an event with the code 410.
        watches: number of open watches.
        bookmark_seconds: time between bookmarks of a watch; None: there are none.
        hidden: groups that discovery does not show.
    """

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, Object] = {}
        self.asked: list[Asked] = []
        self.instead: Answer = lambda _asked: None
        self.mute = asyncio.Event()
        self.oldest = 0
        self.watches = 0
        self.bookmark_seconds: float | None = None
        self.hidden: frozenset[str] = frozenset()
        self._versions = itertools.count(1)
        self._version = 0
        self._events: list[Object] = []
        self._waiters: list[asyncio.Event] = []
        self._watch_end = 0
        self._deaf_watches: dict[str, int] = {}  # number of the last watch that is deaf, by a text in its path
        self._watch_numbers = itertools.count(1)
        self._site: web.TCPSite | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port of 127.0.0.1."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await self.listen(0)
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def listen(self, port: int | None = None) -> None:
        """Listens, again on its own port."""
        assert self._runner is not None
        port = int(self.url.rpartition(":")[2]) if port is None else port
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await self._site.start()

    async def refuse(self) -> None:
        """Refuses connections and breaks those that are open, until `listen`."""
        assert self._runner is not None
        assert self._runner.server is not None
        assert self._site is not None
        await self._site.stop()
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        """Stops listening."""
        assert self._runner is not None
        await self._runner.cleanup()

    def write_kubeconfig(self, path: Path, token: str = "secret-of-the-operator") -> str:
        """Writes a kubeconfig for this server; returns its path."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def put(self, path: str, body: Object, *, silent: bool = False) -> Object:
        """Stores an object as if someone had created or changed it; `silent`: no watch tells of it."""
        made = copy.deepcopy(body)
        metadata = made.setdefault("metadata", {})
        metadata["name"] = path.rpartition("/")[2]
        before = self.objects.get(path, {}).get("metadata", {})
        metadata["uid"] = before.get("uid") or metadata.get("uid") or str(uuid.uuid4())
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["creationTimestamp"] = before.get("creationTimestamp") or metadata.get("creationTimestamp") or now
        self._add_event("MODIFIED" if path in self.objects else "ADDED", path, made, silent=silent)
        self.objects[path] = made
        return made

    def remove(self, path: str, *, silent: bool = False) -> None:
        """Removes an object as if someone had deleted it; `silent`: no watch tells of it."""
        self._add_event("DELETED", path, self.objects.pop(path), silent=silent)

    def compact(self) -> None:
        """Forgets all events: a watch can't resume at an earlier version."""
        self.oldest = self._version + 1
        self._version = next(self._versions)

    def deafen(self, path: str = "") -> None:
        """From now on, open watches whose path contains a text tell nothing but bookmarks."""
        self._deaf_watches[path] = next(self._watch_numbers)

    def _is_deaf(self, number: int, path: str) -> bool:
        return any(number <= last and text in path for text, last in self._deaf_watches.items())

    def send_event(self, event: Object) -> None:
        """Sends an event to all open watches."""
        self._events.append({"path": "", "version": -1, "event": event})
        self._wake()

    def end_watches(self) -> None:
        """Ends all watches, as a real server does every few minutes."""
        self._watch_end += 1
        self._wake()

    def _add_event(self, kind: str, path: str, changed: Object, *, silent: bool = False) -> None:
        self._version = next(self._versions)
        changed["metadata"]["resourceVersion"] = str(self._version)
        if silent:
            return
        event = {"type": kind, "object": copy.deepcopy(changed)}
        self._events.append({"path": path, "version": self._version, "event": event})
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    def requests(self, method: str, path: str = "") -> list[Asked]:
        """Requests of a method whose path contains a text."""
        return [asked for asked in self.asked if asked.method == method and path in asked.path]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            json.loads(text) if text else None,
            request.content_type,
            {name.lower(): value for name, value in request.headers.items()},
        )
        self.asked.append(asked)
        if self.mute.is_set():
            await asyncio.Event().wait()
        try:
            answer = self.instead(asked)
            instead = await answer if inspect.isawaitable(answer) else answer
        except Exception:  # whatever it is: break the connection
            assert request.transport is not None
            request.transport.abort()
            raise
        if instead is None and asked.query.get("watch") == "true":
            return await self._watch(request, asked)
        return instead or self._answer(asked)

    async def _watch(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        since = int(asked.query["resourceVersion"])
        if not asked.query.get("timeoutSeconds", "0").isdigit():
            return status(400, "BadRequest", f'strconv.ParseInt: parsing "{asked.query["timeoutSeconds"]}"')
        response = web.StreamResponse()
        await response.prepare(request)
        if since < self.oldest:
            expired = {
                "code": 410,
                "reason": "Expired",
                "message": f"too old resource version: {since} ({self.oldest})",
            }
            await response.write(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
            return response
        news, end, sent, begun = asyncio.Event(), self._watch_end, 0, len(self._events)
        loop, over = asyncio.get_running_loop(), math.inf
        if seconds := int(asked.query.get("timeoutSeconds", "0")):
            over = loop.time() + seconds
        number = next(self._watch_numbers)
        self._waiters.append(news)
        self.watches += 1
        try:
            while end == self._watch_end and loop.time() < over:
                for index, each in enumerate(self._events[sent:], sent):
                    if each["path"]:
                        wanted = each["version"] > since and self._is_in(each["path"], asked.path)
                        wanted = wanted and self._fits(each["event"]["object"], asked)
                    else:
                        wanted = index >= begun
                    if wanted and not self._is_deaf(number, asked.path):
                        await response.write(json.dumps(each["event"]).encode() + b"\n")
                sent = len(self._events)
                until = over if self.bookmark_seconds is None else min(over, loop.time() + self.bookmark_seconds)
                try:
                    async with asyncio.timeout_at(None if until == math.inf else until):
                        await news.wait()
                except TimeoutError:
                    if loop.time() >= over:
                        break
                    bookmark = {"metadata": {"resourceVersion": str(self._version)}}
                    await response.write(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
                news.clear()
        finally:
            self._waiters.remove(news)
            self.watches -= 1
        return response

    @staticmethod
    def _is_in(path: str, collection: str) -> bool:
        """Whether an object is in a collection: of its namespace, or of all."""
        here = path.rpartition("/")[0]
        root, _, namespaced = here.partition("/namespaces/")
        return collection == here or (bool(namespaced) and collection == f"{root}/{namespaced.partition('/')[2]}")

    @staticmethod
    def _fits(item: Object, asked: Asked) -> bool:
        wanted = dict(each.split("=", 1) for each in asked.query.get("labelSelector", "").split(",") if each)
        return bool(wanted.items() <= item.get("metadata", {}).get("labels", {}).items())

    def _answer(self, asked: Asked) -> web.Response:
        path = asked.path.removesuffix("/status")
        there = self.objects.get(path)
        match asked.method:
            case "GET" if (discovered := self._discover(path)) is not None:
                return web.json_response(discovered)
            case "GET" if self.hidden and there is None and path in _DISCOVERED:
                return status(404, "NotFound", "the server could not find the requested resource")
            case "GET" if there is None and path.count("/") % 2 == (1 if path.startswith("/api/") else 0):
                return self._list(path, asked)
            case "POST":
                path = f"{path}/{asked.body['metadata']['name']}"
                if path in self.objects:
                    return status(409, "AlreadyExists", f'"{path.rpartition("/")[2]}" already exists')
                if asked.query.get("dryRun") == "All":
                    return web.json_response(asked.body, status=201)
                return web.json_response(self.put(path, asked.body), status=201)
            case "PATCH" if there is None and asked.content_type == "application/apply-patch+yaml":
                if "uid" in asked.body["metadata"]:
                    return status(409, "Conflict", "uid mismatch: no existing object was found")
                return web.json_response(self.put(path, asked.body), status=201)
            case _ if there is None:
                return status(404, "NotFound", f'"{path.rpartition("/")[2]}" not found')
            case "GET":
                return web.json_response(there)
            case "PUT" | "PATCH":
                return self._change(path, there, asked)
            case "DELETE":
                return self._delete(path, there, asked.body or {})
        return status(405, "MethodNotAllowed", asked.method)

    def _discover(self, path: str) -> Object | None:
        """What discovery says about a path; None: it is none of discovery's, or its group is hidden."""
        groups = [each.split("/")[2:] for each in _DISCOVERED if each.startswith("/apis/")]
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            shown = [(group, version) for group, version in groups if group not in self.hidden]
            versions = {group: {"groupVersion": f"{group}/{version}", "version": version} for group, version in shown}
            return {
                "groups": [
                    {"name": group, "versions": [version], "preferredVersion": version}
                    for group, version in versions.items()
                ]
            }
        if path not in _DISCOVERED or path.split("/")[2] in self.hidden:
            return None
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        return {
            "resources": [
                {
                    "name": plural,
                    "singularName": kind.lower(),
                    "namespaced": plural in {"pods", "lobbies"},
                    "kind": kind,
                }
                | {"verbs": verbs}
                for plural, kind in _DISCOVERED[path].items()
            ]
        }

    def _list(self, path: str, asked: Asked) -> web.Response:
        items = [item for key, item in self.objects.items() if self._is_in(key, path) and self._fits(item, asked)]
        after, limit = int(asked.query.get("continue", 0)), int(asked.query.get("limit", 0)) or len(items)
        metadata = {"resourceVersion": str(self._version)}
        if "as=PartialObjectMetadataList" in asked.headers.get("accept", ""):
            items = [{"metadata": item["metadata"]} for item in items]
            if not items:  # as the real one
                return web.json_response({"items": None, "metadata": metadata})
        if after + limit < len(items):
            metadata["continue"] = str(after + limit)
        return web.json_response({"items": items[after : after + limit], "metadata": metadata})

    def _change(self, path: str, there: Object, asked: Asked) -> web.Response:
        meant = asked.body.get("metadata", {})
        for each in ("resourceVersion", "uid"):
            if each in meant and meant[each] != there["metadata"][each]:
                return status(409, "Conflict", f"the object has been modified: {each}")
        changed = merge(there, asked.body) if asked.method == "PATCH" else asked.body
        return web.json_response(self.put(path, changed))

    def _delete(self, path: str, there: Object, options: Object) -> web.Response:
        uid = options.get("preconditions", {}).get("uid", there["metadata"]["uid"])
        if uid != there["metadata"]["uid"]:
            return status(409, "Conflict", "the UID in the precondition is not the UID in record")
        over = there.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        if "/pods/" not in path or over or options.get("gracePeriodSeconds") == 0:
            self.remove(path)
            return web.json_response({"kind": "Status", "status": "Success"})
        there["metadata"]["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return web.json_response(self.put(path, there))


def status(code: int, reason: str, message: str, **headers: str) -> web.Response:
    """A failure as the API server reports it."""
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(
        body, status=code, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def merge(into: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(into) if isinstance(into, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


@contextlib.asynccontextmanager
async def fake_kube_api() -> AsyncIterator[FakeKubeApi]:
    """Runs the server."""
    api = FakeKubeApi()
    await api.start()
    try:
        yield api
    finally:
        await api.close()
