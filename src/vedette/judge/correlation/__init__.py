"""Sigma correlations: what several events mean together, on a stream and over history with the same answer.

**Moments.** A rule that a correlation refers to and that fires on an event gives a *moment*: event time t, the event's
id, the rule, and the values of the `group-by` fields and of the condition's `field`. A field that is absent, null or
empty puts the moment in no group; it is counted (`ungrouped`) and not used. A list gives a moment for each of its
values. A moment that is delivered twice counts once.

**Window.** Groups (the values of `group-by`, compared as exact text) are judged each on its own; none hides another. A
window is (e - timespan, e] in event time, and one ends at every moment's time e: it slides, as the specification asks
("the time frame should not be restricted to boundaries"). Its amount is:

- `event_count`: different events; `value_count`: different values of `field`; `temporal`: different rules;
- `temporal_ordered`: the longest chain of rules in the order of `rules`, by times that do not go back. Equal times
  stand in any order, because many sources write whole seconds; one event is not two neighbours of a chain;
- `value_sum`, `value_avg`, `value_median`, `value_percentile` (nearest rank): over the numbers in `field`, an event
  once for each rule. What is no number is counted (`unreadable`) and not used.

**Answer.** The specification says when a correlation matches, not how often. Here event time is cut into *spells* as
long as the timespan, and a group gives at most one signal for each spell: when a window that ends in it meets the
condition. So an attack that goes on is told again each timespan, counts that flutter about the threshold do not
flood, and the set of signals is a function of the set of moments: order of arrival, repetition and batching leave no
trace. What a signal shows is the first such window seen; its id is made of rule, versions, group and spell, so that a
replay makes it again.

- `gt`, `gte` on counts, on `temporal` and on sums answer at once: another event can only raise the amount. (A sum of
  values below zero stays told once it was seen above.)
- `lt`, `lte`, `eq`, `neq` and ranges on those speak of a spell's peak: "101 to 200" is no burst of 1,000 that passes
  by. They answer when the spell is over by the lateness.
- Averages, medians and percentiles answer for each window when it is over by the lateness.

**Late events.** Within `LATENESS` of the newest event, order does not matter. A later one is judged with whatever is
still held, and counted (`late`); what was settled stays settled.

**Bounds.** Moments are forgotten once no window can need them. Beyond `GROUPS` groups or `MOMENTS` moments of one
correlation and tenant, the groups whose last moment is oldest go first; beyond `GROUP_MOMENTS`, a group keeps the
newest moment of each value, then the newest. Both are counted (`evicted`, `thinned`) and told. One correlation never
takes another's room.

**Ours.** `first_seen`, `rare_value`, `deviation` and `beaconing` compare with what was usual (`usual`, `course`);
`risk` adds up what all rules say about an entity.

**Chains.** A correlation may refer to another: then every window of it that meets its condition is a moment, at the
window's end, whose id is that of the spell's signal and whose fields are its `group-by`.

Source: Sigma correlation rules specification 2.0.2 and 2.1 (statistics, extended conditions); pySigma 1.5.

Example:
    >>> from vedette.judge.correlation.definition import Condition, Kind, Measure
    >>> from vedette.judge.correlation.moments import Moment
    >>> from vedette.judge.correlation.window import Window
    >>> window = Window(Measure(Kind.EVENT_COUNT, span=60, condition=Condition(gte=2), parts=1))
    >>> [bool(window.add(("eve",), Moment(t, f"e{t}", 0, f"e{t}"))) for t in (10, 20, 30, 500)]
    [False, True, False, False]
"""
