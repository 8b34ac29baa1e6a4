"""The kernel of `Skimmer`: tells of which lines of JSON no rule can be true, without decoding them.

Of fields that rules watch, the written value is looked up among those seen before; a new one is folded, searched for
literals, and remembered with the atoms it makes true and the rules it brings up. Only of lines that bring a rule up
are the rules asked, by jumps from atom to atom; what no literal tells is taken to be true.

Every text ends in `PAD` newlines and every array of bytes in `PAD` bytes, so that blocks are read without a bound.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, D417, PLR0917, PLR2004, C901
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from vedette.expr.matcher.block import (
    BLOCK,
    LOW32,
    NEWLINE,
    PAD,
    QUOTE,
    equal,
    first,
    hash_of,
    lower,
    newlines,
    specials,
    word,
)
from vedette.expr.matcher.scan import ESCAPED, HEX, LETTER_U, NINE, RETURN, ZERO, members

PARTS = "4c1bd7531868429f"
"""SHA-256 of `block.py` and `scan.py`, shortened. Numba's cache sees a change of this file alone: one of those has to
show here, and a test says so."""

LONGEST = 2_048
"""Longest written value that is remembered."""
STEPS = 32
"""Most places looked at for one value in the table of those seen."""
GRAM_PRIME = np.uint64(0x9E3779B1)

# Counters
ENTRIES, BYTES, POOL, SERIAL, FULL, SLOW, WAITING, WANTED, TOLD = range(9)
COUNTERS = 9

NATIVE = 1
"""Bit of a watch: its probes ask nothing that no literal tells."""
TRUE, FALSE = -1, -2
"""Where jumps end."""
READY, WAIT = 0, 1
E_WATCH, E_SIZE, E_AT, E_STATE, E_ATOMS, E_ATOMS_END, E_SLOTS, E_SLOTS_END = range(8)
N_AT, N_SIZE, N_GRAM, N_OFFSET, N_NEXT, N_ANY, N_STARTS, N_ENDS, N_WHOLE = range(9)
G_MASK, G_SHIFT, G_BITS, G_HEADS, G_SIZE = range(5)


class Routes(NamedTuple):
    """Where lines go, by the classes of their routing values."""

    keys: Any
    """Of the routing fields; -1 for none."""
    width: Any
    of: Any
    """Class and class -> route; -1 when it is not known yet."""
    watch: Any
    """Route and name -> watch, or -1."""
    opaque: Any
    """Their lines are looked at."""
    free_at: Any
    free: Any
    """Rules that are always asked."""


class Probes(NamedTuple):
    """Watches, their probes, and the literals of each by a hash of up to four bytes of them (a gram)."""

    flags: Any
    at: Any
    probe: Any
    marks: Any
    group_at: Any
    group: Any
    """Per length of gram: its mask, bits of the hash, where its bits begin, and where its heads."""
    bits: Any
    heads: Any
    needle: Any
    """Of each literal: place, length, gram, offset of the gram, next; atoms anywhere, at the start, the end, whole."""
    text: Any
    brings_at: Any
    brings: Any


class Code(NamedTuple):
    """Rules as jumps: where each begins; an atom (-1: taken to be true), where to go on if it is true, and if not."""

    at: Any
    jumps: Any
    atom_stamp: Any
    slot_stamp: Any


class Seen(NamedTuple):
    """Values seen before."""

    table: Any
    hash: Any
    entry: Any
    """Watch, length, place of the bytes, state, atoms from and to, slots from and to."""
    bytes: Any
    pool: Any


class Out(NamedTuple):
    """What is told of a chunk, and room to work in."""

    counters: Any
    slow: Any
    """Lines to look at."""
    ends: Any
    """Where each line ends."""
    waiting: Any
    """Entries whose meaning has to be found out."""
    wanted: Any
    """Pairs of classes whose route has to be found out."""
    row: Any
    """Of the known fields of a line: number, where the value begins and ends (-1 for a nested one), entry."""
    scratch: Any
    inside: Any
    """The step by which each object that is read was opened."""
    about: Any
    """Of each line to look at: where it stands in `told`; -1 when nothing is known of it."""
    told: Any
    """How many rules may be true and how many atoms are; the rules' slots, the atoms."""


@njit(cache=True, _nrt=False)
def _fold(text, at, end, scratch):
    """Writes a value as the text that literals are searched in; its length, or -1 when that is not for bytes to say."""
    if text[at] != QUOTE:
        return _digits(text, at, end, scratch)
    at, end, to = at + 1, end - 1, 0
    if end - at > len(scratch) - PAD:
        return -1
    while at < end:
        beyond = lower(text, at, scratch, to)
        bits = specials(text, at)
        step = first(bits) if bits else BLOCK
        step = min(step, end - at)
        if beyond and first(beyond) < step:
            return -1
        at += step
        to += step
        if at >= end or step == BLOCK:
            continue
        if text[at + 1] == LETTER_U:
            high, low = np.int64(HEX[text[at + 4]]), np.int64(HEX[text[at + 5]])
            if text[at + 2] != ZERO or text[at + 3] != ZERO or high >= 8:
                return -1
            sign = high * 16 + low
            at += 6
        else:
            sign = np.int64(ESCAPED[text[at + 1]])
            at += 2
        scratch[to] = sign | 32 if 65 <= sign <= 90 else sign
        to += 1
    return to


@njit(cache=True, _nrt=False)
def _digits(text, at, end, scratch):
    size = end - at
    for place in range(size):
        sign = text[at + place]
        if sign < ZERO or sign > NINE:
            return -1
        scratch[place] = sign
    return size


@njit(cache=True, _nrt=False)
def _put(atom, code, pool, count, serial):
    if atom >= 0 and code.atom_stamp[atom] != serial:
        code.atom_stamp[atom] = serial
        pool[count] = atom
        count += 1
    return count


@njit(cache=True, _nrt=False)
def _literals(scratch, size, group, probes, code, pool, count, serial):
    """Adds the atoms of the literals of one length of gram."""
    wide = np.uint64(probes.group[group, G_MASK])
    shift = np.uint64(probes.group[group, G_SHIFT])
    bits, heads = probes.group[group, G_BITS], probes.group[group, G_HEADS]
    for place in range(size - probes.group[group, G_SIZE] + 1):
        gram = word(scratch, place) & wide
        mark = np.int64(((gram * GRAM_PRIME) & LOW32) >> shift)
        if (probes.bits[bits + (mark >> 3)] >> (mark & 7)) & 1 == 0:
            continue
        one = probes.heads[heads + (mark >> 3)]
        while one >= 0:
            needle = probes.needle[one]
            one = needle[N_NEXT]
            if needle[N_GRAM] != np.int64(gram):
                continue
            begin, length = place - needle[N_OFFSET], needle[N_SIZE]
            if begin < 0 or begin + length > size or not equal(scratch, begin, probes.text, needle[N_AT], length):
                continue
            count = _put(needle[N_ANY], code, pool, count, serial)
            if begin == 0:
                count = _put(needle[N_STARTS], code, pool, count, serial)
                if length == size:
                    count = _put(needle[N_WHOLE], code, pool, count, serial)
            if begin + length == size:
                count = _put(needle[N_ENDS], code, pool, count, serial)
    return count


@njit(cache=True, _nrt=False)
def _search(scratch, size, watch, probes, code, pool, begin, serial):
    """Writes the atoms that a text makes true, then the slots they bring up; where the atoms end, and the slots."""
    count = begin
    for each in range(probes.at[watch], probes.at[watch + 1]):
        probe = probes.probe[each]
        for mark in range(2):
            count = _put(probes.marks[probe, mark], code, pool, count, serial)
        if size == 0:
            count = _put(probes.marks[probe, 2], code, pool, count, serial)
        for group in range(probes.group_at[probe], probes.group_at[probe + 1]):
            count = _literals(scratch, size, group, probes, code, pool, count, serial)
    atoms_end = count
    for place in range(begin, atoms_end):
        atom = pool[place]
        for each in range(probes.brings_at[atom], probes.brings_at[atom + 1]):
            slot = probes.brings[each]
            if code.slot_stamp[slot] != serial:
                code.slot_stamp[slot] = serial
                pool[count] = slot
                count += 1
    return atoms_end, count


