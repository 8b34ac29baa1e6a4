"""Feature sets that come with the product, for rules that read them where there is no model."""

from __future__ import annotations

from collections.abc import Sequence

from vedette.core.content import shipped
from vedette.expr.nodes import Space
from vedette.judge.payment.rules import PaymentRules
from vedette.judge.payment.velocity import backed
from vedette.sense.features.definition import FeatureSet, load_features


def shipped_sets(source: str) -> list[FeatureSet]:
    """The shipped sets of a source, by the names of their files."""
    found = (load_features(path) for path in sorted(shipped("features").glob("*.yaml")))
    return [each for each in found if each.source == source]


def set_for(rules: Sequence[PaymentRules], source: str) -> FeatureSet | None:
    """The shipped set that gives most of what rules read; None when none gives anything."""
    read = {field.name for each in rules for field in each.fields if field.space is Space.ATTRIBUTE}
    sets = shipped_sets(source) if read else []
    counts = [len(read & {*each.names, *backed(each.names)}) for each in sets]
    best = max(counts, default=0)
    return sets[counts.index(best)] if best else None
