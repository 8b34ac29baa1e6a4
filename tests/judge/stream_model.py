"""What correlations mean, computed the slow way: all events at hand, every window looked at, nothing remembered.

Written from the documentation alone; it shares no code with what it checks. Definitions are plain dictionaries, which
`to_yaml` spells as Sigma for the subject.
"""

import itertools
import json
import math
import statistics
from fractions import Fraction

KINDS = {"r0": {"k0", "k3"}, "r1": {"k1", "k3"}, "r2": {"k2"}}
"""Rule -> the types of events it fires on; `k3` fires two."""
COUNTS = {"event_count", "value_count", "temporal", "temporal_ordered", "value_sum"}
NUMERIC = {"value_sum", "value_avg", "value_median", "value_percentile"}
TESTS = {
    "gt": lambda a, b: a > b, "gte": lambda a, b: a >= b, "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b, "eq": lambda a, b: a == b, "neq": lambda a, b: a != b,
}  # fmt: skip


def identity(name):
    number = 1 + int(name[1:]) + (50 if name[0] == "c" else 0)
    return f"00000000-0000-4000-8000-{number:012d}"


def to_yaml(correlations):
    """The rules and correlations as Sigma documents, in the order given."""
    documents = [
        f"title: {name}\nid: {identity(name)}\nname: {name}\nlogsource: {{product: payments, category: product}}\n"
        f"detection: {{s: {{type: [{', '.join(sorted(kinds))}]}}, condition: s}}\n"
        for name, kinds in KINDS.items()
    ]
    for one in correlations:
        body = {name: one[name] for name in ("type", "rules", "timespan", "generate") if name in one}
        body |= {"group-by": one["by"]} if one["by"] else {}
        body |= {"aliases": one["aliases"]} if one["aliases"] else {}
        body["condition"] = one["text"] if "text" in one else one["condition"]
        body["timespan"] = f"{one['timespan']}s"
        documents.append(
            f"title: {one['name']}\nid: {identity(one['name'])}\nname: {one['name']}\ncorrelation: {json.dumps(body)}\n"
        )
    return "---\n".join(documents)


def texts(data, field):
    """The values of a field as text; a list has several, what is absent, null or empty none."""
    value = data.get(field)
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in dict.fromkeys(values) if one not in (None, "")]


def number(data, field):
    value = data.get(field)
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if fine else None


