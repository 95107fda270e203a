"""Durations that a Lobby gives in seconds, or as an expression whose value the origin tells (`secondsFrom`)."""

from __future__ import annotations

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import Expression, ExpressionError

Duration = float | Expression
"""Seconds, or an expression for them."""


def seconds_of(duration: Duration, known: Known, *, field: str, shortest: float, longest: float) -> float:
    """The value of a duration.

    Args:
        duration: the duration.
        known: what expressions know.
        field: the object that has it, for errors: `every[0]`.
        shortest: least seconds accepted of an expression.
        longest: most of them.

    Raises:
        ExpressionError: it has no value, or one that is not accepted.
    """
    if not isinstance(duration, Expression):
        return duration
    where = f"{field}.secondsFrom"
    try:
        value = duration.value(known.variables)
    except ExpressionError as error:
        raise ExpressionError(f"{where}: {error}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not shortest <= value <= longest:
        raise ExpressionError(f"{where}: {str(value)[:40]}; accepted: {shortest:g} to {longest:g}")
    return float(value)
