"""How long far clients take to connect, without TLS and with nginx in front.

    python -m tests.benchmarks.far_handshakes URL CLIENTS [CA]

is the program of the clients: they connect at once, and it prints the seconds that each one took. URL has no path; a JSON list of
paths comes from standard input. CA is the file of the authority to trust.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import trustme
from tests.benchmarks import build
from tests.benchmarks.children import child
from tests.benchmarks.contestants import NGINX, PEERS, Contestant, Demand, Serving, until_answered
from tests.benchmarks.far_cells import CLIENTS
from tests.benchmarks.far_results import Handshakes
from tests.benchmarks.line import Delay, line
from tests.benchmarks.machine import LOAD_CORE, SERVER_CORE
from tests.benchmarks.place import Place
from tests.support.processes import free_port
from websockets.asyncio.client import ClientConnection, connect


def measure(contestant: Contestant, rtt_ms: float, *, tls: bool) -> Handshakes:
    """Connects far clients once.

    Raises:
        RuntimeError: a process failed.
    """
    with line(Delay(there_ms=rtt_ms / 2, back_ms=rtt_ms / 2)) as made, contextlib.ExitStack() as stack:
        near = made.near
        options = ("--origin-address", near.address, "--origin-namespace", near.namespace)
        origin = stack.enter_context(child("far", str(build.program("far")), *options, core=LOAD_CORE))
        address = f"{near.address}:{origin.line().split()[1]}"
        serving = stack.enter_context(contestant.serve(address, Demand(CLIENTS, CLIENTS, near)))
        url, authority = f"ws://{serving.address}:{serving.port}", ""
        if tls:
            url, authority = stack.enter_context(tls_front(serving, near))
        module = "tests.benchmarks.far_handshakes"
        command = (sys.executable, "-m", module, url, str(CLIENTS), authority)
        clients = stack.enter_context(child("handshakes", *command, core=LOAD_CORE, place=made.far))
        clients.write(json.dumps(list(serving.paths)))
        found = json.loads(clients.line())
    return Handshakes(server=contestant.name, rtt_ms=rtt_ms, tls=tls, seconds=sorted(found))


@contextlib.contextmanager
def tls_front(serving: Serving, place: Place) -> Iterator[tuple[str, str]]:
    """nginx in front of a server; yields its URL and the file of the authority to trust."""
    with tempfile.TemporaryDirectory() as name:
        folder, port, authority = Path(name), free_port(), trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        authority.issue_cert(place.address).private_key_and_cert_chain_pem.write_to_path(folder / "certificate.pem")
        filled = {
            "folder": name, "address": place.address, "port": port, "server": f"{serving.address}:{serving.port}",
            "user": "user root;" if os.geteuid() == 0 else "",
        }  # fmt: skip
        config = folder / "nginx.conf"
        config.write_text((PEERS / "tls_front.conf").read_text() % filled)
        with child("tls-front", str(NGINX), "-c", str(config), "-e", "stderr", core=SERVER_CORE, place=place):
            until_answered(place, port, "/", host=place.address)  # any answer: it wants TLS
            yield f"wss://{place.address}:{port}", str(folder / "authority.pem")


async def connect_all(url: str, paths: Sequence[str], count: int, authority: str) -> list[float]:
    """Connects clients at once; returns the seconds that each one took."""
    context = ssl.create_default_context(cafile=authority) if authority else None

    async def timed(path: str) -> tuple[float, ClientConnection]:
        begun = time.monotonic()
        made = await connect(url + path, ssl=context, compression=None, proxy=None, open_timeout=30)
        return time.monotonic() - begun, made

    connected = await asyncio.gather(*(timed(paths[each % len(paths)]) for each in range(count)))
    await asyncio.gather(*(made.close() for _, made in connected))
    return [seconds for seconds, _ in connected]


if __name__ == "__main__":
    _url, _count, _authority = (*sys.argv[1:], "")[:3]
    print(json.dumps(asyncio.run(connect_all(_url, json.loads(input()), int(_count), _authority))), flush=True)
