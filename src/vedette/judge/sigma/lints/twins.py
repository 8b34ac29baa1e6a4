"""The same rule twice: one id for two documents, or one meaning over the same log source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vedette.expr.nodes import And, Known, Node, Not, Or
from vedette.expr.printer import to_text
from vedette.judge.sigma.documents import Written
from vedette.judge.sigma.lints.finding import Finding, Severity
from vedette.judge.sigma.load import RuleSet


def twin_findings(written: Sequence[Written], rules: RuleSet) -> Iterator[Finding]:
    """Equal ids are an error: an event counts once for both. Equal meanings are a warning: one of them is in vain."""
    first: dict[str, str] = {}
    for one in written:
        name = str(one.document.get("id") or "")
        if name and name in first:
            message = f"has the id of a rule in `{first[name]}`"
            yield Finding(Severity.ERROR, "sigma.lint.same_id", one.path, name, message, "give it an id of its own")
        first.setdefault(name, one.path)
    meanings: dict[frozenset[tuple[str, str]], str] = {}
    for rule in rules.rules:
        meaning = frozenset((source, meaning_of(node)) for source, node in rule.nodes.items())
        before = meanings.setdefault(meaning, rule.id)
        if before != rule.id:
            yield Finding(Severity.WARNING, "sigma.lint.same_meaning", rule.path, rule.id, f"asks what `{before}` asks")


def meaning_of(node: Node) -> str:
    """A text that is equal for expressions that differ only in the order of their parts."""
    match node:
        case And(children=parts) | Or(children=parts):
            word = "and" if isinstance(node, And) else "or"
            return f"({f' {word} '.join(sorted({meaning_of(part) for part in parts}))})"
        case Not(child=child):
            return f"not {meaning_of(child)}"
        case Known(child=child):
            return f"known {meaning_of(child)}"
        case _:
            return to_text(node)
