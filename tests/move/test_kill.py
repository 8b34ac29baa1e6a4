"""SIGKILL of a real process at every step, and at random moments; then a retry: one charge, one ledger effect."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from money_child import Skewed
from money_world import MERCHANT, TENANT, World, charge

from vedette.core.errors import ConflictError
from vedette.move import chart
from vedette.move.charges import REFUND_STEPS, ChargeItem
from vedette.move.charges import STEPS as CHARGE_STEPS
from vedette.move.payouts import STEPS as PAYOUT_STEPS

CHILD = Path(__file__).parent / "money_child.py"
SOURCE = Path(__file__).resolve().parents[2] / "src"
EUR = chart.to_ledger("EUR")
LATER = 61.0
"""Seconds the retry is ahead: past every lease."""
pytestmark = pytest.mark.kill


def child(target, verb, *, die_at="", skew=0.0, argument="", spool=None):
    command = [sys.executable, str(CHILD), str(target[0]), target[1], verb, die_at, str(skew), argument]
    return subprocess.Popen(
        [*command, *([str(spool)] if spool else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
    )


def killed(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err
    return out


def answered(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    status, body = out.split()
    return int(status), bytes.fromhex(body)


@pytest.fixture
def world(db):
    """The services in this process, an hour behind the retry of a child that died."""
    world = World(db, Skewed(0.0))
    world.outbox.add_endpoint(TENANT, "https://hooks.example/acme")
    return world


def later(db, **options):
    return World(db, Skewed(LATER), **options)


def check_books(world, *, credited, debited=0):
    assert world.ledger.trial_balance(TENANT) == ({EUR: (0, 0)} if credited else {})
    assert world.balance() == (0, debited, 0, credited)


@pytest.mark.parametrize("step", CHARGE_STEPS)
def test_a_charge_killed_at_every_step(world, db, target, step):
    killed(child(target, "charge", die_at=step))
    if step not in ("charge.claimed_unsaved", "charge.finished"):
        with pytest.raises(ConflictError, match=r"idempotency[.]key_in_use"):
            world.charges.create(TENANT, "k1", charge())
    status, body = answered(child(target, "charge", skew=LATER))
    assert (status, json.loads(body)["status"]) == (201, "captured")
    again = later(db).charges.create(TENANT, "k1", charge())
    assert (again.body, again.replayed) == (body, True)
    check_books(world, credited=1999)
    assert world.transfers() == 2
    assert [kind for kind, _ in world.events()] == ["charge.captured"]


@pytest.mark.parametrize("step", ["charge.decided", "charge.moved_unsaved"])
def test_a_blocked_charge_killed_moves_nothing(world, db, target, step):
    killed(child(target, "charge", die_at=step, argument="tok_block"))
    answer = later(db).charges.create(TENANT, "k1", charge(source="tok_block"))
    assert answer.json()["status"] == "blocked"
    assert later(db).charges.create(TENANT, "k1", charge(source="tok_block")).body == answer.body
    assert world.transfers() == 0
    assert [kind for kind, _ in world.events()] == ["charge.blocked"]


def batch_of(count, first=0):
    return [ChargeItem(f"k{n}", charge(100 + n, merchant=f"m-{n % 3}")) for n in range(first, first + count)]


@pytest.mark.parametrize("step", CHARGE_STEPS)
def test_a_batch_killed_at_every_step(world, db, target, step):
    """What is left is what single charges would leave, each killed at that step; then every way of retrying ends it."""
    killed(child(target, "batch", die_at=step, argument="0,7,7"))
    early = world.charges.create_many(TENANT, batch_of(7))
    if step == "charge.finished":
        assert all(answer.replayed for answer in early)
    elif step != "charge.claimed_unsaved":
        assert [error.code for error in early] == ["idempotency.key_in_use"] * 7
    retry = later(db).charges
    singles = [retry.create(TENANT, item.key, item.charge) for item in batch_of(3)]
    many = retry.create_many(TENANT, batch_of(7))
    assert [answer.body for answer in many[:3]] == [answer.body for answer in singles]
    assert {answer.json()["status"] for answer in many} == {"captured"}
    assert len({answer.json()["id"] for answer in many}) == 7
    assert world.transfers() == 14
    assert world.ledger.trial_balance(TENANT) == {EUR: (0, 0)}
    assert [kind for kind, _ in world.events()] == ["charge.captured"] * 7


def test_batches_killed_at_random_moments(world, db, target):
    rng = random.Random(12)
    told = {}
    for turn in range(5):
        process = child(target, "batch", skew=LATER * turn, argument="0,120,20")
        lines = [process.stdout.readline() for _ in range(min(len(told) + rng.randrange(1, 25), 119))]
        time.sleep(rng.random() * 0.03)
        process.kill()
        rest, _ = process.communicate(timeout=300)
        for line in [*lines, *rest.splitlines(keepends=True)]:
            key, _, body = line.strip().partition(" ")
            if line.endswith("\n"):
                assert told.setdefault(key, body) == body, "an answer once given never changes"
    assert told
    retry = World(db, Skewed(5 * LATER))
    answers = retry.charges.create_many(TENANT, batch_of(120))
    for n, answer in enumerate(answers):
        assert told.get(f"k{n}", answer.body.hex()) == answer.body.hex()
    assert retry.transfers() == 240
    assert retry.ledger.trial_balance(TENANT) == {EUR: (0, 0)}
    assert [kind for kind, _ in retry.events()] == ["charge.captured"] * 120


@pytest.mark.parametrize("step", REFUND_STEPS)
def test_a_refund_killed_at_every_step(world, db, target, step):
    id_ = world.charges.create(TENANT, "k1", charge()).json()["id"]
    killed(child(target, "refund", die_at=step, argument=id_))
    answer = later(db).charges.refund(TENANT, "r1", id_, {"amount_minor": 500})
    assert (answer.status, answer.replayed) == (201, step == "refund.finished")
    assert later(db).charges.refund(TENANT, "r1", id_, {"amount_minor": 500}).body == answer.body
    check_books(world, credited=1999, debited=500)
    assert sorted(kind for kind, _ in world.events()) == ["charge.captured", "charge.refunded"]


@pytest.mark.parametrize("step", PAYOUT_STEPS)
@pytest.mark.parametrize("verb", ["schedule", "pay", "freeze"])
def test_a_payout_killed_at_every_step(world, db, target, verb, step):
    world.charges.create(TENANT, "k1", charge())
    wanted = {"amount_minor": 700, "currency": "EUR", "merchant": MERCHANT}
    id_ = "" if verb == "schedule" else world.payouts.schedule(TENANT, "p1", wanted).json()["id"]
    killed(child(target, verb, die_at=step, argument=id_))
    payouts = later(db).payouts
    repeat = {
        "schedule": lambda: payouts.schedule(TENANT, "p1", wanted),
        "pay": lambda: payouts.pay(TENANT, "p2", id_),
        "freeze": lambda: payouts.freeze(TENANT, MERCHANT, "stolen key", "f1"),
    }[verb]
    answer = repeat()
    assert (answer.status < 300, answer.replayed) == (True, step == "payout.finished")
    assert repeat().body == answer.body
    paid = verb == "pay"
    assert world.balance() == (0 if paid else 700, 700 if paid else 0, 0, 1999)
    assert world.ledger.trial_balance(TENANT) == {EUR: (0, 0)}
    if verb == "freeze":
        assert answer.json()["payouts"] == [id_]


@pytest.mark.parametrize("step", ["dispatch.leased", "dispatch.sent", "dispatch.settled"])
def test_a_dispatcher_killed_delivers_again_with_the_same_id(world, db, target, step, tmp_path):
    world.charges.create(TENANT, "k1", charge())
    world.charges.create(TENANT, "k2", charge())
    spool = tmp_path / "sent"
    killed(child(target, "dispatch", die_at=step, spool=spool))
    early = World(db, Skewed(5.0), spool=spool)
    assert early.dispatcher.run_once() == 0, "leases of the dead still hold"
    after = later(db, spool=spool)
    assert after.dispatcher.run_once() == (1 if step == "dispatch.settled" else 2)
    lines = spool.read_bytes().splitlines()
    ids = {id_ for _, id_ in world.events()}
    assert {line.split(b" ")[0].decode() for line in lines} == ids
    assert len(lines) == (3 if step == "dispatch.sent" else 2)
    assert len(set(lines)) == 2, "every attempt carries the same bytes"
    assert {d.status for d in world.outbox.deliveries(TENANT)} == {"delivered"}


def test_killed_at_random_moments(world, db, target):
    rng = random.Random(11)
    told = {}
    for turn in range(6):
        process = child(target, "many", skew=LATER * turn, argument="0,60")
        # Counted in answers, not in seconds: a busy machine must not decide what is tested.
        lines = [process.stdout.readline() for _ in range(len(told) + rng.randrange(1, 9))]
        time.sleep(rng.random() * 0.03)
        process.kill()
        rest, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
        for line in [*lines, *rest.splitlines(keepends=True)]:
            key, _, body = line.strip().partition(" ")
            if line.endswith("\n"):
                assert told.setdefault(key, body) == body, "an answer once given never changes"
    assert len(told) > 6
    retry = World(db, Skewed(6 * LATER))
    total = refunded = 0
    for n in range(60):
        made = retry.charges.create(TENANT, f"k{n}", charge(100 + n))
        assert told.get(f"k{n}", made.body.hex()) == made.body.hex()
        total += 100 + n
        if n % 3 == 0:
            given = retry.charges.refund(TENANT, f"r{n}", made.json()["id"], {"amount_minor": 50})
            assert told.get(f"r{n}", given.body.hex()) == given.body.hex()
            refunded += 50
    check_books(retry, credited=total, debited=refunded)
    assert retry.transfers() == 2 * 60 + 20
    kinds = [kind for kind, _ in retry.events()]
    assert (kinds.count("charge.captured"), kinds.count("charge.refunded"), len(kinds)) == (60, 20, 80)


def patiently(act):
    """Repeats while the first request is in flight, as a client would."""
    for _ in range(600):
        try:
            return act()
        except ConflictError as error:
            if error.code != "idempotency.key_in_use":
                raise
            time.sleep(0.02)
    raise AssertionError("never finished")


def test_sixteen_threads_with_one_key(world):
    answers, barrier = [], threading.Barrier(16)

    def act():
        barrier.wait()
        answers.append(patiently(lambda: world.charges.create(TENANT, "k1", charge())).body)

    threads = [threading.Thread(target=act) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 16
    assert len(set(answers)) == 1
    check_books(world, credited=1999)
    assert world.transfers() == 2


def test_four_processes_with_one_key(world, target):
    processes = [child(target, "charge") for _ in range(4)]
    bodies = set()
    for process in processes:
        out, err = process.communicate(timeout=300)
        if process.returncode == 0:
            bodies.add(bytes.fromhex(out.split()[1]))
        else:
            assert "idempotency.key_in_use" in err
    bodies.add(patiently(lambda: world.charges.create(TENANT, "k1", charge())).body)
    assert len(bodies) == 1
    check_books(world, credited=1999)
    assert world.transfers() == 2
