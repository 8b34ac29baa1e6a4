"""Make small data from a seed, find the attacks in its logs, train on its payments and decide the newest ones.

Runs the same verbs that you would, prints each command before its output, and leaves the data for you to try more.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from vedette.core.content import shipped
from vedette.core.errors import PermanentError
from vedette.demo.logs import write_cloudtrail, write_windows
from vedette.demo.transactions import write_transactions

START = datetime(2026, 3, 2, tzinfo=UTC)
HISTORY_DAYS = 38
"""Days of transactions: two weeks for features to fill, a week to train, a week of label delay, a week to evaluate."""
TEST_DAY = 30
TRAIN_DAY = TEST_DAY - 14
EVENTS = 2_000
Say = Callable[[str], None]
NEWEST = 10_000
"""Transactions that are decided, from the end of the history."""

RULES = """\
# One payment rule a line. Missing attributes never fire a rule.
block if :amount_in_usd: > 400 and :risk_score: >= 50
challenge if :amount_in_usd: > 250
review if :risk_score: >= 65
"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(
        name="demo",
        help="Make small data from a seed, find the attacks in its logs and decide its payments.",
        epilog="Examples: vedette demo · vedette demo --seed 7 --out /tmp/day --json",
    )(demo)


def demo(
    seed: Annotated[int, typer.Option(help="Same seed, same data.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the data and the model.")] = Path(".vedette/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Runs the whole of it."""
    out.mkdir(parents=True, exist_ok=True)
    say: Say = _silent if as_json else typer.echo
    windows, cloudtrail, cards, newest = (
        out / name for name in ("windows.ndjson", "cloudtrail.ndjson", "cards.csv", "newest.csv")
    )
    write_windows(windows, seed=seed, events=EVENTS, start=START)
    write_cloudtrail(cloudtrail, seed=seed, events=EVENTS, start=START)
    payments = write_transactions(cards, seed=seed, days=HISTORY_DAYS, start=START)
    (out / "rules.txt").write_text(RULES, encoding="utf-8")
    say(f"A day of {2 * EVENTS:,} log lines and {payments:,} card payments is in {out}\n")

    found = _detect(out, windows, cloudtrail, say)
    quality = _train(out, cards, say)
    _last(cards, newest, NEWEST)
    decided = _decide(out, newest, say)
    if as_json:
        typer.echo(json.dumps({"seed": seed, "detect": found, "model": quality, "decisions": decided}))


def _detect(out: Path, windows: Path, cloudtrail: Path, say: Say) -> dict[str, Any]:
    rules = shipped("rules/sigma")
    lines = _run(["detect", "--rules", str(rules), str(windows), str(cloudtrail), "--json"], say).splitlines()
    matches = [json.loads(line) for line in lines]
    say("")
    for match in matches:
        say(f"  {match['level']:>8}  {match['title']}  ({match['source']}:{match['line']})")
    say(f"\n{len(matches)} matches in {2 * EVENTS:,} log lines.\n")
    return {"events": 2 * EVENTS, "matches": dict(Counter(match["title"] for match in matches)), "data": str(out)}


def _train(out: Path, cards: Path, say: Say) -> dict[str, Any]:
    common = ["--events", str(cards)]
    train = (START + timedelta(days=TRAIN_DAY)).date().isoformat()
    test = (START + timedelta(days=TEST_DAY)).date().isoformat()
    model = str(out / "model")
    span = ["--train-start", train, "--train-days", "7", "--delay-days", "7"]
    _run(["model", "train", "--source", "card_transactions", *common, *span, "--out", model], say)
    week = ["--test-start", test, "--test-days", "7", "--json"]
    quality: dict[str, Any] = json.loads(_run(["model", "evaluate", "--model", model, *common, *week], say))
    naive, found = quality["naive_baseline"], quality["recall_at_fpr"]["0.01"]
    say(
        f"\n  Average precision {quality['ap']:.3f}; {found:.0%} of the fraud is found when 1 % of the good payments"
        f" may be disturbed.\n  Saying `never fraud` is {naive['accuracy']:.1%} accurate, finds"
        f" {naive['recall']:.0%} and has an average precision of {naive['ap']:.3f}.\n"
    )
    return quality


def _decide(out: Path, newest: Path, say: Say) -> dict[str, Any]:
    arguments = ["decide", "--model", str(out / "model"), "--rules", str(out / "rules.txt"), "--events", str(newest)]
    decisions = [json.loads(line) for line in _run([*arguments, "--json"], say).splitlines()]
    actions = Counter(decision["action"] for decision in decisions)
    say("")
    for action, count in actions.most_common():
        say(f"  {action:>9}  {count:,}")
    worst = max(decisions, key=lambda decision: decision["score"] or 0)
    say(f"\nThe riskiest payment, {worst['event_id']}: {worst['action']} at risk score {worst['risk_score']}, because")
    for reason in worst["reasons"][:3]:
        say(f"  {reason['weight']:+.2f}  {reason['text']}")
    return {"actions": dict(actions), "riskiest": worst["event_id"]}


def _silent(_text: str) -> None:
    """Says nothing: the answer is one JSON object."""


def _run(arguments: list[str], say: Say) -> str:
    """Runs a verb as its own process and gives what it printed."""
    say(f"$ vedette {' '.join(arguments)}")
    done = subprocess.run(  # noqa: S603 - our own program with arguments made here
        [sys.executable, "-m", "vedette", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PermanentError("demo.verb.failed", f"`vedette {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout


def _last(source: Path, target: Path, rows: int) -> None:
    with source.open(newline="", encoding="utf-8") as file:
        header, *body = csv.reader(file)
    with target.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *body[-rows:]])
