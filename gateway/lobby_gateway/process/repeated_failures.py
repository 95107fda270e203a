"""Which of many failures are worth a line in the log: each problem once, then a reminder with their number. Pure.

What fails every ten seconds may fail for hours, and a line each time would bury all others. So each problem is logged when it
is seen first; then there is a reminder now and then, and a line when it works again, with the number of failures. What fails
again soon after it worked continues its series, so that something that comes and goes isn't logged each time either. Of what
others do wrong (requests with bad tokens, for instance), nobody says that it works again: its series ends with a pause.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lobby_gateway.settings import RepeatSettings

Fields = dict[str, Any]
"""Fields of a line in the log, for `extra`."""

_NUMBER = re.compile(r"\d+([.]\d+)?")


class RepeatedFailures:
    """The failures of one thing that is tried again and again.

    Args:
        clock: returns the time in seconds, from any start.
        settings: times and limits.
        lapses: nobody calls `worked`; a series ends when there was no failure for `remind_seconds`.

    Attributes:
        count: failures of the current series.
    """

    def __init__(
        self, clock: Callable[[], float], settings: RepeatSettings | None = None, *, lapses: bool = False
    ) -> None:
        self.count = 0
        self._lapses = lapses
        self._clock = clock
        self._settings = settings or RepeatSettings()
        self._known: set[str] = set()
        self._began_at = 0.0  # the series
        self._fails_since: float | None = None  # None: it works
        self._failed_at = 0.0
        self._worked_at = 0.0
        self._logged_at = 0.0
        self._is_told = False  # that it fails now

    @property
    def fails(self) -> bool:
        """Whether the latest attempt failed."""
        return self._fails_since is not None

    def failed(self, problem: str) -> Fields | None:
        """Counts a failure; returns the fields of a line to log, None if it is not worth one.

        Args:
            problem: what is wrong. Other numbers don't make it another problem.
        """
        now, settings = self._clock(), self._settings
        if self._lapses and now - self._failed_at >= settings.remind_seconds:
            self._fails_since, self._worked_at = None, self._failed_at
        self._failed_at = now
        if self._fails_since is None:
            if now - self._worked_at >= settings.settle_seconds or not self.count:
                self._known.clear()
                self.count = 0
                self._began_at = now
            self._fails_since = now
            self._is_told = False
        self.count += 1
        text = _NUMBER.sub("0", problem)
        is_new = text not in self._known and len(self._known) < settings.max_problems
        is_lasting = not self._is_told and now - self._fails_since >= settings.settle_seconds
        if not (is_new or is_lasting or now - self._logged_at >= settings.remind_seconds):
            return None
        self._known.add(text)
        self._logged_at = now
        self._is_told = True
        return {"problem": problem, **(self._counted(now) if self.count > 1 else {})}

    def worked(self) -> Fields | None:
        """Notes a success; returns the fields of a line to log, None if nobody was told that it failed."""
        if self._fails_since is None:
            return None
        self._worked_at = self._clock()
        self._fails_since = None
        return self._counted(self._worked_at) if self._is_told else None

    def _counted(self, now: float) -> Fields:
        return {"failures": self.count, "seconds": round(now - self._began_at, 1)}
