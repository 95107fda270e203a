"""Runs an operator and kills it between two of its calls of the API, again and again.

    python -m tests.cluster.support.saboteur --server URL --ca FILE --token TOKEN --calls FILE [--spare] -- COMMAND ...

It is a proxy between the operator and the API server. The first operator is killed when its first write has succeeded, before
it has the answer; the second after its second write, and so on up to `MOST_WRITES`, then from one again. (If all were killed
after their first write, none would get further: each starts by applying what should exist anyway.) Writes of the Lease do not
count: they are mere heartbeats. With `--spare` the operator is never killed. Every call is recorded in the file, one line
each: method, path, status of the answer. All calls use the given token, and so the operator's own rights.

The Lease of a dead operator would take time to expire; it is released at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
import tempfile
from pathlib import Path

import aiohttp
from aiohttp import web

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
LEASES = "/leases"
MOST_WRITES = 6
HOP = {
    "host",
    "connection",
    "transfer-encoding",
    "content-length",
    "authorization",
    "content-encoding",
    "accept-encoding",
}


class Saboteur:
    """The proxy and the operator behind it."""

    def __init__(self, arguments: argparse.Namespace, session: aiohttp.ClientSession) -> None:
        self._server = arguments.server
        self._token = arguments.token
        self._spare = arguments.spare
        self._command = arguments.command
        self._calls = Path(arguments.calls)
        self._session = session
        self._operator: asyncio.subprocess.Process | None = None
        self._leases: set[str] = set()
        self._dead = asyncio.Event()
        self.kills = 0
        self._writes = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forwards a call."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        headers["Authorization"] = f"Bearer {self._token}"
        async with self._session.request(
            request.method, self._server + request.path_qs, headers=headers, data=await request.read() or None
        ) as answer:
            with self._calls.open("a") as calls:
                calls.write(f"{request.method} {request.path_qs} {answer.status}\n")
            if LEASES in request.path:
                self._leases.add(request.path)
            elif request.method in WRITES and answer.status < 300 and not self._spare:
                self._wrote()
            response = web.StreamResponse(status=answer.status)
            response.headers["Content-Type"] = answer.headers.get("Content-Type", "application/json")
            with contextlib.suppress(ConnectionError):  # the caller is dead
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                await response.write_eof()
            return response

    def _wrote(self) -> None:
        self._writes += 1
        if self._writes > self.kills % MOST_WRITES and self._operator is not None and self._operator.returncode is None:
            self._writes = 0
            self.kills += 1
            with contextlib.suppress(ProcessLookupError):
                self._operator.send_signal(signal.SIGKILL)

    async def run(self, kubeconfig: str) -> None:
        """Starts the operator whenever it is dead."""
        while True:
            self._operator = await asyncio.create_subprocess_exec(
                *self._command, env={**os.environ, "KUBECONFIG": kubeconfig}, stdin=asyncio.subprocess.DEVNULL
            )
            code = await self._operator.wait()
            self._writes = 0
            sys.stderr.write(f"saboteur: the operator ended with {code}, kill {self.kills}\n")
            if code != -signal.SIGKILL:
                return
            for lease in self._leases:
                path = lease if lease.rsplit("/", 1)[-1] != "leases" else f"{lease}/lobby-operator"
                headers = {"Authorization": f"Bearer {self._token}"}
                await self._release(path, headers)

    async def _release(self, path: str, headers: dict[str, str]) -> None:
        async with self._session.get(self._server + path, headers=headers) as answer:
            if answer.status != 200:
                return
            lease = await answer.json()
        lease["spec"]["holderIdentity"] = ""
        lease["spec"]["leaseDurationSeconds"] = 1
        async with self._session.put(self._server + path, headers=headers, json=lease):
            pass

    async def end(self) -> None:
        """Ends the operator as the deletion of its pod would."""
        if self._operator is not None and self._operator.returncode is None:
            self._operator.terminate()
            await self._operator.wait()


async def main(arguments: argparse.Namespace) -> None:
    """Runs until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    context = ssl.create_default_context(cafile=arguments.ca)
    if hasattr(ssl, "VERIFY_X509_STRICT"):
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=True,
    ) as session:
        saboteur = Saboteur(arguments, session)
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", saboteur.handle)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as kubeconfig:
            json.dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "it",
                    "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                    "users": [{"name": "it", "user": {}}],
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                },
                kubeconfig,
            )
            kubeconfig.flush()
            running = asyncio.create_task(saboteur.run(kubeconfig.name))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                running.cancel()
                await saboteur.end()
        await runner.cleanup()


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--server", "--ca", "--token", "--calls"):
        parser.add_argument(name, required=True)
    parser.add_argument("--spare", action="store_true")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parse()))
    sys.exit(0)
