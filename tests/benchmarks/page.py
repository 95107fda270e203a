"""`docs/performance.md`, generated from the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast

from tests.benchmarks import plan
from tests.benchmarks.cost import GIB, GIB_HOUR, HOURS, PRICE_LIST, VCPU_HOUR, need
from tests.benchmarks.load import Outcome
from tests.benchmarks.plan import C_LOOP, DIRECT, ON_ONE_CORE, PROXIED, TWO_GREETERS
from tests.benchmarks.results import Figure, Results

LIMIT, OURS, HOP = C_LOOP.name, DIRECT.name, PROXIED.name
SIZES = tuple(plan.SIZES)
BURSTS = "bursts of 64 B"
KIB, MIB = 1024, 1024**2
NOTHING = "–"  # noqa: RUF001


def per_second(outcome: Outcome) -> float:
    """Deliveries per second."""
    return outcome.per_second


def total_us(outcome: Outcome) -> float:
    """CPU microseconds per delivery, for all processes a message passes through."""
    return outcome.total_us


def latency(share: str) -> Figure:
    """Milliseconds not exceeded by a share of the messages: `p50`, `p99`, `p999`, `max`."""
    return lambda outcome: float(outcome.load[share]) * 1e3


def tcp_megabytes(outcome: Outcome) -> float:
    """Megabytes held by all TCP sockets of the machine at the end."""
    return float(outcome.load["tcp_bytes"]) / 1e6


def bytes_a_client(outcome: Outcome) -> float:
    """Growth of the holders per client, in bytes."""
    return (sum(outcome.resident) - sum(outcome.resident_before)) / float(outcome.load["clients"])


def show(value: float | None, form: str = ",.2f") -> str:
    """A figure for people."""
    return NOTHING if value is None else f"{value:{form}}"


def as_ratio(value: float | None) -> str:
    """Two decimals, or one digit if the value is too small for them."""
    return NOTHING if value is None else f"{value:.2f}" if value >= 0.05 else f"{value:.1g}"


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The range over the rounds."""
    return f"{min(values):{form}} to {max(values):{form}}" if values else NOTHING


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["", *(f"| {' | '.join(line)} |" for line in lines), ""]


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal of the project and the measured values.

    Attributes:
        text: the goal.
        values: one per round.
        met: whether a value meets the goal.
        form: the value's format.
    """

    text: str
    values: Sequence[float]
    met: Callable[[float], bool]
    form: str = ".2f"

    def row(self) -> list[str]:
        """Its row."""
        if not self.values:
            return [self.text, NOTHING, NOTHING, "not measured"]
        middle = median(self.values)
        verdict = "met" if self.met(middle) else "**missed**"
        return [self.text, f"{middle:{self.form}}", spread(self.values, self.form), verdict]


def goals(results: Results) -> list[Goal]:
    """All goals, in the order of the text."""

    def ratios(case: str, who: str) -> list[float]:
        return results.ratios("throughput", case, who, LIMIT, per_second)

    def hop(case: str) -> list[float]:
        return [ratio - 1 for ratio in results.ratios("throughput", case, HOP, OURS, total_us)]

    found: list[Goal] = []
    for who in (OURS, HOP):
        name = who.removeprefix("Lobby Gateway, ")
        found += [
            Goal(f"deliveries/s at {size}, {name}: ≥ 0.90 of the C loop's", ratios(size, who), lambda x: x >= 0.90)
            for size in SIZES
        ]
        found.append(
            Goal(f"deliveries/s in bursts, {name}: ≥ 0.80 of the C loop's", ratios(BURSTS, who), lambda x: x >= 0.80)
        )
    found += [
        Goal(f"CPU added by the greeter's hop to a delivery of {size}: ≤ 20%", hop(size), lambda x: x <= 0.20, ".0%")
        for size in SIZES
    ]
    for who in (OURS, HOP):
        name = who.removeprefix("Lobby Gateway, ")
        values = results.ratios("latency", "100/s", who, LIMIT, latency("p99"))
        found.append(Goal(f"p99 at 100 messages/s, {name}: ≤ 1.3 times the C loop's", values, lambda x: x <= 1.3))
    for share, most in (("p50", 1.15), ("p99", 1.2)):
        values = results.ratios("sleeping", "100/s", ON_ONE_CORE.name, LIMIT, latency(share))
        found.append(
            Goal(
                f"{share} of sleeping clients, proxied, all on one core: ≤ {most:g} times the C loop's",
                values,
                lambda x, most=most: x <= most,  # type: ignore[misc]
            )
        )
    joined = results.all("sleeping", "joined", ON_ONE_CORE.name, latency("max"))
    found.append(Goal("the latest message just after they joined, ms: < 10", joined, lambda x: x < 10, ".1f"))
    for who in (OURS, HOP):
        name = who.removeprefix("Lobby Gateway, ")
        stalled = results.all("stalled", "256", who, latency("p99"))
        none = results.all("stalled", "none", who, latency("p99"))
        values = [a / b for a, b in zip(stalled, none, strict=False)]
        found.append(
            Goal(
                f"p99 next to 256 stalled clients, {name}: ≤ 1.3 times the value without them",
                values,
                lambda x: x <= 1.3,
            )
        )
    tcp = results.all("stalled", "256", OURS, tcp_megabytes)
    tcp += results.all("stalled", "256", HOP, tcp_megabytes)
    behind = results.all("stalled", "256", OURS, lambda outcome: float(outcome.load["stalled_beyond"]))
    behind += results.all("stalled", "256", HOP, lambda outcome: float(outcome.load["stalled_beyond"]))
    idle = results.all("idle", f"{plan.IDLE_CLIENTS:,}", HOP, lambda outcome: bytes_a_client(outcome) / KIB)
    lobby = results.all("idle lobby", "512", OURS, lambda outcome: sum(outcome.resident) / MIB)
    shakes = [results.all("handshakes", "64 at once", who, per_second) for who in (OURS, HOP)]
    return [
        *found,
        Goal("the machine's TCP memory with 256 stalled clients, MB: < 100", tcp, lambda x: x < 100, ".1f"),
        Goal("messages a stalled client lags beyond its receive buffer: ≤ 16", behind, lambda x: x <= 16, ".0f"),
        Goal("resident KiB per idle client of a greeter with 5,000: ≤ 6", idle, lambda x: x <= 6),
        Goal("resident MiB of a lobby with 512 idle clients: < 45", lobby, lambda x: x < 45, ".1f"),
        Goal("handshakes/s, direct: ≥ 7,000", shakes[0], lambda x: x >= 7000, ",.0f"),
        Goal("handshakes/s, proxied: ≥ 7,000", shakes[1], lambda x: x >= 7000, ",.0f"),
    ]


def rates(results: Results, section: str) -> list[str]:
    """Deliveries per second of every contestant in a section, next to the C loop's."""
    cases = results.cases(section)
    rows = []
    for who in results.contestants(section):
        each = [results.value(section, case, who, per_second) for case in cases]
        ratios = [results.ratio(section, case, who, LIMIT, per_second) for case in cases]
        rows.append([who, *(f"{as_ratio(a)} ({show(b, ',.0f')})" for a, b in zip(ratios, each, strict=True))])
    return table(["ratio to the C loop (deliveries/s)", *cases], rows)


