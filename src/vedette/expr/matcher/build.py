"""From rules to a plan: formulas over atoms, routed to partitions, with what to watch for in each field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from vedette.expr import codec, nodes, reference
from vedette.expr.matcher import route
from vedette.expr.matcher.formula import All, Any, Atom, Atoms, Formula, Kind, Lit, atoms_of, substitute
from vedette.expr.matcher.needles import anchors, screened
from vedette.expr.matcher.plan import KEYWORD, Ask, Column, Group, Needle, Part, Plan, Watch
from vedette.expr.matcher.witness import sharing_cost, witness
from vedette.expr.nodes import Field, Node, Text, TextMatch
from vedette.expr.truth import Truth
from vedette.expr.values import fold

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
            {number: one for number, one in formulas.items() if one is not False}, self._atoms, self._existing
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
    """Every literal that a watch looks for."""
    return [*watch.equal, *(one.text for one in watch.needles)]


def is_screened(watch: Watch) -> bool:
    """Whether a `Screen` of its literals can rule out that a watch brings any rule up."""
    return not (watch.present or watch.absent or watch.tests) and all(map(screened, literals(watch)))


class _Part:
    """Makes one partition of its formulas."""

    def __init__(self, formulas: Mapping[int, Formula], atoms: Sequence[Atom], existing: set[Node | Field]) -> None:
        self._fixed = [number for number, formula in formulas.items() if formula is True]
        self._formulas = {number: formula for number, formula in formulas.items() if formula is not True}
        self._atoms = atoms
        self._existing = existing
        self._places: dict[Field, int] = {}
        asked = sorted(set().union(*map(atoms_of, self._formulas.values())))
        for number in asked:
            subject = atoms[number].subject
            for field in (subject,) if isinstance(subject, Field) else nodes.fields(subject):
                self._places.setdefault(field, len(self._places))
        self._whole = any(isinstance(atoms[number].subject, nodes.Keyword | nodes.KeywordRegex) for number in asked)
        self._watches: dict[int, _Watch] = defaultdict(_Watch)

    def made(self, *, everywhere: bool) -> Part:
        """The partition; `everywhere` when every event goes there."""
        cost = sharing_cost(list(self._formulas.values()), lambda number: weight(self._atoms[number]))
        free = []
        for slot, formula in enumerate(self._formulas.values()):
            found = witness(formula, cost)
            if found is None:
                free.append(slot)
                continue
            for number in sorted(found):
                self._watch(number, slot)
        columns = [
            Column(field.name, str(field.space), field in self._existing, self._watches[place].made())
            for field, place in self._places.items()
        ]
        keywords = self._watches[KEYWORD].made() if KEYWORD in self._watches else None
        ruled_out = keywords is not None and is_screened(keywords)
        return Part(
            self._fixed,
            list(self._formulas),
            [self._group(formula) for formula in self._formulas.values()],
            free,
            columns,
            keywords,
            ruled_out,
            ruled_out and everywhere,
            self._whole,
        )

    def _group(self, formula: Formula) -> Group:
        match formula:
            case Lit():
                return Group(True, [self._ask(formula)], [])
            case All(parts=parts) | Any(parts=parts):
                asks = [self._ask(part) for part in parts if isinstance(part, Lit)]
                groups = [self._group(part) for part in parts if not isinstance(part, Lit)]
                return Group(isinstance(formula, All), asks, groups)
            case _:
                raise AssertionError(formula)

    def _ask(self, literal: Lit) -> Ask:  # noqa: PLR0911 - one return per node
        atom = self._atoms[literal.atom]
        subject, yes = atom.subject, literal.positive
        if isinstance(subject, Field):
            return Ask(str(atom.kind), self._places[subject], positive=yes)
        if isinstance(subject, nodes.Keyword):
            return Ask(str(subject.match), KEYWORD, subject.value, "cased" * subject.cased, yes)
        if isinstance(subject, nodes.KeywordRegex):
            return Ask("regex", KEYWORD, subject.pattern, subject.flags, yes)
        place = self._places[nodes.fields(subject)[0]]
        match subject:
            case Text():
                return Ask(str(subject.match), place, subject.value, "cased" * subject.cased, yes)
            case nodes.Regex():
                return Ask("regex", place, subject.pattern, subject.flags, yes)
            case nodes.Cidr():
                return Ask("cidr", place, subject.network, positive=yes)
            case _:
                return Ask(str(atom.kind), place, positive=yes, node=codec.encode(subject))

    def _watch(self, number: int, slot: int) -> None:
        """Sees to it that a rule is brought up whenever an atom of its witness is true."""
        ask = self._ask(Lit(number))
        atom = self._atoms[number]
        watch = self._watches[ask.place]
        if atom.kind is Kind.EXISTS:
            watch.absent.append(slot)
            watch.present.append(slot)
            return
        if ask.op == "equals":
            watch.equal[fold(ask.text)].append(slot)
            return
        found = anchors(ask)
        if found and found[0]:
            text, match = found
            watch.needles[text][match].append(slot)
            return
        if found:
            watch.present.append(slot)
            return
        subject = atom.subject
        alone = not isinstance(subject, Field) and len(set(nodes.fields(subject))) == 1
        if ask.op in ("regex", "cidr") or (ask.op in ("holds", "fails") and alone):
            watch.tests.append((ask, slot))
        else:
            watch.present.append(slot)


class _Watch:
    def __init__(self) -> None:
        self.equal: dict[str, list[int]] = defaultdict(list)
        self.needles: dict[str, dict[TextMatch, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.present: list[int] = []
        self.absent: list[int] = []
        self.tests: list[tuple[Ask, int]] = []

    def made(self) -> Watch:
        places = (TextMatch.CONTAINS, TextMatch.STARTS, TextMatch.ENDS)
        needles = [Needle(text, *(found[place] for place in places)) for text, found in self.needles.items()]
        return Watch(dict(self.equal), needles, self.present, self.absent, self.tests)


def weight(atom: Atom) -> float:
    """How likely an atom is to be true, very roughly: long literals are rare, presence is common."""
    match atom.subject:
        case Text(match=TextMatch.EQUALS, value=value):
            return max(0.02, 1.0 / (1 + len(value)))
        case Text(value=value) | nodes.Keyword(value=value):
            return max(0.05, 4.0 / (1 + len(value)))
        case Field():
            return 50.0
        case _:
            return 1.0
