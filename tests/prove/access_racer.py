"""A process that opens fresh databases, makes tenants and grants roles, for tests that run several at once.

Arguments: a path or URL, a schema, and a person's id. Opens that one, says `ready`, and starts at a line on stdin.
"""

import sys

from vedette.core.clock import SystemClock
from vedette.core.db import open_database
from vedette.core.ids import Ids
from vedette.prove.access import Access, Role

target, schema, person = sys.argv[1:]
clock = SystemClock()
access = Access(open_database(target, schema=schema), clock, Ids(clock))
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
for number in range(20):
    fresh = target if target.startswith("postgresql") else f"{target}{number}"
    open_database(fresh, schema=f"{schema}_{number}").close()
for number in range(20):
    access.create_tenant(f"t{number}")
for role in Role:
    access.people.grant("acme", person, role, by="system")
