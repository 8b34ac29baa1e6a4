"""The auditor finds every planted edit, and nothing in a ledger that nobody touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from ledger_model import PENDING
from money_world import MERCHANT, TENANT, World, charge

from vedette.core.db import open_database, sa
from vedette.core.errors import DataError
from vedette.move import payouts as payouts_module
from vedette.move.charge import CHARGES, REFUNDS
from vedette.move.ledger import schema
from vedette.move.ledger.check import check
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import Account, Transfer

ACCOUNT, TRANSFER, STATUS, FAILED = schema.account, schema.transfer, schema.pending, schema.failed
CHARGE, REFUND, PAYOUT = CHARGES, REFUNDS, payouts_module._payouts
TRIGGERS = (
    "ledger_transfer_no_update",
    "ledger_transfer_no_delete",
    "ledger_account_no_delete",
    "ledger_account_fixed",
)
LAPSED = 77


def fill(world, clock):
    for n in range(3):
        world.charges.create(TENANT, f"k{n}", charge(1000 + n))
    id_ = world.charges.create(TENANT, "k9", charge(5000)).json()["id"]
    world.charges.refund(TENANT, "r1", id_, {"amount_minor": 500})
    wanted = {"amount_minor": 700, "currency": "EUR", "merchant": MERCHANT}
    ids = [world.payouts.schedule(TENANT, f"p{n}", wanted).json()["id"] for n in range(4)]
    world.payouts.pay(TENANT, "q0", ids[0])
    world.payouts.pay(TENANT, "q1", ids[1])
    world.payouts.give_back(TENANT, "q2", ids[1])
    world.payouts.cancel(TENANT, "q3", ids[2])
    a, b = (account["id"] for account in rows(world.db, ACCOUNT)[:2])
    ledger = rows(world.db, ACCOUNT)[0]["ledger"]
    lapsing = Transfer(
        id=LAPSED, debit_account_id=a, credit_account_id=b, amount=1, ledger=ledger, code=1, timeout=1, flags=PENDING
    )
    world.ledger.create_transfers(TENANT, [lapsing])
    clock.advance(2)
    world.ledger.expire(TENANT)
    world.charges.create("other", "k1", charge())


def rows(db, table, **where):
    at = sa.and_(True, *(table.c[name] == value for name, value in where.items()))
    with db.read() as connection:
        return [
            dict(row) for row in connection.execute(sa.select(table).where(at).order_by(*table.primary_key)).mappings()
        ]


@pytest.fixture
def world(db, clock):
    world = World(db, clock)
    fill(world, clock)
    assert check(db).found == 0
    with db.begin() as connection:
        for trigger in TRIGGERS if db.is_sqlite else ():
            connection.exec_driver_sql(f"drop trigger {trigger}")
        for table in ("ledger_account", "ledger_transfer") if not db.is_sqlite else ():
            connection.exec_driver_sql(f"alter table {table} disable trigger all")
    return world


def change(db, table, row, **values):
    at = sa.and_(True, *(column == row[column.name] for column in table.primary_key))
    with db.begin() as connection:
        assert connection.execute(table.update().where(at).values(values)).rowcount == 1


def remove(db, table, row):
    at = sa.and_(True, *(column == row[column.name] for column in table.primary_key))
    with db.begin() as connection:
        assert connection.execute(table.delete().where(at)).rowcount == 1


def codes(db):
    return {finding.code for finding in check(db).findings}


def test_every_edited_balance_of_every_account(world):
    for row in rows(world.db, ACCOUNT):
        for name in ("debits_pending", "debits_posted", "credits_pending", "credits_posted"):
            change(world.db, ACCOUNT, row, **{name: row[name] + 1})
            found = {(finding.code, finding.id, finding.tenant) for finding in check(world.db).findings}
            assert (f"account.{name}", f"{row['id']:032x}", row["tenant"]) in found
            change(world.db, ACCOUNT, row, **{name: row[name]})
    assert check(world.db).found == 0


def test_every_edited_transfer(world):
    for row in rows(world.db, TRANSFER):
        edits = {
            "amount": row["amount"] + 1,
            "timestamp": 1,
            "ledger": row["ledger"] + 1,
            "debit_account_id": 12345,
            "credit_account_id": 12345,
            "flags": row["flags"] ^ PENDING,
        }
        for field, value in edits.items():
            if field == "amount" and row["id"] == LAPSED:
                continue  # documented: nothing in the rows attests what a lapsed reservation was for
            change(world.db, TRANSFER, row, **{field: value})
            assert check(world.db).found, (field, row)
            change(world.db, TRANSFER, row, **{field: row[field]})
    assert check(world.db).found == 0


def test_every_removed_row(world):
    for table in (TRANSFER, STATUS, ACCOUNT, CHARGE, REFUND, PAYOUT):
        for row in rows(world.db, table):
            if table is PAYOUT or (table is CHARGE and row["refunded_minor"] == 0):
                continue  # the ledger does not say which transfers are charges or payouts
            remove(world.db, table, row)
            assert check(world.db).found, (table.name, row)
            with world.db.begin() as connection:
                connection.execute(table.insert().values(row))
    assert check(world.db).found == 0


def test_every_edited_status(world):
    for row in rows(world.db, STATUS):
        for status in {"pending", "posted", "voided", "expired"} - {row["status"]}:
            change(world.db, STATUS, row, status=status)
            assert check(world.db).found, (row, status)
        change(world.db, STATUS, row, status=row["status"], expires_at=5)
        assert "pending.expiry" in codes(world.db)
        change(world.db, STATUS, row, expires_at=row["expires_at"])
    assert check(world.db).found == 0


def test_kept_balances_are_checked(db, clock):
    ledger = Ledgers(db, clock)
    ledger.create_accounts(TENANT, [Account(1, ledger=1, code=1, flags=8), Account(2, ledger=1, code=1)])
    move = Transfer(5, debit_account_id=1, credit_account_id=2, amount=7, ledger=1, code=1)
    lapsing = [msgspec.structs.replace(move, id=id_, flags=PENDING, timeout=1) for id_ in (6, 7)]
    ledger.create_transfers(TENANT, [move, *lapsing])
    clock.advance(2)
    assert ledger.expire(TENANT) == 2
    post = Transfer(9, amount=3, pending_id=8, flags=4)
    ledger.create_transfers(TENANT, [msgspec.structs.replace(move, id=8, flags=PENDING), post])
    assert check(db).found == 0
    with db.begin() as connection:
        if db.is_sqlite:
            for verb in ("update", "delete"):
                connection.exec_driver_sql(f"drop trigger ledger_balance_no_{verb}")
        else:
            connection.exec_driver_sql("alter table ledger_balance disable trigger all")
    for place in range(6):
        with db.begin() as connection:
            connection.exec_driver_sql("create table kept as select * from ledger_balance")
            (time,) = connection.execute(
                sa.text("select timestamp from ledger_balance order by timestamp limit 1 offset :n"), {"n": place}
            ).one()
            connection.execute(sa.text("delete from ledger_balance where timestamp = :t"), {"t": time})
        assert codes(db) == {"account.history"}
        with db.begin() as connection:
            connection.exec_driver_sql("delete from ledger_balance")
            connection.exec_driver_sql("insert into ledger_balance select * from kept")
            connection.exec_driver_sql("update ledger_balance set debits_pending = debits_posted")
        assert codes(db) == {"account.history"}
        with db.begin() as connection:
            connection.exec_driver_sql("delete from ledger_balance")
            connection.exec_driver_sql("insert into ledger_balance select * from kept")
            connection.exec_driver_sql("drop table kept")
    assert check(db).found == 0


def test_an_added_transfer_and_a_twisted_amount_with_its_balances(world):
    row = next(row for row in rows(world.db, TRANSFER) if row["flags"] == 0)
    with world.db.begin() as connection:
        connection.execute(TRANSFER.insert().values({**row, "id": 5, "timestamp": row["timestamp"] + 1}))
    assert codes(world.db) >= {"account.debits_posted", "account.credits_posted"}
    remove(world.db, TRANSFER, {**row, "id": 5})
    # A capture, its hold and all four balances changed to fit: only the charge still tells.
    charged = rows(world.db, CHARGE, tenant="other")[0]
    for id_ in (charged["hold_id"], charged["capture_id"]):
        moved = rows(world.db, TRANSFER, tenant="other", id=id_)[0]
        change(world.db, TRANSFER, moved, amount=moved["amount"] - 9)
    for account in rows(world.db, ACCOUNT, tenant="other"):
        name = "debits_posted" if account["debits_posted"] else "credits_posted"
        change(world.db, ACCOUNT, account, **{name: account[name] - 9})
    assert codes(world.db) == {"charge.capture", "charge.hold"}


def test_edited_charges_refunds_and_payouts(world):
    for table, values in (
        (CHARGE, {"amount_minor": 7}),
        (CHARGE, {"refunded_minor": 7}),
        (CHARGE, {"status": "held"}),
        (REFUND, {"amount_minor": 7}),
        (PAYOUT, {"amount_minor": 7}),
        (PAYOUT, {"status": "odd"}),
    ):
        for row in rows(world.db, table):
            change(world.db, table, row, **values)
            assert check(world.db).found, (table.name, values)
            change(world.db, table, row, **{name: row[name] for name in values})
    with world.db.begin() as connection:
        connection.execute(FAILED.insert().values(tenant=TENANT, id=LAPSED))
    assert codes(world.db) == {"transfer.burnt"}


def test_the_database_refuses_edits(db, clock):
    fill(World(db, clock), clock)
    for statement in (
        "update ledger_transfer set amount = amount",
        "delete from ledger_transfer",
        "delete from ledger_account",
        "update ledger_account set ledger = 2",
    ):
        with pytest.raises(sa.exc.DBAPIError), db.begin() as connection:
            connection.exec_driver_sql(statement)
    assert check(db).found == 0


def test_the_command(tmp_path, clock):
    path = tmp_path / "money.db"
    db = open_database(path)
    fill(World(db, clock), clock)

    def command(*options):
        code = "import sys; from vedette.cli.main import main; main(sys.argv[1:])"
        return subprocess.run(
            [sys.executable, "-c", code, "ledger", "check", "--database", str(path), *options],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": os.environ["PATH"], "COLUMNS": "200"},
        )

    clean = command("--json")
    assert (clean.returncode, json.loads(clean.stdout)["ok"]) == (0, True)
    row = rows(db, ACCOUNT)[0]
    change(db, ACCOUNT, row, debits_posted=5)
    damaged = command()
    assert damaged.returncode == 1
    assert f"{row['id']:032x}" in damaged.stdout
    path = tmp_path / "missing.db"
    assert command().returncode == 2
    path = tmp_path / "other.db"
    open_database(path).migrate("nothing", ())
    with pytest.raises(DataError, match=r"ledger[.]check[.]no_tables"):
        check(open_database(path))
