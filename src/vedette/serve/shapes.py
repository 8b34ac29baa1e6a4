"""Requests in, answers out: JSON read within bounds, JSON written by msgspec, both described for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import Depends, Header, Request, Response

from vedette.core.documents import load_json
from vedette.core.errors import DataError
from vedette.move.idempotency import Answer
from vedette.prove.dlp import refuse_pans
from vedette.serve.body import MAX_BODY

JSON = "application/json"
NDJSON = "application/x-ndjson"
Moment = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]
"""A time in a request, microseconds UTC, to the end of the year 9999; 0 mostly means none."""
MAX_DEPTH = 32
"""Nesting of a request body."""
MAX_PAGE = 500
"""Most items of one list answer."""


def check_media(sent: str | None, wanted: str) -> None:
    """Lets a body of the wanted type pass, and one whose type is not told.

    Raises:
        DataError: `http.media_type`.
    """
    if sent and sent.partition(";")[0].strip().lower() != wanted:
        raise DataError("http.media_type", f"the body must be {wanted}", at="$header.content-type")


async def _json(request: Request) -> Any:
    check_media(request.headers.get("content-type"), JSON)
    body = load_json(await request.body(), max_bytes=MAX_BODY, max_depth=MAX_DEPTH)
    refuse_pans(body)
    return body


async def _lines(request: Request) -> bytes:
    check_media(request.headers.get("content-type"), NDJSON)
    return await request.body()


def check_key(idempotency_key: Annotated[str | None, Header()] = None) -> str:
    """The idempotency key of a request that moves money.

    Raises:
        DataError: `idempotency.key_missing`.
    """
    if not idempotency_key:
        raise DataError(
            "idempotency.key_missing",
            "this request moves money and needs an `Idempotency-Key` header",
            hint="send a fresh random value, and the same one when you retry",
            at="$header.idempotency-key",
        )
    return idempotency_key


JsonBody = Annotated[Any, Depends(_json)]
"""The decoded body; bounded in size and depth, without card numbers."""

LinesBody = Annotated[bytes, Depends(_lines)]
"""Records as they were sent, one a line; bounded in size."""

IdempotencyKey = Annotated[str, Depends(check_key)]
"""The header of that name; refused when missing."""


def reply(value: Any, status: int = 200) -> Response:
    """A JSON answer; structs, dataclasses and plain values alike."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def replayable(answer: Answer) -> Response:
    """An answer kept for its idempotency key, byte for byte; `Idempotent-Replayed` tells a repeated one."""
    headers = {"idempotent-replayed": "true"} if answer.replayed else {}
    return Response(answer.body, answer.status, headers, JSON)


def merchant_in(body: Any) -> str:
    """The merchant a money request names; empty when it names none, which is refused where it is checked."""
    merchant = body.get("merchant") if isinstance(body, dict) else None
    return merchant if isinstance(merchant, str) else ""


def page(items: list[Any]) -> Response:
    """A list answer: `{"data": [...], "has_more": bool}`."""
    return reply({"data": items[:MAX_PAGE], "has_more": len(items) > MAX_PAGE})


def reads(kind: Any, example: Any) -> dict[str, Any]:
    """OpenAPI description of a route's JSON body, made from the type that checks it, with a body that passes."""
    content: dict[str, Any] = {"schema": msgspec.json.schema(kind, ref_template="#/components/schemas/{name}")}
    schema = content["schema"]
    inlined = schema.pop("$defs", {})
    content["schema"] = _inline(schema, inlined)
    content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name in definitions:
            return _inline(definitions[name], {key: each for key, each in definitions.items() if key != name})
        return {key: _inline(each, definitions) for key, each in schema.items()}
    return [_inline(each, definitions) for each in schema] if isinstance(schema, list) else schema


def convert(value: Any, kind: type[Any]) -> Any:
    """A checked struct from a decoded body.

    Raises:
        DataError: `request.field.invalid` with the JSON path.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `")
        raise DataError("request.field.invalid", text[:1].lower() + text[1:], at=path.rstrip("`") or "$") from error
