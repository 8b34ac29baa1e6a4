"""The selections of a Sigma rule: maps, lists and values as YAML gives them, with their modifiers applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigma.exceptions import SigmaError
from sigma.modifiers import (
    SigmaEndswithModifier,
    SigmaRegularExpressionModifier,
    SigmaStartswithModifier,
    SigmaTimestampModifier,
)
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaDetections
from sigma.types import (
    SigmaCasedString,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNumber,
    SigmaString,
    SigmaType,
    sigma_type,
)

from vedette.core.errors import DefinitionError
from vedette.judge.sigma.modifiers import MODIFIERS, Base64, Base64Offset, Cased, CasedReference, Utf16Le

DEPTH = 16
"""Most lists and maps inside one another."""


def to_detections(section: object, *, others: tuple[str, ...] = ()) -> SigmaDetections:
    """The `detection` section of a rule, or the `filter` section of a filter.

    Args:
        section: As YAML gave it.
        others: Keys besides `condition` that are no selections.

    Raises:
        DefinitionError: `sigma.detection.invalid`, `sigma.condition.invalid`.
    """
    if not isinstance(section, Mapping):
        raise _invalid("there is no mapping of selections")
    conditions = section.get("condition")
    texts = conditions if isinstance(conditions, list) else [conditions]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DefinitionError("sigma.condition.invalid", "`condition` is a text or a list of texts")
    selections = {str(name): part for name, part in section.items() if name not in ("condition", *others)}
    if not selections:
        raise _invalid("there is no selection")
    return SigmaDetections({name: _named(name, part) for name, part in selections.items()}, list(texts))


def _invalid(problem: str) -> DefinitionError:
    return DefinitionError("sigma.detection.invalid", problem)


def _named(name: str, definition: object) -> SigmaDetection:
    if name == "timeframe":
        raise DefinitionError(
            "sigma.detection.invalid", "`timeframe` is no part of Sigma 2", hint="count with a correlation"
        )
    try:
        return _selection(definition, 0)
    except SigmaError as error:
        raise _invalid(f"in `{name}`: {error}") from error
    except DefinitionError as error:
        raise DefinitionError(error.code, f"in `{name}`: {error.message}", hint=error.hint) from error


def _selection(definition: object, depth: int) -> SigmaDetection:
    """A map asks all of its items, a list any of its parts."""
    if depth > DEPTH:
        raise _invalid(f"more than {DEPTH} lists and maps inside one another")
    if isinstance(definition, Mapping):
        return SigmaDetection([_item(key, value) for key, value in definition.items()])
    if isinstance(definition, list) and any(isinstance(part, list | Mapping) for part in definition):
        return SigmaDetection([_selection(part, depth + 1) for part in definition])
    return SigmaDetection([_item("", definition)])


def _item(key: object, value: object) -> SigmaDetectionItem:
    if not isinstance(key, str):
        raise _invalid(f"the field name `{key}` is no text")
    field, *names = key.split("|")
    if unknown := next((name for name in names if name not in MODIFIERS), None):
        raise _invalid(f"there is no modifier `{unknown}`")
    modifiers = [MODIFIERS[name] for name in names]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise _invalid(f"the list of `{key}` is empty")
    if not field and {SigmaStartswithModifier, SigmaEndswithModifier} & set(modifiers):
        raise DefinitionError("sigma.value.unsupported", "a keyword is searched for anywhere, not at one end")
    if any(issubclass(modifier, SigmaTimestampModifier) for modifier in modifiers):
        _check_whole(key, values)
    if any(issubclass(modifier, Utf16Le) for modifier in modifiers) and not {Base64, Base64Offset} & set(modifiers):
        _check_ascii(key, values)
    typed = [_typed(each, pattern=SigmaRegularExpressionModifier in modifiers) for each in values]
    return SigmaDetectionItem(field or None, modifiers, typed)


def _check_whole(key: str, values: list[Any]) -> None:
    if not all(type(each) is int for each in values):
        raise _invalid(f"`{key}` is compared with a whole number")


def _check_ascii(key: str, values: list[Any]) -> None:
    """UTF-16 compared as text has a NUL beside each character; of other characters the halves are none."""
    if not all(str(each).isascii() for each in values):
        raise DefinitionError("sigma.value.unsupported", f"`{key}` of other than ASCII text, unless `base64` follows")


def _typed(value: object, *, pattern: bool) -> SigmaType:
    if isinstance(value, str) and pattern:
        return SigmaString.from_str(value)
    if isinstance(value, str | int | float | bool | None):
        made = sigma_type(value)
        if isinstance(made, SigmaNumber) and isinstance(value, int):
            made.number = value  # pySigma goes by way of a float, which holds 53 bits
        return made
    kind = "a map" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else f"`{value}`"
    raise _invalid(f"{kind} stands where a text or a number should; dates and times want quotes")


def settle(part: SigmaDetection) -> None:
    """Marks the values of `cased` items: pipelines and other modifiers lose such a mark on the way."""
    for item in part.detection_items:
        if isinstance(item, SigmaDetection):
            settle(item)
        elif Cased in item.modifiers:
            item.value = [_cased(value) for value in item.value]


def _cased(value: SigmaType) -> SigmaType:
    match value:
        case SigmaExpansion():
            return SigmaExpansion([_cased(each) for each in value.values])
        case SigmaString() if not isinstance(value, SigmaCasedString):
            return SigmaCasedString.from_sigma_string(value)
        case SigmaFieldReference():
            return CasedReference(value.field, value.starts_with, value.ends_with)
        case _:
            return value
