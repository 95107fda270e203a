"""`python -m tests.benchmarks.relay`: what it costs to take the stream from another lobby instead of the origin.

Two lobbies of one Lobby, the second with all clients. Measured in turns: its CPU time per delivery with its own connection and
with the stream of the first, the CPU time of the first per message that it relays, and how much later a client of the second
gets a message than one of the first. CPU times are the least of all rounds, ratios those of neighbouring rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

from tests.benchmarks.machine import cpu_seconds
from tests.support.lobby import LobbyProcess, lobby_process, new_key
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_resource
from websockets.asyncio.client import connect

from lobby_gateway.process.peer_list import Peer, PeerList, Version

SETTLE_SECONDS = 3.0


async def arrivals(lobby: LobbyProcess, seconds: float) -> dict[int, float]:
    """When a client of a lobby got each message."""
    found = {}
    async with connect(lobby.client_url(), proxy=None, compression=None) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found[int(json.loads(await client.recv())["seq"])] = time.perf_counter()
    return found


async def measure(given: argparse.Namespace) -> None:
    """Measures and prints."""
    queue = {"messages": 1000, "milliseconds": 10000}
    key = new_key()
    rows: dict[str, list[tuple[float, float]]] = {"own": [], "relayed": []}
    latency: dict[str, list[float]] = {"own": [], "relayed": []}
    async with ticker(rate=given.rate, size=given.size) as origin:
        spec: dict[str, Any] = lobby_resource(
            "a", origin.url, origin_connect="Always", clients_queue=queue, clients_seats=given.clients + 8
        )
        async with (
            lobby_process(spec, number=1, key=key) as first,
            lobby_process(spec, number=2, key=key) as second,
            Swarm(first.client_url) as one,
            Swarm(second.client_url) as many,
        ):
            await one.connect_all(1)
            await many.connect_all(given.clients)
            version = 0
            for number in range(given.rounds):
                for kind in ("own", "relayed") if number % 2 else ("relayed", "own"):
                    version += 1
                    relayed = kind == "relayed"
                    peers = (Peer(name=first.name, address=f"127.0.0.1:{first.port}"),) if relayed else ()
                    await second.tell_peers(PeerList(version=Version(1, version), connect=not relayed, peers=peers))
                    await asyncio.sleep(SETTLE_SECONDS)
                    before = await second.seats()
                    assert bool(before["via"]) is relayed, before
                    used = [cpu_seconds(each.process.pid) for each in (first, second)]
                    await asyncio.sleep(given.seconds)
                    after = await second.seats()
                    spent = [
                        cpu_seconds(each.process.pid) - was for each, was in zip((first, second), used, strict=True)
                    ]
                    rows[kind].append(
                        (
                            1e6 * spent[1] / (after["deliveries"] - before["deliveries"]),
                            1e6 * spent[0] / (after["messages"] - before["messages"]),
                        )
                    )
                    here, there = await asyncio.gather(arrivals(first, 4), arrivals(second, 4))
                    latency[kind] += [there[seq] - here[seq] for seq in here.keys() & there.keys()]
                    print(f"{kind}: {rows[kind][-1][0]:.3f} us per delivery", flush=True)
    ratios = [relayed[0] / own[0] for own, relayed in zip(rows["own"], rows["relayed"], strict=True)]
    for kind, found in rows.items():
        late = sorted(latency[kind])
        print(
            f"{kind}: {min(each[0] for each in found):.3f} us per delivery; the other lobby {min(each[1] for each in found):.1f} us "
            f"per message; {1e3 * statistics.median(late):.3f} ms later than there (p50), {1e3 * late[int(0.99 * len(late))]:.3f} ms (p99)"
        )
    print(
        f"relayed over own, CPU per delivery: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def main() -> None:
    """Measures with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.relay", description=__doc__)
    parser.add_argument("--clients", type=int, default=512, help="clients of the second lobby (%(default)s)")
    parser.add_argument("--rate", type=float, default=200, help="messages per second (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="bytes of a message (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="measured seconds per round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of both (%(default)s)")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
