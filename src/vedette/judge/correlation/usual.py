"""What is usual, and what is not: the laws of the types that are ours and not Sigma's. Pure; `course` puts in order.

Each law reads the moments of one correlation in the order of event time, and looks back over a stretch of it and no
further. So its answers are a function of the set of moments, like those of Sigma's own types.

- `first_seen`: a value that its group had not in the last timespan, once the group has been known for `learn`.
- `rare_value`: a value that at most `condition` per cent of all groups had in the last timespan, of at least
  `population` groups.
- `deviation`: a group's amount in one timespan is `condition` times the usual spread above what is usual for it, and
  above what is usual for its peers.
- `beaconing`: a group comes again and again at nearly even intervals, and few others go to the same place.

Look-back of `first_seen` and `rare_value` goes in steps of a thirtieth of the timespan (30 days: by days, UTC), so that
memory holds a value once for each step, however often it is seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque

from vedette.judge.correlation.definition import Measure
from vedette.judge.correlation.moments import Moment, Value

Key = tuple[str, ...]

STEPS = 30
"""Steps that a timespan is looked back in."""


class Law(ABC):
    """What one correlation and tenant knows. Moments come in order of event time, each once."""

    keep: int
    """How far it looks back, microseconds."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.floor = -(1 << 62)
        """What was until then was judged before a restart, when more was known: it only teaches, and tells nothing."""

    def needs(self, key: Key, moment: Moment) -> bool:  # noqa: ARG002 - of those that forget nothing in between
        """False for a moment that can change nothing, because one as good was folded."""
        return True

    @abstractmethod
    def fold(self, key: Key, moment: Moment) -> tuple[float, str] | None:
        """Takes a moment; gives an amount and the value it is about when it is to be told."""

    @abstractmethod
    def sweep(self, time: int) -> None:
        """Forgets what no moment after a time can need."""

    @abstractmethod
    def evict(self, most: int) -> int:
        """Makes room so that at most `most` things are held, the oldest go first; gives how many went."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Groups and things held."""


class Spread:
    """Who had something lately, by steps."""

    __slots__ = ("_by_step", "last")

    def __init__(self) -> None:
        self.last: dict[Key, int] = {}
        self._by_step: Counter[int] = Counter()

    def add(self, who: Key, step: int) -> None:
        """Somebody had it in a step, not before one that is there."""
        held = self.last.get(who)
        if held is not None:
            self._by_step[held] -= 1
        self.last[who] = step
        self._by_step[step] += 1

    def count(self, step: int) -> int:
        """How many had it in a step or the `STEPS` before."""
        return sum(self._by_step[each] for each in range(step - STEPS, step + 1))

    def sweep(self, step: int) -> None:
        """Forgets those of steps before one."""
        for who in [who for who, held in self.last.items() if held < step]:
            self._by_step[self.last.pop(who)] -= 1
        self._by_step = +self._by_step


class FirstSeen(Law):
    """Values that a group had not lately."""

    def __init__(self, measure: Measure) -> None:
        super().__init__(measure)
        self._grain = max(1, measure.span // STEPS)
        self._learn = -(-measure.knobs.learn // self._grain)
        self._known: dict[Key, dict[Value, int]] = {}
        self._active: dict[Key, deque[int]] = {}
        self.keep = measure.span + self._grain
        self._held = 0

    def needs(self, key: Key, moment: Moment) -> bool:
        """False when the value was seen in this step."""
        return self._known.get(key, {}).get(moment.value) != moment.time // self._grain

    def fold(self, key: Key, moment: Moment) -> tuple[float, str] | None:
        """The number of other values the group had lately, and the new one."""
        step = moment.time // self._grain
        known = self._known.setdefault(key, {})
        active = self._active.setdefault(key, deque())
        while active and active[0] < step - STEPS:
            active.popleft()
        taught = bool(active) and active[0] <= step - self._learn
        last = known.get(moment.value)
        fresh = last is None or last < step - STEPS
        self._held += last is None
        known[moment.value] = step
        if not active or active[-1] != step:
            active.append(step)
        if not (fresh and taught):
            return None
        others = sum(held >= step - STEPS for held in known.values()) - 1
        return others, str(moment.value)

    def sweep(self, time: int) -> None:
        """Forgets values not seen for a timespan."""
        oldest = time // self._grain - STEPS
        for key in list(self._known):
            known = {value: step for value, step in self._known[key].items() if step >= oldest}
            self._held -= len(self._known[key]) - len(known)
            if known:
                self._known[key] = known
            else:
                del self._known[key], self._active[key]

    def evict(self, most: int) -> int:
        """The groups seen longest ago go first."""
        gone = 0
        for key in sorted(self._known, key=lambda one: self._active[one][-1]):
            if self._held <= most:
                break
            self._held -= len(self._known.pop(key))
            del self._active[key]
            gone += 1
        return gone

    @property
    def size(self) -> tuple[int, int]:
        """Groups, and values of all of them."""
        return len(self._known), self._held


class RareValue(Law):
    """Values that few groups had lately."""

    def __init__(self, measure: Measure) -> None:
        super().__init__(measure)
        self._grain = max(1, measure.span // STEPS)
        self._everybody = Spread()
        self._who: dict[Value, Spread] = {}
        self._told: dict[tuple[Key, Value], int] = {}
        self.keep = measure.span + self._grain

    def needs(self, key: Key, moment: Moment) -> bool:
        """False when the group had the value in this step."""
        held = self._who.get(moment.value)
        return held is None or held.last.get(key) != moment.time // self._grain

    def fold(self, key: Key, moment: Moment) -> tuple[float, str] | None:
        """Per cent of the groups that had the value, and the value: once for a group and value in each timespan.

        Judged when the group has the value first in a step.
        """
        step, spell = moment.time // self._grain, moment.time // self.measure.span
        spread = self._who.setdefault(moment.value, Spread())
        if spread.last.get(key) == step:
            return None
        spread.add(key, step)
        self._everybody.add(key, step)
        population = self._everybody.count(step)
        share = 100 * spread.count(step) / population
        told = key, moment.value
        if population < self.measure.knobs.population or not self.measure.condition.holds(share):
            return None
        if self._told.get(told) == spell or moment.time <= self.floor:
            return None
        self._told[told] = spell
        return round(share, 3), str(moment.value)

    def sweep(self, time: int) -> None:
        """Forgets who had what longer than a timespan ago."""
        oldest = time // self._grain - STEPS
        self._everybody.sweep(oldest)
        for value in list(self._who):
            self._who[value].sweep(oldest)
            if not self._who[value].last:
                del self._who[value]
        spell = time // self.measure.span
        self._told = {told: held for told, held in self._told.items() if held >= spell}

    def evict(self, most: int) -> int:
        """The values seen longest ago go first."""
        gone, held = 0, self.size[1]
        for value in sorted(self._who, key=lambda one: max(self._who[one].last.values())):
            if held <= most:
                break
            held -= len(self._who.pop(value).last)
            gone += 1
        return gone

    @property
    def size(self) -> tuple[int, int]:
        """Groups, and pairs of a group and a value."""
        return len(self._everybody.last), sum(len(one.last) for one in self._who.values())
