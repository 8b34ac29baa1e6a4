"""Queries: the answer is right, and nothing gets over the wall."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.errors import DataError, TransientError, VedetteError
from vedette.core.event import Event
from vedette.sense import query as query_module
from vedette.sense.query import Answer, Budget, run_query
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

SOURCE = load_sources()["cloudtrail"]
TIME = 1_700_000_000_000_000
secret_table = pa.table({"secret": [1]})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    filled = Store(tmp_path_factory.mktemp("store"))
    for tenant, count in (("acme", 30), ("other", 5)):
        filled.append(
            SOURCE,
            [
                Event(
                    id=f"{tenant}-{n}", tenant=tenant, source="cloudtrail", event_time=TIME + n, ingest_time=TIME,
                    data={"eventName": f"Call{n % 3}", "n": n, "owner": tenant},
                )
                for n in range(count)
            ],
        )  # fmt: skip
    return filled


def ask(store: Store, text: str, *parameters: object, tenant: str = "acme", **budget: float) -> Answer:
    return run_query(store, tenant, text, parameters=parameters, budget=Budget(**budget))  # type: ignore[arg-type]


def test_answers(store: Store) -> None:
    answer = ask(store, "SELECT eventName, count(*) AS n FROM cloudtrail GROUP BY ALL ORDER BY 1")
    assert isinstance(answer.table, pa.Table)
    assert answer.table.to_pylist() == [{"eventName": f"Call{n}", "n": 10} for n in range(3)]
    assert not answer.cut
    assert ask(store, "SELECT sum((data->>'$.n')::int) s FROM cloudtrail").table.to_pylist() == [{"s": 435}]
    assert ask(store, "FROM cloudtrail SELECT id LIMIT 0").table.num_rows == 0


def test_parameters_are_bound(store: Store) -> None:
    evil = "x' OR 1=1 --"
    assert ask(store, "SELECT ? AS v", evil).table.to_pylist() == [{"v": evil}]
    assert ask(store, "SELECT count(*) c FROM cloudtrail WHERE eventName = ?", evil).table.to_pylist() == [{"c": 0}]
    named = run_query(
        store, "acme", "SELECT count(*) c FROM cloudtrail WHERE eventName = $name", parameters={"name": "Call1"}
    )
    assert named.table.to_pylist() == [{"c": 10}]


def test_rows_are_cut_and_said_so(store: Store) -> None:
    answer = ask(store, "SELECT id FROM cloudtrail ORDER BY event_time", rows=7)
    assert answer.table["id"].to_pylist() == [f"acme-{n}" for n in range(7)]
    assert answer.cut
    assert not ask(store, "SELECT id FROM cloudtrail", rows=30).cut


REFUSED = {
    "SELECT * FROM read_csv('/etc/passwd')": "query.function.refused",
    "SELECT * FROM read_text('/etc/passwd')": "query.function.refused",
    "SELECT * FROM '/etc/passwd'": "query.run.failed",
    "SELECT * FROM 'x.parquet'": "query.run.failed",
    "SELECT (SELECT max(content) FROM read_text('/etc/passwd'))": "query.function.refused",
    "WITH a AS (SELECT * FROM glob('/*')) SELECT * FROM a": "query.function.refused",
    "SELECT * FROM parquet_scan('/tmp/*')": "query.function.refused",
    "SELECT * FROM query('SELECT 1')": "query.function.refused",
    "SELECT * FROM query_table('cloudtrail')": "query.function.refused",
    "SELECT * FROM arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)": "query.function.refused",
    "SELECT * FROM pandas_scan(1::POINTER)": "query.function.refused",
    "SELECT * FROM duckdb_settings()": "query.function.refused",
    "SELECT * FROM duckdb_secrets()": "query.function.refused",
    "SELECT * FROM json_execute_serialized_sql('x')": "query.function.refused",
    "SELECT * FROM information_schema.tables": "query.table.refused",
    "SELECT * FROM pg_catalog.pg_settings": "query.table.refused",
    "SELECT * FROM system.information_schema.tables": "query.table.refused",
    "SELECT repeat('x', 1000000000)": "query.function.refused",
    "SELECT format('{:1000000000}', 1)": "query.function.refused",
    "SELECT list_transform([1], x -> repeat('x', 1000000000))": "query.function.refused",
    "SELECT current_setting('memory_limit')": "query.function.refused",
    "SELECT secret FROM secret_table": "query.run.failed",
    "SELECT * FROM SOURCE": "query.run.failed",
    "ATTACH '/tmp/x.db'": "query.text.not_select",
    "COPY cloudtrail TO '/tmp/stolen.csv'": "query.text.not_select",
    "COPY (SELECT 1) TO '/tmp/stolen.csv'": "query.text.not_select",
    "EXPORT DATABASE '/tmp/stolen'": "query.text.not_select",
    "INSTALL httpfs": "query.text.not_select",
    "LOAD httpfs": "query.text.not_select",
    "PRAGMA database_list": "query.text.not_select",
    "CALL pragma_version()": "query.text.not_select",
    "SET enable_external_access = true": "query.text.not_select",
    "RESET lock_configuration": "query.text.not_select",
    "CREATE TABLE x AS SELECT 1": "query.text.not_select",
    "DROP VIEW cloudtrail": "query.text.not_select",
    "DELETE FROM cloudtrail": "query.text.not_select",
    "EXPLAIN SELECT 1": "query.text.not_select",
    "DESCRIBE cloudtrail": "query.text.not_select",
    "SHOW TABLES": "query.text.not_select",
    "SELECT 1; SELECT 2": "query.text.not_select",
    "SELECT 1; COPY cloudtrail TO '/tmp/stolen.csv'": "query.text.not_select",
    "PREPARE x AS SELECT 1": "query.text.not_select",
    "": "query.text.not_select",
    "SELEC 1": "query.text.syntax",
    "SELECT nothing FROM cloudtrail": "query.run.failed",
    "SELECT 1" + " " * 100_000: "query.text.too_long",
}


@pytest.mark.parametrize("text", list(REFUSED), ids=lambda text: text[:50])
def test_the_wall_refuses(store: Store, text: str) -> None:
    with pytest.raises(VedetteError) as caught:
        ask(store, text)
    assert caught.value.code == REFUSED[text]
    assert not list(Path("/tmp").glob("stolen*"))


@pytest.mark.parametrize(
    "text", [text for text in REFUSED if "read_" in text or "'/etc" in text or "COPY" in text or "SET" in text]
)
def test_the_second_wall_stands_without_the_first(store: Store, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "_check", lambda _connection, _text: None)
    with pytest.raises(VedetteError) as caught:
        ask(store, text)
    assert caught.value.code in {"query.run.failed", "query.memory.exceeded"}
    assert not list(Path("/tmp").glob("stolen*"))


def test_python_objects_cannot_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "leak", secret_table, raising=False)
    for name in ("leak", "secret_table", "_BUDGET", "parameters"):
        with pytest.raises(DataError) as caught:
            ask(store, f"SELECT * FROM {name}")
        assert caught.value.code == "query.run.failed"


def test_a_dataset_lists_the_files_of_its_tenant_only(store: Store) -> None:
    table = store.table("cloudtrail")
    paths = table._listed(["acme"], None).files
    assert paths
    assert all("tenant=acme/" in path for path in paths)
    assert len(table._listed(["acme", "other"], None).files) > len(paths)


def test_the_filter_stands_without_the_list(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    table = store.table("cloudtrail")
    everything = table._listed(["acme", "other"], None)
    monkeypatch.setattr(table, "_listed", lambda _tenants, _dates: everything)
    assert set(table.dataset(["other"]).to_table()["tenant"].to_pylist()) == {"other"}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=15, deadline=None
)
@given(
    where=st.sampled_from(
        [
            "",
            "WHERE tenant = 'other'",
            "WHERE true OR tenant = 'other'",
            "WHERE id LIKE 'other%'",
            "WHERE tenant <> 'acme'",
        ]
    )
)
def test_no_row_of_another_tenant_is_reachable(store: Store, where: str) -> None:
    answer = ask(store, f"SELECT tenant, id, data->>'$.owner' AS o FROM cloudtrail {where}")
    assert {(row["tenant"], row["o"]) for row in answer.table.to_pylist()} <= {("acme", "acme")}
    files = ask(store, "SELECT count(*) AS n FROM cloudtrail", tenant="other").table.to_pylist()
    assert files == [{"n": 5}]
    assert ask(store, "SELECT 1 AS one", tenant="nobody").table.num_rows == 1


@pytest.mark.parametrize("tenant", ["", "*", "acme' OR '1'='1", "../acme"])
def test_a_strange_tenant_is_refused(store: Store, tenant: str) -> None:
    with pytest.raises(DataError) as caught:
        ask(store, "SELECT 1", tenant=tenant)
    assert caught.value.code == "store.tenant.name"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM range(1000000000000)",
        "SELECT count(*) FROM range(10000000) a, range(10000000) b, cloudtrail c WHERE a.range + b.range < c.seq",
        "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t) SELECT count(*) FROM t",
    ],
)
def test_the_deadline_stops_what_is_endless(store: Store, text: str) -> None:
    begin = time.monotonic()
    with pytest.raises(TransientError) as caught:
        ask(store, text, seconds=0.3, memory_mb=512)
    assert caught.value.code == "query.deadline.exceeded"
    assert time.monotonic() - begin < 60
    assert ask(store, "SELECT count(*) AS n FROM cloudtrail").table.to_pylist() == [{"n": 30}]


def test_a_memory_hog_is_stopped(store: Store) -> None:
    with pytest.raises(DataError) as caught:
        ask(store, "SELECT list(md5(range::text) || md5(range::text)) FROM range(20000000)", seconds=60, memory_mb=64)
    assert caught.value.code == "query.memory.exceeded"
