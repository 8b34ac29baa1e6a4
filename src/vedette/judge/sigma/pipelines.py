"""Processing pipelines and lists of the user: what changes a rule before it is bound to its log source.

Pipelines are pySigma's, in YAML, and community pipelines work as they are; what they say about the text of a query is
passed over, since no query is written. One that reads files, asks a server, runs a program or fills templates is
refused. A list gives the values of a placeholder such as `%admins%`.
Source: pySigma 1.x, "Processing Pipelines".
"""

# mypy: allow-subclassing-any

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.core.documents import load_yaml
from vedette.core.errors import DataError, DefinitionError, Problems, VedetteError

if TYPE_CHECKING:  # pySigma is loaded when there are rules to parse, not when compiled ones are at hand
    from sigma.processing.pipeline import ProcessingPipeline
    from sigma.rule import SigmaRule

    from vedette.judge.sigma.processing import Row

WINDOWS_PRIORITY = 10
"""Of the mappings for Windows. Pipelines with a lower one go before them, all others after."""

MAX_BYTES = 1 << 20
"""Longest pipeline or file of lists."""
MAX_VALUES = 100_000
"""Most values of one list."""

_REFUSED_TYPES = {"template", "simple_template", "file_placeholders", "http_placeholders", "command_placeholders"}
_REFUSED_KEYS = {"template", "path", "file", "url", "command"}
_TEXT_KEYS = ("postprocessing", "finalizers")
"""What speaks of a query's text. A template among it is refused all the same: it may come with code."""

Lists = Mapping[str, Sequence[str | int | float]]
"""Placeholder -> its values."""


class Pipelines:
    """Pipelines in the order of their priority, and lists. Not for several threads at once.

    Args:
        given: Pipelines as YAML gives them.
        lists: Values of placeholders; they go before what pipelines say.

    Raises:
        DefinitionError: `sigma.pipeline.refused`, `sigma.pipeline.invalid`.
    """

    def __init__(self, given: Iterable[Mapping[str, Any]] = (), lists: Lists | None = None) -> None:
        self._given = [dict(one) for one in given]
        self._lists = {name: list(values) for name, values in (lists or {}).items()}
        # To add pipelines up takes their items away, so they stay apart.
        self._made = sorted(map(_pipeline, self._given), key=lambda one: one.priority)
        parts = [*self._given, *([{"lists": self._lists}] if self._lists else [])]
        self.versions = tuple(hashlib.sha256(repr(part).encode()).hexdigest() for part in parts)
        """A hash of each pipeline and of the lists: what a rule means depends on them."""

    @cached_property
    def _before(self) -> Row:
        from vedette.judge.sigma.processing import Row, listed

        return Row([listed(self._lists), *(one for one in self._made if one.priority < WINDOWS_PRIORITY)])

    @cached_property
    def _after(self) -> Row:
        from vedette.judge.sigma.processing import Row

        return Row([one for one in self._made if one.priority >= WINDOWS_PRIORITY])

    def before(self, rule: SigmaRule) -> None:
        """Changes a rule by what goes before the mappings for Windows.

        Raises:
            DefinitionError: `sigma.pipeline.failed`: a pipeline says that it does not take the rule.
        """
        self._before.apply(rule)

    def after(self, rule: SigmaRule) -> None:
        """Changes a rule by what goes after them. Raises as `before`."""
        self._after.apply(rule)

    def renamed(self, rule: SigmaRule, names: Iterable[str]) -> dict[str, str]:
        """The rule's field name -> what the pipelines make of it, where they differ: for the fields of correlations.

        Raises:
            DefinitionError: `sigma.pipeline.failed`, also for a name that becomes several.
        """
        found: dict[str, str] = {}
        from vedette.judge.sigma.processing import naming

        for name in names if self._given else ():
            probe = naming(rule, name)
            self.before(probe)
            self.after(probe)
            if len(probe.fields) != 1:
                raise DefinitionError("sigma.pipeline.failed", f"a pipeline makes several fields of `{name}`")
            if probe.fields[0] != name:
                found[name] = str(probe.fields[0])
        return found

    def through(self, given: Iterable[Mapping[str, Any]]) -> Pipelines:
        """Other pipelines, with the same lists."""
        return Pipelines(given, self._lists)

    def with_lists(self, lists: Lists) -> Pipelines:
        """The same pipelines, with further lists or others in their place."""
        return Pipelines(self._given, {**self._lists, **lists})


