"""Refusals that tell of misuse, noted for the detections."""

from __future__ import annotations

from fastapi import Request

from vedette.core.errors import VedetteError
from vedette.move.misuse import Misuse, MisuseKind
from vedette.prove.access import Principal
from vedette.run.platform import Platform

_BY_CODE: dict[str, MisuseKind] = {
    "idempotency.mismatch": MisuseKind.IDEMPOTENCY,
    "access.not_found": MisuseKind.TENANT,
    "access.account.unknown": MisuseKind.TENANT,
}
_LIMITS = "limits."


def note_refusal(request: Request, error: VedetteError) -> None:
    """Notes a refusal that is a sign of misuse, when it is known who asked; everything else passes by."""
    principal = getattr(request.state, "principal", None)
    if principal is not None:
        note(request.app.state.platform, principal, request.client.host if request.client else "", error)


def note(platform: Platform, principal: Principal, origin: str, error: VedetteError) -> None:
    """Notes what a known caller was refused with, when it is a sign of misuse."""
    kind = MisuseKind.LIMIT if error.code.startswith(_LIMITS) else _BY_CODE.get(error.code)
    if kind is not None:
        platform.misuses.note(Misuse(principal.tenant, kind, error.code, asked_by=principal.id, ip=origin))
