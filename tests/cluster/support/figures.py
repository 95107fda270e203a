"""What the tests measured, printed at the end of the session. Only the bounds that a test names are asserted."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.cluster.support.crowd import NewClients, Seen

HEAD = (
    "failure | clients | closed | missing (most of one) | twice | longest silence s (median) | "
    "new clients (refused, longest wait s) | came back (refused, longest wait s) | pods made"
)


@dataclass(slots=True)
class Figures:
    """The figures of a session.

    Attributes:
        rows: lines of the table, one for each failure.
        notes: other figures, one sentence each.
    """

    rows: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Adds a sentence."""
        self.notes.append(text)

    def row(self, failure: str, seen: Seen, new_clients: NewClients, back: NewClients, pods_made: int) -> None:
        """Adds a line to the table."""
        closed = seen.clients - seen.open
        how = ", ".join(f"{count} x {code}" for code, count in sorted(seen.closed.items()))
        how += f"{', ' if how else ''}{seen.mute} mute" if seen.mute else ""
        came = [
            f"{each.came} ({sum(each.refused.values())}, {each.longest_wait:.1f})" if each.came else "0"
            for each in (new_clients, back)
        ]
        silence = f"{seen.longest_silence:.1f} ({seen.median_silence:.1f})" if seen.open else "-"
        self.rows.append(
            f"{failure} | {seen.clients} | {closed}{f' ({how})' if how else ''} | {seen.missing} ({seen.most_missing}) | "
            f"{seen.duplicates} | {silence} | "
            f"{' | '.join(came)} | {pods_made}"
        )


FIGURES = Figures()
