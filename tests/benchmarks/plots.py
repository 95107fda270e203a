"""The plots of `docs/performance.md` as small SVG files, if matplotlib is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.page import BURSTS, HOP, LIMIT, SIZES, as_ratio, latency, per_second
from tests.benchmarks.results import Results

_OURS, _LIMIT, _PEER = "#1f77b4", "#555555", "#d9a441"


def draw(results: Results, folder: Path) -> list[str]:
    """Draws a plot for each available result; returns their names, none without matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return []
    mpl.use("svg")
    mpl.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "lobby", "font.family": "sans-serif", "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white", "figure.constrained_layout.use": True,
    })  # fmt: skip
    plots: dict[str, Callable[[Results, Any], None]] = {
        "throughput": _throughput,
        "latency": _latency,
        "growth": _growth,
    }
    for name, paint in plots.items():
        figure = Figure(figsize=(8, 3.2))
        paint(results, figure)
        figure.savefig(folder / f"performance-{name}.svg", metadata={"Date": None, "Creator": None})
    return list(plots)


def _color(who: str) -> str:
    return _LIMIT if who == LIMIT else _OURS if who.startswith("Lobby Gateway") else _PEER


def _throughput(results: Results, figure: Any) -> None:
    names = results.contestants("throughput")[::-1]
    for place, case in enumerate((*SIZES, BURSTS)):
        axes = figure.add_subplot(1, 4, place + 1)
        values = [results.ratio("throughput", case, who, LIMIT, per_second) or 0.0 for who in names]
        bars = axes.barh(names, values, color=[_color(who) for who in names])
        axes.bar_label(bars, [as_ratio(value) for value in values], padding=2, fontsize=7)
        axes.axvline(1.0, color=_LIMIT, linewidth=0.8, linestyle=":")
        axes.set_title(case, fontsize=9)
        axes.set_xlim(0, max(1.3, *values))
        axes.tick_params(labelleft=place == 0)
    figure.suptitle("deliveries per second, relative to the C loop", fontsize=9)


def _latency(results: Results, figure: Any) -> None:
    names = results.contestants("latency")[::-1]
    axes = figure.add_subplot()
    for share, marker in (("p50", "o"), ("p99", "s"), ("p999", "D")):
        values = [results.value("latency", "100/s", who, latency(share)) for who in names]
        axes.scatter(
            values, names, marker=marker, c=[_color(who) for who in names], label=share.replace("p999", "p99.9")
        )
    axes.set_xlim(left=0)
    axes.set_xlabel("ms, 100 messages/s to 512 clients")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="lower left")


def _growth(results: Results, figure: Any) -> None:
    cases = results.cases("growth")
    counts = [int(case.replace(",", "")) for case in cases]
    left, right = figure.subplots(1, 2)
    for who in (HOP, LIMIT):
        rates = [results.value("growth", case, who, per_second) for case in cases]
        left.plot(counts, rates, marker="o", color=_color(who), label="one greeter" if who == HOP else who)
        p99 = [results.value("growth of latency", case, who, latency("p99")) for case in cases]
        right.plot(counts, p99, marker="o", color=_color(who), label="one greeter" if who == HOP else who)
    for axes, title in ((left, "deliveries/s, one message of 64 B at a time"), (right, "p99 in ms, 10 messages/s")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("clients")
        axes.set_title(title, fontsize=9)
        axes.legend(frameon=False)
