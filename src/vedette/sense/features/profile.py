"""A look at the data: how each feature lies over a table, and what changed between two definitions or two tables.

Example:
    >>> import numpy as np
    >>> one = profile_of("x", np.array([1.0, 2.0, 3.0, float("nan")]))
    >>> one.rows, one.missing, one.quantiles["50"], one.distinct
    (4, 0.25, 2.0, 3)
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from vedette.core.clock import MICROS
from vedette.sense.features.feature import FeatureSet
from vedette.sense.features.state import Floats, compile_plan

BINS = 20
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
PSI_BINS = 10
SMALLEST_SHARE = 1e-4
"""A bin without rows counts as having this share, so that the index stays finite."""
_BARS = " ▁▂▃▄▅▆▇█"


class Told(msgspec.Struct, frozen=True):
    """What a definition says of a feature."""

    name: str
    view: str
    entity: str
    key: str
    aggregation: str
    window_s: float
    """0: none, or all time."""
    unit: str
    missing: str
    """What a missing value means; empty when it never is, once the event names the entity."""
    bytes_per_entity: int
    """Most memory of an entity of its view, events and labels, shared by all features of the view."""


class Profile(msgspec.Struct, frozen=True):
    """How one feature lies."""

    name: str
    rows: int
    missing: float
    """Share of rows, 0..1."""
    zero: float
    """Share of rows."""
    distinct: int
    mean: float | None
    least: float | None
    greatest: float | None
    quantiles: dict[str, float]
    edges: list[float]
    """Of the histogram: from the 1st to the 99th percentile; what is outside counts at the ends."""
    counts: list[int]

    @property
    def spark(self) -> str:
        """The histogram in one line of a terminal."""
        most = max(self.counts, default=0)
        return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] if most else " " for count in self.counts)


class Difference(msgspec.Struct, frozen=True):
    """One feature in two tables."""

    name: str
    psi: float | None
    """Population stability index: below .1 alike, above .25 another population. None without values on a side."""
    missing_before: float
    missing_after: float
    changed: float | None
    """Share of rows whose value differs, when both tables have the same rows."""


def tell(features: FeatureSet) -> list[Told]:
    """Every feature as its definition says it is."""
    plan = compile_plan(features)
    return [
        Told(
            name=one.name,
            view=view.name,
            entity=view.entity,
            key=view.key,
            aggregation=str(one.aggregation),
            window_s=one.window / MICROS,
            unit=one.unit,
            missing=one.missing,
            bytes_per_entity=sum(plan.bytes_of(place)),
        )
        for place, view in enumerate(features.views)
        for one in view.features
    ]


def profile_of(name: str, values: Floats) -> Profile:
    """The profile of one feature's values."""
    held = values[~np.isnan(values)]
    quantiles, edges, counts = {}, [0.0, 0.0], [0] * BINS
    if len(held):
        found = np.percentile(held, QUANTILES)
        quantiles = {str(rank): float(value) for rank, value in zip(QUANTILES, found, strict=True)}
        low, high = float(found[0]), float(found[-1])
        high = high if high > low else low + 1.0
        count, bins = np.histogram(np.clip(held, low, high), BINS, (low, high))
        edges, counts = bins.tolist(), count.tolist()
    return Profile(
        name=name,
        rows=len(values),
        missing=(len(values) - len(held)) / len(values) if len(values) else 0.0,
        zero=float((held == 0).sum() / len(values)) if len(values) else 0.0,
        distinct=len(np.unique(held)),
        mean=float(held.mean()) if len(held) else None,
        least=float(held.min()) if len(held) else None,
        greatest=float(held.max()) if len(held) else None,
        quantiles=quantiles,
        edges=edges,
        counts=counts,
    )


def profiles(names: Sequence[str], matrix: Floats) -> list[Profile]:
    """One profile for each column."""
    return [profile_of(name, matrix[:, place]) for place, name in enumerate(names)]


