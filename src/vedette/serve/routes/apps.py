"""Apps of the caller's tenant, and the one route at which an app gets its tokens."""

from __future__ import annotations

import base64
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from vedette.core.errors import DataError
from vedette.prove.access import App, Mode
from vedette.prove.access.policy import format_scopes, parse_scopes
from vedette.serve.policy import Caller, Served, allow, anyone
from vedette.serve.shapes import JsonBody, check_media, convert, page, reads, reply

router = APIRouter(prefix="/v1", tags=["apps"])

FORM = "application/x-www-form-urlencoded"
GRANT = "client_credentials"
MAX_FIELDS = 8
_FORM_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {"type": "string"},
                "example": f"grant_type={GRANT}&client_id=app_01&client_secret=vs_...&scope=charges:write",
            }
        },
    }
}


class AppRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An app to make. `scopes` is the most that its tokens may do, such as `charges:write,payouts:read`."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: str
    mode: Mode = Mode.TEST


class RollRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the secret of before still proves the app, seconds."""

    overlap_s: Annotated[int, msgspec.Meta(ge=0, le=31_622_400)] = 86_400


@router.post("/apps", status_code=201, openapi_extra=reads(AppRequest, {"name": "shop", "scopes": "charges:write"}))
def create_app(caller: Annotated[Caller, allow("apps", "write")], body: JsonBody, platform: Served) -> Response:
    """Makes an app. Its client secret is in this answer and nowhere else."""
    wanted: AppRequest = convert(body, AppRequest)
    issued = platform.access.apps.create(
        caller.tenant, wanted.name, scopes=parse_scopes(wanted.scopes), mode=wanted.mode, by=caller.principal.id
    )
    return reply({**_shown(issued.app), "client_secret": issued.secret.reveal()}, 201)


@router.get("/apps")
def list_apps(caller: Annotated[Caller, allow("apps", "read")], platform: Served) -> Response:
    """All apps, disabled ones too, oldest first."""
    return page([_shown(app) for app in platform.access.apps.list(caller.tenant)])


@router.post("/apps/{app_id}/roll", openapi_extra=reads(RollRequest, {"overlap_s": 3_600}))
def roll_secret(
    caller: Annotated[Caller, allow("apps", "write")], app_id: str, body: JsonBody, platform: Served
) -> Response:
    """A new client secret, shown this once. Until the overlap ends both prove the app."""
    wanted: RollRequest = convert(body, RollRequest)
    issued = platform.access.apps.roll(caller.tenant, app_id, overlap=wanted.overlap_s, by=caller.principal.id)
    return reply({**_shown(issued.app), "client_secret": issued.secret.reveal()})


@router.delete("/apps/{app_id}")
def disable_app(caller: Annotated[Caller, allow("apps", "revoke")], app_id: str, platform: Served) -> Response:
    """Ends an app for good, and with it every token. Again changes nothing."""
    return reply(_shown(platform.access.apps.disable(caller.tenant, app_id, by=caller.principal.id)))


@router.post("/oauth/token", dependencies=[anyone()], openapi_extra=_FORM_BODY)
async def issue_token(request: Request, platform: Served) -> Response:
    """A token for an app that sends its client secret, in the form or as HTTP Basic: for an hour, for one account."""
    check_media(request.headers.get("content-type"), FORM)
    fields = _fields(await request.body())
    if fields.get("grant_type") != GRANT:
        raise DataError("access.grant.unsupported", "no such grant type", hint=f"send `{GRANT}`", at="$.grant_type")
    client, secret = _client(request.headers.get("authorization"), fields)
    origin = request.client.host if request.client else ""
    issued = await run_in_threadpool(
        platform.access.apps.token,
        client,
        secret,
        scopes=fields.get("scope", ""),
        account=fields.get("account", ""),
        origin=origin,
    )
    answer = reply(
        {
            "access_token": issued.token.reveal(),
            "token_type": "Bearer",
            "expires_in": round(issued.expires_s),
            "scope": format_scopes(issued.scopes).replace(",", " "),
            "account": issued.account,
        }
    )
    answer.headers["cache-control"] = "no-store"
    return answer


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError("http.body.form", "this form cannot be read") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise DataError("http.body.form", "a field stands in this form twice")
    return fields


def _client(header: str | None, fields: dict[str, str]) -> tuple[str, str]:
    """Id and secret of the app: of the Basic header when it is there, else of the form (RFC 6749 section 2.3.1)."""
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return fields.get("client_id", ""), fields.get("client_secret", "")
    if "client_secret" in fields:
        raise DataError("access.app.twice", "the client secret is sent twice", hint="in the header or in the form")
    try:
        client, _, secret = base64.b64decode(value.strip(), validate=True).decode("ascii").partition(":")
    except ValueError:
        return "", ""
    return unquote_plus(client), unquote_plus(secret)


def _shown(app: App) -> dict[str, Any]:
    return {
        "id": app.id,
        "name": app.name,
        "mode": app.mode,
        "scopes": format_scopes(app.scopes),
        "created": app.created,
        "disabled": app.disabled,
        "last_used": app.last_used,
    }
