from __future__ import annotations

from hypothesis import given
from tests.expr.expressions import any_space_fields, trees

from vedette.expr import nodes as n
from vedette.expr.printer import to_text

CASES = [
    (
        n.And((n.Text(n.Field("Image"), n.TextMatch.ENDS, "\\cmd.exe"), n.Not(n.IsNull(n.Field("ParentImage"))))),
        'Image endswith "\\\\cmd.exe" and not ParentImage is null',
    ),
    (
        n.Or((n.Not(n.Or((n.Exists(n.Field("a.b")), n.Exists(n.Field("Threat Name"))))), n.Constant(value=False))),
        "not (a.b exists or `Threat Name` exists) or false",
    ),
    (
        n.Compare(n.Field("amount_in_usd", n.Space.ATTRIBUTE), n.Comparison.GE, n.Literal(100)),
        ":amount_in_usd: >= 100",
    ),
    (
        n.Among(n.Field("basket id", n.Space.METADATA), ("a", 1), "baskets", cased=True),
        '::basket id:: in cased @baskets ("a", 1)',
    ),
    (
        n.Known(n.Regex(n.Field("actor.user.uid", n.Space.OCSF), "^\u202ea", "i")),
        'known(ocsf.actor.user.uid matches "^\\u202ea" flags "i")',
    ),
    (n.And((n.Or(()), n.KeywordRegex("x"))), 'or() and any value matches "x"'),
    (n.Cidr(n.Field("SourceIp"), "10.0.0.0/8"), 'SourceIp in network "10.0.0.0/8"'),
    (n.TimePart(n.Field("time"), n.Part.HOUR, n.Comparison.GE, 20), "hour of time >= 20"),
    (n.FieldMatch(n.Field("a"), n.TextMatch.EQUALS, n.Field("b"), cased=True), "a is cased b"),
    (n.Keyword(n.TextMatch.GLOB, "*mimi*"), 'any value like "*mimi*"'),
]


def test_text_is_readable():
    for node, text in CASES:
        assert to_text(node) == text


@given(trees(any_space_fields), trees(any_space_fields))
def test_equal_texts_mean_equal_nodes(a, b):
    assert to_text(a).isprintable()
    assert (to_text(a) == to_text(b)) == (a == b) or _same_but_for_number_types(a, b)


def _same_but_for_number_types(a, b):
    return a == b and repr(a) != repr(b)
