"""Bars as a picture that any notebook shows, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, ROW, LABEL, EDGE = 720, 22, 220, 60
MAX_BARS = 50
_CUT = 32


@dataclass(frozen=True)
class Plot:
    """A picture."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def bars(labels: Sequence[str], values: Sequence[float], *, title: str) -> Plot:
    """One bar a label, in the order given; of more than 50 the first.

    Args:
        labels: What the bars are.
        values: How long they are; negative ones and those that are not numbers have no length.
        title: What the picture is about.
    """
    pairs = list(zip(labels, values, strict=True))[:MAX_BARS]
    most = max((value for _, value in pairs if value > 0), default=1.0)
    lines = [
        f'<text x="0" y="16" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, value) in enumerate(pairs, 1):
        top = number * ROW + 6
        length = (WIDTH - LABEL - EDGE) * value / most if value > 0 else 0.0
        short = label if len(label) <= _CUT else f"{label[:_CUT]}…"
        lines += [
            f'<text x="{LABEL - 8}" y="{top + 13}" text-anchor="end">{escape(short)}</text>',
            f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{ROW - 6}" fill="#3b6fd4"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{top + 13}">{value:g}</text>',
        ]
    height = (len(pairs) + 1) * ROW + 10
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
    return Plot(f'{begin} font-family="sans-serif" font-size="12" role="img">{"".join(lines)}</svg>')