def throughput(results: Results) -> list[str]:
    """Deliveries per second and CPU time of every contestant."""
    cases = results.cases("throughput")
    costs = [
        [who, *(show(results.value("throughput", case, who, total_us), ".3g") for case in cases)]
        for who in results.contestants("throughput")
    ]
    return [
        *rates(results, "throughput"),
        "CPU microseconds per delivery (equal to CPU seconds per million deliveries), summed over all processes a message passes through:",
        *table(["", *cases], costs),
        "Strictly in turn: the origin sends the next message when every client has the previous one, so each message pays for the time that",
        "origin, lobby and greeter need before their first send, and for waking each of them up:",
        *rates(results, "in turn"),
    ]


def latencies(results: Results) -> list[str]:
    """At 100 messages per second."""
    shares = ("p50", "p99", "p999")
    rows = []
    for who in results.contestants("latency"):
        values = [results.value("latency", "100/s", who, latency(share)) for share in shares]
        worst = spread(results.all("latency", "100/s", who, latency("p99")))
        rows.append(
            [who, *(show(value) for value in values), worst, show(results.value("latency", "100/s", who, total_us))]
        )
    return table(["ms", "p50", "p99", "p99.9", "p99 range over rounds", "CPU µs per delivery"], rows)


def sleeping(results: Results) -> list[str]:
    """Clients that sleep between messages."""
    rows = []
    for who in results.contestants("sleeping"):
        values = [results.value("sleeping", "100/s", who, latency(share)) for share in ("p50", "p99", "max")]
        after = [results.value("sleeping", "joined", who, latency(share)) for share in ("p99", "max")]
        worst = spread(results.all("sleeping", "joined", who, latency("max")))
        rows.append([who, *(show(value) for value in (*values, *after)), worst])
    return table(["ms", "p50", "p99", "max", "p99 after joining", "max", "max, range over rounds"], rows)


