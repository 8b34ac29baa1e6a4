"""TAXII 2.1: other programs read and write the tenant's collections of intelligence.

Each tenant is an API root and sees no other's. What is marked `red` never leaves by this way.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Request, Response

from vedette.core.errors import DataError, NotFoundError
from vedette.prove.access import permit
from vedette.prove.dlp import refuse_pans
from vedette.run.platform import Platform
from vedette.sense.intel.collections import Collection
from vedette.sense.intel.library_tables import Kept
from vedette.sense.intel.shelf import (
    ALL,
    FIRST,
    LAST,
    MAX_OBJECTS,
    Wanted,
    fetch_page,
    from_next,
    keep_status,
    kept_status,
    raw_of,
    stamp,
    to_next,
    version_of,
)
from vedette.sense.intel.stix import Default, Object, Refused, parse_bundle
from vedette.sense.times import TimeFormat, parse_time
from vedette.serve.body import MAX_PUSH
from vedette.serve.policy import Caller, Served
from vedette.serve.taxii import MEDIA, STIX_MEDIA, TaxiiBody, allow_taxii, taxii_reply

router = APIRouter(prefix="/taxii2", tags=["taxii"])

_FILTERS = {"added_after", "limit", "next", "match[id]", "match[type]", "match[version]", "match[spec_version]"}
_OF_ONE = {"limit", "next", "match[version]", "match[spec_version]", "added_after"}

_POSTED = {
    "requestBody": {
        "required": True,
        "content": {
            MEDIA: {
                "schema": {"type": "object", "properties": {"objects": {"type": "array", "items": {"type": "object"}}}},
                "example": {"objects": []},
            }
        },
    }
}

Reader = Annotated[Caller, allow_taxii("read")]
Writer = Annotated[Caller, allow_taxii("write")]
Root = Annotated[str, Path(description="Name of the tenant.")]
Named = Annotated[str, Path(description="Id or alias of a collection.")]
ObjectId = Annotated[str, Path(description="STIX id.")]


@router.get("/")
def discover(caller: Reader) -> Response:
    """The API roots: one, the caller's tenant."""
    root = f"/taxii2/{caller.tenant}/"
    return taxii_reply({"title": "Vedette", "default": root, "api_roots": [root]})


@router.get("/{root}/")
def read_root(caller: Reader, root: Root) -> Response:
    """An API root."""
    _mine(caller, root)
    return taxii_reply({"title": root, "versions": [MEDIA], "max_content_length": MAX_PUSH})


@router.get("/{root}/status/{status_id}/")
def read_status(
    caller: Reader, root: Root, status_id: Annotated[str, Path(description="Of a post.")], platform: Served
) -> Response:
    """What became of a post."""
    _mine(caller, root)
    return taxii_reply(msgspec.Raw(kept_status(platform.library, caller.tenant, status_id)))


@router.get("/{root}/collections/")
def list_collections(caller: Reader, root: Root, platform: Served) -> Response:
    """The tenant's collections."""
    _mine(caller, root)
    return taxii_reply({"collections": [_shape(one, caller) for one in platform.library.collections(caller.tenant)]})


@router.get("/{root}/collections/{collection}/")
def read_collection(caller: Reader, root: Root, collection: Named, platform: Served) -> Response:
    """One collection."""
    return taxii_reply(_shape(_of(caller, platform, root, collection), caller))


@router.get("/{root}/collections/{collection}/objects/")
def list_objects(request: Request, caller: Reader, root: Root, collection: Named, platform: Served) -> Response:
    """Objects, oldest first; `match[...]`, `added_after`, `limit` and `next` as TAXII has them."""
    found, more = _page(request, caller, platform, _of(caller, platform, root, collection))
    return _envelope(found, "objects", [raw_of(one) for one in found], more=more)


@router.get("/{root}/collections/{collection}/manifest/")
def list_manifest(request: Request, caller: Reader, root: Root, collection: Named, platform: Served) -> Response:
    """What objects there are, without them."""
    found, more = _page(request, caller, platform, _of(caller, platform, root, collection))
    entries = [
        {
            "id": one.object.id,
            "date_added": stamp(one.added),
            "version": stamp(version_of(one)),
            "media_type": STIX_MEDIA,
        }
        for one in found
    ]
    return _envelope(found, "objects", entries, more=more)


@router.post("/{root}/collections/{collection}/objects/", status_code=202, openapi_extra=_POSTED)
def add_objects(caller: Writer, root: Root, collection: Named, body: TaxiiBody, platform: Served) -> Response:
    """Adds objects of an envelope; each is told of, and a bad one stops no other."""
    library = platform.library
    own = _writable(_of(caller, platform, root, collection))
    now = platform.clock.now()
    objects, refused = _clean(*parse_bundle(body, Default(own.tlp, own.confidence, now, own.name)))
    library.put(caller.tenant, own.name, objects, refused)
    status = _status(objects, refused, stamp(now))
    keep_status(library, caller.tenant, status["id"], msgspec.json.encode(status))
    return taxii_reply(status, 202)


@router.get("/{root}/collections/{collection}/objects/{object_id}/versions/")
def list_versions(
    *, request: Request, caller: Reader, root: Root, collection: Named, object_id: ObjectId, platform: Served
) -> Response:
    """The versions of an object, oldest first."""
    found, more = _page(request, caller, platform, _of(caller, platform, root, collection), object_id, usual=ALL)
    versions = list(dict.fromkeys(stamp(version_of(one)) for one in found))
    return _envelope(found, "versions", versions, more=more)


