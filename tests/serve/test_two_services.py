"""Two real `vedette serve` on one PostgreSQL: charges to both, one killed; the other goes on and takes the runs over."""

from __future__ import annotations

import json
import secrets
import threading

import httpx
import pytest
from serve_world import wait_for
from server_process import PATIENCE_S, Server, make_key

from vedette.core.db import open_database, sa
from vedette.core.errors import VedetteError
from vedette.core.settings import load_settings
from vedette.move.ledger.check import check
from vedette.run.service import join

CHARGES = 80
PLAYBOOK = """\
id: told_twice
version: 1
title: Tell, wait, tell
owner: security
description: By hand.
steps:
  - {id: first, type: action, action: notify, arguments: {text: "one ${run.id}"}}
  - {id: pause, type: wait, for: 4s}
  - {id: second, type: action, action: notify, arguments: {text: "two ${run.id}"}}
"""
pytestmark = [pytest.mark.postgres, pytest.mark.kill]


@pytest.fixture
def url(postgres_url):
    """A database of its own."""
    name = f"two_{secrets.token_hex(4)}"
    server = sa.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"create database {name}")
    server.dispose()
    return server.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


@pytest.fixture
def services(url, tmp_path, monkeypatch):
    """Both, each with a home and a name, with common secrets."""
    environ = {"VEDETTE_DATABASE_URL": url, "VEDETTE_SHARED": str(tmp_path / "shared")}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    both = []
    for name in ("west", "east"):
        home = tmp_path / name
        (home / "playbooks").mkdir(parents=True)
        (home / "playbooks" / "told_twice.yaml").write_text(PLAYBOOK)
        both.append(Server(home, environ={"VEDETTE_SERVICE": name}).start())
    yield both
    for server in both:
        if server.process.poll() is None:
            server.kill()


class Payer:
    """Charges at one service, and at the other one when that is gone; every key is asked for at both in the end."""

    def __init__(self, services, secret):
        self.services, self.secret = services, secret
        self.answers, self.retried, self.wrong = {}, 0, []

    def post(self, server, number):
        body = {"amount_minor": 100 + number, "currency": "EUR", "source": "tok_1", "merchant": f"m_{number % 3}"}
        headers = {"authorization": f"Bearer {self.secret}", "idempotency-key": f"k-{number}"}
        return httpx.post(f"{server.url}/v1/charges", json=body, headers=headers, timeout=PATIENCE_S)

    def pay(self, number, pause, again=False):
        """Until it is answered; asked again, it must be what it was."""
        turn = number
        while again or number not in self.answers:
            try:
                answer = self.post(self.services[turn % 2], number)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 201:
                if self.answers.setdefault(number, answer.content) != answer.content:
                    self.wrong.append((number, answer.status_code, answer.text))
                return
            if answer is not None and answer.status_code not in {409, 429, 503}:
                self.wrong.append((number, answer.status_code, answer.text))
                return
            # In flight at the one that died, until its lease is over: the other one finishes it then.
            self.retried += 1
            turn += 1
            pause.wait(0.2)

    def work(self, numbers):
        pause = threading.Event()
        for number in numbers:
            self.pay(number, pause)


def test_one_is_killed_and_the_other_goes_on(services, url):
    west, east = services
    secret = make_key(west.home, "charges:write", "playbooks:write")
    payer = Payer(services, secret)
    runs = [
        server.ask("POST", "/v1/playbooks/runs", secret, json={"playbook": "told_twice", "key": key})
        for server, key in ((west, "a"), (east, "b"), (east, "a"))
    ]
    assert [run.status_code for run in runs] == [201, 201, 201], [run.text for run in runs]
    names = [run.json()["id"] for run in runs]
    assert names[0] == names[2]  # one key, one run, wherever it is asked for
    threads = [threading.Thread(target=payer.work, args=(range(place, CHARGES, 4),)) for place in range(4)]
    for thread in threads:
        thread.start()
    pause = threading.Event()
    while len(payer.answers) < CHARGES // 3:
        pause.wait(0.01)
    west.kill()
    for thread in threads:
        thread.join()
    assert not payer.wrong, payer.wrong
    assert len(payer.answers) == CHARGES
    # What either answered is what the one that lives answers: the same secrets, the same rows.
    for number in range(0, CHARGES, 7):
        payer.pay(number, pause, again=True)
    assert not payer.wrong, payer.wrong
    for name in set(names):
        wait_for(lambda name=name: state_of(east, name, secret), lambda state: state == "completed")
    assert east.stop() == 0
    look_at(url, payer, names)


def state_of(server, name, secret):
    return server.ask("GET", f"/v1/playbooks/runs/{name}", secret).json()["state"]


def look_at(url, payer, names):
    """No effect twice, and books that balance."""
    money = open_database(url, schema="money")
    assert check(money).found == 0
    with money.read() as connection:
        made = connection.execute(sa.text("select id, status from charge")).all()
        untold = connection.execute(sa.text("select count(*) from told_event where service = 'east'")).scalar()
    money.close()
    assert {row.id for row in made} == {json.loads(body)["id"] for body in payer.answers.values()}
    assert len(made) == CHARGES
    assert {row.status for row in made} == {"captured"}
    assert untold == 0
    state = open_database(url, schema="state")
    with state.read() as connection:
        notices = connection.execute(sa.text("select run_id, text from action_notice order by text")).all()
    state.close()
    assert sorted(row.text for row in notices) == sorted(
        f"{word} {name}" for word in ("one", "two") for name in {*names}
    )


def test_a_service_that_would_harm_the_others_is_not_begun(url, tmp_path):
    def settings(home, name, **more):
        (tmp_path / home).mkdir(exist_ok=True)
        return load_settings(
            None, {"VEDETTE_HOME": str(tmp_path / home), "VEDETTE_SERVICE": name, "VEDETTE_DATABASE_URL": url, **more}
        )

    state = open_database(url, schema="state")
    own = {"idempotency.secret": b"1" * 32}
    leave = join(state, settings("west", ""), own)
    for wanted, secret, code in (
        (settings("west", ""), own, "service.home.busy"),
        (settings("east", ""), own, "service.name.taken"),
        (settings("east", "east"), {"idempotency.secret": b"2" * 32}, "service.secret.differs"),
        (settings("east", "East!"), own, "service.name.invalid"),
    ):
        with pytest.raises(VedetteError) as caught:
            join(state, wanted, secret)
        assert caught.value.code == code
    join(state, settings("east", "east"), own)()
    leave()
    join(state, settings("west", ""), own)()
    state.close()