def stalled(results: Results) -> list[str]:
    """256 clients that never read."""
    rows = []
    for who in results.contestants("stalled"):
        p99 = [show(results.value("stalled", case, who, latency("p99"))) for case in ("none", "256")]
        tcp = [show(results.value("stalled", case, who, tcp_megabytes), ".1f") for case in ("none", "256")]
        beyond = results.value("stalled", "256", who, lambda outcome: float(outcome.load["stalled_beyond"]))
        buffer = results.value(
            "stalled", "256", who, lambda outcome: float(outcome.load["stalled_receive_buffer"]) / KIB
        )
        rows.append([who, *p99, *tcp, show(buffer, ",.0f"), show(beyond, ".0f")])
    head = [
        "",
        "p99 without, ms",
        "p99 with, ms",
        "TCP memory without, MB",
        "with, MB",
        "receive buffer, KiB",
        "lag beyond it",
    ]
    return table(head, rows)


def idle(results: Results) -> list[str]:
    """Memory and handshakes."""
    case = f"{plan.IDLE_CLIENTS:,}"
    rows = []
    for who in results.contestants("handshakes"):
        alone = results.value("idle", case, who, lambda outcome: sum(outcome.resident_before) / MIB)
        each = results.value("idle", case, who, lambda outcome: bytes_a_client(outcome) / KIB)
        rate = results.value("handshakes", "64 at once", who, per_second)
        cpu = results.value("handshakes", "64 at once", who, total_us)
        rows.append([who, show(alone, ".1f"), show(each), show(rate, ",.0f"), show(cpu, ".0f")])
    return table(["", "MiB without clients", "KiB per idle client", "handshakes/s", "CPU µs per handshake"], rows)


def growth(results: Results) -> list[str]:
    """One greeter, and two."""
    rows = []
    for case in results.cases("growth"):
        row = [case]
        for who in (HOP, LIMIT):
            row.append(show(results.value("growth", case, who, per_second), ",.0f"))
            row.append(show(results.value("growth of latency", case, who, latency("p99"))))
        row.append(show(results.value("growth", case, HOP, bytes_a_client), ",.0f"))
        rows.append(row)
    head = [
        "clients",
        "greeter, deliveries/s",
        f"p99 at {plan.RATE}/s, ms",
        "C loop, deliveries/s",
        f"p99 at {plan.RATE}/s, ms",
    ]
    two = [results.value("two greeters", "2,048", TWO_GREETERS.name, figure) for figure in (per_second, total_us)]
    one = [results.value("growth", "2,048", HOP, figure) for figure in (per_second, total_us)]
    return [
        *table([*head, "greeter's bytes per client, after 64 B messages"], rows),
        f"Two greeters on two cores, 2,048 clients: {show(two[0], ',.0f')} deliveries/s and {show(two[1])} µs of CPU per delivery; one greeter:",
        f"{show(one[0], ',.0f')} and {show(one[1])}. The second greeter shares its core with the lobbies, the origin and all clients, and they",
        "disturb each other: two cores cannot show what two greeters achieve on separate cores.",
    ]


