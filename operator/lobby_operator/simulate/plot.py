"""The plot of a simulation: an SVG file, without a library, since those who simulate rarely have one installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

from lobby_operator.simulate.tally import Report, Sample

_WIDTH, _LEFT, _RIGHT, _TOP, _PANEL, _GAP = 760, 78, 20, 46, 130, 44
_BLUE, _GREY, _ORANGE, _RED = "#1f77b4", "#888888", "#d9822b", "#c23030"


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a panel: its label, its color, and its value in each sample."""

    label: str
    color: str
    values: Sequence[float]
    filled: bool = False


def draw(report: Report, title: str) -> str:
    """The plot as SVG: clients, lobbies, and what it cost the clients, one above the other.

    Args:
        report: the result of a simulation.
        title: the heading.
    """
    samples = report.samples
    seconds = [sample.at for sample in samples]

    def each(value: Callable[[Sample], float]) -> list[float]:
        return [value(sample) for sample in samples]

    moves, refusals = _differences(each(lambda x: x.moves)), _differences(each(lambda x: x.refusals))
    panels = [
        (
            "clients",
            [
                _Line("with a seat", _BLUE, each(lambda x: x.clients), filled=True),
                _Line("waiting", _ORANGE, each(lambda x: x.waiting)),
            ],
        ),
        (
            "lobbies",
            [_Line("existing", _BLUE, each(lambda x: x.lobbies)), _Line("needed", _GREY, each(lambda x: x.needed))],
        ),
        (
            f"clients per {_duration(seconds[1] - seconds[0] if len(seconds) > 1 else 0.0)}",
            [_Line("moved", _BLUE, moves, filled=True), _Line("refused", _RED, refusals)],
        ),
    ]
    height = _TOP + len(panels) * (_PANEL + _GAP)
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(_LEFT, 20, title, size=13),
    ]
    for place, (name, lines) in enumerate(panels):
        top = _TOP + place * (_PANEL + _GAP)
        parts += _panel(name, lines, seconds, top, last=place == len(panels) - 1)
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, lines: list[_Line], seconds: list[float], top: int, *, last: bool) -> list[str]:
    bottom, right = top + _PANEL, _WIDTH - _RIGHT
    most = _ceiling(max(1.0, *(max(line.values, default=0.0) for line in lines)))
    span = max(seconds, default=0.0) or 1.0
    parts = [_text(_LEFT, top - 8, name)]
    label_at = float(right)
    for line in reversed(lines):
        parts.append(_text(label_at, top - 8, line.label, anchor="end", color=line.color))
        label_at -= 7.0 * len(line.label) + 14
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _PANEL
        parts += [
            f'<line x1="{_LEFT}" y1="{y:g}" x2="{right}" y2="{y:g}" stroke="#dddddd"/>',
            _text(_LEFT - 8, y + 4, _amount(most * share), anchor="end", color="#555555"),
        ]
    step = _step(span)
    ticks = [step * number for number in range(int(span / step) + 1)]
    for tick in ticks:
        x = _LEFT + tick / span * (right - _LEFT)
        parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#999999"/>')
        if last:
            parts.append(_text(x, bottom + 18, _duration(tick), anchor="middle", color="#555555"))
    for line in lines:
        points = " ".join(
            f"{_LEFT + at / span * (right - _LEFT):.1f},{bottom - value / most * _PANEL:.1f}"
            for at, value in zip(seconds, line.values, strict=True)
        )
        if line.filled:
            area = f"{_LEFT},{bottom} {points} {right},{bottom}"
            parts.append(f'<polygon points="{area}" fill="{line.color}" fill-opacity="0.15"/>')
        parts.append(f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="1.5"/>')
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = "#222222", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(text)}</text>'
    )


def _differences(values: list[float]) -> list[float]:
    return [0.0, *(after - before for before, after in pairwise(values))]


def _ceiling(value: float) -> float:
    """The next number with a short name: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if power * step >= value)


def _step(span: float) -> float:
    """Seconds between two ticks: at most ten of them."""
    return next((step for step in (60, 120, 300, 600, 900, 1800, 3600, 7200) if span / step <= 10), span / 5)


def _amount(value: float) -> str:
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min"
