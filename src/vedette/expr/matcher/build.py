"""From rules to a plan: formulas over atoms, routed to partitions, with what to watch for in each field."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

import msgspec

from vedette.expr import codec, nodes, reference
from vedette.expr.matcher import route
from vedette.expr.matcher.formula import Any, Atom, Atoms, Formula, Kind, Lit, atoms_of, substitute
from vedette.expr.matcher.needles import anchors
from vedette.expr.matcher.plan import KEYWORD, NONE, Ask, Column, Group, Needle, Part, Plan, Watch
from vedette.expr.matcher.sweep import screened
from vedette.expr.matcher.witness import sharing_cost, witness
from vedette.expr.nodes import Field, Node, Text, TextMatch
from vedette.expr.truth import Truth

Classes = tuple[str, ...]


class Builder:
    """Plans a matcher.

    Args:
        rules: What to match; a rule's number is its place.

    Raises:
        UnsupportedError: `matcher.node.unsupported`.
    """

    def __init__(self, rules: Sequence[Node]) -> None:
        atoms = Atoms()
        self._formulas = [atoms.formula(rule) for rule in rules]
        self._atoms = atoms.all
        self._weights = weights(self._atoms)
        self._demands = [route.pins(formula, self._atoms) for formula in self._formulas]
        self._routing = route.routing_fields(self._demands)
        self._existing = {atom.subject for atom in self._atoms if atom.kind is Kind.EXISTS}

    def plan(self) -> Plan:
        """The plan, with a partition for every combination of values that a rule demands of the routing fields."""
        takers: dict[Classes, list[int]] = defaultdict(list)
        for number, demand in enumerate(self._demands):
            classes: list[Classes] = [()]
            for field in self._routing:
                chosen = sorted(demand.get(field, (route.REST,)))
                classes = [(*head, value) for head in classes for value in chosen]
            for one in classes:
                takers[one].append(number)
        made = {one: self._part(numbers, one) for one, numbers in takers.items()}
        parts = [(list(one), msgspec.Raw(msgspec.msgpack.encode(part))) for one, part in made.items()]
        sweep = {text for part in made.values() if part.keywords and part.swept for text in literals(part.keywords)}
        pinned = [sorted({one[place] for one in takers} - {route.REST}) for place in range(len(self._routing))]
        return Plan([field.name for field in self._routing], pinned, sorted(sweep), parts)

    def whole(self) -> Part:
        """One partition of all rules, for events that no class describes."""
        return self._part(range(len(self._formulas)), ())

    def _part(self, numbers: Iterable[int], classes: Classes) -> Part:
        known = dict(zip(self._routing, classes, strict=False))
        formulas = {
            number: substitute(self._formulas[number], lambda atom: self._known(atom, known)) for number in numbers
        }
        return _Part(
            {number: one for number, one in formulas.items() if one is not False},
            self._atoms,
            self._weights,
            self._existing,
        ).made(everywhere=set(classes) <= {route.REST})

    def _known(self, number: int, classes: Mapping[Field, str]) -> bool | None:
        """The answer of an atom that is the same for every event of these classes; None when it is not."""
        atom = self._atoms[number]
        subject = atom.subject
        field = subject if isinstance(subject, Field) else subject.field if isinstance(subject, Text) else None
        chosen = classes.get(field, route.REST) if field else route.REST
        if chosen == route.REST:
            return None
        if isinstance(subject, Text):
            return None if subject.cased else reference.evaluate(subject, lambda _field: chosen) is Truth.TRUE
        return True


def literals(watch: Watch) -> list[str]:
    """Every literal that brings a rule up."""
    brings = watch.brings
    needles = (one for one in watch.needles if not brings.keys().isdisjoint((one.anywhere, one.starts, one.ends)))
    return [*(text for text, atom in watch.equal.items() if atom in brings), *(one.text for one in needles)]


def is_screened(watch: Watch) -> bool:
    """Whether a `Screen` of its literals can rule out that a watch brings any rule up."""
    marks = (watch.present, watch.exists)
    return watch.brings.keys().isdisjoint(marks) and not watch.tests and all(map(screened, literals(watch)))


class _Part:
    """Makes one partition of its formulas."""

    def __init__(
        self,
        formulas: Mapping[int, Formula],
        atoms: Sequence[Atom],
        weights: Sequence[float],
        existing: set[Node | Field],
    ) -> None:
        self._fixed = [number for number, formula in formulas.items() if formula is True]
        self._formulas = {number: formula for number, formula in formulas.items() if formula is not True}
        self._atoms = atoms
        self._weights = weights
        self._existing = existing
        self._places: dict[Field, int] = {}
        asked = sorted(set().union(*map(atoms_of, self._formulas.values())))
        for number in asked:
            subject = atoms[number].subject
            for field in (subject,) if isinstance(subject, Field) else nodes.fields(subject):
                self._places.setdefault(field, len(self._places))
        self._whole = any(isinstance(atoms[number].subject, nodes.Keyword | nodes.KeywordRegex) for number in asked)
        numbers = count()
        self._watches: dict[int, _Watch] = defaultdict(lambda: _Watch(numbers))

    def made(self, *, everywhere: bool) -> Part:
        """The partition; `everywhere` when every event goes there."""
        cost = sharing_cost(list(self._formulas.values()), self._weights.__getitem__)
        free = []
        for slot, formula in enumerate(self._formulas.values()):
            found = witness(formula, cost)
            if found is None:
                free.append(slot)
                continue
            for number in sorted(found):
                self._watch(number, slot)
        groups = [self._group(formula) for formula in self._formulas.values()]
        columns = [
            Column(field.name, str(field.space), field in self._existing, self._watches[place].made())
            for field, place in self._places.items()
        ]
        keywords = self._watches[KEYWORD].made() if KEYWORD in self._watches else None
        ruled_out = keywords is not None and is_screened(keywords)
        swept = ruled_out and everywhere
        rules = list(self._formulas)
        return Part(self._fixed, rules, groups, free, columns, keywords, ruled_out, swept, self._whole)

    def _group(self, formula: Formula) -> Group:
        assert not isinstance(formula, bool)  # noqa: S101 - such rules are fixed or left out
        group = Group(not isinstance(formula, Any), [], [], [], [])
        for part in (formula,) if isinstance(formula, Lit) else formula.parts:
            if not isinstance(part, Lit):
                group.groups.append(self._group(part))
            elif (atom := self._atom(part.atom)) == NONE:
                group.asks.append(self._ask(part))
            else:
                (group.true if part.positive else group.false).append(atom)
        return group

    def _atom(self, number: int) -> int:
        """The number here of what a text's literals, or a value's being there, answer; else `NONE`."""
        match self._atoms[number]:
            case Atom(Kind.PRESENT, Field() as field):
                return self._watches[self._places[field]].mark("present")
            case Atom(Kind.EXISTS, Field() as field):
                return self._watches[self._places[field]].mark("exists")
            case Atom(Kind.HOLDS, Text(cased=False, match=match, value=text) as subject):
                return self._watches[self._places[subject.field]].literal(text, match)
            case Atom(Kind.HOLDS, nodes.Keyword(cased=False, match=match, value=text)):
                return self._watches[KEYWORD].literal(text, match)
            case _:
                return NONE

    def _ask(self, literal: Lit) -> Ask:
        ask = self._question(self._atoms[literal.atom])
        guard = [self._watches[ask.place].literal(text, match) for text, match in anchors(ask) or ()]
        return msgspec.structs.replace(ask, positive=literal.positive, guard=[] if NONE in guard else guard)

    def _question(self, atom: Atom) -> Ask:
        match atom.subject:
            case nodes.Keyword(match=match, value=value, cased=cased):
                return Ask(str(match), KEYWORD, value, "cased" * cased)
            case nodes.KeywordRegex(pattern=pattern, flags=flags):
                return Ask("regex", KEYWORD, pattern, flags)
            case Field() as field:
                raise AssertionError(field)
            case subject:
                place = self._places[nodes.fields(subject)[0]]
        match subject:
            case Text(match=match, value=value, cased=cased):
                return Ask(str(match), place, value, "cased" * cased)
            case nodes.Regex(pattern=pattern, flags=flags):
                return Ask("regex", place, pattern, flags)
            case nodes.Cidr(network=network):
                return Ask("cidr", place, network)
            case _:
                return Ask(str(atom.kind), place, node=codec.encode(subject))

    def _watch(self, number: int, slot: int) -> None:
        """Sees to it that a rule is brought up whenever an atom of its witness is true."""
        atom = self._atom(number)
        if atom != NONE:
            subject = self._atoms[number].subject
            field = subject if isinstance(subject, Field) else next(iter(nodes.fields(subject)), None)
            self._watches[KEYWORD if field is None else self._places[field]].brings[atom].append(slot)
            return
        ask = self._question(self._atoms[number])
        watch = self._watches[ask.place]
        found = anchors(ask)
        if found is not None:
            for text, match in found:
                mark = watch.literal(text, match)
                watch.brings[watch.mark("present") if mark == NONE else mark].append(slot)
            return
        subject = self._atoms[number].subject
        alone = not isinstance(subject, Field) and len(set(nodes.fields(subject))) == 1
        if ask.op in ("regex", "cidr") or (ask.op in ("holds", "fails") and alone):
            watch.tests.append((ask, slot))
        else:
            watch.brings[watch.mark("present")].append(slot)


class _Watch:
    """Makes a watch; gives its atoms their numbers."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._equal: dict[str, int] = {}
        self._needles: dict[str, Needle] = {}
        self._marks = {"present": NONE, "exists": NONE}
        self.brings: dict[int, list[int]] = defaultdict(list)
        self.tests: list[tuple[Ask, int]] = []

    def mark(self, name: str) -> int:
        """The atom of a value's being there."""
        if self._marks[name] == NONE:
            self._marks[name] = next(self._numbers)
        return self._marks[name]

    def literal(self, text: str, match: TextMatch) -> int:
        """The atom of a folded literal; `NONE` for what is no plain literal: a glob, or the empty text anywhere."""
        if match is TextMatch.EQUALS:
            if text not in self._equal:
                self._equal[text] = next(self._numbers)
            return self._equal[text]
        if match is TextMatch.GLOB or not text:
            return NONE
        needle = self._needles.setdefault(text, Needle(text))
        name = _PLACES[match]
        if getattr(needle, name) == NONE:
            setattr(needle, name, next(self._numbers))
        return int(getattr(needle, name))

    def made(self) -> Watch:
        brings = {atom: sorted(set(slots)) for atom, slots in self.brings.items()}
        needles = list(self._needles.values())
        return Watch(self._equal, needles, self._marks["present"], self._marks["exists"], brings, self.tests)


_PLACES = {TextMatch.CONTAINS: "anywhere", TextMatch.STARTS: "starts", TextMatch.ENDS: "ends"}


def weights(atoms: Sequence[Atom]) -> list[float]:
    """How likely each atom is true, very roughly.

    Of a field's values that rules name, each is as likely as any other: there are four levels of integrity and
    thousands of programs. A short literal stands in many texts; that there is a value says nothing.
    """
    named = Counter(_subject(atom) for atom in atoms)
    found = []
    for atom in atoms:
        likely = 1.0 / (1 + named[_subject(atom)])
        match atom.subject:
            case Text(match=TextMatch.EQUALS):
                found.append(likely)
            case Text(match=TextMatch.STARTS | TextMatch.ENDS, value=value):
                found.append(likely + _short(value) / 3)
            case Text(value=value) | nodes.Keyword(value=value):
                found.append(likely + _short(value))
            case Field():
                found.append(50.0)
            case _:
                found.append(1.0)
    return found


def _subject(atom: Atom) -> object:
    subject = atom.subject
    return subject.field if isinstance(subject, Text) else type(subject)


def _short(literal: str) -> float:
    return float(0.3 * 2.0 ** (-len(literal) / 2))
