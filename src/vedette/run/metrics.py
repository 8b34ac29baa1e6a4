"""What the pipelines and the API count. One registry per platform, so that tests and processes do not share counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vedette.act.bounty.report import ReportState, Standing
from vedette.act.reviewing.nouns import Waiting

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


class Meters:
    """Counters, gauges and histograms, named as Prometheus names them.

    Labels have bounded cardinality: consumer, source, action, rule, route, status and error code come from closed sets.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._taken = Counter(
            "vedette_consumer_records", "Records a consumer handled.", ["consumer"], registry=self.registry
        )
        self._lag = Gauge(
            "vedette_consumer_lag_records",
            "Records between a consumer and the end.",
            ["consumer"],
            registry=self.registry,
        )
        self._events = Counter(
            "vedette_source_records", "Records read from a source.", ["source", "outcome"], registry=self.registry
        )
        self._refused = Counter(
            "vedette_quarantined", "Records refused, by reason.", ["source", "code"], registry=self.registry
        )
        self._failures = Counter(
            "vedette_guard_failures", "Errors the guards caught.", ["where", "code"], registry=self.registry
        )
        decisions = Counter(
            "vedette_decisions", "Decisions by action and fallback.", ["action", "fallback"], registry=self.registry
        )
        self._decision = cache(decisions.labels)
        self._decision_seconds = Histogram(
            "vedette_decision_seconds", "From request in hand to answer.", buckets=_SECONDS, registry=self.registry
        )
        self._held = Gauge(
            "vedette_correlation_held", "What a correlation holds.", ["rule", "what"], registry=self.registry
        )
        self._lost = Counter(
            "vedette_correlation_lost",
            "What a correlation could not use, met late or twice, or let go.",
            ["rule", "reason"],
            registry=self.registry,
        )
        self._reviews = Gauge("vedette_review_queue", "The review queues in numbers.", ["what"], registry=self.registry)
        self._reports = Gauge(
            "vedette_bounty_reports", "Reports of weaknesses, by state.", ["what"], registry=self.registry
        )
        requests = Counter(
            "vedette_http_requests", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        # Finding a counter by its labels costs more than counting.
        self._request = cache(requests.labels)

    def taken(self, consumer: str, count: int) -> None:
        """Counts records handled."""
        self._taken.labels(consumer).inc(count)

    def lag(self, consumer: str, records: int) -> None:
        """States how many records a consumer is behind."""
        self._lag.labels(consumer).set(records)

    def source(self, source: str, outcome: str, count: int) -> None:
        """Counts records of a source: `appended`, `stored`, `quarantined` or `duplicate`."""
        self._events.labels(source, outcome).inc(count)

    def refused(self, source: str, code: str) -> None:
        """Counts a record that went to quarantine."""
        self._refused.labels(source, code).inc()
        self.source(source, "quarantined", 1)

    def failure(self, where: str, code: str) -> None:
        """Counts an error that a guard caught, so that nothing fails silently."""
        self._failures.labels(where, code).inc()

    def decision(self, action: str, fallback: str, seconds: float) -> None:
        """Counts a decision; `fallback` is empty when every part answered in time."""
        self._decision(action, fallback).inc()
        self._decision_seconds.observe(seconds)

    def reviews(self, queues: Sequence[Waiting]) -> None:
        """States how the review queues of all tenants stand together."""
        for name in ("open", "held", "disputed", "overdue", "cost_minor"):
            self._reviews.labels(name).set(sum(getattr(each, name) for each in queues))
        self._reviews.labels("oldest_s").set(max((each.oldest_s for each in queues), default=0))

    def reports(self, standings: Sequence[Standing]) -> None:
        """States how the reports of weaknesses of all tenants stand together."""
        for state in ReportState:
            self._reports.labels(state).set(sum(each.states.get(state, 0) for each in standings))
        self._reports.labels("overdue").set(sum(each.overdue for each in standings))

    def correlation_held(self, rule: str, groups: int, moments: int) -> None:
        """States what a correlation holds for all tenants."""
        self._held.labels(rule, "groups").set(groups)
        self._held.labels(rule, "moments").set(moments)

    def correlation_lost(self, rule: str, reason: str, count: int) -> None:
        """Counts `late`, `duplicate`, `evicted` (groups), `thinned`, `ungrouped` or `unreadable` of a correlation."""
        self._lost.labels(rule, reason).inc(count)

    def request(self, route: str, status: int) -> None:
        """Counts an HTTP answer by the route's template, never by the path that was asked."""
        self._request(route, status).inc()

    def value(self, sample: str, **labels: str) -> float:
        """What a sample of the exposition stands at; 0 when it was never touched."""
        return self.registry.get_sample_value(sample, labels) or 0.0

    def failures(self, room: str) -> dict[tuple[str, str], int]:
        """(place, code) -> errors that guards caught in the places `room.place`, since the process began."""
        found = {}
        for sample in (sample for family in self._failures.collect() for sample in family.samples):
            place = sample.labels.get("where", "")
            if sample.name.endswith("_total") and place.startswith(f"{room}."):
                found[place.removeprefix(f"{room}."), sample.labels["code"]] = round(sample.value)
        return found

    def failed(self) -> int:
        """Errors that guards caught, of all kinds."""
        samples = (sample for family in self._failures.collect() for sample in family.samples)
        return round(sum(sample.value for sample in samples if sample.name.endswith("_total")))

    def text(self) -> bytes:
        """The exposition text that Prometheus scrapes."""
        return generate_latest(self.registry)
