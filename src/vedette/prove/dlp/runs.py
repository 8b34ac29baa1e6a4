"""Runs of digits that are long enough to be a card number, found in bytes without looking at each byte in Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from vedette.prove.dlp.pans import MAX_DIGITS, MIN_DIGITS, CardNumber, find_pans, in_run

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

BLOCK: Final = 1 << 20
MAX_LINE: Final = 1 << 16
"""A longer line is cut; a number that stands across the cut is looked for in the overlap."""
OVERLAP: Final = 128
_DIGIT, _SEPARATOR = 1, 2
_CLASS = np.zeros(256, np.uint8)
_CLASS[ord("0") : ord("9") + 1] = _DIGIT
_CLASS[list(b"\x00\t .+_-")] = _SEPARATOR
_HALF, _CARRY = 5, 9
"""A doubled digit of two places counts for the sum of them: from five on, nine less (ISO/IEC 7812-1 annex B)."""
_NEAREST: Final = 4
"""Most places from one digit of a number to the next: three separators between."""
_FOREIGN: Final = re.compile(rb"[^\n]*[\x80-\xff][^\n]*")


def find_in(data: bytes) -> Iterator[CardNumber]:
    """Card numbers by the law of `pans`, as places in the bytes, in order."""
    start = 0
    while start < len(data):
        end = _cut(data, start)
        yield from _block(data, start, end)
        start = end


def _cut(data: bytes, start: int) -> int:
    """The end of a block: a line's, unless the line is absurd."""
    if len(data) - start <= BLOCK:
        return len(data)
    line = data.rfind(b"\n", start + BLOCK - MAX_LINE, start + BLOCK)
    return line + 1 if line >= 0 else start + BLOCK


def _block(data: bytes, start: int, end: int) -> Iterator[CardNumber]:
    block = (
        data[start : min(end + OVERLAP, len(data))]
        if end < len(data) and data[end - 1 : end] != b"\n"
        else data[start:end]
    )
    if block.isascii():
        found = _ascii(block)
    else:
        # Digits and separators of other scripts stand only in lines that are not ASCII; those are read as text.
        lines = [match.span() for match in _FOREIGN.finditer(block)]
        kept = bytearray(block)
        for first, last in lines:
            kept[first:last] = b"x" * (last - first)
        foreign = (
            CardNumber(each.brand, first + each.start, first + each.end)
            for first, last in lines
            for each in find_pans(block[first:last])
        )
        found = iter(sorted([*_ascii(bytes(kept)), *foreign], key=lambda each: each.start))
    for each in found:
        if each.start < end - start:
            yield CardNumber(each.brand, start + each.start, start + each.end)


def _ascii(block: bytes) -> Iterator[CardNumber]:
    """Card numbers in ASCII: numpy finds the runs, `pans` reads them."""
    raw = np.frombuffer(block, np.uint8)
    kinds = _CLASS[raw]
    digits = np.flatnonzero(kinds == _DIGIT)
    if len(digits) < MIN_DIGITS:
        return
    others = np.cumsum(kinds == 0, dtype=np.int32)[digits]
    ends = np.flatnonzero((np.diff(digits) > _NEAREST) | (others[1:] != others[:-1]))
    first = np.concatenate(([0], ends + 1))
    last = np.concatenate((ends, [len(digits) - 1]))
    long = last - first >= MIN_DIGITS - 1
    starts, counts = digits[first[long]], (last - first)[long] + 1
    stops = digits[last[long]] + 1
    keep = _may_be_numbers(raw, starts, stops, counts)
    text = block.decode("ascii")
    for start, stop in zip(starts[keep].tolist(), stops[keep].tolist(), strict=True):
        yield from in_run(text, start, stop)


def _may_be_numbers(raw: Bytes, starts: Places, stops: Places, counts: Places) -> npt.NDArray[np.bool_]:
    """False for runs of digits alone whose check digit is wrong, or that are too long: most of what is no card."""
    whole = stops - starts == counts
    keep: npt.NDArray[np.bool_] = ~(whole & (counts > MAX_DIGITS))
    for length in range(MIN_DIGITS, MAX_DIGITS + 1):
        these = np.flatnonzero(whole & (counts == length))
        values = raw[starts[these][:, None] + np.arange(length)] - ord("0")
        doubled = values[:, length % 2 :: 2] * 2
        total = (
            values.sum(axis=1)
            - values[:, length % 2 :: 2].sum(axis=1)
            + (doubled - _CARRY * (doubled >= 2 * _HALF)).sum(axis=1)
        )
        keep[these] = total % 10 == 0
    return keep
