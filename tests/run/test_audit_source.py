"""The product's own audit log goes through its source file: what `access` really writes becomes events."""

import json
from pathlib import Path

from vedette.core.db import open_database
from vedette.core.errors import DeniedError
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.prove.access import Access, Level, Mode
from vedette.prove.audit import AuditRecord, to_log
from vedette.sense.ocsf import view
from vedette.sense.sources import load_sources, sniff

SAMPLES = Path(__file__).resolve().parents[2] / "content" / "sources" / "tests" / "vedette_audit.ndjson"


def written(folder, clock, rng):
    """Real records: a tenant, a key made, refused, used and revoked."""
    database = open_database(folder / "state.db")
    with SqliteLog(folder / "log", clock) as log:
        access = Access(database, clock, Ids(clock, rng.getrandbits), observe=to_log(log))
        access.create_tenant("acme")
        issued = access.issue_key("acme", scopes={"events": Level.WRITE}, mode=Mode.TEST)
        principal = access.authenticate(issued.secret)
        try:
            access.authorize(principal, "payouts", "freeze", origin="203.0.113.9")
        except DeniedError:
            pass
        else:
            raise AssertionError("the key may not do that")
        access.revoke_key("acme", issued.key.id)
        lines = [record.value for record in log.read("audit", 0, 0, 100)]
    database.close()
    return lines


def test_real_records_become_events(tmp_path, clock, rng):
    lines = written(tmp_path, clock, rng)
    assert len(lines) >= 4
    sources = load_sources()
    source = sniff(lines, sources)
    assert source.name == "vedette_audit"
    outcomes = set()
    for offset, (line, data) in enumerate(zip(lines, source.parse_many(lines), strict=True)):
        record = json.loads(line)
        assert source.recognises(data)
        event = source.to_event(data, tenant="acme", stream="audit", offset=offset, ingest_time=clock.now())
        assert (event.id, event.event_time) == (record["id"], record["time"])
        assert event.class_uid == 6003
        assert [entity.key for entity in event.entities] == [f"user:{record['actor']}"]
        seen = view(event, source)
        assert seen.get("api.operation") == record["action"]
        assert seen.get("status_id") == (1 if record["outcome"] == "success" else 2)
        assert seen.get("api.response.error") == (record["code"] or "")
        outcomes.add(record["outcome"])
    assert outcomes == {"success", "denied"}


def test_the_source_reads_every_field_of_a_record():
    known = set(AuditRecord.__struct_fields__)
    source = load_sources()["vedette_audit"].definition
    assert set().union(*source.detect, source.promote, source.time) <= known
    for line in SAMPLES.read_text().splitlines():
        assert set(json.loads(line)["record"]) == known
