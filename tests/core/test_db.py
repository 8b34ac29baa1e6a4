"""Relational state on both databases: migrations, transactions that exclude each other, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

import vedette
from vedette.core import db
from vedette.core.db import Database, Migration, create, open_database, sa
from vedette.core.errors import DefinitionError, PermanentError, TransientError

ENV = {**os.environ, "PYTHONPATH": str(Path(vedette.__file__).parent.parent)}

METADATA = sa.MetaData()
COUNTER = sa.Table(
    "counter", METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer), sqlite_strict=True
)
FIRST = Migration(1, "tables", create(METADATA))
SECOND = Migration(2, "seed", lambda connection: connection.execute(COUNTER.insert().values(id=1, n=0)))

SCHEMAS = count()
Place = tuple[str, str]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Target and schema of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "deep" / "state.db"), ""
    return request.getfixturevalue("postgres_url"), f"room_{os.getpid()}_{next(SCHEMAS)}"


@pytest.fixture
def opened(place: Place) -> Iterator[Callable[[], Database]]:
    """Opens the place, as often as asked; closes all at the end."""
    found: list[Database] = []

    def again() -> Database:
        found.append(open_database(place[0], schema=place[1]))
        return found[-1]

    yield again
    for database in found:
        database.close()


def counted(database: Database) -> int | None:
    with database.read() as connection:
        return connection.execute(sa.select(COUNTER.c.n)).scalar()


def test_each_migration_runs_once_and_in_order(opened):
    database = opened()
    ran = []
    steps = [Migration(n, str(n), lambda _connection, n=n: ran.append(n)) for n in (1, 2, 3)]
    database.migrate("room", steps[:2])
    opened().migrate("room", steps)
    database.migrate("room", steps)
    database.migrate("other", steps[:1])
    assert ran == [1, 2, 3, 1]


def test_a_failed_migration_leaves_nothing(opened):
    database = opened()
    bad = Migration(2, "bad", lambda connection: connection.execute(sa.text("insert into nowhere values (1)")))
    with pytest.raises(sa.exc.DBAPIError):
        database.migrate("room", [FIRST, bad])
    with database.read() as connection:
        assert not sa.inspect(connection).has_table("counter")
    database.migrate("room", [FIRST, SECOND])
    assert counted(database) == 0


def test_a_newer_schema_is_refused(opened):
    database = opened()
    database.migrate("room", [FIRST, SECOND])
    with pytest.raises(DefinitionError) as refused:
        database.migrate("room", [FIRST])
    assert refused.value.code == "core.db.newer_schema"


def test_an_error_rolls_back(opened):
    database = opened()
    database.migrate("room", [FIRST, SECOND])

    def fail() -> None:
        with database.begin() as connection:
            connection.execute(COUNTER.update().values(n=9))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert counted(database) == 0


def test_what_a_write_transaction_read_stays_true(opened):
    """Without the lock from the first statement, increments are lost."""
    database = opened()
    database.migrate("room", [FIRST, SECOND])

    def add() -> None:
        for _ in range(25):
            with database.begin() as connection:
                row = connection.execute(sa.select(COUNTER.c.n).with_for_update()).scalar_one()
                connection.execute(COUNTER.update().values(n=row + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(database) == 100


def test_a_reader_does_not_wait_for_a_writer(opened):
    database = opened()
    database.migrate("room", [FIRST, SECOND])
    with database.begin() as connection:
        connection.execute(COUNTER.update().values(n=5))
        assert counted(database) == 0
    assert counted(database) == 5


def test_a_column_keeps_its_type(opened):
    database = opened()
    database.migrate("room", [FIRST])
    with pytest.raises(sa.exc.DBAPIError), database.begin() as connection:
        connection.execute(sa.text("insert into counter values (1, 'many')"))


def test_sqlite_is_set_up_for_money(tmp_path):
    database = open_database(tmp_path / "x.db")
    with database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert found == {"journal_mode": "wal", "synchronous": 2}
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert database.is_sqlite
    database.close()


def test_a_schema_name_is_a_name(monkeypatch):
    monkeypatch.setattr(sa, "create_engine", lambda *_args, **_options: pytest.fail("connected"))
    with pytest.raises(DefinitionError) as refused:
        open_database("postgresql://h/d", schema="a; drop table x")
    assert refused.value.code == "core.db.schema_name"


MIGRATE = """
import sys
from vedette.core.db import Migration, create, open_database, sa
metadata = sa.MetaData()
table = sa.Table("counter", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
steps = [
    Migration(1, "tables", create(metadata)),
    Migration(2, "seed", lambda connection: connection.execute(table.insert().values(id=1, n=0))),
    Migration(3, "add", lambda connection: connection.execute(table.update().values(n=table.c.n + 1))),
]
database = open_database(sys.argv[1], schema=sys.argv[2])
sys.stdin.read(1)
database.migrate("room", steps)
database.close()
"""


def test_processes_migrate_at_the_same_time(place, opened):
    opened()
    pipes = subprocess.PIPE
    children = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, *place], stdin=pipes, stderr=pipes, env=ENV) for _ in range(3)
    ]
    for child in children:
        assert child.stdin
        child.stdin.write(b"g")
        child.stdin.flush()
    for child in children:
        _, err = child.communicate(timeout=300)
        assert (child.returncode, err) == (0, b"")
    assert counted(opened()) == 1


def test_a_deferred_transaction_would_lose(tmp_path, monkeypatch):
    """The increments test sees the difference: the same work under BEGIN DEFERRED fails."""
    path = tmp_path / "x.db"
    first, second = open_database(path), open_database(path)
    monkeypatch.setattr(db, "BUSY_MS", 1)
    first.migrate("room", [FIRST, SECOND])
    with pytest.raises(TransientError), first.read() as one, second.read() as two:  # noqa: PT012
        for connection in (one, two):
            connection.execute(sa.select(COUNTER.c.n)).scalar_one()
        one.execute(COUNTER.update().values(n=1))
        one.commit()
        two.execute(COUNTER.update().values(n=1))
    first.close()
    second.close()


def test_a_damaged_file_is_told_apart_from_a_fault_of_ours(tmp_path):
    path = tmp_path / "state.db"
    found = open_database(path)
    with found.begin() as connection:
        METADATA.create_all(connection)
    found.close()
    path.write_bytes(b"rubbish" * 4_096)
    with pytest.raises(PermanentError) as damaged:
        counted(open_database(path))
    assert damaged.value.code == "core.db.damaged"


def test_a_locked_database_may_be_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(db, "BUSY_MS", 10)
    path = tmp_path / "state.db"
    holder, waiter = open_database(path), open_database(path)
    try:
        with holder.begin(), pytest.raises(TransientError) as refused, waiter.begin():
            pass
        assert (refused.value.code, refused.value.retryable) == ("core.db.unavailable", True)
    finally:
        holder.close()
        waiter.close()


def test_a_fault_of_ours_is_not_called_passing(tmp_path):
    database = open_database(tmp_path / "state.db")
    try:
        with pytest.raises(sa.exc.OperationalError), database.read() as connection:
            connection.execute(sa.text("select 1 from nothing"))
    finally:
        database.close()


@pytest.mark.postgres
def test_the_victim_of_a_deadlock_may_be_tried_again(postgres_url):
    database = open_database(postgres_url, schema=f"room_{os.getpid()}_deadlock")
    database.migrate("counter", [FIRST])
    with database.begin() as connection:
        connection.execute(COUNTER.insert(), [{"id": 1, "n": 0}, {"id": 2, "n": 0}])
    both = threading.Barrier(2)
    refused: list[TransientError] = []

    def work(first: int, second: int) -> None:
        try:
            with database.begin() as connection:
                connection.execute(COUNTER.update().where(COUNTER.c.id == first).values(n=1))
                both.wait()
                connection.execute(COUNTER.update().where(COUNTER.c.id == second).values(n=2))
        except TransientError as error:
            refused.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    assert [error.code for error in refused] == ["core.db.unavailable"]


def test_the_write_ahead_log_is_copied_back_little_by_little(tmp_path, monkeypatch):
    """With checkpoints in between it begins anew and stays small; commits beside it are all there."""
    monkeypatch.setattr(db, "RESTART_PAGES", 40)
    sizes = {}
    for checkpoints in (False, True):
        database = open_database(tmp_path / f"{checkpoints}.db")
        with database.begin() as connection:
            connection.exec_driver_sql("create table page (n integer primary key, filling blob)")
        for n in range(100):
            with database.begin(synced=False) as connection:
                connection.exec_driver_sql("insert into page values (?, ?)", (n, bytes(4_000)))
            if checkpoints and n % 10 == 0:
                assert database.checkpoint() < 100
        sizes[checkpoints] = (tmp_path / f"{checkpoints}.db-wal").stat().st_size
        with database.read() as connection:
            assert connection.exec_driver_sql("select count(*) from page").scalar_one() == 100
        database.close()
    assert sizes[True] < sizes[False] / 2