class Model:
    """Signals of a set of correlations over a set of events.

    Args:
        correlations: Those that others refer to first.
        events: (id, tenant, time in seconds, data).
    """

    def __init__(self, correlations, events):
        self.correlations = {one["name"]: one for one in correlations}
        self.events = {event[0] + "@" + event[1]: event for event in events}.values()

    def signals(self):
        """(tenant, correlation, group, spell) of all that alert."""
        used = {rule for one in self.correlations.values() for rule in one["rules"]}
        loud = {rule for one in self.correlations.values() if one.get("generate") for rule in one["rules"]}
        return {
            (tenant, name, group, end // one["timespan"])
            for tenant in {event[1] for event in self.events}
            for name, one in self.correlations.items()
            if name not in used or name in loud
            for group, end in self.windows(tenant, one)
        }

    def quiet_rules(self):
        used = {rule for one in self.correlations.values() for rule in one["rules"]}
        loud = {rule for one in self.correlations.values() if one.get("generate") for rule in one["rules"]}
        return used - loud

    def moments(self, tenant, one):
        """(group, (time, id, part, value)) of all that brings something to a correlation."""
        found = set()
        for part, rule in enumerate(one["rules"]):
            fields = [one["aliases"].get(name, {}).get(rule, name) for name in one["by"]]
            counted = one["condition"].get("field", [])
            counted = [one["aliases"].get(name, {}).get(rule, name) for name in counted]
            source = self.of_events(tenant, rule) if rule in KINDS else self.of_windows(tenant, rule)
            for time, name, data in source:
                groups = itertools.product(*[texts(data, field) for field in fields])
                for group, value in itertools.product(groups, self.values(one, name, part, data, counted)):
                    found.add((group, (time, name, part, value)))
        return found

    def of_events(self, tenant, rule):
        return [(time, name, data) for name, own, time, data in self.events if own == tenant and data["type"] in KINDS[rule]]  # fmt: skip

    def of_windows(self, tenant, name):
        inner = self.correlations[name]
        return [
            (end, (name, group, end // inner["timespan"]), dict(zip(inner["by"], group, strict=True)))
            for group, end in self.windows(tenant, inner)
        ]

    def values(self, one, name, part, data, fields):
        if one["type"] == "event_count":
            return [name]
        if one["type"].startswith("temporal"):
            return [part]
        if one["type"] == "value_count":
            return list(itertools.product(*[texts(data, field) for field in fields]))
        value = number(data, fields[0])
        return [] if value is None else [value]

    def windows(self, tenant, one):
        """(group, end) of every window that meets its condition; of one that speaks of peaks, each spell's peak."""
        bounds = {name: bound for name, bound in one["condition"].items() if name in TESTS}
        rising = set(bounds) <= {"gt", "gte"}
        by_group = {}
        for group, moment in self.moments(tenant, one):
            by_group.setdefault(group, []).append(moment)
        for group, own in by_group.items():
            peaks = {}
            for end in sorted({moment[0] for moment in own}):
                if "patterns" in one:
                    if any(self.there(one, pattern, own, end) for pattern in one["patterns"]):
                        yield group, end
                    continue
                amount = self.amount(one, [each for each in own if end - one["timespan"] < each[0] <= end])
                if one["type"] in COUNTS and not rising:
                    spell = end // one["timespan"]
                    if spell not in peaks or amount > peaks[spell][0]:
                        peaks[spell] = amount, end
                elif all(TESTS[name](amount, bound) for name, bound in bounds.items()):
                    yield group, end
            for amount, end in peaks.values():
                if all(TESTS[name](amount, bound) for name, bound in bounds.items()):
                    yield group, end

    def amount(self, one, window):
        values = [value for _, _, _, value in window]
        match one["type"]:
            case "temporal_ordered":
                return self.longest(window, None)
            case "value_sum":
                return sum(map(Fraction, values))
            case "value_avg":
                return sum(map(Fraction, values)) / len(values)
            case "value_median":
                return statistics.median(map(Fraction, values))
            case "value_percentile":
                ranked = sorted(values)
                share = one["condition"]["percentile"]
                return next(each for n, each in enumerate(ranked, 1) if 100 * n >= share * len(ranked))
        return len(set(values))

    def longest(self, window, last):
        following = [
            one for one in window
            if last is None or (one[0] >= last[0] and one[2] > last[2] and one[1] != last[1])
        ]  # fmt: skip
        return max((1 + self.longest(window, one) for one in following), default=0)

    def there(self, one, pattern, own, end):
        """True when some choice of a moment for each wanted rule makes the pattern in the window that ends there."""
        wanted, unwanted = pattern
        span, ordered = one["timespan"], one["type"] == "temporal_ordered"
        window = [each for each in own if end - span < each[0] <= end]
        bad = [each for each in own if each[2] in unwanted]
        for chosen in itertools.product(*[[each for each in window if each[2] == part] for part in sorted(wanted)]):
            first, last = min(each[0] for each in chosen), max(each[0] for each in chosen)
            if unwanted and last != end:
                continue
            pairs = list(itertools.pairwise(chosen))
            if ordered and not all(a[0] <= b[0] and a[1] != b[1] for a, b in pairs):
                continue
            places = [self.place(chosen, each[2], span) for each in bad] if ordered else [(last - span + 1, first + span - 1)] * len(bad)  # fmt: skip
            if not any(begin <= each[0] <= stop for each, (begin, stop) in zip(bad, places, strict=True)):
                return True
        return False

    def place(self, chosen, part, span):
        before = [each[0] for each in chosen if each[2] < part]
        after = [each[0] for each in chosen if each[2] > part]
        return (before[-1] if before else chosen[-1][0] - span + 1), (after[0] if after else chosen[0][0] + span - 1)
