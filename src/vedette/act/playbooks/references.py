"""`${path}` in a playbook: the only expression in its texts. A whole text that is one reference keeps the value's type.

Paths start at `inputs`, `alert`, `run`, `steps.<id>` or `secrets`; nothing is called, indexed or computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vedette.core.errors import DataError

REFERENCE = re.compile(r"\$\{([^{}]*)\}")
PATH = re.compile(r"[a-z_][\w-]*(\.[\w-]+)+")
MAX_TEXT = 4_000
"""Longest text a reference may grow into, characters."""


class Unknown:
    """Stands for a value that only the run will know, in a plan."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __str__(self) -> str:
        return f"${{{self.path}}}"


def references(value: Any) -> Iterator[str]:
    """Every path that a value refers to, at any depth."""
    if isinstance(value, str):
        yield from REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def fill(value: Any, scope: Mapping[str, Any]) -> Any:
    """`value` with every reference replaced by what `scope` holds.

    Raises:
        DataError: `playbook.reference.missing`: the scope holds nothing there, or null;
            `playbook.reference.shape`: a list or an object inside a text, or a text that grows too long.
    """
    if isinstance(value, Mapping):
        return {name: fill(each, scope) for name, each in value.items()}
    if isinstance(value, list):
        return [fill(each, scope) for each in value]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole:
        found = lookup(scope, whole[1])
        return str(found) if isinstance(found, Unknown) else found
    text = REFERENCE.sub(lambda match: _text(lookup(scope, match[1]), match[1]), value)
    if len(text) > MAX_TEXT:
        raise DataError("playbook.reference.shape", f"the text is longer than {MAX_TEXT} characters once filled")
    return text


def lookup(scope: Mapping[str, Any], path: str) -> Any:
    """The value at a path."""
    found: Any = scope
    # The name of a secret may hold dots.
    for name in path.split(".", maxsplit=1 if path.startswith("secrets.") else -1):
        if isinstance(found, Unknown):
            return Unknown(path)
        found = found.get(name) if isinstance(found, Mapping) else None
        if found is None:
            raise DataError(
                "playbook.reference.missing",
                f"nothing at `{path}`",
                hint="give it as an input, or make the step depend on what is there",
                at=path,
            )
    return found


def _text(value: Any, path: str) -> str:
    if isinstance(value, Mapping | list):
        raise DataError("playbook.reference.shape", f"`{path}` is no single value and cannot stand in a text", at=path)
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
