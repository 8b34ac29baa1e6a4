"""What every page is made with: the templates, the words they know, and the frame around them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import HTMLResponse

from vedette.core.errors import VedetteError
from vedette.core.templates import Templates
from vedette.prove.dlp import scrub
from vedette.serve.console.assets import versioned
from vedette.serve.console.format import FILTERS
from vedette.serve.errors import headers_of, status_of
from vedette.serve.policy import platform_of

FOLDER = Path(__file__).parent / "templates"
THEME = "vedette_theme"
"""Cookie with the theme that a visitor chose, `light` or `dark`; none: as the system says."""


class Guest(Protocol):
    """What a page needs of its visitor."""

    @property
    def csrf(self) -> str:
        """Token for the forms of this session."""

    def may(self, resource: str, verb: str) -> bool:
        """True when the policy lets this visitor do that."""

    def may_own(self, resource: str, verb: str) -> bool:
        """The same of what is a merchant's, for a visitor who is bound to some."""


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the navigation."""

    label: str
    path: str
    icon: str
    needs: tuple[str, str]
    """Resource and verb; who lacks it does not see the entry."""
    key: str = ""
    """Second key after `g`."""
    group: str = ""
    own: bool = False
    """Also for who is bound to merchants."""

    def seen_by(self, visitor: Guest) -> bool:
        """True for who may open it."""
        return visitor.may_own(*self.needs) if self.own else visitor.may(*self.needs)

    def holds(self, path: str) -> bool:
        """True when a page belongs to this place."""
        return path == self.path if self.path == "/" else f"{path}/".startswith(f"{self.path}/")


PLACES = (
    Place("Overview", "/", "overview", ("metrics", "read"), "o", "Watch"),
    Place("Alerts", "/alerts", "alerts", ("alerts", "read"), "a", "Watch"),
    Place("Cases", "/cases", "cases", ("cases", "read"), "c", "Watch"),
    Place("Runs", "/runs", "play", ("playbooks", "read"), "w", "Watch"),
    Place("Decisions", "/decisions", "decisions", ("decisions", "read"), "d", "Explore"),
    Place("Reviews", "/reviews", "action-review", ("reviews", "read"), "v", "Explore"),
    Place("Entities", "/entities", "entities", ("events", "read"), "e", "Explore"),
    Place("Merchants", "/merchants", "table", ("payments", "read"), "s", "Explore", own=True),
    Place("Intelligence", "/intel", "intel", ("indicators", "read"), "i", "Explore"),
    Place("Rules", "/rules", "rules", ("rules", "read"), "r", "Engine"),
    Place("Models", "/models", "models", ("models", "read"), "m", "Engine"),
    Place("Pipelines", "/pipelines", "pipelines", ("events", "read"), "p", "Engine"),
    Place("Audit", "/audit", "audit", ("audit", "read"), "u", "Control"),
    Place("People", "/people", "people", ("people", "read"), "l", "Control"),
    Place("API keys", "/keys", "keys", ("keys", "read"), "k", "Control"),
    Place("Connections", "/connections", "link", ("connections", "read"), "n", "Control"),
)


@cache
def templates() -> Templates:
    """The console's templates, read once."""
    return Templates(FOLDER, filters={**FILTERS, "versioned": versioned}, marks=("when", "ago"))


def show(
    request: Request, visitor: Guest | None, template: str, *, status: int = 200, fragment: str = "", **context: Any
) -> HTMLResponse:
    """A page, or its block `fragment` when the request comes from htmx.

    Args:
        request: Where the page is asked from.
        visitor: Who looks; None before login.
        template: File name in `templates/`; it extends `base.html`.
        status: HTTP status.
        fragment: Block to answer an htmx request with; empty: always the whole page.
        context: What the template names. `visitor`, `csrf`, `places`, `here`, `path`, `theme` and `now` are there.
    """
    path = request.url.path
    theme = request.cookies.get(THEME, "")
    places = [each for each in PLACES if visitor and each.seen_by(visitor)]
    values = {
        "visitor": visitor,
        "csrf": visitor.csrf if visitor else "",
        "places": places,
        "groups": [(name, list(items)) for name, items in groupby(places, key=lambda each: each.group)],
        "here": next((each for each in PLACES if each.holds(path)), None),
        "path": path,
        "theme": theme if theme in {"light", "dark"} else "",
        "now": platform_of(request).clock.now(),
        **context,
    }
    asked = fragment and "hx-request" in request.headers and "hx-history-restore-request" not in request.headers
    made = templates().fragment(template, fragment, values) if asked else templates().render(template, values)
    # A page shows what its visitor may see at this moment: no cache keeps it, and a fragment is never taken for a page.
    return HTMLResponse(made, status, {"cache-control": "no-store", "vary": "HX-Request"})


def show_error(request: Request, visitor: Guest | None, error: VedetteError) -> HTMLResponse:
    """An error as a page; its texts are scrubbed as over the API."""
    status = status_of(error)
    response = show(
        request,
        visitor,
        "error.html",
        status=status,
        problem={"code": error.code, "message": scrub(error.message), "hint": scrub(error.hint), "status": status},
    )
    response.headers.update(headers_of(error))
    return response


def wants_page(path: str) -> bool:
    """True when an answer on this path is for a person: everything that is neither API nor operations."""
    return not path.startswith(("/v1/", "/static/", "/console/data/")) and path not in {
        "/metrics",
        "/healthz",
        "/openapi.json",
    }
