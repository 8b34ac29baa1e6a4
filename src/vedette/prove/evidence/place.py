"""Says what happened between two lists of leaf hashes: what the anchor saw, and what the table holds now. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vedette.prove.verifier import HASH_BYTES


class Damage(StrEnum):
    """What was done."""

    EDIT = "edit"
    DELETION = "deletion"
    REORDER = "reorder"
    INSERTION = "insertion"
    TRUNCATION = "truncation"
    TREE = "tree"
    """The stored hashes over the records are wrong; the records themselves may be right."""
    ANCHOR = "anchor"
    """What the anchor holds does not verify."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One damage and its place."""

    damage: Damage
    first: int
    """Index of the first record concerned, as it was when it was appended; of an insertion, as it is now."""
    last: int = -1
    """Index of the last one; -1: the same."""
    id: str = ""
    """Id of the record that stands there now, where one does."""
    detail: str = ""

    @property
    def end(self) -> int:
        """Index of the last record concerned."""
        return max(self.first, self.last)


def place(signed: bytes, here: bytes, names: Sequence[tuple[int, str]]) -> list[Finding]:
    """Finds the differences between two lists of leaf hashes.

    Records that the anchor has not seen may stand at the end: they are the unanchored tail and no damage.

    Args:
        signed: Leaf hashes that the anchor vouches for, 32 bytes each.
        here: Leaf hashes of the table.
        names: Stored index and id of each row of the table.
    """
    start = _common(signed, here)
    old, new = _leaves(signed, start), _leaves(here, start)
    came_from = _sources(old, new)
    kept = _longest_rising(came_from)
    findings = [
        Finding(Damage.REORDER, start + source, id=names[start + now][1], detail=f"stands at index {start + now}")
        for now, source in enumerate(came_from)
        if source >= 0 and now not in kept
    ]
    present = set(came_from)
    old_at, new_at = 0, 0
    for now in [*sorted(kept), None]:
        old_end = len(old) if now is None else came_from[now]
        new_end = len(new) if now is None else now
        missing = [start + i for i in range(old_at, old_end) if i not in present]
        unknown = [start + i for i in range(new_at, new_end) if came_from[i] < 0]
        findings += _gap(missing, unknown, names, at_end=now is None)
        old_at, new_at = old_end + 1, new_end + 1
    return findings


def _gap(missing: list[int], unknown: list[int], names: Sequence[tuple[int, str]], *, at_end: bool) -> list[Finding]:
    """What happened between two records that are as they were."""
    if not at_end and len(missing) == len(unknown):
        return [Finding(Damage.EDIT, index, id=names[now][1]) for index, now in zip(missing, unknown, strict=True)]
    by_seq = {names[now][0]: now for now in unknown}
    edited = [index for index in missing if index in by_seq]
    findings = [Finding(Damage.EDIT, index, id=names[by_seq[index]][1]) for index in edited]
    gone = [index for index in missing if index not in by_seq]
    taken = {by_seq[index] for index in edited}
    extra = [now for now in unknown if now not in taken]
    cut_off = at_end and not extra
    findings += [Finding(Damage.TRUNCATION if cut_off else Damage.DELETION, first, last) for first, last in _runs(gone)]
    if not at_end:
        findings += [Finding(Damage.INSERTION, now, id=names[now][1]) for now in extra]
    return findings


def _common(left: bytes, right: bytes) -> int:
    """How many leaves are equal from the start."""
    low, high = 0, min(len(left), len(right)) // HASH_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        if left[low * HASH_BYTES : middle * HASH_BYTES] == right[low * HASH_BYTES : middle * HASH_BYTES]:
            low = middle
        else:
            high = middle - 1
    return low


def _leaves(raw: bytes, start: int) -> list[bytes]:
    return [raw[i : i + HASH_BYTES] for i in range(start * HASH_BYTES, len(raw), HASH_BYTES)]


def _sources(old: list[bytes], new: list[bytes]) -> list[int]:
    """Of each new leaf its index in `old`, or -1; equal leaves are paired in order."""
    places: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for index, leaf in enumerate(old):
        places[leaf].append(index)
    return [places[leaf].popleft() if places.get(leaf) else -1 for leaf in new]


def _longest_rising(values: list[int]) -> set[int]:
    """Positions of a longest rising part of the values that are not negative."""
    tails: list[int] = []
    tail_at: list[int] = []
    before: list[int] = [-1] * len(values)
    for position, value in enumerate(values):
        if value < 0:
            continue
        length = bisect_left(tails, value)
        before[position] = tail_at[length - 1] if length else -1
        if length == len(tails):
            tails.append(value)
            tail_at.append(position)
        else:
            tails[length], tail_at[length] = value, position
    kept: set[int] = set()
    position = tail_at[-1] if tail_at else -1
    while position >= 0:
        kept.add(position)
        position = before[position]
    return kept


def _runs(indexes: list[int]) -> list[tuple[int, int]]:
    """[3, 4, 5, 9] -> (3, 5), (9, 9)."""
    runs: list[tuple[int, int]] = []
    for index in indexes:
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs
