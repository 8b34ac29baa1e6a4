"""Processing pipelines as pySigma's objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import ValueListPlaceholderTransformation
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaDetections, SigmaRule
from sigma.types import Placeholder, SigmaString

from vedette.core.errors import DefinitionError


class Row:
    """Pipelines that a rule goes through one after the other.

    Args:
        pipelines: In their order.
    """

    def __init__(self, pipelines: Sequence[ProcessingPipeline]) -> None:
        self._pipelines = [one for one in pipelines if one.items]

    def apply(self, rule: SigmaRule) -> None:
        """Changes a rule.

        Raises:
            DefinitionError: `sigma.pipeline.failed`.
        """
        for pipeline in self._pipelines:
            try:
                pipeline.apply(rule)
            except (SigmaError, TypeError, ValueError, KeyError, AttributeError) as error:
                # pySigma checks a pipeline's settings only when they meet a rule.
                raise DefinitionError("sigma.pipeline.failed", f"a pipeline fails on it: {error}") from error


class _Values(ValueListPlaceholderTransformation):  # type: ignore[misc]
    """pySigma's, but for a list without values, which pySigma takes for a wrong one."""

    def placeholder_replacements(self, p: Placeholder) -> Iterable[SigmaString]:
        """The values of a placeholder."""
        found: Iterable[SigmaString] = super().placeholder_replacements(p) if self._pipeline.vars[p.name] else ()
        return found


def listed(lists: Mapping[str, list[Any]]) -> ProcessingPipeline:
    """A pipeline that puts values in the place of placeholders."""
    if not lists:
        return ProcessingPipeline()
    return ProcessingPipeline([ProcessingItem(_Values(include=[*lists]))], vars={**lists})


def pipeline(given: dict[str, Any]) -> ProcessingPipeline:
    """A pipeline from what its file says.

    Raises:
        DefinitionError: `sigma.pipeline.invalid`.
    """
    try:
        made = ProcessingPipeline.from_dict(given)
    except (SigmaError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise DefinitionError("sigma.pipeline.invalid", f"not a pipeline: {error}") from error
    if not isinstance(made.priority, int):
        raise DefinitionError("sigma.pipeline.invalid", "`priority` is a whole number")
    return made


def naming(rule: SigmaRule, name: str) -> SigmaRule:
    """A rule like this one that asks for one field alone."""
    item = SigmaDetectionItem(name, [], [SigmaString("*")])
    return replace(rule, fields=[name], detection=SigmaDetections({"s": SigmaDetection([item])}, ["s"]))
