"""HTML from templates, with everything that is put in escaped.

A folder of templates has one file of macros, its parts. They are the name `ui` in every template, so that a block can
be rendered by itself, and the only place where HTML is made from values: nothing else needs to mark text as safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

PARTS = "parts.html"


class Templates:
    """The templates of a folder. Every value is escaped; a name that was not given is an error, never an empty text.

    Args:
        folder: Where they are.
        filters: Name -> function of a value that gives text.
        marks: Names of macros in `parts.html` that are filters too: `x|when` is `ui.when(x, now)`, `now` the page's.
    """

    def __init__(
        self, folder: Path, *, filters: Mapping[str, Callable[..., Any]] | None = None, marks: tuple[str, ...] = ()
    ) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(filters or {})
        self._environment.filters.update({name: self._mark(name) for name in marks})
        self._environment.globals["ui"] = self._parts

    @cached_property
    def _parts(self) -> Any:
        return self._environment.get_template(PARTS).module

    def _mark(self, name: str) -> Callable[..., Any]:
        @pass_context
        def mark(context: Context, value: Any) -> Any:
            return getattr(self._parts, name)(value, context.get("now", 0))

        return mark

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """The whole page."""
        return self._environment.get_template(name).render(values)

    def fragment(self, name: str, block: str, values: Mapping[str, Any]) -> str:
        """One block of a page, by its name; it sees what the template sets, as in the whole page.

        Raises:
            KeyError: The template has no such block.
        """
        template = self._environment.get_template(name)
        context = template.new_context(dict(values))
        # What the template sets outside of its blocks is set before its first output comes; the rest is not rendered.
        whole = template.root_render_func(context)
        next(iter(whole), None)
        return "".join(template.blocks[block](context))
