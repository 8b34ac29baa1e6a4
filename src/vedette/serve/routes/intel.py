"""Threat intelligence for other teams: what is known of a value, now or at a time; and hunts for it in the past."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Response

from vedette.core.clock import DAY, to_iso
from vedette.core.errors import DataError, NotFoundError
from vedette.run.intel.actors import coverage_of, find_actor, find_actors, make_profile
from vedette.run.intel.hunting import DAYS, Hunt, shape_of
from vedette.run.intel.indicators import make_lookout
from vedette.run.platform import Platform
from vedette.sense.history import Span
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.attack import Attack
from vedette.sense.intel.bundle import kept_attack
from vedette.sense.intel.collections import Collection
from vedette.sense.intel.indicator import Tlp
from vedette.sense.intel.library import indicator_of
from vedette.sense.intel.library_tables import NEVER, Kept
from vedette.sense.intel.stix import to_stix
from vedette.sense.times import TimeFormat, parse_time
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import MAX_PAGE, JsonBody, convert, reads, reply

router = APIRouter(prefix="/v1/intel", tags=["intelligence"])

MAX_HUNTED = 1_000
"""Most indicators of one hunt over HTTP."""
MAX_REASON = 200


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
    versions = [
        _version(one) for one in platform.library.versions(caller.tenant, indicator_id) if not at or one.added <= at
    ]
    sightings = [{**one, "time": to_iso(one["time"])} for one in seen]
    return reply({**shown, "stix": stix, "versions": versions, "sightings": sightings})


class HoldRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an indicator is to match nothing; empty to let it go again."""

    reason: str


@router.post("/indicators/{indicator_id}/hold", openapi_extra=reads(HoldRequest, {"reason": "our own proxy"}))
def hold_indicator(
    *,
    caller: Annotated[Caller, allow("indicators", "write")],
    indicator_id: Annotated[str, Path(description="`indicator--` and a UUID.")],
    body: JsonBody,
    platform: Served,
) -> Response:
    """Holds an indicator back, or lets one go that a person held back; it stays so when its author changes it."""
    wanted: HoldRequest = convert(body, HoldRequest)
    kept = platform.library.hold(caller.tenant, indicator_id, reason_of(wanted.reason))
    return reply(msgspec.structs.asdict(_row(kept, platform.clock.now())))


@router.get("/collections")
def list_collections(caller: Annotated[Caller, allow("indicators", "read")], platform: Served) -> Response:
    """The collections: what each holds, what it follows, when it looked there last, and why that failed."""
    counts = platform.library.count_each(caller.tenant)
    found = platform.library.collections(caller.tenant)
    return reply({"data": [_collection(one, *counts.get(one.name, (0, 0))) for one in found]})


@router.get("/actors")
def list_actors(
    *,
    caller: Annotated[Caller, allow("indicators", "read")],  # noqa: ARG001 - asks the policy
    platform: Served,
    name: Annotated[str, Query(max_length=200, description="A part of an id, name or alias.")] = "",
    technique: Annotated[str, Query(max_length=20, description="Such as `T1566.001`, old or new.")] = "",
    after: Annotated[str, Query(max_length=20, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """The groups of the imported ATT&CK, by name."""
    if after and not after.isdecimal():
        raise DataError("intel.cursor.invalid", "not a `next` of a page before", at="after")
    start = int(after or 0)
    found = find_actors(_attack(platform), name, technique)
    rows = [
        {"id": one.id, "name": one.name, "aliases": list(one.aliases), "techniques": len(one.techniques)}
        for one in found[start : start + limit]
    ]
    following = str(start + limit) if start + limit < len(found) else ""
    return reply({"data": rows, "has_more": bool(following), "next": following})


@router.get("/actors/{actor}")
def read_actor(
    *,
    caller: Annotated[Caller, allow("indicators", "read")],
    actor: Annotated[str, Path(description="Id, name or alias of a group of ATT&CK.")],
    platform: Served,
) -> Response:
    """An actor's techniques, whether a rule that runs would tell of each, the alerts there were, and its indicators."""
    attack = _attack(platform)
    found = make_profile(
        attack,
        find_actor(attack, actor),
        coverage_of(platform, caller.tenant, attack),
        hits=lambda rule: platform.alerts.count_of(caller.tenant, rule),
        library=platform.library,
        tenant=caller.tenant,
        within=Tlp.AMBER_STRICT,
    )
    now = platform.clock.now()
    return reply({**msgspec.structs.asdict(found), "indicators": [_row(one, now) for one in found.indicators]})


@router.get("/hunts")
def list_hunts(
    *,
    caller: Annotated[Caller, allow("indicators", "read")],
    platform: Served,
    before: Annotated[str, Query(max_length=40, description="`next` of the page before: ISO 8601.")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> Response:
    """Hunts in stored events, the newest run first; also those that a server did by itself for what arrived."""
    found = platform.library.hunts(caller.tenant, limit=limit + 1, before=_time(before, "before"))
    rows = [{**one, **{name: to_iso(one[name]) for name in ("time", "start", "end")}} for one in found[:limit]]
    following = rows[-1]["time"] if len(found) > limit else ""
    return reply({"data": rows, "has_more": bool(following), "next": following})


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


def _attack(platform: Platform) -> Attack:
    imported = kept_attack(platform.settings.home)
    if imported is None:
        raise NotFoundError("intel.attack.missing", "no ATT&CK is imported", hint="vedette intel import attack FILE")
    return imported.attack


def _version(kept: Kept) -> dict[str, Any]:
    own = indicator_of(kept)
    return {
        "known": to_iso(kept.added),
        "superseded": to_iso(kept.superseded) if kept.superseded < NEVER else "",
        "confidence": own.confidence,
        "valid_from": to_iso(own.valid_from),
        "until": to_iso(own.until) if own.until < NEVER else "",
        "seen": to_iso(own.seen) if own.seen else "",
        "held": own.held,
    }


def _collection(own: Collection, indicators: int, held: int) -> dict[str, Any]:
    return {
        "id": own.id,
        "name": own.name,
        "title": own.title,
        "tlp": own.tlp,
        "confidence": own.confidence,
        "indicators": indicators,
        "held": held,
        "follows": own.url,
        "every_s": own.every,
        "polled": to_iso(own.polled) if own.polled else "",
        "problem": own.problem,
    }


def reason_of(text: str, *, needed: bool = False) -> str:
    """Why a person holds an indicator back, as it is kept.

    Raises:
        DataError: `intel.hold.reason`.
    """
    plain = " ".join(text.split())
    if len(plain) > MAX_REASON or (needed and not plain):
        raise DataError("intel.hold.reason", f"say why it is to match nothing, in at most {MAX_REASON} characters")
    return plain


def _time(text: str, at: str) -> int:
    if not text:
        return 0
    try:
        return parse_time(text, TimeFormat.ISO)
    except DataError as error:
        raise DataError("request.field.invalid", "no time of ISO 8601", at=f"$query.{at}") from error
