"""MITRE ATT&CK as an imported file states it: techniques, tactics in the matrix's order, groups; ids old and new.

Ids age: a technique is revoked by another, a tactic is split. So ids are never compared as they are written, but by
`Attack.current`. Names and order of tactics come from the bundle, never from a list of ours.

Example:
    >>> brute = Technique("T1110", "Brute Force", ("credential-access",))
    >>> old = Technique("T1562", "Impair Defenses", ("stealth",), revoked_by="T1685")
    >>> new = Technique("T1685", "Disable or Modify Tools", ("stealth",))
    >>> tactics = (Tactic("TA0005", "Stealth", "stealth"), Tactic("TA0006", "Credential Access", "credential-access"))
    >>> attack = Attack("19.0", "", {one.id: one for one in (brute, old, new)}, tactics)
    >>> attack.current("t1562"), parent("T1110.003"), attack.ids(["attack.t1562", "attack.stealth"])
    ('T1685', 'T1110', ('T1685',))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

MAX_CHAIN = 16
"""Longest chain of one id revoked by another; what is longer goes in a circle."""

_TECHNIQUE = re.compile(r"attack\.(t\d{4}(?:\.\d{3})?)", re.IGNORECASE)
_TACTIC = re.compile(r"attack\.([a-z][a-z_-]+)", re.IGNORECASE)


class Tactic(msgspec.Struct, frozen=True):
    """A column of the matrix."""

    id: str
    """`TA0006`."""
    name: str
    short: str
    """`credential-access`, as in tags."""


class Technique(msgspec.Struct, frozen=True):
    """A technique or sub-technique."""

    id: str
    """`T1059` or `T1059.001`."""
    name: str
    tactics: tuple[str, ...] = ()
    """Short names."""
    revoked_by: str = ""
    """Id of what replaced it; empty for one that stands."""
    deprecated: bool = False
    """Withdrawn, or revoked without a word by what."""
    platforms: tuple[str, ...] = ()
    added: bool = False
    """The bundle does not have it: only a crosswalk names it."""


class Group(msgspec.Struct, frozen=True):
    """An actor and what it was seen to use."""

    id: str
    """`G0082`."""
    name: str
    aliases: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    """Ids as the bundle's relations have them, sorted."""


class Link(msgspec.Struct, Generic[T], frozen=True):
    """One stage of a chain."""

    tactic: Tactic | None
    """None for what names no tactic or technique of this ATT&CK."""
    found: tuple[T, ...]
    """In the order of time; empty for a gap."""


class Attack(msgspec.Struct, frozen=True):
    """One version of ATT&CK."""

    version: str
    """`18.1`; as the bundle's collection says, else as its file is named, else the day of its newest change."""
    sha256: str
    """Of the bundle's bytes, unpacked."""
    techniques: Mapping[str, Technique]
    """By id, revoked and deprecated ones too, and those that only a crosswalk names."""
    tactics: tuple[Tactic, ...] = ()
    """In the order of the matrix."""
    groups: Mapping[str, Group] = {}
    """By id."""

    def current(self, name: str) -> str:
        """What a technique's id is called in this version; an unknown id as it is, in capitals."""
        found = name.upper()
        for _ in range(MAX_CHAIN):
            technique = self.techniques.get(found)
            if technique is None or not technique.revoked_by:
                break
            found = technique.revoked_by
        return found

    def technique(self, name: str) -> Technique | None:
        """The technique that an id, old or new, stands for."""
        return self.techniques.get(self.current(name))

    def knows(self, name: str) -> bool:
        """True for the id of a technique, standing or not."""
        return name.upper() in self.techniques

    def ids(self, tags: Iterable[str]) -> tuple[str, ...]:
        """The techniques that tags name, by their current ids, each once."""
        return tuple(dict.fromkeys(self.current(name) for name in map(technique_of, tags) if name))

    def alike(self, one: str, other: str) -> bool:
        """True when two ids mean the same technique, or one is the parent of the other."""
        one, other = self.current(one), self.current(other)
        return one == other or parent(one) == other or parent(other) == one

    def stage(self, tags: Iterable[str]) -> int | None:
        """Place in `tactics` that tags point to: of a tactic they name, else of their technique's first one.

        The earliest of several; None where they name nothing that this version knows.
        """
        tags = tuple(tags)
        places = {tactic.short: place for place, tactic in enumerate(self.tactics)}
        named = [places[short] for short in map(tactic_of, tags) if short in places]
        if named:
            return min(named)
        techniques = (self.technique(name) for name in self.ids(tags))
        return min(
            (places[short] for one in techniques if one for short in one.tactics if short in places), default=None
        )

    def chain(
        self, items: Iterable[T], *, tags: Callable[[T], Iterable[str]], time: Callable[[T], int]
    ) -> tuple[Link[T], ...]:
        """Items by the stage of an attack they show, in the order of the matrix.

        A tactic between the first and the last stage in which nothing was seen is a link without items: a gap. What has
        no stage comes last. The order is one of stages, not of time: an attacker may go back.

        Args:
            items: Such as the signals about one entity.
            tags: Of an item.
            time: Of an item, microseconds UTC.
        """
        by_stage: dict[int | None, list[T]] = {}
        for item in sorted(items, key=time):
            by_stage.setdefault(self.stage(tags(item)), []).append(item)
        rest = by_stage.pop(None, [])
        stages = sorted(stage for stage in by_stage if stage is not None)
        between = range(stages[0], stages[-1] + 1) if stages else range(0)
        links = [Link(self.tactics[place], tuple(by_stage.get(place, ()))) for place in between]
        return (*links, *([Link(None, tuple(rest))] if rest else []))

    def group(self, name: str) -> Group | None:
        """An actor by id, name or alias, in any case."""
        wanted = name.casefold()
        for one in self.groups.values():
            if wanted in {one.id.casefold(), one.name.casefold(), *(alias.casefold() for alias in one.aliases)}:
                return one
        return None


def parent(name: str) -> str:
    """The technique of a sub-technique; empty for a technique."""
    above, dot, _ = name.upper().partition(".")
    return above if dot else ""


def technique_of(tag: str) -> str:
    """`T1059.001` of the tag `attack.t1059.001`; empty for other tags."""
    found = _TECHNIQUE.fullmatch(tag)
    return found[1].upper() if found else ""


def tactic_of(tag: str) -> str:
    """`credential-access` of the tags `attack.credential-access` and `attack.credential_access`; empty for others."""
    found = _TACTIC.fullmatch(tag)
    return found[1].lower().replace("_", "-") if found else ""
