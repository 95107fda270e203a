"""The section "Far clients" of `docs/performance.md`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Final

from tests.benchmarks.far_cells import BURST_SECONDS, CLIENTS, LATE_SECONDS, PAUSE_SECONDS, Cell
from tests.benchmarks.far_results import HANDSHAKE_HEAD, SHARES, FarResults, Row, percent

TITLE: Final = "## Far clients"
OURS: Final = "Lobby Gateway"
MOST_P99: Final = 1.1
"""Times the best peer's."""
NOTHING: Final = "–"  # noqa: RUF001
_HEAD: Final = "missing % · p50 · p99 · max"


def section(results: FarResults | None) -> list[str]:
    """The whole section; without results only how they are measured."""
    lines = [
        TITLE,
        "",
        f"{CLIENTS} clients behind a long line read everything at once. Origin and server run in one network namespace, the clients in another, and a",
        "program of ours (`line.c`) carries each packet between them: it arrives half a round trip later, and the given share of packets is lost in",
        "either direction, chosen by the same seed for every server. Congestion control is cubic; everything else is the kernel's default.",
        f"Bursts are spread over {BURST_SECONDS:g} s and follow a pause of {PAUSE_SECONDS:g} s, after which TCP starts with a small window again; steady streams",
        "begin right after the clients connected. Latency counts from when the origin had to send the message. A message is missing if a client",
        f"does not have it {LATE_SECONDS:g} s and a round trip after the last one was due.",
        "",
        "    make bench-far                       # everything; writes this section (an hour, needs root and gcc)",
        "    make bench-far FAR_FLAGS='--rtt 100 --loss 0 --burst 900 --size 200 --servers proxied,direct,broadcast'    # one cell",
        "",
    ]
    if results is None:
        return [*lines, "Not measured yet.", ""]
    about = results.about
    if about:
        lines += [
            f"Measured on {about['date']} on {about['processor']}, {about['kernel']}; {about['rounds']} {'round' if about['rounds'] == 1 else 'rounds'}, {about['minutes']:.0f} minutes. Other processes used",
            f"{about['others'][0]:.0%} of all cores' time, other guests of the host {about['others'][1]:.0%}.",
            "",
        ]
    lines += _goals(results.rows)
    plain = [row for row in results.rows if _is_plain(row.cell)]
    for rtt, rows in _by(plain, lambda row: row.cell.rtt_ms):
        lines += [f"### {rtt:g} ms", "", *_table(rows, lambda cell: cell.name.partition(", ")[2])]
    for title, text, wanted in _PARTS:
        rows = [row for row in results.rows if wanted(row.cell)]
        lines += [title, "", text, "", *_table(rows, lambda cell: cell.name)] if rows else []
    lines += _others(results.rows)
    if results.handshakes:
        lines += [
            "### Connecting",
            "",
            f"{CLIENTS} clients connect at once: TCP and the handshake take two round trips, TLS one more.",
            "",
            *_markdown(HANDSHAKE_HEAD, [each.line() for each in results.handshakes]),
        ]
    lines += [f"- {name} took no part: {why}." for name, why in results.missing.items()]
    lines += [f"- Failed: {what}" for what in results.failed]
    return [*lines, ""] if lines[-1] else lines


def replaced(page: str, lines: Iterable[str]) -> str:
    """The page with this section instead of its own."""
    text = "\n".join(lines)
    return re.sub(rf"^{TITLE}$.*?(?=^## )", lambda _: text + "\n", page, count=1, flags=re.MULTILINE | re.DOTALL)


def kept(page: str) -> list[str]:
    """The section of a page; that without results if it has none."""
    found = re.search(rf"^{TITLE}$.*?(?=^## )", page, flags=re.MULTILINE | re.DOTALL)
    return [*found[0].rstrip("\n").split("\n"), ""] if found else section(None)


def _is_plain(cell: Cell) -> bool:
    return cell.layout == "clients" and not cell.slow and not cell.stalled


_PARTS: Final[tuple[tuple[str, str, Callable[[Cell], bool]], ...]] = (
    (
        "### A far greeter",
        "The line is between lobby and greeter; the clients are beside the greeter.",
        lambda cell: cell.layout == "greeter",
    ),
    (
        "### A far origin",
        "The line is between the origin and the server; the clients are beside the server.",
        lambda cell: cell.layout == "origin",
    ),
)


