"""Threat intelligence for other teams: what is known of a value, now or at a time; and hunts for it in the past."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from vedette.core.clock import DAY, to_iso
from vedette.core.errors import DataError
from vedette.run.hunting import DAYS, Hunt, shape_of
from vedette.run.intel import make_lookout
from vedette.sense.history import Span
from vedette.sense.intel.indicator import Tlp
from vedette.sense.intel.library import Asked, indicator_of
from vedette.sense.intel.library_tables import NEVER, Kept
from vedette.sense.intel.stix import to_stix
from vedette.sense.times import TimeFormat, parse_time
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, convert, reads, reply

router = APIRouter(prefix="/v1/intel", tags=["intelligence"])

MAX_HUNTED = 1_000
"""Most indicators of one hunt over HTTP."""


class IndicatorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One indicator."""

    id: str
    value: str
    """Its first value, canonically spelled."""
    kind: str
    name: str
    collection: str
    tlp: str
    confidence: int
    """0..100, as its author said."""
    score: float
    """Confidence now, or at `as_of`, by decay."""
    valid_from: str
    until: str
    """When it matches no more; empty: never."""
    labels: tuple[str, ...]
    held: str
    """Why it matches nothing; empty for one that matches."""
    known: str
    """When this version came."""


class HuntRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to look for in stored events: a value, or the indicators of a collection."""

    value: str = ""
    collection: str = ""
    days: int = DAYS


_HUNT = {"value": "evil.example", "days": 30}


@router.get("/indicators")
def list_indicators(
    *,
    caller: Annotated[Caller, allow("indicators", "read")],
    platform: Served,
    value: Annotated[str, Query(max_length=2_048, description="What they would match: a name, address, URL ...")] = "",
    kind: Annotated[str, Query(max_length=40, description="Such as `domain-name`.")] = "",
    collection: Annotated[str, Query(max_length=64)] = "",
    label: Annotated[str, Query(max_length=200, description="Such as `attack.t1566`.")] = "",
    as_of: Annotated[str, Query(max_length=40, description="ISO 8601: what was known then.")] = "",
    valid_at: Annotated[str, Query(max_length=40, description="Only what matches an event of then.")] = "",
    after: Annotated[str, Query(max_length=20, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """Indicators, in the order in which they came to be known. What is marked `red` is not among them."""
    if after and not after.isdecimal():
        raise DataError("intel.cursor.invalid", "not a `next` of a page before", at="after")
    asked = Asked(
        value=value,
        kind=kind,
        collection=collection,
        label=label,
        as_of=_time(as_of, "as_of"),
        valid_at=_time(valid_at, "valid_at"),
        within=Tlp.AMBER_STRICT,
    )
    start = int(after or 0)
    if start > NEVER:
        raise DataError("intel.cursor.invalid", "not a `next` of a page before", at="after")
    found = platform.library.indicators(caller.tenant, asked, after=start, limit=limit + 1)
    at = asked.as_of or platform.clock.now()
    following = str(found[limit - 1].seq) if len(found) > limit else ""
    rows = [_row(one, at) for one in found[:limit]]
    return reply({"data": rows, "has_more": bool(following), "next": following})


@router.get("/indicators/{indicator_id}")
def read_indicator(
    *,
    caller: Annotated[Caller, allow("indicators", "read")],
    indicator_id: Annotated[str, Path(description="`indicator--` and a UUID.")],
    platform: Served,
    as_of: Annotated[str, Query(max_length=40, description="ISO 8601: what was known then.")] = "",
) -> Response:
    """One indicator: its row, itself as STIX, and where it was seen."""
    at = _time(as_of, "as_of")
    kept = platform.library.get(caller.tenant, indicator_id, as_of=at)
    if kept.object.indicator is None or not kept.object.tlp.within(Tlp.AMBER_STRICT):
        platform.library.get(caller.tenant, "")
    shown = msgspec.structs.asdict(_row(kept, at or platform.clock.now()))
    stix = to_stix(kept.object, created=kept.added)
    seen = platform.library.sightings(caller.tenant, indicator_id)
    return reply({**shown, "stix": stix, "sightings": [{**one, "time": to_iso(one["time"])} for one in seen]})


@router.post("/hunts", openapi_extra=reads(HuntRequest, _HUNT))
def start_hunt(caller: Annotated[Caller, allow("indicators", "write")], body: JsonBody, platform: Served) -> Response:
    """Looks for indicators in stored events; what is found is one case."""
    wanted: HuntRequest = convert(body, HuntRequest)
    if not 1 <= wanted.days <= 3_650 or not (wanted.value or wanted.collection):  # noqa: PLR2004 - ten years
        raise DataError("intel.hunt.invalid", "a hunt names a value or a collection, and 1 to 3650 days")
    asked = Asked(value=wanted.value, collection=wanted.collection, held=False)
    found = platform.library.indicators(caller.tenant, asked, limit=MAX_HUNTED)
    lookout = make_lookout(platform.library, platform.clock, platform.sources)
    day = platform.clock.now() // DAY
    span = Span((day - wanted.days) * DAY, (day + 1) * DAY)
    return reply(shape_of(Hunt(platform, platform.store, lookout).run(caller.tenant, found, span)))


def _row(kept: Kept, at: int) -> IndicatorRow:
    own = indicator_of(kept)
    return IndicatorRow(
        id=own.id,
        value=own.value,
        kind=own.kind or "",
        name=own.name,
        collection=kept.collection,
        tlp=own.tlp,
        confidence=own.confidence,
        score=round(own.score(at), 1),
        valid_from=to_iso(own.valid_from),
        until=to_iso(own.until) if own.until < NEVER else "",
        labels=own.labels,
        held=own.held,
        known=to_iso(kept.added),
    )


def _time(text: str, at: str) -> int:
    if not text:
        return 0
    try:
        return parse_time(text, TimeFormat.ISO)
    except DataError as error:
        raise DataError("request.field.invalid", "no time of ISO 8601", at=f"$query.{at}") from error
