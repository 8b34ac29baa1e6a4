"""What a rule says to people: why it exists, when it is wrong, where to read on. Read when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from vedette.core.documents import load_yaml
from vedette.core.errors import VedetteError
from vedette.judge.sigma.files import RuleFile, rule_files

MAX_ITEMS = 20
MAX_TEXT = 4_000


class RuleText(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a Sigma rule that no engine runs. Empty where the rule does not say."""

    id: str
    title: str = ""
    description: str = ""
    author: str = ""
    status: str = ""
    date: str = ""
    """Of its last change, as written."""
    falsepositives: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    source: str = ""
    """The document itself."""

    @property
    def authors(self) -> tuple[str, ...]:
        """Names in `author`."""
        return tuple(name.strip() for name in re.split(r"[,;]| and ", self.author) if name.strip())


def read_text(paths: Iterable[Path], path: str, rule_id: str) -> RuleText | None:
    """The text of one rule.

    Args:
        paths: Folders, archives and files that the rule set was loaded from.
        path: Of the rule's file inside one of them.
        rule_id: Which rule of that file.

    Returns:
        None when the file is gone, or holds no such rule any more.
    """
    for root in paths:
        try:
            found = next((file for file in rule_files(root, _literal(path)) if file.path == path), None)
            documents = [] if found is None or found.problem else _documents(found.content, path)
        except VedetteError:
            continue
        if text := _found(documents, path, rule_id):
            return text
    return None


def text_of(files: Iterable[RuleFile], rule_id: str) -> RuleText | None:
    """The text of one rule in files in hand; None when none of them holds it."""
    found = (_found(_documents(file.content, file.path), file.path, rule_id) for file in files)
    return next((text for text in found if text), None)


def _found(documents: Iterable[tuple[str, dict[str, Any]]], path: str, rule_id: str) -> RuleText | None:
    for source, document in documents:
        if str(document.get("id") or path) == rule_id:
            return _to_text(rule_id, document, source)
    return None


def _literal(path: str) -> str:
    # `?` stands for any one character: the file is compared by its whole path afterwards.
    return re.sub(r"[*?]", "?", path)


def _documents(content: bytes, path: str) -> list[tuple[str, dict[str, Any]]]:
    parts = re.split(rb"^---(?=\s|$)", content, flags=re.MULTILINE)
    read = [(part.decode(errors="replace").strip(), load_yaml(part, path=path).data) for part in parts if part.strip()]
    return [(source, data) for source, data in read if isinstance(data, dict)]


def _to_text(rule_id: str, document: dict[str, Any], source: str) -> RuleText:
    return RuleText(
        id=rule_id,
        title=_one(document.get("title")),
        description=_one(document.get("description")),
        author=_one(document.get("author")),
        status=_one(document.get("status")),
        date=_one(document.get("modified") or document.get("date")),
        falsepositives=_some(document.get("falsepositives")),
        references=_some(document.get("references")),
        source=source[: 4 * MAX_TEXT],
    )


def _one(value: Any) -> str:
    return "" if value is None else str(value).strip()[:MAX_TEXT]


def _some(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(text for item in items[:MAX_ITEMS] if (text := _one(item)))
