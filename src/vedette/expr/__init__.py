"""The one intermediate form that Sigma rules, payment rules, features and controls compile to.

Nodes are frozen values with the span they came from. Logic is Kleene's: true, false, unknown. A predicate on a missing
field is unknown; each input language states its own law for that by wrapping nodes in `Known` (unknown becomes false).
The reference evaluator defines what every node means; engines agree with it or refuse the node when a rule is loaded.

Example:
    >>> from vedette.expr.nodes import Comparison, Compare, Field, Literal
    >>> from vedette.expr.reference import evaluate
    >>> from vedette.expr.truth import Truth
    >>> from vedette.expr.values import reader
    >>> node = Compare(Field("amount"), Comparison.GE, Literal(100))
    >>> evaluate(node, reader({"amount": 120})) is Truth.TRUE
    True
"""
