"""One tree of errors. Each has a stable code, the place, and a hint.

Code that reacts to an error reads its type or its `code`, never its text. Messages are lower case, carry no secret and
no card number, and name the place: `file:line:col`, a JSON path or an event offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text that a person wrote. Lines and columns count from 1; `end_col` is exclusive."""

    path: str = ""
    line: int = 1
    col: int = 1
    end_line: int = 0
    """0 means: the same line."""
    end_col: int = 0
    """0 means: not known."""

    def __str__(self) -> str:
        return f"{self.path or '<text>'}:{self.line}:{self.col}"


class VedetteError(Exception):
    """Root of every error this package raises on purpose.

    Args:
        code: Stable dotted name, `room.noun.problem`. Programs may depend on it.
        message: Lower case sentence without a full stop.
        hint: What to do about it; may be empty.
        span: Place in a text a person wrote, when there is one.
        at: Any other place: a JSON path, an event offset, an id.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, *, hint: str = "", span: Span | None = None, at: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.span = span
        self.at = at

    @property
    def place(self) -> str:
        """Where it is: the span if there is one, else `at`, else an empty string."""
        return str(self.span) if self.span else self.at

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message} [{self.code}]{hint}"

    def to_dict(self) -> dict[str, Any]:
        """The one JSON shape of an error: `code`, `message`; `hint`, `place`, `retryable` where they say something."""
        shape: Mapping[str, Any] = {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "place": self.place,
            "retryable": self.retryable,
        }
        return {name: value for name, value in shape.items() if value not in ("", False)}


class DefinitionError(VedetteError):
    """A rule, model, playbook or setting is wrong: its author must change it."""


class UnsupportedError(VedetteError):
    """An engine was given a node it cannot run. Raised when the rule is loaded, never while events flow."""


class DataError(VedetteError):
    """An event or request is malformed. The stream keeps it in quarantine with this reason and goes on."""


class DeniedError(VedetteError):
    """The caller may not do this, or may not know whether the thing exists."""


class NotFoundError(VedetteError):
    """Nothing of that id in this tenant."""


class ConflictError(VedetteError):
    """Another request or version was first: idempotency mismatch, stale version, lost fencing token."""


class PermanentError(VedetteError):
    """The other side refused for good; trying again changes nothing."""


class TransientError(VedetteError):
    """Trying again later may work.

    Args:
        retry_after: Seconds to wait before the next try, >= 0; 0 when unknown.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, code: str, message: str, *, hint: str = "", at: str = "", retry_after: float = 0.0) -> None:
        super().__init__(code, message, hint=hint, at=at)
        self.retry_after = retry_after


class Problems(DefinitionError):
    """Everything that is wrong with a set of definitions, collected rather than stopped at the first."""

    def __init__(self, problems: Iterable[VedetteError]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(str(problem) for problem in self.problems)
        super().__init__("core.definitions.invalid", f"{len(self.problems)} problem(s)\n{lines}")
