"""SQL's own functions that queries rest on: text, number and folding of one JSON value, in DuckDB's language."""

from __future__ import annotations

from functools import cache

from vedette.expr.sql.folding import odd_characters

NUMERIC = r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?"
"""Texts that are numbers, as `values.number_of` says; a test holds them together."""
NUMERIC_CHARS = 40


@cache
def macros() -> tuple[str, ...]:
    """Statements that make the macros, in order; they need `functions.FUNCTIONS`."""
    spelt = f"length(t) <= {NUMERIC_CHARS} AND regexp_full_match(t, '{NUMERIC}')"
    bodies = {
        "fold(t)": _fold("t"),
        "real(x)": "CASE WHEN x = trunc(x) THEN format('{:.0f}', x + 0.0) ELSE CAST(x AS VARCHAR) END",
        "text(v)": _TEXT,
        "spelt(t)": f"CASE WHEN {spelt} THEN TRY_CAST(t AS DOUBLE) END",
        "number(v)": _NUMBER,
        "unclear(t)": r"regexp_matches(t, '^[\[{]|^-?[0-9]+[.eE]')",
    }
    return tuple(f"CREATE MACRO vedette_{name} AS {body}" for name, body in bodies.items())


# Whole numbers stand as they are, also those of more than 64 bits; `true` and `false` hold an `e`. Of a double beyond
# 2^53 `format` writes other digits than its value has.
_TEXT = """CASE WHEN v = 'null' THEN NULL
WHEN starts_with(v, '"') THEN json_extract_string(v, '$')
WHEN starts_with(v, '{') THEN vedette_object(v)
WHEN v = 'true' OR v = 'false' THEN v
WHEN abs(TRY_CAST(v AS DOUBLE)) BETWEEN 9007199254740992 AND 1.7976931348623157e308 AND regexp_matches(v, '[.eE]')
THEN vedette_object(v)
WHEN regexp_matches(v, '[.eE]') THEN vedette_real(TRY_CAST(v AS DOUBLE)) ELSE v END"""
_NUMBER = """CASE WHEN starts_with(v, '"') THEN vedette_spelt(json_extract_string(v, '$'))
WHEN regexp_matches(v, '^[-0-9]') THEN TRY_CAST(v AS DOUBLE) END"""


def _fold(text: str) -> str:
    plain = f"strlen({text}) = length({text}) OR NOT regexp_matches({text}, '[{odd_characters()}]')"
    return f"CASE WHEN {text} IS NULL OR {plain} THEN lower({text}) ELSE vedette_casefold({text}) END"