def _pipeline(given: Mapping[str, Any]) -> ProcessingPipeline:
    for key, value in _pairs({name: part for name, part in given.items() if name != "vars"}):
        if key in _REFUSED_KEYS or key == "vars" or (key == "type" and value in _REFUSED_TYPES):
            raise DefinitionError(
                "sigma.pipeline.refused",
                f"a pipeline may not have `{key}: {value}`" if key == "type" else f"a pipeline may not have `{key}`",
                hint="pipelines read no file, ask no server, run no program and fill no template",
            )
    kept = copy.deepcopy({name: part for name, part in given.items() if name not in _TEXT_KEYS})
    from vedette.judge.sigma.processing import pipeline

    return pipeline(kept)


def _pairs(value: object) -> Iterator[tuple[object, object]]:
    """Every key of every mapping inside, except the names in a mapping of fields or values."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield key, part
            if key != "mapping":
                yield from _pairs(part)
    elif isinstance(value, list):
        for part in value:
            yield from _pairs(part)


NO_PIPELINES = Pipelines()


def load_pipelines(paths: Iterable[Path] = (), lists: Iterable[Path] = ()) -> Pipelines:
    """Reads pipelines and files of lists.

    Args:
        paths: Pipelines in YAML; they are applied by rising `priority`.
        lists: Files in YAML or JSON: placeholder -> list of values. Of lists of one name the last stands.

    Raises:
        DataError: `sigma.pipeline.missing`: a file that cannot be read.
        Problems: Everything that is wrong: `sigma.pipeline.invalid`, `sigma.pipeline.refused`, `sigma.lists.invalid`.
    """
    problems: list[VedetteError] = []
    given = [one for path in paths for one in _collected(path, _read_pipeline, problems)]
    merged: dict[str, Any] = {}
    for path in lists:
        for one in _collected(path, _read_lists, problems):
            merged.update(one)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(problems)
    return Pipelines(given, merged)


def _collected(path: Path, how: Callable[[Path], dict[str, Any]], problems: list[VedetteError]) -> list[dict[str, Any]]:
    try:
        return [how(path)]
    except DefinitionError as error:
        problems.append(DefinitionError(error.code, error.message, hint=error.hint, span=error.span, at=str(path)))
        return []


def _read_pipeline(path: Path) -> dict[str, Any]:
    return parse_pipeline(_content(path), str(path))


def parse_pipeline(content: bytes, path: str) -> dict[str, Any]:
    """A pipeline as YAML gives it.

    Raises:
        DefinitionError: `sigma.pipeline.invalid`, `sigma.pipeline.refused`.
    """
    found = _mapping(content, path, "sigma.pipeline.invalid")
    _pipeline(found)
    return found


def _read_lists(path: Path) -> dict[str, Any]:
    found = _mapping(_content(path), str(path), "sigma.lists.invalid")
    for name, values in found.items():
        plain = isinstance(values, list) and all(
            isinstance(value, str | int | float) and not isinstance(value, bool) for value in values
        )
        if not plain or len(values) > MAX_VALUES:
            raise DefinitionError(
                "sigma.lists.invalid", f"`{name}` is no list of at most {MAX_VALUES:,} texts and numbers"
            )
    return found


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError("sigma.pipeline.missing", f"cannot be read: {error.strerror}", at=str(path)) from error


def _mapping(content: bytes, path: str, code: str) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise DefinitionError(code, f"longer than {MAX_BYTES} bytes")
    data = load_yaml(content, path=path).data
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise DefinitionError(code, "not a mapping of names")
    return data
