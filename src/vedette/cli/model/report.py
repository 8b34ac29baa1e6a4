"""Judge candidates in full and write the report: HTML to read, JSON to compute with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._progress import progress
from vedette.cli.model import _options
from vedette.judge.models import protocol
from vedette.judge.models.costs import Costs
from vedette.judge.models.evaluation import Asked, evaluate
from vedette.judge.models.history import Extras
from vedette.judge.models.metrics import ROUNDS
from vedette.judge.models.model import load_model
from vedette.judge.models.report import headline, to_html
from vedette.serve.console.assets import assets

ECHARTS = "vendor/echarts.min.js"
USUAL = Costs()

EXAMPLES = """Examples:

  vedette model report --model model/ --events history.parquet --test-start 2018-08-08 --out report/

  vedette model report --model model/ --model scorecard/ --model forest/ --events history.parquet --test-start 2018-08-08 --kind TX_FRAUD_SCENARIO --out report/

  vedette model report --model model/ --events history.parquet --test-start 2018-08-08 --friction 800 --json

The first model is told of in full; the others stand beside it with their average precision and latency. Costs are minor
units of the payments' currency. Intervals hold for other customers (95 %, whole customers drawn with replacement).
Exit codes: 0 done; 1 a probe found a leak."""  # noqa: E501 - a command stays on one line


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="report", epilog=EXAMPLES)(run)


def run(
    more: _options.More = None,
    *,
    model: Annotated[list[Path], typer.Option("--model", metavar="DIR", help="Model directory; repeat to compare.")],
    events: _options.Events,
    test_start: Annotated[str, typer.Option(metavar="DATE", help="First test day, UTC.")],
    test_days: Annotated[int, typer.Option(min=1, max=3_660, help="Test days.")] = 7,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where report.html and report.json go.")] = None,
    kind: _options.Kind = "",
    segment: _options.Segment = "",
    propensity: _options.Propensity = "",
    budget: Annotated[int, typer.Option(min=1, help="Alerts that people can look at in a day.")] = protocol.TOP,
    friction: Annotated[int, typer.Option(min=0, help="Cost of stopping a genuine payment.")] = USUAL.friction_minor,
    margin: Annotated[float, typer.Option(min=0, max=1, help="And this share of its amount.")] = USUAL.margin,
    dispute: Annotated[int, typer.Option(min=0, help="Cost of a dispute, besides the amount.")] = USUAL.dispute_minor,
    review: Annotated[int, typer.Option(min=0, help="Cost of looking at a stopped payment.")] = USUAL.review_minor,
    rounds: Annotated[int, typer.Option(min=0, max=10_000, help="Resamples of the intervals.")] = ROUNDS,
    probes: Annotated[bool, typer.Option(help="Train again to see that nothing leaks.")] = True,
    as_json: _options.Json = False,
) -> None:
    """Judge candidates in full and write the report."""
    models = [load_model(folder) for folder in model]
    asked = Asked(
        start=_options.to_day(test_start),
        days=test_days,
        budget=budget,
        costs=Costs(friction, margin, dispute, review),
        extras=Extras(kind=kind, propensity=propensity, segment=segment),
        rounds=rounds,
        probes=probes,
    )
    with progress() as report:
        table = _options.read([*events, *(more or ())], models[0].feature_set, report, asked.extras)
        found = evaluate(models, table, asked, report=report)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_bytes(msgspec.json.encode(found) + b"\n")
        held = assets().get(ECHARTS)
        (out / "report.html").write_text(to_html(found, held.body.decode() if held else ""), encoding="utf-8")
    _options.show(found if as_json else headline(found), as_json=as_json)
    if not all(probe["passed"] for probe in found["probes"].values()):
        raise typer.Exit(1)