@njit(cache=True, _nrt=False)
def _entry(text, at, end, watch, probes, code, seen, out):
    """What a value means: its entry, or -1 while that is not known."""
    size = end - at
    found = hash_of(text, at, end, watch)
    mask = len(seen.table) - 1
    place = np.int64(found & np.uint64(mask))
    counters = out.counters
    if size <= LONGEST:
        steps = 0
        while seen.table[place] >= 0:
            number = seen.table[place]
            entry = seen.entry[number]
            if (
                seen.hash[number] == found
                and entry[E_WATCH] == watch
                and entry[E_SIZE] == size
                and equal(text, at, seen.bytes, entry[E_AT], size)
            ):
                return np.int64(number) if entry[E_STATE] == READY else np.int64(-1)
            place = (place + 1) & mask
            steps += 1
            if steps == STEPS:
                return np.int64(-1)
    number = counters[ENTRIES]
    room = len(code.atom_stamp) + len(code.slot_stamp)
    if (
        number == len(seen.hash)
        or counters[POOL] + room > len(seen.pool)
        or counters[BYTES] + size + PAD > len(seen.bytes)
    ):
        counters[FULL] = 1
        return np.int64(-1)
    entry = seen.entry[number]
    native = probes.flags[watch] & NATIVE
    folded = _fold(text, at, end, out.scratch) if native else -1
    if folded < 0 and size > LONGEST:
        return np.int64(-1)
    counters[ENTRIES] += 1
    entry[E_WATCH], entry[E_SIZE], entry[E_AT] = watch, size, counters[BYTES]
    if size <= LONGEST:
        seen.hash[number] = found
        seen.table[place] = number
        for step in range(size):
            seen.bytes[counters[BYTES] + step] = text[at + step]
        counters[BYTES] += size
    if folded < 0:
        entry[E_STATE] = WAIT
        out.waiting[counters[WAITING]] = number
        counters[WAITING] += 1
        return np.int64(-1)
    counters[SERIAL] += 1
    begin = counters[POOL]
    for step in range(8):
        out.scratch[folded + step] = 0
    atoms_end, slots_end = _search(out.scratch, folded, watch, probes, code, seen.pool, begin, counters[SERIAL])
    entry[E_STATE] = READY
    entry[E_ATOMS], entry[E_ATOMS_END], entry[E_SLOTS], entry[E_SLOTS_END] = begin, atoms_end, atoms_end, slots_end
    counters[POOL] = slots_end
    return np.int64(number)


@njit(cache=True, _nrt=False)
def _holds(slot, code, serial):
    """Whether a rule may be true of the stamped atoms."""
    place = np.int64(code.at[slot])
    while place >= 0:
        atom = code.jumps[place, 0]
        place = np.int64(code.jumps[place, 1 if atom < 0 or code.atom_stamp[atom] == serial else 2])
    return place == TRUE


@njit(cache=True, _nrt=False)
def _may(code, slots, begin, end, serial, told, count):
    """Adds the rules that may be true."""
    for place in range(begin, end):
        slot = slots[place]
        if code.slot_stamp[slot] != serial:
            code.slot_stamp[slot] = serial
            if _holds(slot, code, serial):
                told[count] = slot
                count += 1
    return count


@njit(cache=True, _nrt=False)
def _route(text, count, routes, probes, code, seen, out):
    """The route of the line in `out.row`, or -1 while it is not known."""
    row = out.row
    classes: Any = np.int64(0)
    for field in range(len(routes.keys)):
        found = np.int64(0)
        for place in range(count):
            if row[place, 0] == routes.keys[field]:
                if row[place, 2] < 0:
                    return np.int64(-1)
                entry = _entry(text, row[place, 1], row[place, 2], field, probes, code, seen, out)
                if entry < 0:
                    return np.int64(-1)
                found = np.int64(seen.entry[entry, E_ATOMS])
                if found < 0:
                    return np.int64(-1)
        classes = classes * routes.width[field] + found
    route = np.int64(routes.of[classes])
    if route < 0 and out.counters[WANTED] < len(out.wanted):
        out.wanted[out.counters[WANTED]] = classes
        out.counters[WANTED] += 1
    return route


@njit(cache=True, _nrt=False)
def _known(text, count, routes, probes, code, seen, out):
    """The entries of the line in `out.row`: its route (-1: not known), how many, whether any rule is brought up."""
    route = _route(text, count, routes, probes, code, seen, out)
    if route < 0 or routes.opaque[route]:
        return np.int64(-1), 0, False
    row, kept = out.row, 0
    brought = routes.free_at[route + 1] > routes.free_at[route]
    for place in range(count):
        watch = routes.watch[route, row[place, 0]]
        if watch < 0:
            continue
        if row[place, 2] < 0:
            return np.int64(-1), 0, False
        entry = _entry(text, row[place, 1], row[place, 2], watch, probes, code, seen, out)
        if entry < 0:
            return np.int64(-1), 0, False
        row[kept, 3] = entry
        kept += 1
        brought |= seen.entry[entry, E_SLOTS_END] > seen.entry[entry, E_SLOTS]
    return route, kept, brought


