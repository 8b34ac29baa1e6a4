"""Transfers decided from memory: the same answers as the usual way, whatever other processes do meanwhile."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from vedette.core import flight
from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.errors import TransientError
from vedette.move.group import Group
from vedette.move.ledger import ahead
from vedette.move.ledger.check import check
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import Account, Transfer, TransferStatus

CHILD = Path(__file__).parent / "ledger_singles_child.py"
SOURCE = Path(__file__).resolve().parents[2] / "src"
CREATED = TransferStatus.CREATED
TENANT = "t"


@pytest.fixture
def postgres(postgres_url, request):
    schema = f"ahead_{abs(hash(request.node.nodeid)) % 10**12}"
    database = open_database(postgres_url, schema=schema)
    yield database
    with database.begin() as connection:
        connection.exec_driver_sql(f"drop schema {schema} cascade")
    database.close()


class Counted:
    """Counts the groups that were decided ahead, and those that had to take the usual way."""

    def __init__(self, ledgers):
        self.ahead, self.usual = 0, 0
        inner = ledgers._ahead.attempt

        def attempt(given):
            told = inner(given)
            self.ahead += told is not None
            self.usual += told is None
            return told

        ledgers._ahead.attempt = attempt


def accounts(count, **more):
    return [Account(id=n + 1, ledger=1, code=1, **more) for n in range(count)]


def move(id_, debit, credit, amount=1, **more):
    return Transfer(id=id_, debit_account_id=debit, credit_account_id=credit, amount=amount, ledger=1, code=1, **more)


def drawn(rng, ids):
    """A small batch of everything that is decided ahead, and some that is not."""
    batch = []
    for _ in range(rng.randrange(1, 5)):
        id_ = rng.choice(ids) if rng.random() < 0.2 else rng.getrandbits(60) + 1
        ids.append(id_)
        debit, credit = rng.sample(range(1, 9), 2)
        kind = rng.choice([0, 0, 0, 0, 1, 2, 16, 32])
        batch.append(move(id_, debit, credit, rng.randrange(60), flags=kind, timeout=5 if kind == 2 else 0))
    if rng.random() < 0.1:
        batch.append(Transfer(id=rng.getrandbits(60) + 1, pending_id=rng.choice(ids), flags=rng.choice([4, 8])))
    return batch


def told_and_kept(db, clock, seed, *, disturbed=False):
    """Statuses and balances of a seeded run; disturbed: another process of the same database moves money between."""
    ledgers, other = Ledgers(db, clock), Ledgers(db, clock)
    flags = [0, 0, 0, 2, 4, 8, 8, 0]
    assert set(
        ledgers.create_accounts(TENANT, [Account(id=n + 1, ledger=1, code=1, flags=f) for n, f in enumerate(flags)])
    ) == {"created"}
    counted = None if db.is_sqlite else Counted(ledgers)
    rng, ids, told = random.Random(seed), [7], []
    for turn in range(120):
        clock.micros += rng.randrange(1, 200_000)
        told.append(ledgers.create_transfers(TENANT, drawn(rng, ids)))
        if disturbed and turn % 5 == 4:
            told.append(other.create_transfers(TENANT, drawn(rng, ids), now=clock.micros * 1_000 + 500))
    assert check(db).found == 0
    kept = [
        (a.id, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted, a.flags)
        for a in ledgers.lookup_accounts(TENANT, range(1, 9))
    ]
    stored = sorted((t.id, t.amount, t.flags, t.timestamp) for t in ledgers.lookup_transfers(TENANT, set(ids)))
    return told, kept, stored, counted


@pytest.mark.postgres
@pytest.mark.parametrize("disturbed", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_the_same_as_the_usual_way(tmp_path, postgres, clock, seed, disturbed):
    started = clock.micros
    *mine, counted = told_and_kept(postgres, clock, seed, disturbed=disturbed)
    clock.micros = started
    plain = open_database(tmp_path / "plain.db")
    *theirs, _ = told_and_kept(plain, clock, seed, disturbed=disturbed)
    plain.close()
    assert mine == theirs
    assert counted.usual > 5
    assert counted.ahead > (5 if disturbed else 40)


@pytest.mark.postgres
def test_a_guess_that_is_not_proved_is_seen(postgres, clock, monkeypatch):
    """Planted: the accounts are locked but not compared. Another process's movement is then lost."""
    values = ", ".join(f"${place}::text" for place in range(1, 9))
    monkeypatch.setitem(ahead._TEXTS, "vedette_ledger_as_known", f"select {values}")
    monkeypatch.setattr(flight, "_PREPARED", "planted")
    ledgers, other = Ledgers(postgres, clock), Ledgers(postgres, clock)
    ledgers.create_accounts(TENANT, accounts(2))
    for turn in range(4):
        clock.micros += 10
        writer = (ledgers, other)[turn % 2]
        assert writer.create_transfers(TENANT, [move(turn + 1, 1, 2, 5)]) == [CREATED]
    assert check(postgres).found > 0


@pytest.mark.postgres
def test_two_processes_that_guess_lose_nothing(postgres, clock):
    ledgers, other = Ledgers(postgres, clock), Ledgers(postgres, clock)
    ledgers.create_accounts(TENANT, accounts(2))
    for turn in range(40):
        clock.micros += 10
        writer = (ledgers, other)[turn % 3 == 1]
        assert writer.create_transfers(TENANT, [move(turn + 1, 1, 2, 5)]) == [CREATED]
    (first,) = ledgers.lookup_accounts(TENANT, [1])
    assert first.debits_posted == 40 * 5
    assert check(postgres).found == 0


@pytest.mark.postgres
def test_memory_is_bounded_on_the_usual_way_too(postgres, clock, monkeypatch):
    monkeypatch.setattr(ahead, "MEMORY", 4)
    ledgers = Ledgers(postgres, clock)
    ledgers.create_accounts(TENANT, accounts(40))
    counted = Counted(ledgers)
    for debit in range(1, 40, 2):
        clock.micros += 10
        pair = [move(debit, debit, debit + 1, flags=2), Transfer(id=100 + debit, pending_id=debit, flags=4)]
        assert ledgers.create_transfers(TENANT, pair) == [CREATED, CREATED]
    assert counted.ahead == 0
    assert len(ledgers._ahead._rows[TENANT]) <= 4 + 2


@pytest.mark.postgres
def test_a_burnt_id_and_a_taken_one_are_found(postgres, clock):
    ledgers, other = Ledgers(postgres, clock), Ledgers(postgres, clock)
    ledgers.create_accounts(TENANT, [Account(id=1, ledger=1, code=1, flags=2), *accounts(3)[1:]])
    counted = Counted(ledgers)
    assert ledgers.create_transfers(TENANT, [move(1, 2, 3)]) == [CREATED]
    assert other.create_transfers(TENANT, [move(2, 1, 2), move(3, 1, 99)]) == [
        "exceeds_credits",
        "credit_account_not_found",
    ]
    # Memory says that all of these can happen, or fails them for another reason than the one that comes first.
    assert ledgers.create_transfers(TENANT, [move(2, 3, 2)]) == ["id_already_failed"]
    assert ledgers.create_transfers(TENANT, [move(1, 1, 3)]) == ["exists_with_different_debit_account_id"]
    assert ledgers.create_transfers(TENANT, [move(4, 1, 2)]) == ["exceeds_credits"]
    assert ledgers.create_transfers(TENANT, [move(4, 3, 2)]) == ["id_already_failed"]
    assert counted.ahead >= 1
    assert check(postgres).found == 0


@pytest.mark.postgres
def test_what_the_server_refuses_leaves_nothing(postgres, clock):
    Ledgers(postgres, clock)
    texts = {
        "one": "create table if not exists kept (n int)",
        "two": "select 1 / $1::int",
        "three": "insert into kept values ($1::int)",
    }
    with postgres.begin() as connection:
        connection.exec_driver_sql("create table kept (n int)")
    add = flight.Statement("three", ("5",))
    connection = postgres.own()
    for _ in range(2):
        with pytest.raises(flight.RefusedError) as refused:
            flight.commit(connection, texts, [add, flight.Statement("two", ("0",)), add])
        assert (refused.value.name, refused.value.state) == ("two", "22012")
    flight.commit(connection, texts, [add])
    with postgres.read() as connection:
        assert connection.exec_driver_sql("select n from kept").scalars().all() == [5]


@pytest.mark.postgres
def test_a_commit_that_became_a_rollback_is_not_told_as_done(postgres, clock, monkeypatch):
    """The server answers COMMIT of a failed transaction without an error, only with another word."""
    with postgres.begin() as connection:
        connection.exec_driver_sql("create table kept (n int)")
    monkeypatch.setattr(flight, "_AROUND", {"vedette_begin": "begin", "vedette_commit": "rollback"})
    with pytest.raises(flight.RefusedError):
        flight.commit(postgres.own(), {"add": "insert into kept values ($1::int)"}, [flight.Statement("add", ("5",))])


@pytest.mark.postgres
def test_a_broken_connection_is_told_and_the_next_call_goes_on(postgres, clock):
    ledgers = Ledgers(postgres, clock)
    ledgers.create_accounts(TENANT, accounts(3))
    assert ledgers.create_transfers(TENANT, [move(1, 1, 2)]) == [CREATED]
    # Somebody holds the account; the server ends our session while it waits.
    with postgres.begin() as holder:
        holder.exec_driver_sql("select 1 from ledger_account where code = 1 for update")
        failed = []

        def act():
            try:
                ledgers.create_transfers(TENANT, [move(2, 1, 2)])
            except TransientError as error:
                failed.append(error.code)

        caller = threading.Thread(target=act)
        caller.start()
        ended = False
        while not ended:
            with postgres.read() as watching:
                ended = bool(
                    watching.exec_driver_sql(
                        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
                        " and query like '%%for no key update%%' and pid <> pg_backend_pid()"
                    ).all()
                )
        caller.join()
    assert failed == ["core.db.unavailable"]
    assert ledgers.create_transfers(TENANT, [move(2, 1, 2), move(3, 2, 1)]) == [CREATED, CREATED]
    assert check(postgres).found == 0


@pytest.mark.kill
@pytest.mark.parametrize("planted", [False, True])
def test_what_was_told_outlives_a_killed_server(postgres_server, planted):
    """SIGKILL of every process of PostgreSQL while clients are told. Planted: the commit does not wait for the log."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        # What a commit does not wait for is then lost for certain.
        connection.execute("alter system set wal_writer_delay = 10000")
        connection.execute("select pg_reload_conf()")
    database = open_database(postgres_server.url)
    Ledgers(database, SystemClock()).create_accounts(TENANT, accounts(50))
    database.close()
    lost = 0
    for turn in range(3):
        url = postgres_server.url + ("?options=-csynchronous_commit%3Doff" if planted else "")
        child = subprocess.Popen(
            [sys.executable, str(CHILD), url, str(turn)],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        )
        try:
            told = [child.stdout.readline() for _ in range(300 + 100 * turn)]
            postgres_server.kill()
            told += child.stdout.read().splitlines()
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
        postgres_server.start()
        database = open_database(postgres_server.url)
        ids = [int(line) for line in told if line.strip().isdigit()]
        assert len(ids) >= 300
        lost += len(ids) - len(Ledgers(database, SystemClock()).lookup_transfers(TENANT, ids))
        assert check(database).found == 0
        database.close()
    assert (lost > 0) is planted


def test_an_interrupted_caller_passes_it_on():
    """A signal that ends one caller's wait must not leave those behind it asleep."""
    inside, go, answered = threading.Event(), threading.Event(), []

    def work(calls):
        inside.set()
        assert go.wait(300)
        return calls

    group = Group(work, limit=100)
    first = threading.Thread(target=group.do, args=(0, 1))
    first.start()
    assert inside.wait(300)
    interrupted = threading.Event()

    class Interrupted(threading.Thread):
        def run(self):
            turn_class = sys.modules[Group.__module__]._Turn
            raised = []
            original = turn_class.wait

            def wait(turn):
                # As a signal does: the lock's wait ends with an error once.
                if not raised:
                    raised.append(True)
                    inner = turn.awake

                    class Once:
                        def acquire(self):
                            turn.awake = inner
                            interrupted.set()
                            raise KeyboardInterrupt

                        release = inner.release

                    turn.awake = Once()
                original(turn)

            turn_class.wait = wait
            try:
                group.do(1, 1)
            except KeyboardInterrupt:
                answered.append("interrupted")
            finally:
                turn_class.wait = original

    second = Interrupted()
    second.start()
    assert interrupted.wait(300)
    others = [threading.Thread(target=lambda n=n: answered.append(group.do(n, 1))) for n in range(2, 6)]
    for thread in others:
        thread.start()
    go.set()
    for thread in (first, second, *others):
        thread.join(300)
        assert not thread.is_alive()
    assert sorted(map(str, answered)) == ["2", "3", "4", "5", "interrupted"]
