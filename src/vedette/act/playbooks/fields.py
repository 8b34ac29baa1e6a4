"""Reads the fields of a playbook's document, and lists every problem with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from vedette.act.playbooks.checks import near
from vedette.core.errors import DefinitionError, Span

ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Source(Protocol):
    """A parsed document that knows where its values stand."""

    @property
    def data(self) -> Any:
        """Plain values."""

    def span(self, json_path: str) -> Span:
        """Place of the value at `$.steps[0].action` and the like."""


class Fields:
    """What is read from a document.

    Args:
        source: The document.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.problems: list[DefinitionError] = []

    def problem(self, code: str, message: str, path: str, *, hint: str = "") -> None:
        """Lists a problem."""
        span = self._source.span(path)
        self.problems.append(DefinitionError(f"playbook.{code}", message, hint=hint, span=span, at=path))

    def object(self, data: Any, path: str, known: Mapping[str, bool]) -> dict[str, Any] | None:
        """An object with its known fields; an empty field is an absent one."""
        if not isinstance(data, dict):
            self.problem("field.type", "this must be an object", path)
            return None
        for name in data:
            if name not in known:
                hint = near(str(name), known)
                self.problem("field.unknown", f"unknown field `{name!s:.40}`", f"{path}.{name}", hint=hint)
        for name, required in known.items():
            if required and data.get(name) is None:
                self.problem("field.missing", f"field `{name}` is missing", path)
        return {name: value for name, value in data.items() if name in known and value is not None}

    def text(self, value: Any, path: str) -> str:
        """A text; empty when there is none."""
        if isinstance(value, str) and value.strip():
            return value
        if value is not None:
            self.problem("field.type", "this must be a text", path)
        return ""

    def id(self, value: Any, path: str) -> str:
        """An id."""
        if isinstance(value, str) and ID.fullmatch(value):
            return value
        if value is not None:
            self.problem("field.type", "an id is lower-case letters, digits, `_` and `-`", path)
        return ""

    def names(self, value: Any, path: str) -> tuple[str, ...]:
        """A list of names."""
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        self.problem("field.type", "this must be a list of names", path)
        return ()

    def integer(self, value: Any, path: str, low: int, high: int) -> int:
        """A whole number within bounds."""
        if type(value) is int and low <= value <= high:
            return value
        if value is not None:
            self.problem("field.type", f"this must be a whole number from {low} to {high}", path)
        return low

    def duration(self, value: Any, path: str, most: float) -> float:
        """Seconds of a time span such as `30s`."""
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        seconds = float(match[1]) * _UNITS[match[2]] if match else value
        if type(seconds) in (int, float) and 0 <= seconds <= most:
            return float(seconds)
        if value is not None:
            hint = f"such as 30s, 5m or 4h, at most {most / 3600:g}h"
            self.problem("duration.invalid", "this must be a time span", path, hint=hint)
        return 0.0
