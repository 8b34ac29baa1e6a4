r"""A regular expression of RE2 as one of Java that answers the same over ASCII text.

The two languages share most of their syntax and differ in what it means: `.` and `$` know other ends of lines, `\s`
holds another character, `[` nests, braces that count nothing are letters in one and errors in the other. So a pattern
is read token by token, each is written so that Java reads it as RE2 does, and whatever else there may be is refused.
Java backtracks: on hostile text a pattern may take long where RE2's time is linear.

Source: RE2's syntax page; `java.util.regex.Pattern` of Java 17.
"""

from __future__ import annotations

import re

from vedette.core.errors import UnsupportedError

_TOKEN = re.compile(
    r"""(?P<flags>\(\?(?P<on>[ims]*)(?:-(?P<off>[ims]+))?(?P<scope>[:)]))
    |(?P<open>\((?:\?P?<\w+>)?(?!\?))
    |(?P<close>\))
    |(?P<repeat>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??)
    |(?P<anchor>[$^])
    |(?P<plain>[|.])
    |(?P<class>\[\^?)
    |\\(?P<escape>x\{[0-9A-Fa-f]{1,6}\}|x[0-9A-Fa-f]{2}|[^\n])
    |(?P<letter>[^\\(\[])""",
    re.VERBOSE | re.DOTALL,
)
_ITEM = re.compile(r"\\(?P<escape>x\{[0-9A-Fa-f]{1,6}\}|x[0-9A-Fa-f]{2}|[^\n])|(?P<letter>(?!\[:)[^\\])", re.DOTALL)
_ASCII = 0x7F
_SPACES = r"\t\n\f\r "
_CONTROL = {"a": r"\x07", "f": r"\f", "n": r"\n", "r": r"\r", "t": r"\t", "v": r"\x0B"}
_OUTSIDE = {"s": f"[{_SPACES}]", "S": f"[^{_SPACES}]", **{name: f"\\{name}" for name in "dDwWbBAz"}}
_INSIDE = {"s": _SPACES, "d": r"\d", "w": r"\w"}
_SETS = frozenset(_INSIDE.values())
_ENDS = {("^", True): r"(?:\A|(?<=\n))", ("^", False): r"\A", ("$", True): r"(?=\n|\z)", ("$", False): r"\z"}
"""What stands for a start or an end, with and without the flag `m`."""


def java_pattern(pattern: str) -> str:
    r"""The pattern for Java; search with it, as RE2 searches.

    Args:
        pattern: One that RE2 takes, its flags inside it.

    Raises:
        UnsupportedError: `sql.spark.regex`: it holds what this does not translate.

    Example:
        >>> java_pattern("(?i)a{b$")
        '(?d)(?i)a\\x7bb\\z'
    """
    return _Reading(pattern).translated()


class _Reading:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._lines = [False]
        """Group by group, whether the flag `m` is on."""

    def translated(self) -> str:
        parts, place, repeated = ["(?d)"], 0, False
        while place < len(self._pattern):
            found = _TOKEN.match(self._pattern, place)
            if found is None or (repeated and found["repeat"]):
                raise self._refused(place)
            repeated, place = bool(found["repeat"]), found.end()
            if found["class"]:
                written, place = self._class(found["class"], place)
            else:
                written = self._written(found)
            parts.append(written)
        return "".join(parts)

    def _written(self, found: re.Match[str]) -> str:
        if found["flags"]:
            return self._flags(found)
        if found["open"]:
            self._lines.append(self._lines[-1])
            return "(?:"
        if found["close"]:
            self._lines.pop()
        if found["anchor"]:
            return _ENDS[found["anchor"], self._lines[-1]]
        if found["escape"]:
            return _OUTSIDE.get(found["escape"]) or self._letter(found["escape"], found.start())
        return found["repeat"] or found["close"] or found["plain"] or _quoted(found["letter"])

    def _flags(self, found: re.Match[str]) -> str:
        if "i" in found["on"] and not self._pattern.isascii():
            # Some letters beyond ASCII are cases of letters within it: the Kelvin sign of `k`, the long s of `s`.
            raise self._refused(found.start())
        lines = "m" not in (found["off"] or "") and ("m" in found["on"] or self._lines[-1])
        if found["scope"] == ":":
            self._lines.append(lines)
        else:
            self._lines[-1] = lines
        return found[0]

    def _class(self, opened: str, place: int) -> tuple[str, int]:
        """A class from behind its bracket, and where it ends. A bracket that comes first is a letter."""
        parts = [opened]
        while len(parts) == 1 or not self._pattern.startswith("]", place):
            item, place = self._item(place)
            if item not in _SETS and self._pattern[place : place + 1] == "-" and self._pattern[place + 1] != "]":
                last, place = self._item(place + 1)
                if last in _SETS:
                    raise self._refused(place)
                item = f"{item}-{last}"
            parts.append(item)
        return "".join([*parts, "]"]), place + 1

    def _item(self, place: int) -> tuple[str, int]:
        found = _ITEM.match(self._pattern, place)
        if found is None:
            raise self._refused(place)
        escape = found["escape"]
        if escape is None:
            return _quoted(found["letter"]), found.end()
        return _INSIDE.get(escape) or self._letter(escape, place), found.end()

    def _letter(self, escape: str, place: int) -> str:
        if escape in _CONTROL:
            return _CONTROL[escape]
        if len(escape) > 1 and int(escape.strip("x{}"), 16) <= _ASCII:
            return f"\\{escape}"
        if not escape[0].isalnum():
            return _quoted(escape)
        raise self._refused(place)

    def _refused(self, place: int) -> UnsupportedError:
        return UnsupportedError(
            "sql.spark.regex",
            f"the regular expression `{self._pattern}` cannot be told to Spark from character {place + 1} on",
        )


def _quoted(letter: str) -> str:
    if letter.isalnum():
        return letter
    return f"\\x{ord(letter):02x}" if letter.isascii() else f"\\x{{{ord(letter):x}}}"
