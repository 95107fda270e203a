"""`make bench`: measures everything and writes `docs/performance.md` with its plots."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.benchmarks import far_page, machine, page, plots
from tests.benchmarks.build import CACHE, skip_reason
from tests.benchmarks.contestants import OWN
from tests.benchmarks.load import measure
from tests.benchmarks.plan import DEBIANS, Section, debians_python, sections
from tests.benchmarks.results import Results
from tests.support.processes import ROOT

from lobby_gateway.clients.fan_out import send_all_compiled
from lobby_gateway.process.limits import raise_descriptor_limit

DOCS = ROOT / "docs"
NEEDED_DESCRIPTORS = 10_000


def run(section: Section, results: Results) -> None:
    """Runs a section; a failed run is recorded and the others continue."""
    for contestant, _ in section.turns:
        if contestant.missing:
            results.missing[contestant.name] = contestant.missing
    present = [(contestant, rounds) for contestant, rounds in section.turns if not contestant.missing]
    for number in range(max(rounds for _, rounds in present)):
        for name, case in section.cases.items():
            turns = [contestant for contestant, rounds in present if number < rounds]
            for contestant in reversed(turns) if number % 2 else turns:  # the machine may speed up or slow down
                try:
                    outcome = measure(contestant, case)
                except RuntimeError as error:
                    results.failed.append(f"{section.name}, {name}: {contestant.name}: {str(error)[-300:]}")
                    print(results.failed[-1], file=sys.stderr, flush=True)
                    continue
                results.add(section.name, name, contestant.name, outcome)
                print(
                    f"{section.name}, {name}: {contestant.name}: {outcome.per_second:,.0f}/s, "
                    f"p50 {outcome.load['p50'] * 1e3:.2f}, p99 {outcome.load['p99'] * 1e3:.2f}, max {outcome.load['max'] * 1e3:.2f} ms, {outcome.total_us:.2f} us, "
                    f"{sum(outcome.resident) / 2**20:.1f} MiB",
                    flush=True,
                )


def main() -> int:
    """Runs the requested sections."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="number of rounds for close comparisons (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured seconds per run (%(default)g)")
    parser.add_argument("--only", default="", metavar="NAMES", help="comma-separated sections; no page is written")
    parser.add_argument("--page-only", action="store_true", help="rewrite the page from the last results")
    given = parser.parse_args()
    if skip_reason():
        print(f"make bench: {skip_reason()}", file=sys.stderr)
        return 2
    if send_all_compiled is None:
        print("make bench: the send loop is not compiled (gateway/build_hook.py)", file=sys.stderr)
        return 2
    kept, told = CACHE / "results.json", CACHE / "machine.json"
    if not given.page_only:
        if raise_descriptor_limit() < NEEDED_DESCRIPTORS:
            print(f"make bench: {NEEDED_DESCRIPTORS} file descriptors are needed (`ulimit -n`)", file=sys.stderr)
            return 2
        results = Results()
        begun, others = time.monotonic(), machine.Others()
        with machine.precedence():
            for section in sections(given.rounds, given.seconds):
                if not given.only or section.name in given.only.split(","):
                    run(section, results)
        if given.only:
            return 0
        results.save(kept)
        told.write_text(json.dumps(about(given.rounds, given.seconds, time.monotonic() - begun, others.shares())))
    write(Results.load(kept), json.loads(told.read_text()), DOCS)
    return 0


def about(rounds: int, seconds: float, took: float, others: tuple[float, float]) -> dict[str, object]:
    """What a reader needs to know about a run that took that many seconds while others used these shares of the machine."""
    pythons = [OWN.path, *(str(DEBIANS) for _ in debians_python())]
    return {**machine.describe(pythons), "rounds": rounds, "seconds": seconds, "minutes": took / 60, "others": others}


def write(results: Results, about: dict[str, object], folder: Path) -> None:
    """Writes the page and its plots to a folder; the section about far clients stays."""
    drawn = plots.draw(results, folder)
    file = folder / "performance.md"
    far = far_page.kept(file.read_text() if file.exists() else "")
    file.write_text(page.page(results, about, drawn, far))
    print(f"wrote {file}{'' if drawn else ', without plots: matplotlib is not installed'}")


if __name__ == "__main__":
    sys.exit(main())
