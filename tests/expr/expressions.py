"""Generated nodes and events that often meet: few names and values, every node, absent, null and list fields."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from vedette.expr import nodes as n

NAMES = ["Image", "CommandLine", "EventID", "a.b", "Threat Name"]
WORDS = [
    "",
    "a",
    "A",
    "ab",
    "aB",
    "b",
    "ß",
    "SS",
    "İ",
    "1",
    "01",
    "1.0",
    "true",
    "10.0.0.7",
    "a*b",
    "a\\b",
    "x\ny",
    "\u017f",
    "2026-01-01T09:10:00+10:00",
    "1767225600",
    "é",
]
PATTERNS = ["a", "^a.*b$", "B", "^$", "s+", "x.y", "[0-9]+", "\\\\"]
GLOBS = [*WORDS, "*", "?", "a*", "*b", "*a*", "a?", "?b*", "a\\*b", "*\\\\b", "a\\b", "**", "*ss", "?*?"]
NETWORKS = ["10.0.0.0/8", "10.0.0.7/32", "2001:db8::/32", "0.0.0.0/0"]

fields = st.builds(n.Field, st.sampled_from(NAMES))
any_space_fields = st.builds(n.Field, st.sampled_from([*NAMES, "in", "ocsf.x", "a:b", "`"]), st.sampled_from(n.Space))
literals = st.builds(
    n.Literal, st.one_of(st.sampled_from(WORDS), st.integers(-1, 2), st.sampled_from([0.5, 1.0, True, False]))
)
casings = st.booleans()


def texts(field: st.SearchStrategy[n.Field]) -> st.SearchStrategy[Any]:
    """Text comparisons of every kind on a field."""
    plain = st.builds(
        n.Text,
        field,
        st.sampled_from([m for m in n.TextMatch if m is not n.TextMatch.GLOB]),
        st.sampled_from(WORDS),
        casings,
    )
    return plain | st.builds(n.Text, field, st.just(n.TextMatch.GLOB), st.sampled_from(GLOBS), casings)


def predicates(field: st.SearchStrategy[n.Field] = fields) -> st.SearchStrategy[Any]:
    """Every node without children."""
    operand = field | literals
    flags = st.sampled_from(["", "i", "s", "im"])
    plain = [m for m in n.TextMatch if m is not n.TextMatch.GLOB]
    items = st.lists(st.sampled_from([*WORDS, 1, 0.5]), max_size=3).map(tuple)
    return st.one_of(
        texts(field),
        st.builds(n.Constant, st.booleans()),
        st.builds(n.Exists, field),
        st.builds(n.IsNull, field),
        st.builds(n.Regex, field, st.sampled_from(PATTERNS), flags),
        st.builds(n.Cidr, field, st.sampled_from(NETWORKS)),
        st.builds(n.Keyword, st.just(n.TextMatch.GLOB), st.sampled_from(GLOBS), casings),
        st.builds(n.Keyword, st.sampled_from(plain), st.sampled_from(WORDS), casings),
        st.builds(n.KeywordRegex, st.sampled_from(PATTERNS), flags),
        st.builds(n.FieldMatch, field, st.sampled_from(plain), field, casings),
        st.builds(n.Compare, operand, st.sampled_from(n.Comparison), operand, casings),
        st.builds(
            n.TimePart,
            field,
            st.sampled_from(n.Part),
            st.sampled_from(n.Comparison),
            st.sampled_from([0, 1, 9, 10, 1970]),
        ),
        st.builds(n.Among, operand, items, st.sampled_from(["", "bad_ips"]), casings),
    )


def trees(field: st.SearchStrategy[n.Field] = fields) -> st.SearchStrategy[Any]:
    """Nested expressions of up to eight predicates."""
    return st.recursive(
        predicates(field),
        lambda below: st.one_of(
            st.builds(n.And, st.lists(below, max_size=3).map(tuple)),
            st.builds(n.Or, st.lists(below, max_size=3).map(tuple)),
            st.builds(n.Not, below),
            st.builds(n.Known, below),
        ),
        max_leaves=8,
    )


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2), st.sampled_from([0.5, 1.0, 1e300]), st.sampled_from(WORDS)
)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.sampled_from(["b", "c"]), scalars, max_size=2)
events = st.dictionaries(st.sampled_from([*NAMES, "a"]), values, max_size=6)
