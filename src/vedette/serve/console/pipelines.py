"""Pipelines: how far each stage is, what each source brought, and what could not be read."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from vedette.run.platform import Platform
from vedette.sense.quarantine import Quarantine
from vedette.serve.console.page import show
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

SHOWN = 50
"""Newest records in quarantine that are listed."""

router = APIRouter(tags=["console"], include_in_schema=False)


class StageRow(msgspec.Struct, frozen=True):
    """One stage of the loop."""

    name: str
    topic: str
    taken: int
    """Records since this process started."""
    lag: int
    """Records between its place and the end of the log."""
    failures: int
    """Errors that its guard caught since the start."""


class SourceRow(msgspec.Struct, frozen=True):
    """One source: read = stored + quarantined + duplicate."""

    name: str
    appended: int
    stored: int
    quarantined: int
    duplicate: int


@router.get("/pipelines")
def show_pipelines(
    request: Request, visitor: Annotated[Visitor, look("events", "read")], platform: Served
) -> HTMLResponse:
    """Stages, sources and quarantine."""
    total, reasons, newest = _quarantine(platform, visitor.tenant)
    return show(
        request,
        visitor,
        "pipelines.html",
        fragment="live",
        stages=_stages(platform),
        sources=_sources(platform),
        total=total,
        reasons=reasons,
        newest=newest,
        scans=platform.dataloss.places(visitor.tenant),
        losses=platform.dataloss.found(visitor.tenant, limit=SHOWN),
    )


def _stages(platform: Platform) -> list[StageRow]:
    lags, failures = platform.lags(), _samples(platform, "vedette_guard_failures_total", "where")
    return [
        StageRow(
            stage.name,
            stage.topic,
            int(platform.meters.value("vedette_consumer_records_total", consumer=stage.name)),
            lags[stage.name],
            failures.get(stage.name, 0),
        )
        for stage in platform.followers.begun
    ]


def _sources(platform: Platform) -> list[SourceRow]:
    def told(source: str, outcome: str) -> int:
        return int(platform.meters.value("vedette_source_records_total", source=source, outcome=outcome))

    rows = [
        SourceRow(name, *(told(name, outcome) for outcome in ("appended", "stored", "quarantined", "duplicate")))
        for name in platform.sources
    ]
    return sorted((row for row in rows if row.appended or row.stored or row.quarantined), key=lambda row: -row.stored)


def _samples(platform: Platform, name: str, label: str) -> dict[str, int]:
    """Sums of a counter by one of its labels."""
    found: dict[str, int] = {}
    for metric in platform.meters.registry.collect():
        for sample in metric.samples:
            if sample.name == name:
                found[sample.labels[label]] = found.get(sample.labels[label], 0) + int(sample.value)
    return found


def _quarantine(platform: Platform, tenant: str) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """How many records are in quarantine, how many by source and reason, and the newest of them without their bytes."""
    dataset = Quarantine(platform.store.folder).table.dataset([tenant])
    if dataset is None:
        return 0, [], []
    table = dataset.to_table(columns=["source", "ingest_time", "code", "message", "stream", "line", "offset", "size"])
    groups = table.group_by(["source", "code"]).aggregate([("code", "count"), ("ingest_time", "max")])
    reasons = groups.sort_by([("code_count", "descending")]).to_pylist()
    order = pc.sort_indices(table, sort_keys=[("ingest_time", "descending")])[:SHOWN]
    return table.num_rows, reasons, _plain(table.take(order))


def _plain(table: pa.Table) -> list[dict[str, Any]]:
    times = table["ingest_time"].cast(pa.int64())
    return table.set_column(table.schema.get_field_index("ingest_time"), "ingest_time", times).to_pylist()
