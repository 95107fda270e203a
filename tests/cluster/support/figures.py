"""What the tests measured, told at the end of the session: never asserted beyond the bounds that a test names."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.cluster.support.crowd import Newcomers, Seen

HEAD = (
    "failure | clients | closed | missing (most of one) | twice | longest silence s (median) | "
    "new clients (refused, longest wait s) | came back (refused, longest wait s) | pods made"
)


@dataclass(slots=True)
class Figures:
    """The figures of a session.

    Attributes:
        rows: a line of the table for each failure.
        notes: other figures, a sentence each.
    """

    rows: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keeps a sentence for the end of the session."""
        self.notes.append(text)

    def row(self, failure: str, seen: Seen, newcomers: Newcomers, back: Newcomers, pods_made: int) -> None:
        """Keeps a line of the table."""
        closed = seen.clients - seen.open
        how = ", ".join(f"{count} x {code}" for code, count in sorted(seen.closed.items()))
        how += f"{', ' if how else ''}{seen.mute} mute" if seen.mute else ""
        came = [
            f"{each.came} ({sum(each.refused.values())}, {each.longest_wait:.1f})" if each.came else "0"
            for each in (newcomers, back)
        ]
        silence = f"{seen.longest_silence:.1f} ({seen.median_silence:.1f})" if seen.open else "-"
        self.rows.append(
            f"{failure} | {seen.clients} | {closed}{f' ({how})' if how else ''} | {seen.missing} ({seen.most_missing}) | "
            f"{seen.duplicates} | {silence} | "
            f"{' | '.join(came)} | {pods_made}"
        )


FIGURES = Figures()
