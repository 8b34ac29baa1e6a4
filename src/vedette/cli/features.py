"""Define, fill, look at and watch features: numbers about the entities of an event, as of its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.cli._settings import settings_of
from vedette.core.clock import MICROS, SystemClock, from_datetime, seconds_of
from vedette.core.errors import DataError, DefinitionError
from vedette.core.render import printable
from vedette.judge.models.model import load_model
from vedette.run.payments.backfill import backfill as run_backfill
from vedette.run.payments.consistency import check_served
from vedette.sense.features import profile
from vedette.sense.features.definition import FeatureSet, load_features, shipped
from vedette.sense.features.feature import MAX_WINDOW
from vedette.sense.features.replay import CHUNK, Replay, replay
from vedette.sense.features.state import Floats
from vedette.sense.features.table import event_times, read_table, read_tables, rows_of, to_labels
from vedette.serve.console.assets import assets

ECHARTS = "vendor/echarts.min.js"
MANY = 40
"""Most features that a terminal is shown of a comparison."""

EXAMPLES = """Examples:

  vedette features check my.yaml                          definitions: units, missing values, memory

  vedette features check my.yaml --served --share 0.1     what was served against the log; exit code 1 when it differs

  vedette features backfill --features my.yaml --events history.parquet --out train.parquet

  vedette features backfill --model model/ --events may.csv --events june.csv --until 2026-07-01 --json

  vedette features show my.yaml --events history.parquet --html profile.html

  vedette features diff old.yaml new.yaml --events history.parquet"""

Definitions = Annotated[str, typer.Argument(metavar="FEATURES", help="Definition file, or a source with shipped ones.")]
Events = Annotated[list[Path], typer.Option(metavar="FILE", help="History: Parquet, CSV, NDJSON (.gz), oldest first.")]
Tenant = Annotated[str, typer.Option(help="Whose features; that of the settings by default.")]
Home = Annotated[Path | None, typer.Option(help="Folder of the product's data; VEDETTE_HOME.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Delay = Annotated[str, typer.Option(metavar="LENGTH", help="From an event until its label is known, such as 7d.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="features", help=__doc__, no_args_is_help=True, epilog=EXAMPLES)
    for command in (check, backfill, show, diff):
        verb.command(name=command.__name__, epilog=EXAMPLES)(command)
    app.add_typer(verb)


def check(
    features: Definitions,
    *,
    served: Annotated[bool, typer.Option("--served", help="Compare recorded decisions with the log.")] = False,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of entities that are compared, by hash.")] = 1.0,
    log: Annotated[Path | None, typer.Option(metavar="DIR", help="Log to read; that of the home by default.")] = None,
    tenant: Tenant = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check definitions; with --served, check what was served against the log."""
    loaded = _load(features)
    if not served:
        _tell(loaded, as_json=as_json)
        return
    settings = settings_of(home)
    with progress() as report:
        found = check_served(settings, tenant or settings.tenant, loaded, share=share, log_folder=log, report=report)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        _print({"events": found.events, "fetches compared": found.sampled, "values": found.values})
        _print({"values that differ": found.mismatched, **found.features})
        for one in found.found:
            said = f"{one.event_id}@{one.seq} {one.feature}: served {one.served}, the log says {one.computed}"
            typer.echo(printable(said))
    if found.mismatched:
        raise typer.Exit(1)


def _tell(loaded: FeatureSet, *, as_json: bool) -> None:
    told = profile.tell(loaded)
    memory = {one.view: one.bytes_per_entity for one in told if one.bytes_per_entity}
    if as_json:
        found = {"version": loaded.version, "features": told, "bytes_per_entity": memory}
        typer.echo(msgspec.json.encode(found).decode())
        return
    table = Table("feature", "entity", "aggregation", "unit", "missing means", box=None)
    for one in told:
        table.add_row(one.name, one.entity, one.aggregation, one.unit, one.missing)
    Console().print(table)
    _print({f"bytes of one {view}, at most": most for view, most in memory.items()})


def backfill(
    *,
    events: Events,
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="Model whose features and delay count.")] = None,
    features: Annotated[str, typer.Option(metavar="FEATURES", help="Definitions, when there is no model.")] = "",
    delay: Delay = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the features of every row as Parquet; fill nothing.")
    ] = None,
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Labels known later have not come yet; now by default.")
    ] = "",
    tenant: Tenant = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fill a tenant's online features with labelled history, or write those of every row for training.

    Stop the service before filling. The state is what the service would hold had it taken every event, and every label
    when it became known; events that its log has are replayed over it at the next start. Again replaces the history.
    """
    settings = settings_of(home)
    if bool(model) == bool(features):
        raise DefinitionError("features.backfill.of_what", "say either `--model` or `--features`")
    loaded = load_model(model) if model else None
    definitions = loaded.feature_set if loaded else _load(features)
    waits = _length(delay) if delay or not loaded else loaded.label_delay
    with progress() as report:
        if out:
            done: Any = _write(definitions, events, waits, out, report)
        else:
            done = run_backfill(
                settings,
                tenant or settings.tenant,
                events,
                definitions,
                delay=waits,
                until=_time(until) if until else SystemClock().now(),
                report=report,
            )
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
        return
    _print(done if isinstance(done, dict) else asdict(done))


def _write(
    features: FeatureSet, events: Sequence[Path], delay: int, out: Path, report: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Features of every row with its event id and time, point in time, a row group for each piece."""
    total = rows_of(events)
    replay, writer, schema, matrix = Replay(features), None, None, None
    try:
        for table in read_tables(events, features, rows=CHUNK):
            labelled = features.label.path in table.column_names
            labels = to_labels(table, features, delay=delay) if labelled else None
            matrix = replay.take(table, labels, into=matrix)
            made = _told(features, table, matrix)
            schema = schema or made.schema
            writer = writer or pa.parquet.ParquetWriter(out, schema)
            if "event_id" in schema.names and "event_id" not in made.column_names:
                made = made.append_column("event_id", pa.nulls(len(made)))
            writer.write_table(made.select(schema.names).cast(schema))
            report("features", replay.rows, max(total, replay.rows))
    finally:
        if writer:
            writer.close()
    return {"rows": replay.rows, "features": len(features.names), "file": str(out)}


