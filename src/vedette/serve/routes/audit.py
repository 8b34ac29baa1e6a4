"""Evidence: is what is recorded still what was recorded."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from vedette.prove.evidence import FileAnchor, verify
from vedette.prove.evidence.collect import from_log
from vedette.serve.policy import Caller, Served, allow
from vedette.serve.shapes import reply

router = APIRouter(prefix="/v1/audit", tags=["evidence"])


@router.post("/verify")
def verify_evidence(caller: Annotated[Caller, allow("audit", "read")], platform: Served) -> Response:
    """Reads the whole tree and compares it with its anchor. Counts only: the records are of all tenants."""
    del caller
    anchor = FileAnchor(platform.settings.anchor_folder)
    report = verify(platform.state, anchor, content=from_log(platform.log))
    return reply(
        {
            "state": report.state,
            "records": report.size,
            "root": report.root,
            "anchored": report.anchored,
            "unanchored": report.unanchored,
            "checkpoints": report.checkpoints,
            "findings": len(report.findings) + report.more_findings,
        }
    )


@router.get("/checkpoint")
def newest_checkpoint(caller: Annotated[Caller, allow("audit", "read")], platform: Served) -> Response:
    """The newest signed checkpoint, as a C2SP note; null before the first."""
    del caller
    return reply({"note": FileAnchor(platform.settings.anchor_folder).last_note()})
