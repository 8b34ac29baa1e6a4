"""ATT&CK tags that name nothing, or what no longer stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from vedette.judge.sigma.documents import Written
from vedette.judge.sigma.lints.finding import Finding, Severity, called
from vedette.sense.intel.attack import Attack, parent, tactic_of, technique_of

_PREFIX = "attack."
_OTHER = re.compile(r"(?:[gsmc]|ds|ta)\d{4}")


def tag_findings(written: Sequence[Written], attack: Attack | None) -> Iterator[Finding]:
    """Ids that are unknown (error), revoked or deprecated (warning), tactics unknown to this version (a note each)."""
    if attack is None:
        hint = "vedette intel import attack FILE, or --attack FILE"
        yield Finding(
            Severity.NOTE, "sigma.lint.attack_missing", "", "", "no ATT&CK is imported, its ids were not judged", hint
        )
        return
    tactics: Counter[str] = Counter()
    for one in written:
        for tag in tags_of(one):
            if not tag.casefold().startswith(_PREFIX):
                continue
            if tactic := tactic_of(tag):
                tactics[tactic] += 1
            elif said := _judged(tag, attack):
                severity, code, message, hint = said
                yield Finding(severity, f"sigma.lint.{code}", one.path, called(one), message, hint)
    for tactic in sorted(set(tactics) - {each.short for each in attack.tactics}):
        message = f"ATT&CK {attack.version} has no tactic `{tactic}`, which {tactics[tactic]:,} documents name"
        yield Finding(Severity.NOTE, "sigma.lint.attack_tactic", "", "", message)


def tags_of(one: Written) -> list[str]:
    """The tags of a document that are texts."""
    tags = one.document.get("tags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _judged(tag: str, attack: Attack) -> tuple[Severity, str, str, str] | None:
    name = technique_of(tag)
    if not name:
        # Groups, software, mitigations, campaigns and data sources are not what a rule is judged by.
        other = _OTHER.fullmatch(tag.casefold().removeprefix(_PREFIX))
        return None if other else (Severity.ERROR, "attack_unknown", f"`{tag}` is no id of ATT&CK", "")
    if not attack.knows(name):
        newer = attack.knows(parent(name))
        severity, hint = (Severity.WARNING, "is it of a newer ATT&CK?") if newer else (Severity.ERROR, "")
        return severity, "attack_unknown", f"ATT&CK {attack.version} has no `{name}`", hint
    current = attack.current(name)
    if current != name:
        return Severity.WARNING, "attack_revoked", f"`{name}` is revoked", f"it is `{current}` now"
    if attack.techniques[name].deprecated:
        return Severity.WARNING, "attack_deprecated", f"`{name}` is deprecated", "name what it is about now"
    return None