def differences(before: Mapping[str, Floats], after: Mapping[str, Floats]) -> list[Difference]:
    """Features that both tables have, those that moved most first."""
    found = [_difference(name, before[name], after[name]) for name in before if name in after]
    return sorted(found, key=lambda one: (-(one.psi or 0.0), -(one.changed or 0.0), one.name))


def _difference(name: str, left: Floats, right: Floats) -> Difference:
    same = None
    if len(left) == len(right) and len(left):
        same = float((~((left == right) | (np.isnan(left) & np.isnan(right)))).mean())
    return Difference(
        name=name,
        psi=_psi(left, right),
        missing_before=float(np.isnan(left).mean()) if len(left) else 0.0,
        missing_after=float(np.isnan(right).mean()) if len(right) else 0.0,
        changed=same,
    )


def _psi(left: Floats, right: Floats) -> float | None:
    """Over bins of equally many values of `left`; missing values are a bin of their own."""
    held = left[~np.isnan(left)]
    if not len(held) or not len(right):
        return None
    cuts = np.unique(np.quantile(held, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
    shares = []
    for values in (left, right):
        bins = np.where(np.isnan(values), len(cuts) + 1, np.searchsorted(cuts, values, side="left"))
        shares.append(np.maximum(np.bincount(bins, minlength=len(cuts) + 2) / len(values), SMALLEST_SHARE))
    one, other = shares
    return float(((other - one) * np.log(other / one)).sum())


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:15px system-ui;margin:2rem;color-scheme:light dark}}table{{border-collapse:collapse}}
td,th{{padding:.2rem .8rem .2rem 0;text-align:left;font-variant-numeric:tabular-nums}}.plot{{width:16rem;height:4rem}}
</style><h1>{title}</h1><p>{rows} rows, {count} features</p>
<table><thead><tr><th>feature<th>unit<th>missing<th>median<th>1% to 99%<th>distribution</tr></thead>
<tbody>{body}</tbody></table>
<script type="application/json" id="data">{data}</script><script>{echarts}</script><script>{script}</script></html>"""
_SCRIPT = """
for (const one of JSON.parse(document.getElementById('data').textContent)) {
  const plot = window.echarts && echarts.init(document.getElementById('plot-' + one.name), null, {renderer: 'svg'});
  if (plot) plot.setOption({animation: false, grid: {left: 0, right: 0, top: 4, bottom: 4}, tooltip: {trigger: 'axis'},
    xAxis: {type: 'category', show: false, data: one.counts.map((_, n) => one.edges[n].toPrecision(4))},
    yAxis: {type: 'value', show: false}, series: [{type: 'bar', barCategoryGap: '5%', data: one.counts}]});
}
"""


def to_html(title: str, units: Mapping[str, str], found: Sequence[Profile], echarts: str) -> str:
    """The profiles as one page that fetches nothing.

    Args:
        title: Heading; text, whatever stands in it.
        units: Unit of each feature.
        found: From `profiles`.
        echarts: The library's text; without it distributions are shown as characters.
    """
    rows = []
    for one in found:
        spread = f"{one.quantiles['1']:,.4g} to {one.quantiles['99']:,.4g}" if one.quantiles else ""
        middle = f"{one.quantiles['50']:,.4g}" if one.quantiles else ""
        cells = (one.name, units.get(one.name, ""), f"{one.missing:.1%}", middle, spread)
        drawn = f'<td><div class="plot" id="plot-{html.escape(one.name)}">{html.escape(one.spark)}</div>'
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in cells) + drawn + "</tr>")
    data = json.dumps([{"name": one.name, "edges": one.edges, "counts": one.counts} for one in found])
    return _PAGE.format(
        title=html.escape(title),
        rows=f"{found[0].rows:,}" if found else "0",
        count=len(found),
        body="".join(rows),
        data=data.replace("<", "\\u003c"),
        echarts=echarts.replace("</script", "<\\/script"),
        script=_SCRIPT,
    )
