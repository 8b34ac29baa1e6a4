"""The report: an evaluation as one HTML file that needs nothing else and runs no script but its own.

Whatever stands in the data (names of segments, kinds of fraud) may have been written by an attacker: it is escaped
where it is shown, and where it is data for a script it cannot end the element it stands in.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
PROBES = {
    "one_feature": "no single feature knows it all",
    "unknown_labels": "labels that nobody knows yet change nothing",
    "shuffled_labels": "shuffled labels teach nothing",
    "strangers": "customers never seen in training are scored as well",
}
NAMES = {
    "ap": "average precision",
    "auc": "ROC AUC",
    "f1": "best F1",
    "recall_at_fpr_0.001": "recall at 0.1 % false positives",
    "recall_at_fpr_0.005": "recall at 0.5 % false positives",
    "recall_at_fpr_0.01": "recall at 1 % false positives",
    "recall_at_precision_0.5": "recall at precision 0.5",
    "recall_at_precision_0.9": "recall at precision 0.9",
    "precision_at_budget": "precision at the alert budget",
}


def headline(found: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that a person looks at first."""
    money = found["money"]
    return {
        "model": found["model"]["id"],
        "test": found["test"],
        "metrics": {name: _interval(value) for name, value in found["metrics"].items()},
        "naive_baseline": found["naive_baseline"],
        "ece": found["reliability"]["ece"],
        "money": {
            "threshold": _interval(money["threshold"]),
            "saved": _interval(money["saved_minor"], 1 / 100, 2),
            "good_users_hurt": money["good_users_hurt"],
        },
        "kinds": {kind: one["recall"] for kind, one in found["kinds"].items()},
        "probes": {name: "passed" if one["passed"] else "FAILED" for name, one in found["probes"].items()},
    }


def to_html(found: Mapping[str, Any], echarts: str) -> str:
    """The report as one page.

    Args:
        found: From `evaluate`.
        echarts: The library's text; without it the page has its tables and no charts.
    """
    data = json.dumps(found, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    scripts = [text for text in (echarts, (_FOLDER / "report.js").read_text(encoding="utf-8")) if text]
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    hashes = " ".join(_source(text) for text in scripts)
    # ECharts sets styles of the elements it makes; scripts are named by their hashes, and nothing is fetched.
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    model, test = found["model"], found["test"]
    title = f"Model {model['id']}"
    return "".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{_text(title)}</title><style>{style}</style><h1>{_text(title)}</h1>",
            f"<p>{_text(_about(model, test))}</p>",
            *_sections(found),
            f'<script type="application/json" id="evaluation">{data}</script>',
            *(f"<script>{text}</script>" for text in scripts),
            "</html>\n",
        ]
    )