@router.get("/{root}/collections/{collection}/objects/{object_id}/")
def read_object(
    *, request: Request, caller: Reader, root: Root, collection: Named, object_id: ObjectId, platform: Served
) -> Response:
    """One object, its last version unless others are asked for."""
    found, more = _page(request, caller, platform, _of(caller, platform, root, collection), object_id)
    if not found:
        raise NotFoundError("intel.object.unknown", "no such object in this collection", at=object_id[:100])
    return _envelope(found, "objects", [raw_of(one) for one in found], more=more)


@router.delete("/{root}/collections/{collection}/objects/{object_id}/")
def remove_object(caller: Writer, root: Root, collection: Named, object_id: ObjectId, platform: Served) -> Response:
    """Ends an object in a collection; its indicator matches no more."""
    own = _writable(_of(caller, platform, root, collection))
    if not platform.library.remove(caller.tenant, own.name, object_id):
        raise NotFoundError("intel.object.unknown", "no such object in this collection", at=object_id[:100])
    return taxii_reply({})


def _mine(caller: Caller, root: str) -> None:
    if root != caller.tenant:
        raise NotFoundError("taxii.root.unknown", "no such API root", at=root[:64])


def _writable(own: Collection) -> Collection:
    if own.url:
        raise NotFoundError("intel.collection.followed", "this collection follows another server's", at=own.name)
    return own


def _shape(own: Collection, caller: Caller) -> dict[str, Any]:
    return {
        "id": own.id,
        "title": own.title or own.name,
        "alias": own.name,
        "can_read": not permit(caller.principal, "indicators", "read"),
        "can_write": not own.url and not permit(caller.principal, "indicators", "write"),
        "media_types": [STIX_MEDIA],
    }


def _of(caller: Caller, platform: Platform, root: str, collection: str) -> Collection:
    _mine(caller, root)
    return platform.library.find_collection(caller.tenant, collection)


def _page(
    request: Request, caller: Caller, platform: Platform, own: Collection, object_id: str = "", *, usual: str = LAST
) -> tuple[list[Kept], bool]:
    asked = request.query_params
    known = _OF_ONE if object_id else _FILTERS
    if unknown := [name for name in asked if name not in known]:
        raise DataError("taxii.filter.unknown", f"no filter `{unknown[0][:40]}`", at=unknown[0][:40])
    many = {name: tuple(part for part in asked.get(name, "").split(",") if part) for name in known if "[" in name}
    wanted = Wanted(
        added_after=_time(asked["added_after"]) if asked.get("added_after") else 0,
        ids=(object_id,) if object_id else many["match[id]"],
        types=many.get("match[type]", ()),
        versions=tuple(map(_version, many["match[version]"])) or (usual,),
        specs=many["match[spec_version]"],
    )
    limit = asked.get("limit", "")
    if limit and (not limit.isdecimal() or int(limit[:18]) < 1):
        raise DataError("taxii.limit.invalid", "`limit` is a whole number from 1", at="limit")
    after = from_next(asked["next"]) if asked.get("next") else 0
    size = min(int(limit[:18]), MAX_OBJECTS) if limit else MAX_OBJECTS
    return fetch_page(platform.library, caller.tenant, own.name, wanted, after=after, limit=size)


def _version(text: str) -> str:
    return text if text in {LAST, FIRST, ALL} else str(_time(text))


def _time(text: str) -> int:
    try:
        return parse_time(text, TimeFormat.ISO)
    except DataError as error:
        raise DataError("taxii.time.invalid", f"no time: `{text[:40]}`") from error


def _envelope(found: list[Kept], name: str, items: list[Any], *, more: bool) -> Response:
    if not found:
        return taxii_reply({})
    headers = {
        "x-taxii-date-added-first": stamp(found[0].added),
        "x-taxii-date-added-last": stamp(found[-1].added),
    }
    # Always told where there is more: a client that gets none would ask with an empty one.
    rest = {"next": to_next(found[-1].seq)} if more else {}
    return taxii_reply({"more": more, **rest, name: items}, headers=headers)


def _clean(objects: list[Object], refused: list[Refused]) -> tuple[list[Object], list[Refused]]:
    """Without the objects that hold card numbers, which are kept nowhere."""
    good, bad = list[Object](), list(refused)
    for one in objects:
        try:
            refuse_pans(msgspec.json.decode(one.body))
        except DataError as error:
            bad.append(Refused(one.id, error.code, error.message))
        else:
            good.append(one)
    return good, bad


def _status(objects: list[Object], refused: list[Refused], now: str) -> dict[str, Any]:
    good = [{"id": one.id, "version": stamp(one.version) if one.version else now} for one in objects]
    bad = [{"id": one.at, "version": now, "message": f"{one.reason} [{one.code}]"} for one in refused]
    return {
        "id": str(uuid.uuid4()),
        "status": "complete",
        "request_timestamp": now,
        "total_count": len(good) + len(bad),
        "success_count": len(good),
        "successes": good,
        "failure_count": len(bad),
        "failures": bad,
        "pending_count": 0,
        "pendings": [],
    }
