"""One thing a lint says."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from vedette.judge.sigma.documents import Written


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The rule cannot do what it says."""
    WARNING = "warning"
    """It likely does not, costs too much, or lacks what a rule of one's own must carry."""
    NOTE = "note"
    """Worth knowing."""


class Finding(msgspec.Struct, frozen=True):
    """What is wrong, where."""

    severity: Severity
    code: str
    """Stable: `sigma.lint.<what>`."""
    path: str
    """Of the file; empty when it is about all."""
    rule: str
    """Id, title or path of the rule; empty when it is about all."""
    message: str
    hint: str = ""


def called(one: Written) -> str:
    """What a document is called in findings."""
    document = one.document
    return str(document.get("id") or document.get("title") or document.get("name") or one.path)