def _by(rows: Iterable[Row], key: Callable[[Row], float]) -> list[tuple[float, list[Row]]]:
    return [(value, list(found)) for value, found in itertools.groupby(sorted(rows, key=key), key)]


def _cells(rows: Iterable[Row]) -> dict[str, dict[str, list[Row]]]:
    """The rounds by name of the cell and server."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row.cell.name, {}).setdefault(row.server, []).append(row)
    return found


def worst_missing(rounds: Iterable[Row]) -> float:
    """The percentage of the round in which most is missing."""
    return max(row.missing_percent for row in rounds)


def middle(rounds: Iterable[Row], share: str) -> float:
    """The median over the rounds of `p50`, `p99` or `max`, in milliseconds."""
    return median(row.milliseconds(share) for row in rounds)


def _table(rows: Sequence[Row], name: Callable[[Cell], str]) -> list[str]:
    """One line for each cell, one column for each server."""
    servers = list(dict.fromkeys(row.server for row in rows))
    names = {row.cell.name: name(row.cell) for row in rows}
    lines = []
    for cell, by_server in _cells(rows).items():
        lines.append([names[cell], *(_short(by_server[each]) if each in by_server else NOTHING for each in servers)])
    return _markdown([_HEAD, *servers], lines)


def _short(rounds: Sequence[Row]) -> str:
    missing = worst_missing(rounds)
    shown = f"**{percent(missing)}**" if missing else "0"
    return " · ".join([shown, *(f"{middle(rounds, share):,.0f}" for share in SHARES)])


def _goals(rows: Sequence[Row]) -> list[str]:
    """Against the peers that deliver everything, cell by cell."""
    lines = []
    for server in dict.fromkeys(row.server for row in rows if row.server.startswith(OURS)):
        counted, lossless, quick = 0, 0, 0
        for by_server in _cells(row for row in rows if _is_plain(row.cell)).values():
            peers = [
                found for name, found in by_server.items() if not name.startswith(OURS) and not worst_missing(found)
            ]
            if not peers or server not in by_server:
                continue
            counted += 1
            lossless += not worst_missing(by_server[server])
            best = min(middle(found, "p99") for found in peers)
            quick += middle(by_server[server], "p99") <= MOST_P99 * best
        if counted:
            lines.append([server, str(counted), str(lossless), str(quick)])
    head = [
        "",
        "cells in which a peer delivers everything",
        "of these, nothing missing",
        f"of these, p99 ≤ {MOST_P99:g} times the best such peer's",
    ]
    return _markdown(head, lines) if lines else []


def _others(rows: Iterable[Row]) -> list[str]:
    """Clients that read slowly, or never."""
    lines = []
    for by_server in _cells(row for row in rows if row.cell.slow or row.cell.stalled).values():
        for server, rounds in by_server.items():
            load = rounds[0].load
            slow, stalled = load.get("slow"), load.get("stalled")
            line = [rounds[0].cell.name, server, percent(worst_missing(rounds)), f"{middle(rounds, 'p99'):,.0f}"]
            line += [f"{slow['oldest'] * 1e3:,.0f}", f"{slow['behind']:,}"] if slow else [NOTHING, NOTHING]
            line.append(f"{stalled['beyond']:,.0f}" if stalled else NOTHING)
            lines.append([*line, f"{load['tcp_bytes'] / 1e6:.1f}"])
    if not lines:
        return []
    head = ["", "server", "others: missing %", "p99, ms", "slow: oldest message, ms", "behind at the end, messages"]
    return [
        "### Slow and stalled clients",
        "",
        "Slow clients never read more than half of what the origin has sent, stalled ones read nothing. The first columns are those of the other",
        "clients. For slow clients: the greatest age of a message when it was read, and how many messages its latest one was behind the origin's;",
        "for stalled ones: whole messages beyond their receive buffer.",
        "",
        *_markdown([*head, "stalled: beyond the buffer", "TCP memory, MB"], lines),
    ]


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [*(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)), ""]
