"""Text that is safe to show: what an attacker wrote stays text on a terminal."""

from __future__ import annotations

import re
import unicodedata

_UNSAFE = re.compile(r"[^\x20-\x7e\n]")
_CATEGORIES = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Cn"}
"""Controls (the escape that starts a terminal sequence), invisible formats (right-to-left override, zero width),
private use, lone surrogates, line separators, unassigned."""


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if unicodedata.category(char) not in _CATEGORIES:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with every character that could move a cursor or reorder a line written as an escape.

    Letters of every script pass unchanged; so does the plain space. A line break passes only with `lines`.

    Example:
        >>> printable("ok\x1b[2Jgone")
        'ok\\x1b[2Jgone'
        >>> printable("Zoë 東京")
        'Zoë 東京'
    """
    safe = _UNSAFE.sub(_escape, text)
    return safe if lines else safe.replace("\n", "\\x0a")
