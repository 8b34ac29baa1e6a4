"""Try payment rules on files of past payments: what they would have decided, and what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._progress import counting
from vedette.cli.ingest import find_source
from vedette.cli.rules import _payment, _sets
from vedette.core.clock import SystemClock
from vedette.judge.backtest.payments import backtest
from vedette.judge.models.model import load_model
from vedette.judge.payment.rules import PaymentRules
from vedette.run.payments.shipped import set_for, shipped_sets
from vedette.run.payments.simulating import Simulation
from vedette.sense.sources import load_sources

EXAMPLES = """Examples:

  vedette rules simulate new.rules --events history.parquet                    # rules alone

  vedette rules simulate new.rules --against live.rules --model models/fraud --events history.parquet

  vedette rules simulate new.yaml --events history.csv --json | jq .moves

Payments go through features, model and rules as they would when served; nothing is kept. A truth that the records carry
(`TX_FRAUD`, or the label of the features' file) tells which were fraud. `rules backtest` asks the same of the payments
that an installation has decided on."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="simulate", epilog=EXAMPLES)(run)


def run(
    rules: Annotated[Path, typer.Argument(help="Payment rules: a YAML list, or one rule a line.")],
    *,
    events: Annotated[list[Path], typer.Option(help="Parquet, CSV or NDJSON, plain or .gz; in log order.")],
    against: Annotated[Path | None, typer.Option(help="Rules to compare with; none by default.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model directory, for the score.")] = None,
    lists: Annotated[Path | None, typer.Option(help="YAML file of the lists that rules name with @.")] = None,
    source: Annotated[str, typer.Option(help="Source of the records; the model's by default.")] = "",
    as_json: _sets.AsJson = False,
) -> None:
    """Try payment rules on files of past payments."""
    scorer = load_model(model) if model else None
    chosen = find_source(load_sources(), source or (scorer.source if scorer else "card_transactions"))
    names = scorer.feature_set.names if scorer else [n for each in shipped_sets(chosen.name) for n in each.names]
    new = _payment.read_set(rules, lists, names, chosen.name)
    old = _payment.read_set(against, lists, names, chosen.name) if against else PaymentRules()
    features = scorer.feature_set if scorer else set_for([new, old], chosen.name)
    with counting("payments") as tell:
        simulation = Simulation(chosen, features, scorer, old, SystemClock(), tell=tell)
        report = backtest(new, simulation.run(events), old=old)
    if as_json:
        typer.echo(msgspec.json.encode({**msgspec.to_builtins(report), "refused": simulation.refused}).decode())
        return
    _payment.print_payments(report)
    for code, count in simulation.refused.most_common():
        typer.echo(f"refused: {count:,} records [{code}]", err=True)
