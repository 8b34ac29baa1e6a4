"""What TAXII 2.1 asks of every request and answer: who may ask, in which media type, and the shape of errors.

Source: OASIS TAXII 2.1, parts 1.6 and 3.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request, Response

from vedette.core.errors import DataError, DeniedError, VedetteError
from vedette.prove.dlp import scrub
from vedette.serve.errors import UNAUTHENTICATED, status_of
from vedette.serve.policy import Caller, RoutePolicy, admitted, bearer, known, mark

PREFIX = "/taxii2/"
MEDIA = "application/taxii+json;version=2.1"
STIX_MEDIA = "application/stix+json;version=2.1"
_TYPE = "application/taxii+json"
_STATUS = {"taxii.accept": 406, "request.field.invalid": 400}


def of_taxii(path: str) -> bool:
    """Whether a path is TAXII's."""
    return path.startswith(PREFIX)


def allow_taxii(verb: str) -> Any:
    """Dependency of a route: takes an API key as Basic (its secret is the password) or Bearer; gives a `Caller`."""
    policy = RoutePolicy(*known("indicators", verb))

    def check(request: Request) -> Caller:
        caller = admitted(request, _secret(request.headers.get("authorization")), policy)
        _check_accept(request.headers.get("accept"))
        return caller

    return Depends(mark(check, policy))


async def _body(request: Request) -> bytes:
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != _TYPE or not _version(rest):
        raise DataError("http.media_type", f"the body must be {MEDIA}")
    return await request.body()


TaxiiBody = Annotated[bytes, Depends(_body)]
"""A body of TAXII's media type, bounded in size."""


def taxii_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in TAXII's media type."""
    return Response(msgspec.json.encode(value), status, headers, media_type=MEDIA)


def taxii_error(request: Request, error: VedetteError) -> Response:
    """An error in TAXII's shape, and beside it in the one that every other route has."""
    tried = request.headers.get("authorization", "").lower().startswith("bearer ")
    status = _STATUS.get(error.code) or status_of(error)
    shape = {
        "title": scrub(error.message),
        "description": scrub(error.hint) or scrub(error.message),
        "error_code": error.code,
        "http_status": str(status),
        "error": {name: scrub(value) if isinstance(value, str) else value for name, value in error.to_dict().items()},
    }
    headers = {"www-authenticate": "Bearer" if tried else 'Basic realm="vedette"'} if status == UNAUTHENTICATED else {}
    wait = getattr(error, "retry_after", 0.0)
    headers |= {"retry-after": str(max(1, round(wait)))} if wait > 0 else {}
    return taxii_reply(shape, status, headers)


def _secret(header: str | None) -> str:
    scheme, _, coded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return bearer(header)
    try:
        name, _, password = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise DeniedError("access.unauthenticated", "these credentials cannot be read") from error
    return bearer(f"Bearer {password or name}")


def _check_accept(header: str | None) -> None:
    for each in (header or "*/*").split(","):
        kind, _, rest = each.partition(";")
        if kind.strip().lower() in {"*/*", "application/*"} or (kind.strip().lower() == _TYPE and _version(rest)):
            return
    raise DataError("taxii.accept", f"only {MEDIA} is given")


def _version(parameters: str) -> bool:
    """Whether parameters of a media type name this version, or none."""
    told = [part.partition("=")[2].strip().strip('"') for part in parameters.split(";") if "version" in part.lower()]
    return not told or "2.1" in told
