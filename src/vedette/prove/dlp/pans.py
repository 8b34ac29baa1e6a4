"""Card numbers: found, refused and scrubbed, and never kept.

What counts as a card number (the law, in order):

1. 13 to 19 decimal digits of any script, standing together or split by up to three separators at a time: spaces of any
   kind, dashes, dots, `+`, `_`, zero-width characters, and NUL (which is how digits in UTF-16 look).
2. A run of digits that stands together is taken whole: longer than 19 digits is no card number, and none is looked for
   inside it.
3. A split run is read as one number when all of it together has 13 to 19 digits. Inside a longer split run only the
   shapes that people print are looked for (4-4-4-4, 4-4-4-4-3, 4-6-5, 4-6-4, 4-4-4-1, 4-4-5, 8-8, and single digits),
   with the same separator throughout; so a card followed by its expiry date is found and a table of numbers is not one.
   One dot alone is a decimal point, not a separator.
4. Prefix and length must belong to a brand of `BRANDS`, and the check digit (Luhn) must be right.
5. Digits inside a UUID, or inside a hexadecimal word of 24 or more characters that has a letter, are part of an id.

So times in milliseconds, microseconds and nanoseconds are never refused before the year 2039: they start with 1 or 20,
which no brand uses. Of random numbers about one in ten with a brand's prefix and length has a right check digit and
cannot be told from a card: it is refused. Ids therefore need a prefix with a letter and some letters inside, as
`core.ids` makes them. A number split over several fields, or encoded (base64, percent escapes), is not found.

A `CardNumber` holds no digit of the number, not even the last four: nothing that leaves this module can be joined with
a hash of the number (PCI DSS 3.5.1).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec

from vedette.core.errors import DataError

MIN_DIGITS = 13
MAX_DIGITS = 19
MAX_NUMBER = 10**MAX_DIGITS
MAX_ID = 128
"""How far to both sides of a candidate a UUID or hash is looked for."""
MAX_KEY_SHOWN = 64
"""Longest name of a field that an error repeats."""


def _prefixes(text: str) -> tuple[tuple[int, int, int], ...]:
    """`51-55 2221-2720` -> (digits of the prefix, lowest, highest) of each range."""
    ranges = (part.split("-") for part in text.split())
    return tuple((len(ends[0]), int(ends[0]), int(ends[-1])) for ends in ranges)


BRANDS: dict[str, tuple[tuple[tuple[int, int, int], ...], frozenset[int]]] = {
    "visa": (_prefixes("4"), frozenset({13, 16, 19})),
    "mastercard": (_prefixes("51-55 2221-2720"), frozenset({16})),
    "amex": (_prefixes("34 37"), frozenset({15})),
    "diners": (_prefixes("300-305 309 36 38-39"), frozenset({14, 16, 19})),
    "jcb": (_prefixes("3528-3589"), frozenset(range(16, 20))),
    "discover": (_prefixes("6011 644-649 65"), frozenset(range(16, 20))),
    "unionpay": (_prefixes("62 81"), frozenset(range(16, 20))),
    "maestro": (_prefixes("5018 5020 5038 5612 5893 6304 6390 67"), frozenset(range(13, 20))),
    "mir": (_prefixes("2200-2204"), frozenset(range(16, 20))),
    "rupay": (_prefixes("508 60 82"), frozenset({16})),
}
"""Brand -> ranges of issuer prefixes, and the lengths that are issued. The first brand that fits names a number."""

_FIRST = frozenset("234568")
_SHAPES = tuple(
    tuple(int(size) for size in shape.split("-")) for shape in "4-4-4-4-3 4-4-4-4 4-6-5 4-6-4 4-4-4-1 4-4-5 8-8".split()
)
_SEPARATOR = (
    "\\x00\\t .+_\\-\u00a0\u00ad\u00b7\u1680\u2000-\u2015"
    "\u2024\u2027\u202f\u205f\u2060\u2212\u3000\ufe58\ufe63\uff0d\uff0e\ufeff"
)
# The look-behind stands after the first digit: an expression that begins with a character class lets the engine skip
# to the next digit at once, which doubles the speed.
_RUN = re.compile(rf"\d(?<!\d\d)(?:[{_SEPARATOR}]{{0,3}}\d){{12,}}+")
_RUN_ASCII = re.compile(r"[0-9](?<![0-9][0-9])(?:[\x00\t .+_-]{0,3}[0-9]){12,}+")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[0-9A-Fa-f-]*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]{24,}")
_SECRET = re.compile(r"\b(v[ka]_(?:test|live)_|v[ps]_)[0-9A-Za-z_-]{8,}")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@dataclass(frozen=True, slots=True)
class CardNumber:
    """Where a card number stands. Holds no digit of it."""

    brand: str
    """A key of `BRANDS`."""
    start: int
    """First character (or byte, when bytes were scanned)."""
    end: int
    """Behind the last one."""


def find_pans(text: str | bytes) -> list[CardNumber]:
    """Card numbers in a text, in order, by the law of this module.

    Linear in the length of the text. Bytes are read as UTF-8; what is not UTF-8 separates.
    """
    if isinstance(text, bytes):
        return _find_in_bytes(text)
    if len(text) < MIN_DIGITS:
        return []
    run = _RUN_ASCII if text.isascii() else _RUN
    return [finding for match in run.finditer(text) for finding in in_run(text, match.start(), match.end())]


def refuse_pans(value: Any, at: str = "$") -> None:
    """Lets a decoded request or record pass, or refuses it for a card number in any value or key.

    Call it before the value is stored, hashed or logged. Numbers are read by their digits; keys are read too. The error
    names the JSON path of one and never repeats the number, nor a key that holds one.

    Args:
        value: Anything JSON can hold, also msgspec structs, sets, bytes and `Decimal`.
        at: JSON path of `value` itself.

    Raises:
        DataError: `request.pan_refused` with the path.
    """
    if _are_free(value):
        return
    stack: list[tuple[Any, str]] = [(value, at)]
    while stack:
        current, path = stack.pop()
        text = _as_text(current)
        if text is not None:
            if len(text) >= MIN_DIGITS and find_pans(text):
                raise _refusal(path)
        elif isinstance(current, dict):
            stack.extend(_members(current, path))
        elif isinstance(current, (list, tuple, set, frozenset)):
            stack.extend((item, f"{path}[{index}]") for index, item in enumerate(current))
        elif current is not None:
            stack.append((msgspec.to_builtins(current, str_keys=True), path))


def _are_free(value: Any) -> bool:
    """Whether no value and no key holds a card number: without the paths, which cost more than the search."""
    stack = [value]
    while stack:
        current = stack.pop()
        kind = type(current)
        if kind is dict:
            stack += (*current, *current.values())
        elif kind is list:
            stack += current
        elif current is not None:
            text = current if kind is str else _as_text(current)
            if text is None or (len(text) >= MIN_DIGITS and find_pans(text)):
                return False  # what is of another kind is looked at the long way
    return True


def scrub(text: str) -> str:
    """The text with each card number, API key and personal token replaced by what it was, for logs and errors."""
    parts: list[str] = []
    done = 0
    for finding in find_pans(text):
        parts += (text[done : finding.start], f"[card number: {finding.brand}]")
        done = finding.end
    parts.append(text[done:])
    return _SECRET.sub(r"\1[masked]", "".join(parts))


def mask(value: Any) -> Any:
    """A decoded record with each card number in its values and keys replaced, for records that must be kept.

    Texts are replaced as `scrub` does; a number that reads as a card number becomes such a text. Everything else stays
    as it is. Recursion is bounded by the depth of the record, which its decoder bounds.
    """
    if isinstance(value, dict):
        return {mask(key): mask(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    text = _as_text(value)
    return scrub(text) if isinstance(text, str) and len(text) >= MIN_DIGITS and find_pans(text) else value


def is_luhn(digits: str) -> bool:
    """True when the last of these ASCII digits is the right check digit (ISO/IEC 7812-1 annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = ord(digit) - 48
        total += _DOUBLED[number] if place % 2 else number
    return total % 10 == 0


def to_brand(digits: str) -> str | None:
    """The brand whose prefix and length fit these ASCII digits, whatever the check digit; None when none does."""
    for brand, (prefixes, lengths) in BRANDS.items():
        if len(digits) in lengths and any(low <= int(digits[:size]) <= high for size, low, high in prefixes):
            return brand
    return None


def _find_in_bytes(raw: bytes) -> list[CardNumber]:
    if raw.isascii():
        return find_pans(raw.decode("ascii"))
    text = raw.decode("utf-8", errors="surrogateescape")

    def place(index: int) -> int:
        return len(text[:index].encode("utf-8", errors="surrogateescape"))

    return [CardNumber(found.brand, place(found.start), place(found.end)) for found in find_pans(text)]


def _as_text(value: Any) -> str | bytes | None:
    """The text in which a scalar would show a card number; None for what is no scalar."""
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        # Printing a huge number costs the square of its length, and it is no card number.
        return str(abs(value)) if abs(value) < MAX_NUMBER else ""
    if isinstance(value, float):
        return str(abs(int(value))) if value.is_integer() and abs(value) < MAX_NUMBER else ""
    if isinstance(value, Decimal):
        return str(abs(value))
    return None


def _members(mapping: dict[Any, Any], path: str) -> Iterator[tuple[Any, str]]:
    for index, (key, item) in enumerate(mapping.items()):
        name = _as_text(key)
        if name is not None and find_pans(name):
            raise _refusal(f"{path}.<key {index}>")
        shown = str(key)[:MAX_KEY_SHOWN]
        yield item, f"{path}.{shown}" if shown.isidentifier() else f"{path}[{shown!r}]"


def _refusal(path: str) -> DataError:
    return DataError(
        "request.pan_refused",
        "this field holds what looks like a card number",
        hint="send the token of the card; card numbers enter only the vault",
        at=path,
    )


def in_run(text: str, start: int, end: int) -> Iterator[CardNumber]:
    """Card numbers in one run of digits and separators."""
    if end - start <= MAX_DIGITS and text[start] in "0179" and text[start:end].isdecimal():
        return  # a time or a counter: no brand starts like this
    groups = [match.span() for match in _DIGITS.finditer(text, start, end)]
    for too_long, chunk in groupby(groups, key=lambda span: span[1] - span[0] > MAX_DIGITS):
        if not too_long:
            yield from _in_groups(text, list(chunk))


def _in_groups(text: str, groups: list[tuple[int, int]]) -> Iterator[CardNumber]:
    done = -1
    for first, last in _candidates(text, groups):
        start, end = groups[first][0], groups[last][1]
        if start < done:
            continue
        digits = _to_ascii(text[a:b] for a, b in groups[first : last + 1])
        if digits[0] not in _FIRST or not is_luhn(digits):
            continue
        brand = to_brand(digits)
        if brand and not _inside_id(text, start, end):
            done = end
            yield CardNumber(brand, start, end)


def _candidates(text: str, groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Index of first and last group of everything that may be one number, ordered by its start."""
    sizes = [end - start for start, end in groups]
    gaps = [text[groups[i][1] : groups[i + 1][0]] for i in range(len(groups) - 1)]
    count = len(groups)
    whole = MIN_DIGITS <= sum(sizes) <= MAX_DIGITS and count > 1 and gaps != ["."]
    singles_end = -1
    for first in range(count):
        if sizes[first] >= MIN_DIGITS:
            yield first, first
        if whole and first == 0:
            yield 0, count - 1
        for shape in _SHAPES:
            last = first + len(shape) - 1
            if last < count and tuple(sizes[first : last + 1]) == shape and len(set(gaps[first:last])) == 1:
                yield first, last
        if sizes[first] == 1 and first > singles_end:
            singles_end = _last_single(sizes, gaps, first)
            if MIN_DIGITS <= singles_end - first + 1 <= MAX_DIGITS:
                yield first, singles_end


def _last_single(sizes: list[int], gaps: list[str], first: int) -> int:
    """End of the longest chain of single digits with one separator that starts at `first`."""
    last = first
    while last + 1 < len(sizes) and sizes[last + 1] == 1 and gaps[last] == gaps[first]:
        last += 1
    return last


def _to_ascii(parts: Iterable[str]) -> str:
    joined = "".join(parts)
    return joined if joined.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in joined)


def _inside_id(text: str, start: int, end: int) -> bool:
    """True for digits that belong to a UUID or to a long hexadecimal word, either with at least one letter."""
    left = start
    while left > 0 and start - left < MAX_ID and (text[left - 1] in "0123456789abcdefABCDEF-"):
        left -= 1
    match = _WORD.match(text, left, end + MAX_ID)
    word = match.group() if match else ""
    offset = left
    for pattern in (_UUID, _HEX):
        for found in pattern.finditer(word):
            covers = offset + found.start() <= start and end <= offset + found.end()
            if covers and not found.group().replace("-", "").isdigit():
                return True
    return False
