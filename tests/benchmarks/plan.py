"""What is measured: in each section, contestants take turns at the same cases.

Contestants alternate within a round, so a machine that slows down does so for all of them, and only results of the same round are
compared. Figures are medians over the rounds.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.benchmarks import contestants as who
from tests.benchmarks.build import CACHE
from tests.benchmarks.contestants import Contestant, Gateway
from tests.benchmarks.load import Case
from tests.benchmarks.machine import SERVER_CORE

CLIENTS: Final = 512
IDLE_CLIENTS: Final = 5000
SIZES: Final = {"64 B": 64, "1 KiB": 1024, "16 KiB": 16384}
GROWTH: Final = (64, 512, 2048, 8192)
SMALL_CLIENTS: Final = 30
RATE: Final = 10
"""Messages per second for everything priced."""
BURST_BYTES: Final = 30_000  # fits every client's TCP window, so the C loop, which discards the rest, keeps up

C_LOOP: Final = who.C_LOOP
DIRECT: Final = who.DIRECT
PROXIED: Final = who.PROXIED
TWO_GREETERS: Final = Contestant("Lobby Gateway, two greeters", Gateway(greeters=2).serve)
ON_ONE_CORE: Final = Contestant(
    "Lobby Gateway, proxied, all on one core", Gateway(greeters=1, lobby_core=SERVER_CORE).serve
)
SHARED: Final = Contestant("Lobby Gateway, Shared", Gateway(clients_spec={"compression": "Shared"}).serve)
WEBSOCKETS_DEFLATE: Final = Contestant(
    "websockets.broadcast, permessage-deflate",
    lambda origin, demand: who.websockets_broadcast(origin, demand, "deflate"),
)
WS_DEFLATE: Final = Contestant(
    "npm ws, permessage-deflate", lambda origin, demand: who.npm_ws(origin, demand, "deflate"), who.WS.missing
)
DEBIANS: Final = Path("/usr/bin/python3")


def debians_python() -> list[Contestant]:
    """The lobby run by Debian's interpreter, if there is one that can use the packages of this environment."""
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if DEBIANS.resolve().name != minor or DEBIANS.resolve() == Path(sys.executable).resolve():
        return []
    interpreter = who.other_interpreter(str(DEBIANS), f"Debian's {minor}")
    return [Contestant(f"Lobby Gateway, direct, {interpreter.name}", Gateway(interpreter=interpreter).serve)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Cases that belong together.

    Attributes:
        name: short, for the record.
        cases: by name.
        turns: who takes part, and in how many rounds.
    """

    name: str
    cases: Mapping[str, Case]
    turns: Sequence[tuple[Contestant, int]]


def sections(rounds: int, seconds: float) -> list[Section]:
    """Everything, in the order of measurement.

    Args:
        rounds: for close comparisons; peers take part in a quarter of them.
        seconds: measured in a throughput run; the others derive from it.
    """
    few, some = max(1, rounds // 4), max(1, rounds // 2)
    ours = [(C_LOOP, rounds), (DIRECT, rounds), (PROXIED, rounds)]
    in_python = [(who.DIRECT_IN_PYTHON, few), *((each, few) for each in debians_python())]
    peers = [(peer, few) for peer in who.PEERS_ALL]
    one = Case(mode="one", value=1.5, seconds=seconds, warm_up=seconds / 4)
    rate = Case(mode="rate", value=100, seconds=2 * seconds, warm_up=seconds / 2)
    slow = replace(rate, value=RATE)
    half = CLIENTS // 2
    # Hundreds of messages, because p99 is one in a hundred.
    beside = replace(rate, value=50, size=16384, seconds=8 * seconds)
    return [
        Section(
            name="throughput",
            cases={
                **{name: replace(one, size=size) for name, size in SIZES.items()},
                "bursts of 64 B": replace(one, mode="burst", value=BURST_BYTES),
            },
            turns=[*ours, *in_python, *peers],
        ),
        Section(
            name="in turn",
            cases={name: replace(one, value=1, size=size) for name, size in SIZES.items()},
            turns=ours,
        ),
        Section(name="latency", cases={"100/s": rate}, turns=[*ours, *peers]),
        Section(
            name="sleeping",
            cases={
                "100/s": replace(rate, sleep=True, seconds=4 * seconds, warm_up=3 * seconds),
                "joined": replace(rate, sleep=True, seconds=3 * seconds, warm_up=0),
            },
            turns=[(C_LOOP, some), (ON_ONE_CORE, some), (DIRECT, some)],
        ),
        Section(
            name="stalled",
            cases={
                "none": replace(beside, clients=half),
                "256": replace(beside, stalled=half),
            },
            turns=[(C_LOOP, some), (DIRECT, some), (PROXIED, some)],
        ),
        Section(
            name="handshakes",
            cases={"64 at once": Case(mode="shake", value=64, seconds=seconds, warm_up=seconds / 4)},
            turns=[(C_LOOP, few), (DIRECT, rounds), (PROXIED, rounds), *peers],
        ),
        Section(
            name="idle",
            cases={"5,000": Case(mode="idle", clients=IDLE_CLIENTS, seconds=1.0)},
            turns=[(PROXIED, 1), (C_LOOP, 1), *((peer, 1) for peer in who.PEERS_ALL)],
        ),
        Section(name="idle lobby", cases={"512": Case(mode="idle", seconds=1.0)}, turns=[(DIRECT, 1)]),
        Section(
            name="growth",
            cases={f"{count:,}": replace(one, clients=count) for count in GROWTH},
            turns=[(PROXIED, few), (C_LOOP, few)],
        ),
        Section(
            name="growth of latency",
            cases={f"{count:,}": replace(slow, clients=count) for count in GROWTH},
            turns=[(PROXIED, few), (C_LOOP, few)],
        ),
        Section(name="two greeters", cases={"2,048": replace(one, clients=2048)}, turns=[(TWO_GREETERS, few)]),
        Section(
            name="compression",
            cases={
                "1 KiB": replace(slow, value=20, size=1024, text=trades()),
                "16 KiB": replace(slow, value=20, size=16384, text=trades()),
            },
            turns=[(DIRECT, few)],
        ),
        Section(
            name="compressed",
            cases={
                "1 KiB": replace(slow, value=20, size=1024, text=trades(), deflate=True),
                "16 KiB": replace(slow, value=20, size=16384, text=trades(), deflate=True),
            },
            turns=[(SHARED, few), (WEBSOCKETS_DEFLATE, 1), (WS_DEFLATE, 1)],
        ),
        Section(
            name="few clients",
            cases={"30": replace(slow, clients=SMALL_CLIENTS, seconds=4 * seconds)},
            turns=[(PROXIED, 1)],
        ),
    ]


def trades() -> Path:
    """A file of JSON like market data; no two pieces are the same."""
    path = CACHE / "trades.json"
    if not path.exists():
        chance = random.Random(1)
        trades = [
            {
                "symbol": f"{chance.choice(('BTC', 'ETH', 'SOL'))}-{chance.choice(('USD', 'EUR', 'JPY'))}",
                "price": 60_000 + chance.randrange(100_000) / 100,
                "amount": chance.randrange(1_000_000) / 10_000,
                "side": chance.choice(("buy", "sell")),
                "id": chance.randrange(1 << 40),
            }
            for _ in range(20_000)
        ]
        CACHE.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(trades))
    return path