def compression(results: Results) -> list[str]:
    """Shared, off, and compressed for each client."""
    rows = []
    for section in ("compression", "compressed"):
        for who in results.contestants(section):
            row = [who if section == "compressed" else f"{who}, Off"]
            for case in results.cases(section):
                row.append(show(results.value(section, case, who, total_us), ".1f"))
                row.append(show(results.value(section, case, who, _bytes_a_delivery), ",.0f"))
            rows.append(row)
    head = [""]
    for case in results.cases("compression"):
        head += [f"{case}: CPU µs", "bytes"]
    return table(head, rows)


def _bytes_a_delivery(outcome: Outcome) -> float:
    return float(outcome.load["bytes"]) / max(1, int(outcome.load["deliveries"]))


def costs(results: Results) -> list[str]:
    """Monthly cost of 10,000 clients, and of 30."""
    rows = []
    clients, case = 10_000, f"{plan.IDLE_CLIENTS:,}"
    for who in (HOP, *(name for name in results.contestants("idle") if name != HOP)):
        us = results.value("latency", "100/s", who, total_us)
        each = results.value("idle", case, who, bytes_a_client)
        alone = results.value("idle", case, who, lambda outcome: float(sum(outcome.resident_before)))
        helpers = results.value("idle", case, who, lambda outcome: float(outcome.helpers_resident))
        if us is None or each is None or alone is None or helpers is None:
            continue
        memory = alone + each * clients + helpers * clients / plan.IDLE_CLIENTS
        price = need(us, clients * plan.RATE, memory)
        rows.append(
            [
                who,
                show(us),
                f"{each * 1000 / MIB:.1f}",
                f"{price.vcpus:.2f}",
                f"{memory / GIB:.2f}",
                f"{price.dollars_a_month:.2f}",
            ]
        )
    head = ["", "CPU s per million deliveries", "MiB per thousand clients", "vCPU", "GiB", "US$ per month"]
    lines = table(head, rows)
    few = results.outcomes.get(("few clients", "30", HOP))
    if few:
        seconds = float(few[0].load["seconds"])
        small = need(
            (few[0].holder_cpu + few[0].helper_cpu) / seconds * 1e6, 1, sum(few[0].resident) + few[0].helpers_resident
        )
        lines += [
            f"{plan.SMALL_CLIENTS} clients at {plan.RATE} messages/s behind one greeter and one lobby, measured: {small.vcpus:.3f} vCPU and",
            f"{small.bytes / MIB:.0f} MiB, US$ {small.dollars_a_month:.2f} per month. (The smallest size offered there is 0.25 vCPU and 0.5 GiB:",
            f"US$ {HOURS * (0.25 * VCPU_HOUR + 0.5 * GIB_HOUR):.2f}.)",
            "",
        ]
    return lines


