"""The audit trail against a plain list of what was recorded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.clock import SystemClock
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.prove import trail
from vedette.prove.audit import TOPIC, Audit, Outcome, to_log
from vedette.prove.trail import TrailFilter, read_trail

records = st.lists(
    st.tuples(
        st.sampled_from(["acme", "beta"]),
        st.sampled_from(["keys.issue", "keys.revoke", "people.grant"]),
        st.sampled_from(["per_1", "per_2"]),
        st.sampled_from(list(Outcome)),
    ),
    max_size=40,
)
filters = st.builds(
    TrailFilter,
    actor=st.sampled_from(["", "per_1"]),
    action=st.sampled_from(["", "keys.", "keys.revoke"]),
    outcome=st.sampled_from([None, *Outcome]),
)


def check_trail(tmp_path_factory, told, wanted, limit):
    with SqliteLog(tmp_path_factory.mktemp("trail"), SystemClock(), partitions=2) as log:
        audit = Audit(to_log(log), SystemClock(), Ids(SystemClock()))
        for place, (tenant, action, actor, outcome) in enumerate(told):
            audit.record(tenant, action, actor=actor, outcome=outcome, target=str(place))
        log.append(TOPIC, "acme", [b"not a record"])
        want = [
            str(place)
            for place, (tenant, action, actor, outcome) in enumerate(told)
            if tenant == "acme"
            and action.startswith(wanted.action)
            and wanted.actor in ("", actor)
            and wanted.outcome in (None, outcome)
        ]
        found, before = [], None
        while True:
            page = read_trail(log, "acme", wanted, before=before, limit=limit)
            assert len(page.records) <= limit
            found += [record.target for record in page.records]
            if page.next is None:
                break
            assert before is None or page.next < before
            before = page.next
        assert found == want[::-1]


@settings(max_examples=25, deadline=None)
@given(records, filters, st.integers(1, 7))
def test_agrees_with_a_list(tmp_path_factory, told, wanted, limit):
    check_trail(tmp_path_factory, told, wanted, limit)


def test_small_chunks_and_short_reads_lose_nothing(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(trail, "CHUNK", 3)
    monkeypatch.setattr(trail, "MAX_READ", 7)
    told = [("acme" if n % 3 else "beta", "keys.issue", f"per_{n % 2}", Outcome.SUCCESS) for n in range(50)]
    check_trail(tmp_path_factory, told, TrailFilter(actor="per_1"), 2)


def test_agreement_is_seen_to_fail(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(TrailFilter, "holds", lambda _self, record: record.actor == "per_1")
    told = [("acme", "keys.issue", f"per_{n % 2}", Outcome.SUCCESS) for n in range(6)]
    with pytest.raises(AssertionError):
        check_trail(tmp_path_factory, told, TrailFilter(), 3)
