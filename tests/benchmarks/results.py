"""Results: outcomes by section, case and contestant, one per round; stored as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from tests.benchmarks.load import Outcome

Figure = Callable[[Outcome], float]
_Key = tuple[str, str, str]


@dataclass(slots=True)
class Results:
    """All outcomes.

    Attributes:
        outcomes: by section, case and contestant; one per round it took part in.
        missing: contestants that could not take part, and why.
        failed: runs that failed, with their errors.
    """

    outcomes: dict[_Key, list[Outcome]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def add(self, section: str, case: str, contestant: str, outcome: Outcome) -> None:
        """Adds a round."""
        self.outcomes.setdefault((section, case, contestant), []).append(outcome)

    def contestants(self, section: str) -> list[str]:
        """The contestants of a section, in order."""
        return list(dict.fromkeys(name for found, _, name in self.outcomes if found == section))

    def cases(self, section: str) -> list[str]:
        """The cases of a section, in order."""
        return list(dict.fromkeys(case for found, case, _ in self.outcomes if found == section))

    def all(self, section: str, case: str, contestant: str, figure: Figure) -> list[float]:
        """A figure for each round; empty if there is none."""
        return [figure(outcome) for outcome in self.outcomes.get((section, case, contestant), [])]

    def value(self, section: str, case: str, contestant: str, figure: Figure) -> float | None:
        """The median of a figure over the rounds."""
        found = self.all(section, case, contestant, figure)
        return median(found) if found else None

    def ratios(self, section: str, case: str, contestant: str, other: str, figure: Figure) -> list[float]:
        """A figure relative to another contestant's in the same round."""
        mine, others = self.all(section, case, contestant, figure), self.all(section, case, other, figure)
        return [a / b for a, b in zip(mine, others, strict=False) if b]

    def ratio(self, section: str, case: str, contestant: str, other: str, figure: Figure) -> float | None:
        """The median of these ratios."""
        found = self.ratios(section, case, contestant, other, figure)
        return median(found) if found else None

    def save(self, path: Path) -> None:
        """Writes all outcomes."""
        rows = [[*key, [asdict(outcome) for outcome in outcomes]] for key, outcomes in self.outcomes.items()]
        path.write_text(json.dumps({"rows": rows, "missing": self.missing, "failed": self.failed}))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads what `save` wrote."""
        told = json.loads(path.read_text())
        rows = {
            (section, case, name): [Outcome(**each) for each in found] for section, case, name, found in told["rows"]
        }
        return cls(rows, told["missing"], told["failed"])
