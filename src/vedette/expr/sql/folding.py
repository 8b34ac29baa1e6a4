"""Full Unicode case folding where SQL has only `lower`.

`lower` maps one character to one; folding differs from it in some 300 characters: sharp s, long s, final sigma, Greek
with iota subscript, Cherokee. Texts that hold one of them are folded by a function.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

_RANGES = ((0x80, 0x3000), (0xA000, 0xB000), (0xF900, 0x10000), (0x10000, 0x20000))
"""Where characters with case stand; a test looks at all of Unicode."""
_SURROGATES = range(0xD800, 0xE000)
_DOTTED = "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}"
"""Its lower case is two characters, of which SQL's `lower` gives one."""


@cache
def odd_characters() -> str:
    """The characters that `lower` does not fold, from the same tables that `str.casefold` uses."""
    return "".join(char for char in _characters() if char == _DOTTED or char.casefold() != char.lower())


def _characters() -> Iterator[str]:
    for low, high in _RANGES:
        yield from (chr(code) for code in range(low, high) if code not in _SURROGATES)