@njit(cache=True, _nrt=False)
def _quiet(text, count, routes, probes, code, seen, out):
    """Whether no rule can be true of the line in `out.row`; what is known of it goes into `out.told`."""
    route, kept, brought = _known(text, count, routes, probes, code, seen, out)
    if route < 0:
        return False
    if not brought:
        return True
    counters, row, told = out.counters, out.row, out.told
    counters[SERIAL] += 1
    now, begin = counters[SERIAL], counters[TOLD]
    if begin + len(code.slot_stamp) + len(code.atom_stamp) + 2 > len(told):
        return False
    for place in range(kept):
        entry = seen.entry[row[place, 3]]
        for each in range(entry[E_ATOMS], entry[E_ATOMS_END]):
            code.atom_stamp[seen.pool[each]] = now
    end = _may(code, routes.free, routes.free_at[route], routes.free_at[route + 1], now, told, begin + 2)
    for place in range(kept):
        entry = seen.entry[row[place, 3]]
        end = _may(code, seen.pool, entry[E_SLOTS], entry[E_SLOTS_END], now, told, end)
    if end == begin + 2:
        return True
    told[begin], told[begin + 1] = end - begin - 2, 0
    for place in range(kept):
        entry = seen.entry[row[place, 3]]
        for each in range(entry[E_ATOMS], entry[E_ATOMS_END]):
            told[end] = seen.pool[each]
            end += 1
    told[begin + 1] = end - begin - 2 - told[begin]
    counters[TOLD] = end
    out.about[counters[SLOW]] = begin
    return False


@njit(cache=True, _nrt=False)
def enter(text, needle, bits, heads, begin, size, shift, shared):
    """Enters literals by the gram of each that fewest of them hold: it is rare in texts as well.

    Args:
        text: All literals.
        needle: Of each, its place and length; the rest is filled in.
        bits, heads: The tables, empty.
        begin: Number of the first literal.
        size: Of a gram.
        shift: From a hash to its bits.
        shared: A counter for each bit, all 0.
    """
    wide = (np.uint64(1) << np.uint64(8 * size)) - np.uint64(1)
    for one in range(len(needle)):
        for at in range(needle[one, N_AT], needle[one, N_AT] + needle[one, N_SIZE] - size + 1):
            shared[np.int64((((word(text, at) & wide) * GRAM_PRIME) & LOW32) >> np.uint64(shift))] += 1
    for one in range(len(needle)):
        least = np.int64(-1)
        for at in range(needle[one, N_AT], needle[one, N_AT] + needle[one, N_SIZE] - size + 1):
            gram = word(text, at) & wide
            mark = np.int64(((gram * GRAM_PRIME) & LOW32) >> np.uint64(shift))
            if least < 0 or shared[mark] < least:
                least = np.int64(shared[mark])
                chosen = mark
                needle[one, N_GRAM], needle[one, N_OFFSET] = np.int64(gram), at - needle[one, N_AT]
        bits[chosen >> 3] |= 1 << (chosen & 7)
        needle[one, N_NEXT] = heads[chosen >> 3]
        heads[chosen >> 3] = begin + one


@njit(cache=True, _nrt=False)
def _forget(seen, out):
    for place in range(len(seen.table)):
        seen.table[place] = -1
    for counter in (ENTRIES, BYTES, POOL, FULL, WAITING):
        out.counters[counter] = 0


@njit(cache=True, _nrt=False)
def skim(text, size, names, routes, probes, code, seen, out):
    """Finds the lines to look at.

    Args:
        text: The lines, UTF-8, then `PAD` newlines.
        size: Without these.
        names, routes, probes, code: The rules.
        seen: Changed.
        out: What is found; its counters tell how much.

    Returns:
        How many lines there are; -1 when one is blank, or when there are more than `out` has room for.
    """
    counters = out.counters
    counters[SLOW] = counters[WAITING] = counters[WANTED] = counters[TOLD] = 0
    at, line = 0, 0
    while at <= size:
        if line == len(out.ends) or text[at] == NEWLINE or (text[at] == RETURN and text[at + 1] == NEWLINE):
            return -1
        if counters[FULL]:
            _forget(seen, out)
        counters[SERIAL] += 1
        out.about[counters[SLOW]] = -1
        end, count = members(text, at, names, out.row, out.inside, counters[SERIAL])
        if end < 0 or not _quiet(text, count, routes, probes, code, seen, out):
            out.slow[counters[SLOW]] = line
            counters[SLOW] += 1
        at = max(at, end)
        while True:
            bits = newlines(text, at)
            if bits:
                at += first(bits)
                break
            at += BLOCK
        out.ends[line] = at
        line += 1
        at += 1
    return line