def _about(model: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    return (
        f"{model['learner']}, {model['features']} features, judged on {test['rows']:,} payments of"
        f" {test['customers']:,} customers in {test['days']} days from {test['first_day']},"
        f" {test['frauds']:,} of them fraud ({test['base_rate']:.3%}). Intervals: 95 %, whole customers drawn."
    )


def _sections(found: Mapping[str, Any]) -> Iterable[str]:
    money, naive = found["money"], found["naive_baseline"]
    yield "<h2>Quality</h2>"
    yield "<p>The baseline calls every payment genuine: its accuracy is splendid, and it catches nothing.</p>"
    rows = [(NAMES.get(name, name), _interval(one), "") for name, one in found["metrics"].items()]
    rows[0] = (*rows[0][:2], f"{naive['ap']:.4f}")
    rows.append(("CP@100: compromised customers among the 100 riskiest of a day", f"{found['cp100']:.4f}", ""))
    rows.append(("accuracy", "", f"{naive['accuracy']:.4%}, recall 0"))
    yield _table(("", "model", "all genuine"), rows)
    if rare := found["rare"]:
        told = [(NAMES.get(name, name), _interval(rare[name])) for name in ("ap", "recall_at_fpr_0.001")]
        yield f"<h2>At a base rate of {rare['base_rate']:.1%}</h2><p>Every genuine payment kept, frauds thinned.</p>"
        yield _table(("", "model"), told)
    yield '<div class="two"><div><h2>Precision and recall</h2><div class="chart" id="pr"></div></div>'
    yield '<div><h2>Calibration</h2><div class="chart" id="reliability"></div></div></div>'
    yield f"<p>Expected calibration error {found['reliability']['ece']:.5f}.</p>"
    yield '<h2>Money</h2><div class="chart" id="money"></div>'
    yield _table(("", ""), _money_rows(money))
    if found["kinds"]:
        kinds = [
            (kind, one["frauds"], f"{one['recall']:.3f}", f"{one['recall_at_fpr_0.001']:.3f}")
            for kind, one in found["kinds"].items()
        ]
        yield "<h2>Kinds of fraud</h2>"
        yield _table(("kind", "frauds", "recall at the threshold", "recall at 0.1 % false positives"), kinds)
    yield "<h2>Segments</h2><p>What the common threshold does in each, and what one of its own would save.</p>"
    yield _table(
        ("segment", "payments", "frauds", "recall", "false positives", "own threshold", "saved with it"),
        [_segment(name, one) for name, one in found["segments"].items()],
    )
    yield '<h2>Candidates</h2><div class="chart" id="candidates"></div>'
    yield _table(
        ("model", "learner", "average precision", "p50 µs", "p99 µs"),
        [
            (one["id"], one["learner"], _interval(one["ap"]), f"{one['p50_us']:.1f}", f"{one['p99_us']:.1f}")
            for one in found["candidates"]
        ],
    )
    if found["probes"]:
        yield "<h2>Probes</h2>" + "".join(_probe(name, one) for name, one in found["probes"].items())


def _money_rows(money: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("stop from a score of", _interval(money["threshold"])),
        ("saved", _interval(money["saved_minor"], 1 / 100, 2)),
        ("lost without a model", f"{money['lost_without_model_minor'] / 100:,.2f}"),
        ("fraud prevented", f"{money['prevented_minor'] / 100:,.2f}"),
        ("payments stopped", f"{money['stopped']:,}"),
        ("good users hurt", f"{money['good_users_hurt']:,} ({money['hurt_share']:.3%})"),
    ]


def _segment(name: str, one: Mapping[str, Any]) -> tuple[Any, ...]:
    recall = one.get("recall")
    return (
        name,
        one["rows"],
        one["frauds"],
        "" if recall is None else f"{recall:.3f}",
        f"{one.get('false_positive_rate', 0.0):.3%}",
        _interval(one["threshold"]) if "threshold" in one else "too few frauds",
        _interval(one["saved_minor"], 1 / 100, 2) if "saved_minor" in one else "",
    )


def _probe(name: str, one: Mapping[str, Any]) -> str:
    mark = '<b class="yes">passed</b>' if one["passed"] else '<b class="no">failed</b>'
    shown = ", ".join(
        f"{key.replace('_', ' ')} {value:.4f}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in one.items()
        if key != "passed"
    )
    return f"<p>{mark} {_text(PROBES.get(name, name))}: {_text(shown)}</p>"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def cells(tag: str, row: Sequence[Any]) -> str:
        return "".join(f"<{tag}{' class=n' if place else ''}>{_text(cell)}</{tag}>" for place, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def _interval(one: Mapping[str, Any], scale: float = 1.0, digits: int = 4) -> str:
    value = f"{one['value'] * scale:,.{digits}f}"
    return (
        value
        if "low" not in one
        else f"{value} ({one['low'] * scale:,.{digits}f} to {one['high'] * scale:,.{digits}f})"
    )


def _text(value: object) -> str:
    return html.escape(f"{value:,}" if isinstance(value, int) else str(value))


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page(title: str, across: str, up: str, series: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """A page of one chart of lines, drawn as SVG: for a plot that a benchmark leaves behind.

    Args:
        title: Of the page.
        across: What the horizontal axis counts, from 0.
        up: What the vertical axis counts.
        series: Name -> points.
    """
    width, height, left, low = 720, 400, 60, 350
    points = [point for line in series.values() for point in line]
    right = max(point[0] for point in points) or 1.0
    floor, top = min(point[1] for point in points), max(point[1] for point in points)
    floor, top = floor - 0.1 * (top - floor), top + 0.1 * (top - floor) or 1.0

    def place(point: Sequence[float]) -> tuple[float, float]:
        return left + point[0] / right * (width - left - 20), low - (point[1] - floor) / (top - floor or 1) * (low - 40)

    colors = ("#2f81f7", "#d29922", "#3fb950", "#f85149")
    drawn = []
    for at, (name, line) in enumerate(series.items()):
        places = [place(point) for point in line]
        color = colors[at % len(colors)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        drawn += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
            f'<text x="{x + 6:.1f}" y="{y - 8:.1f}">{point[0]:g}: {point[1]:.3f}</text>'
            for (x, y), point in zip(places, line, strict=True)
        ]
        drawn.append(f'<text x="{left + 10 + 320 * at}" y="20" fill="{color}">{_text(name)}</text>')
    axes = f'<path d="M{left} 30V{low}H{width - 10}" fill="none" stroke="currentColor"/>'
    words = f'<text x="{left}" y="{height - 15}">{_text(across)}; {_text(up)}</text>'
    style = (_FOLDER / "report.css").read_text(encoding="utf-8") + "text { fill: currentColor; font-size: 12px; }"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title><style>{style}</style>'
        f'<h1>{_text(title)}</h1><svg viewBox="0 0 {width} {height}" role="img">{axes}{words}{"".join(drawn)}</svg>\n'
    )
