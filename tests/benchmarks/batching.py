"""`python -m tests.benchmarks.batching`: the CPU time that `clients.batchMilliseconds: 10` saves at 1,000 messages per second.

Without batching one core does not carry 512 clients: what waits for them then leaves together, which is batching, too. So the cost
of 64 clients is measured beside that of 512, and compared per delivery.
"""

from __future__ import annotations

import argparse
import statistics

from tests.benchmarks.contestants import DIRECT, PROXIED, Contestant, Gateway
from tests.benchmarks.load import Case, measure

BATCH = {"batchMilliseconds": 10}
PAIRS = {
    "lobby": (DIRECT, Contestant("batched", Gateway(clients_spec=BATCH).serve)),
    "greeter": (PROXIED, Contestant("batched", Gateway(greeters=1, clients_spec=BATCH).serve)),
}
"""By what holds the clients: without batching, and with it."""
CLIENTS = (64, 512)
RATE = 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.batching", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="number of rounds (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured seconds per run (%(default)g)")
    given = parser.parse_args()
    for holder, pair in PAIRS.items():
        micros: dict[tuple[int, bool], list[float]] = {}
        for _ in range(given.rounds):
            for clients in CLIENTS:
                case = Case(mode="rate", value=RATE, clients=clients, seconds=given.seconds)
                for batched, contestant in enumerate(pair):
                    outcome = measure(contestant, case)
                    micros.setdefault((clients, bool(batched)), []).append(outcome.holder_us)
        median = {key: statistics.median(found) for key, found in micros.items()}
        for (clients, batched), us in median.items():
            print(
                f"{holder}, {clients} clients{', batched' if batched else ''}: {us:.2f} us per delivery, "
                f"{us * clients * RATE / 1e6:.2f} s of CPU per second"
            )
        print(
            f"{holder}: 512 clients batched take {median[512, True] / median[64, False]:.2f} of what 64 take per delivery without"
        )


if __name__ == "__main__":
    main()
