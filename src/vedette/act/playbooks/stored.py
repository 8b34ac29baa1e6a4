"""Runs as they are kept: what each was started with, by which its executor can be handed it again."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from vedette.act.playbooks.playbook import Playbook, from_definition, to_definition
from vedette.act.playbooks.world import Request
from vedette.core.db import LONG, Connection, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, NotFoundError

_METADATA = sa.MetaData()
RUN = sa.Table(
    "playbook_run",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, nullable=False),
    sa.Column("playbook", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("created_time", LONG, nullable=False),
    sa.Index("playbook_run_newest", "tenant", "created_time"),
    sqlite_strict=True,
)
FIRED = sa.Table(
    "playbook_fired",
    sa.MetaData(),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("playbook", sa.Text, primary_key=True),
    sa.Column("occasion", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (
    Migration(1, "playbooks", create(_METADATA)),
    Migration(2, "what triggered playbooks", create(FIRED.metadata)),
)


def run_identity(tenant: str, alert_id: str, playbook: Playbook) -> str:
    """Id of the one run of an alert and a playbook version."""
    parts = [tenant, alert_id, playbook.id, playbook.version]
    return "run_" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:26]


def store(
    connection: Connection, run_id: str, playbook: Playbook, request: Request, *, now: int, once: str = ""
) -> Any:
    """Keeps a run, and what triggered it with it; again gives the first one's row.

    Args:
        connection: In a transaction: a trigger is never taken without its run, nor twice.
        run_id: Its identity.
        playbook: What it walks.
        request: What it is about.
        now: Microseconds UTC.
        once: Under this name the playbook is started once, whatever its version; empty: once a version.

    Raises:
        ConflictError: `playbook.trigger.taken`.
    """
    tenant = request.tenant
    if once:
        fired = {"tenant": tenant, "playbook": playbook.id, "occasion": once}
        if not insert_new(connection, FIRED, **fired, run_id=run_id) and not find_row(connection, tenant, run_id):
            raise ConflictError("playbook.trigger.taken", "it was started for this already", at=once)
    row = {
        "alert_id": request.alert_id,
        "playbook": playbook.id,
        "version": playbook.version,
        "digest": playbook.digest,
        "definition": msgspec.json.encode(to_definition(playbook)).decode(),
        "request": msgspec.json.encode(request).decode(),
        "created_time": now,
    }
    insert_new(connection, RUN, tenant=tenant, id=run_id, **row)
    return load_row(connection, tenant, run_id)


def book_of(row: Any) -> Playbook:
    """The playbook that a kept run walks."""
    return from_definition(msgspec.json.decode(row.definition))


def request_of(row: Any) -> Request:
    """What a kept run is about."""
    return msgspec.json.decode(row.request, type=Request)


def find_row(connection: Connection, tenant: str, run_id: str) -> Any:
    """A kept run; None when there is none."""
    return connection.execute(RUN.select().where(RUN.c.tenant == tenant, RUN.c.id == run_id)).one_or_none()


def load_row(connection: Connection, tenant: str, run_id: str) -> Any:
    """A kept run.

    Raises:
        NotFoundError: `playbook.run.unknown`.
    """
    row = find_row(connection, tenant, run_id)
    if row is None:
        raise NotFoundError("playbook.run.unknown", "no such run", at=run_id)
    return row