def page(results: Results, about: Mapping[str, object], drawn: Sequence[str], far: Sequence[str]) -> str:
    """The whole page, given the section about far clients."""
    plots = {name: f"![{name}](performance-{name}.svg)" for name in drawn}

    def plot(name: str) -> list[str]:
        return ["", plots[name], ""] if name in plots else []

    processes, guests = cast("tuple[float, float]", about["others"])
    debians = [name for name in results.contestants("throughput") if name.startswith(f"{OURS}, ")]
    lines = [
        "# Performance",
        "",
        "<!-- Made by `make bench` (tests/benchmarks); do not edit. -->",
        "",
        f"Measured on {about['date']} by `make bench` on {about['processor']}, {about['memory']}, {about['kernel']}, over loopback. The speed of",
        f"a virtual machine drifts. {about['rounds']} rounds of {about['seconds']} s each, a quarter as many for peers, {about['minutes']:.0f} minutes in total.",
        f"During the run, other processes and interrupts (including those of this traffic) used {processes:.1%} of all cores' time, and other",
        f"guests of the host {guests:.1%}.",
        f"Python: {about['interpreters']}.",
        f"C: {about['compiler']}. Node.js {about['node']}. {about['nginx']}.",
        "",
        "The process that holds the clients has one core to itself. The origin and all clients, one C program (`load.c`), share the other core;",
        "for *proxied* the greeter holds the clients and the lobby runs on the other core, too. Contestants take turns within a round and are",
        "compared within it; the figures are medians over the rounds. All are compared with a C epoll loop (`fan_out.c`) that does the bare",
        "minimum: no checks, no limits, no mailboxes. Unless noted otherwise there are 512 clients. The clients never sleep: on loopback the",
        "sender would pay for waking them, as much as for sending; over a network it does not.",
        "",
        "## Goals",
        *table(["goal", "measured", "range over rounds", ""], [goal.row() for goal in goals(results)]),
        "## Throughput",
        "",
        "One message at a time: the origin sends the next message when half of the clients have the previous one, so the process that holds the",
        "clients always has work but never two messages at once. Bursts: the origin keeps 30 kB of 64 B messages in flight, and every contestant",
        "forwards what one read returned. *Pure Python*: without the compiled send loop.",
        *plot("throughput"),
        *throughput(results),
    ]
    if debians:
        lines += [
            "Rows that name no interpreter used the first one above.",
            "",
        ]
    lines += [
        "## Latency",
        "",
        "100 messages of 64 B per second, from the origin's send to the client's read. The kernel sets the lower bound: the last client waits for",
        "512 sends.",
        *plot("latency"),
        *latencies(results),
        "The same while the clients sleep between messages, with greeter and lobby on one core, as in a small installation: the sender wakes",
        "the clients. The figures after joining are those of the first seconds, which begin with the first message.",
        *sleeping(results),
        "## Clients that never read",
        "",
        "256 clients read 50 messages of 16 KiB per second, without and with 256 others that never read. TCP memory covers the whole machine,",
        "both ends of all connections (`/proc/net/sockstat`). The last columns show the fullest receive buffer of a stalled client, and how many",
        "whole messages it received beyond that buffer when it finally read. The C loop discards what it cannot send; its figures show what 256",
        "connections with a closed window cost in the kernel, which probes each of them now and then.",
        *stalled(results),
        *far,
        "## Idle clients and handshakes",
        "",
        f"Growth in resident memory of the process that holds {plan.IDLE_CLIENTS:,} idle clients. Handshakes: 64 at once; each client leaves as soon",
        "as it is connected.",
        *idle(results),
        "## Growth",
        "",
        "One greeter, and as many lobbies of 512 seats as its clients need. One message of 64 B at a time; latency at ten messages per second.",
        *plot("growth"),
        *growth(results),
        "",
        "## Compression",
        "",
        "20 JSON messages per second. *Shared* compresses a message once for all clients; the others compress it for each client. Bytes are those",
        "of the frames a client receives.",
        *compression(results),
        "## Cost",
        "",
        f"10,000 clients at {plan.RATE} messages per second. CPU time is that of a delivery at 100 messages/s and 512 clients, memory that of",
        f"{plan.IDLE_CLIENTS:,} idle clients; for *proxied*, greeter and lobbies together. Prices: US$ {VCPU_HOUR} per vCPU-hour and US$ {GIB_HOUR} per GiB-hour",
        f"({PRICE_LIST}),",
        f"{HOURS} hours per month, for what is used. Traffic is not included, although it may cost more than all of this.",
        *costs(results),
        "## Not measured",
        "",
        "- Network cards: everything but the far clients runs over loopback. TLS belongs in front of a greeter.",
        "- More than two cores. The load shares one of them with the lobbies, which holds *proxied* and *two greeters* back.",
        "- Single messages that arrive faster than clients receive them, which is the same as bursts. Bursts above 30 kB are not compared, because",
        "  the C loop discards what a socket does not accept.",
        *(f"- {name}: {why}." for name, why in results.missing.items()),
        *(f"- Failed: {what}" for what in results.failed),
        "",
    ]
    return "\n".join(lines)
