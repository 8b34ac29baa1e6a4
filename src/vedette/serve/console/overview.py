"""The first page: what is at stake, what was stopped, what waits for a person, and whether the engine keeps up."""

from __future__ import annotations

import threading
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from vedette.core.errors import DeniedError
from vedette.run.platform import Platform
from vedette.serve.console.page import show
from vedette.serve.console.summary import OPEN, STOPPED, Span, Summary, latency_text, to_summary
from vedette.serve.policy import Served
from vedette.serve.session import Visitor, look

router = APIRouter()

KEPT_S = 3.0
"""For how long a summary is shown again: everybody who looks at once costs one reading of the stores."""
EVERY_S = 5
"""Seconds between the page's own readings."""


class Recent:
    """The last summary of each tenant and span."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Span], tuple[float, Summary]] = {}
        self._lock = threading.Lock()

    def read(self, platform: Platform, tenant: str, span: Span) -> Summary:
        """A summary that is at most `KEPT_S` old."""
        with self._lock:
            at, summary = self._held.get((tenant, span), (0.0, None))
            now = platform.clock.monotonic()
            if summary is None or now - at > KEPT_S:
                summary = to_summary(platform, tenant, span)
                self._held[tenant, span] = now, summary
            return summary


@router.get("/", response_model=None)
def show_overview(
    request: Request,
    visitor: Annotated[Visitor, look("metrics", "read")],
    platform: Served,
    span: Span = Span.DAY,
) -> HTMLResponse:
    """The overview; asked by htmx, its live part."""
    if visitor.principal.accounts:
        raise DeniedError("access.denied", "the overview sums over all merchants", hint="open your own decisions")
    state = request.app.state
    if not hasattr(state, "recent_summaries"):
        state.recent_summaries = Recent()
    summary = state.recent_summaries.read(platform, visitor.tenant, span)
    return show(
        request,
        visitor,
        "overview.html",
        fragment="live",
        summary=summary,
        spans=[(each.value, f"/?span={each.value}") for each in Span],
        here_url=f"/?span={span.value}",
        every=EVERY_S,
        open_query="&".join(f"state={state}" for state in OPEN),
        stopped=STOPPED,
        p50=latency_text(summary.p50),
        p99=latency_text(summary.p99),
    )
