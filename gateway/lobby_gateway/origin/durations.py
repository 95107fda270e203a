"""Durations that a Lobby gives in seconds, or as an expression whose value the origin tells (`secondsFrom`)."""

from __future__ import annotations

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import Expression, ExpressionError, kind_of

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
    try:
        return as_seconds(duration.value(known.variables), shortest, longest)
    except ExpressionError as error:
        raise ExpressionError(f"{field}.secondsFrom: {error}") from None


def as_seconds(value: object, shortest: float, longest: float) -> float:
    """Checks the value of an expression for seconds.

    Raises:
        ExpressionError: it is not accepted.
    """
    accepted = f"accepted: {shortest:g} to {longest:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExpressionError(f"the value is {kind_of(value)}; {accepted}")
    if not shortest <= value <= longest:
        raise ExpressionError(f"{str(value)[:40]}; {accepted}")
    return float(value)