def _told(features: FeatureSet, table: pa.Table, matrix: Floats) -> pa.Table:
    columns: dict[str, Any] = {"event_time": pa.array(event_times(table, features), pa.timestamp("us"))}
    if features.event_id in table.column_names:
        columns = {"event_id": table[features.event_id], **columns}
    return pa.table(columns | {name: matrix[:, place] for place, name in enumerate(features.names)})


def show(
    features: Definitions,
    *,
    events: Events,
    delay: Delay = "7d",
    page: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how each feature lies over a history: counts, missing values, quantiles, histogram."""
    loaded = _load(features)
    with progress() as report:
        table = read_table(events, loaded)
        report("features", 0, 1)
        found = profile.profiles(loaded.names, _matrix(loaded, table, _length(delay)))
        report("features", 1, 1)
    units = {one.name: one.unit for one in profile.tell(loaded)}
    if page:
        held = assets().get(ECHARTS)
        text = profile.to_html(f"Features of {loaded.source}", units, found, held.body.decode() if held else "")
        page.write_text(text, encoding="utf-8")
    if as_json:
        typer.echo(msgspec.json.encode({"rows": len(table), "features": found}).decode())
        return
    shown = Table("feature", "unit", "missing", "1%", "median", "99%", "distribution", box=None)
    for one in found:
        cells = (f"{one.quantiles[rank]:,.4g}" if one.quantiles else "" for rank in ("1", "50", "99"))
        shown.add_row(one.name, units[one.name], f"{one.missing:.1%}", *cells, one.spark)
    Console().print(shown)


def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Definition file or source.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Definition file or source.")],
    *,
    events: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="History: compare values, not only definitions.")
    ] = None,
    delay: Delay = "7d",
    as_json: AsJson = False,
) -> None:
    """Show what differs between two definitions, and with --events how values move."""
    old, new = _load(before), _load(after)
    told = {one.name: one for one in profile.tell(old)}
    other = {one.name: one for one in profile.tell(new)}
    found: dict[str, Any] = {
        "added": sorted(other.keys() - told.keys()),
        "removed": sorted(told.keys() - other.keys()),
        "redefined": sorted(name for name in told.keys() & other.keys() if _defined(old, name) != _defined(new, name)),
    }
    if events:
        found["values"] = profile.differences(_columns(old, events, delay), _columns(new, events, delay))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    _print({name: ", ".join(found[name]) or "none" for name in ("added", "removed", "redefined")})
    shown = Table("feature", "PSI", "rows that differ", "missing before", "missing after", box=None)
    for one in found.get("values", [])[:MANY]:
        psi = "" if one.psi is None else f"{one.psi:.4f}"
        rows = "" if one.changed is None else f"{one.changed:.2%}"
        shown.add_row(one.name, psi, rows, f"{one.missing_before:.1%}", f"{one.missing_after:.1%}")
    if events:
        Console().print(shown)


def _defined(features: FeatureSet, name: str) -> tuple[Any, ...]:
    """What a feature's value follows from."""
    view, one = next((view, one) for view in features.views for one in view.features if one.name == name)
    field = features.fields[one.measure.field] if one.measure and one.measure.field >= 0 else None
    where = one.measure.where if one.measure else None
    own = (one.aggregation, one.window, one.include_current, one.argument, one.of)
    return (*own, field, where, view.keys, view.capacity, features.lateness, features.ahead, features.label)


def _columns(features: FeatureSet, events: Sequence[Path], delay: str) -> Mapping[str, Floats]:
    matrix = _matrix(features, read_table(events, features), _length(delay))
    return {name: np.ascontiguousarray(matrix[:, place]) for place, name in enumerate(features.names)}


def _matrix(features: FeatureSet, table: pa.Table, delay: int) -> Floats:
    labelled = features.label.path in table.column_names
    return replay(features, table, labels=to_labels(table, features, delay=delay) if labelled else None)


def _load(named: str) -> FeatureSet:
    path = Path(named)
    return load_features(path if path.suffix in (".yaml", ".yml") or path.exists() else shipped(named))


def _print(values: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    for name, value in values.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


def _length(text: str) -> int:
    seconds = seconds_of(text or "7d")
    if seconds is None or seconds * MICROS > MAX_WINDOW:
        raise DataError("features.time.invalid", f"`{text:.40}` is no length of time", hint="7d, 12h, 30m")
    return seconds * MICROS


def _time(text: str) -> int:
    try:
        return from_datetime(datetime.fromisoformat(text))
    except ValueError as error:
        hint = "write 2026-07-01 or 2026-07-01T12:00:00"
        raise DataError("features.time.invalid", f"`{text:.40}` is no time", hint=hint) from error
