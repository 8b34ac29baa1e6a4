"""Errors of rule texts, with the line itself and a caret under the place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from vedette.core.errors import DefinitionError, Span


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule's text stands inside its file, so that errors name the file's own lines and columns."""

    path: str = ""
    line: int = 1
    """Line of the text's first character."""
    col: int = 1
    """Column of the text's first character."""
    indent: int = 1
    """Column at which the text's further lines start."""

    def span(self, line: int, col: int, end_line: int, end_col: int) -> Span:
        """The file's span of a place in the text; all count from 1."""
        return Span(
            self.path,
            self.line + line - 1,
            self._col(line, col),
            self.line + end_line - 1,
            self._col(end_line, end_col),
        )

    def _col(self, line: int, col: int) -> int:
        return col + (self.col if line == 1 else self.indent) - 1


class RuleError(DefinitionError):
    """What is wrong with a payment rule.

    Args:
        code: `payment.…`.
        message: What is wrong.
        hint: What to write instead.
        span: The place in the file.
        source: The line of the rule that the place is in.
        col: The column of the place in that line, from 1.
        width: How many characters the place covers.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        span: Span | None = None,
        source: str = "",
        col: int = 1,
        width: int = 1,
    ) -> None:
        super().__init__(code, message, hint=hint, span=span)
        self.source = source
        self.col = col
        self.width = width

    @property
    def excerpt(self) -> str:
        """The line with carets under the place; empty when there is no line."""
        if not self.source:
            return ""
        width = max(1, min(self.width, len(self.source) - self.col + 1))
        return f"    {self.source}\n    {' ' * (self.col - 1)}{'^' * width}"

    def __str__(self) -> str:
        return "\n".join(part for part in (super().__str__(), self.excerpt) if part)


def near(name: str, names: Iterable[str], form: str = "{}") -> str:
    """A hint naming up to three known names that look like `name`; empty when none does."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(f'`{form.format(found)}`' for found in close)}?" if close else ""
