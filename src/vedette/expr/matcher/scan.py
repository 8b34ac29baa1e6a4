"""JSON lines read as bytes: where the values of known fields stand.

A line is taken only when it is written plainly; whatever else there is (numbers with exponents, escaped names, names
with spaces, half a surrogate pair, deep nesting, a name that stands twice, bad syntax) is for a whole reader to judge.
What is taken, every JSON reader takes.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, PLR0912, PLR0917, PLR0911, PLR2004, C901
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from vedette.expr.matcher.block import (
    BACKSLASH,
    BLOCK,
    LOW32,
    NEWLINE,
    QUOTE,
    SPACE,
    equal,
    first,
    hash_of,
    specials,
    word,
)

DIGITS = 18
"""Most digits of a number that is taken."""
DEEPEST = 50
"""Deepest nesting that is taken; fits in the bits of a word."""
RETURN, COLON, COMMA = 13, 58, 44
OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = 123, 125, 91, 93
MINUS, DOT, ZERO, NINE, LETTER_U = 45, 46, 48, 57, 117
TRUE_WORD, FALSE_WORD, NULL_WORD = (int.from_bytes(each, "little") for each in (b"true", b"alse", b"null"))
ESCAPED = np.zeros(256, np.uint8)
"""Sign after a backslash -> what it stands for."""
for _sign, _meant in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
    ESCAPED[_sign] = _meant
HEX = np.full(256, 255, np.uint8)
for _digit, _sign in enumerate(b"0123456789abcdef"):
    HEX[_sign] = HEX[ord(chr(_sign).upper())] = _digit
K_FIELD, K_WHEN, K_ALIAS, K_LIFT, K_FLAGS = range(5)
BEWARE, HEAD = 1, 2
"""Lines with such a name are not taken; those in which its value is nested are not."""


class Names(NamedTuple):
    """The names of fields that matter, in a table by their hash."""

    table: Any
    hash: Any
    at: Any
    text: Any
    kind: Any
    """Field (its number, or -1); the steps of whose shaping the name is the condition, an alias, an object to open;
    flags."""
    stamp: Any
    """Of fields."""


@njit(cache=True, _nrt=False)
def _string(text, at):
    """Where the closing quote of a text stands; -1 when it holds what is not taken."""
    while True:
        bits = specials(text, at)
        if bits == 0:
            at += BLOCK
            continue
        at += first(bits)
        sign = text[at]
        if sign == QUOTE:
            return at
        if sign != BACKSLASH:
            return -1
        after = text[at + 1]
        if ESCAPED[after] != 0:
            at += 2
        elif after == LETTER_U:
            for place in range(at + 2, at + 6):
                if HEX[text[place]] == 255:
                    return -1
            if HEX[text[at + 2]] == 13 and HEX[text[at + 3]] >= 8:
                return -1
            at += 6
        else:
            return -1


@njit(cache=True, _nrt=False)
def _number(text, at):
    """Where a number ends; -1 when it is written in a way that is not taken."""
    if text[at] == MINUS:
        at += 1
    start = at
    while ZERO <= text[at] <= NINE:
        at += 1
    if at == start or (text[start] == ZERO and at > start + 1):
        return -1
    if text[at] == DOT:
        at += 1
        point = at
        while ZERO <= text[at] <= NINE:
            at += 1
        if at == point:
            return -1
    return at if at - start <= DIGITS else -1


@njit(cache=True, _nrt=False)
def _value(text, at):
    """Where a plain value ends; -1 for an object, a list and what is not taken."""
    sign = text[at]
    if sign == QUOTE:
        end = _string(text, at + 1)
        return end + 1 if end >= 0 else -1
    if sign == MINUS or ZERO <= sign <= NINE:
        return _number(text, at)
    spelt = np.int64(word(text, at) & LOW32)
    if spelt in (TRUE_WORD, NULL_WORD):
        return at + 4
    if sign == 102 and np.int64(word(text, at + 1) & LOW32) == FALSE_WORD:
        return at + 5
    return -1


@njit(cache=True, _nrt=False)
def _blanks(text, at):
    while text[at] == SPACE:
        at += 1
    return at


@njit(cache=True, _nrt=False)
def _name(text, at):
    """Where a name ends; -1 when it is escaped or holds a space."""
    while True:
        sign = text[at]
        if sign == QUOTE:
            return at
        if sign <= SPACE or sign == BACKSLASH:
            return -1
        at += 1


@njit(cache=True, _nrt=False)
def _key(text, at, end, names):
    """The number of a name, or -1."""
    found = hash_of(text, at, end, 0)
    mask = len(names.table) - 1
    place = np.int64(found & np.uint64(mask))
    while names.table[place] >= 0:
        key = names.table[place]
        size = names.at[key + 1] - names.at[key]
        if names.hash[key] == found and size == end - at and equal(text, at, names.text, names.at[key], size):
            return np.int64(key)
        place = (place + 1) & mask
    return np.int64(-1)


@njit(cache=True, _nrt=False)
def _to_value(text, at):
    """From a name to its value; -1 when there is none."""
    if text[at] != QUOTE:
        return -1
    end = _string(text, at + 1)
    if end < 0:
        return -1
    at = _blanks(text, end + 1)
    return _blanks(text, at + 1) if text[at] == COLON else -1


@njit(cache=True, _nrt=False)
def _nested(text, at):
    """Where an object or a list ends; -1 when it is not taken."""
    kinds, depth = 0, 0
    while True:
        sign = text[at]
        if sign in (OPEN, OPEN_LIST):
            depth += 1
            if depth > DEEPEST:
                return -1
            kinds = (kinds << 1) | (sign == OPEN)
            at = _blanks(text, at + 1)
            if text[at] != (CLOSE if sign == OPEN else CLOSE_LIST):
                if sign == OPEN:
                    at = _to_value(text, at)
                    if at < 0:
                        return -1
                continue
        else:
            at = _value(text, at)
            if at < 0:
                return -1
        while depth > 0:
            at = _blanks(text, at)
            sign = text[at]
            at += 1
            if sign == COMMA:
                at = _blanks(text, at)
                if kinds & 1:
                    at = _to_value(text, at)
                break
            if sign != (CLOSE if kinds & 1 else CLOSE_LIST):
                return -1
            depth -= 1
            kinds >>= 1
        if depth == 0 or at < 0:
            return at


@njit(cache=True, _nrt=False)
def _shaped(kind, name, step):
    """What a name says of how its record is shaped: conditions seen, steps used; -1 when the kernel cannot tell.

    Steps come one after another: what an object holds is not there before the step that opens it.
    """
    when, alias, lift = kind[name, K_WHEN], kind[name, K_ALIAS], kind[name, K_LIFT]
    if (when >= 0 and step >= when) or (alias >= 0 and step > alias) or (lift >= 0 and step >= lift):
        return -1, -1
    seen = 1 << when if when >= 0 else 0
    used = (1 << alias if alias >= 0 else 0) | (1 << lift if lift >= 0 else 0)
    return seen, used


@njit(cache=True, _nrt=False)
def _note(text, at, name, step, names, row, count, serial):
    """Notes a name that matters and its value: where that ends (-1: not taken), how many, conditions and steps.

    An object that a step opens ends where it begins: its members are read next.
    """
    kind = names.kind
    field, flags = np.int64(kind[name, K_FIELD]), kind[name, K_FLAGS]
    seen, used = _shaped(kind, name, step)
    nested = text[at] in (OPEN, OPEN_LIST)
    # Of a name that stands twice the last value counts.
    if flags & BEWARE or seen < 0 or names.stamp[name] == serial or (nested and flags & HEAD):
        return np.int64(-1), count, seen, used
    names.stamp[name] = serial
    if kind[name, K_LIFT] >= 0:
        return np.int64(at) if text[at] == OPEN else np.int64(-1), count, seen, used
    end = _nested(text, at) if nested else _value(text, at)
    if end >= 0 and field >= 0:
        if field != name and names.stamp[field] == serial:
            return np.int64(-1), count, seen, used
        names.stamp[field] = serial
        row[count, 0], row[count, 1], row[count, 2] = field, at, -1 if nested else end
        count += 1
    return np.int64(end), count, seen, used


@njit(cache=True, _nrt=False)
def members(text, at, names, row, inside, serial):
    """Reads one record; the known fields and where their values stand go into `row`. Where it ends, or -1; how many."""
    count, depth, seen, used = 0, 0, 0, 0
    inside[0] = -1
    if text[at] != OPEN:
        return np.int64(-1), 0
    at = _blanks(text, at + 1)
    fresh = False
    while True:
        if not (fresh and text[at] == CLOSE):
            if text[at] != QUOTE:
                return np.int64(-1), 0
            end = _name(text, at + 1)
            if end < 0:
                return np.int64(-1), 0
            name = _key(text, at + 1, end, names)
            at = _blanks(text, end + 1)
            if text[at] != COLON:
                return np.int64(-1), 0
            at = _blanks(text, at + 1)
            if name >= 0:
                end, count, conditions, steps = _note(text, at, name, inside[depth], names, row, count, serial)
                if end == at:
                    depth += 1
                    inside[depth] = names.kind[name, K_LIFT]
                seen |= conditions
                used |= steps
            else:
                end = _nested(text, at) if text[at] in (OPEN, OPEN_LIST) else _value(text, at)
            if end < 0:
                return np.int64(-1), 0
            if end == at:
                at = _blanks(text, at + 1)
                fresh = True
                continue
            at = _blanks(text, end)
        fresh = False
        while text[at] == CLOSE and depth > 0:
            depth -= 1
            at = _blanks(text, at + 1)
        if text[at] == COMMA:
            at = _blanks(text, at + 1)
            continue
        if text[at] != CLOSE or depth > 0 or used & ~seen:
            return np.int64(-1), 0
        break
    at += 1
    while text[at] in (SPACE, RETURN):
        at += 1
    return (np.int64(at), count) if text[at] == NEWLINE else (np.int64(-1), 0)
