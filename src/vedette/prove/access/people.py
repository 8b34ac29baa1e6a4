"""People of a tenant, the roles they hold, and who gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vedette.core.clock import Clock
from vedette.core.db import Connection, Database, insert_new, sa
from vedette.core.errors import DeniedError, NotFoundError
from vedette.core.ids import Ids
from vedette.prove.access.policy import Kind, Principal, Role
from vedette.prove.access.tables import end_sessions, grants, join_accounts, people, split_accounts, tenants
from vedette.prove.audit import Audit


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who works with the product. How people log in is the console's matter."""

    id: str
    tenant: str
    name: str
    roles: frozenset[Role] = frozenset()
    accounts: frozenset[str] = frozenset()
    disabled: bool = False


class People:
    """The people of all tenants. Part of `Access`, as `access.people`.

    Args:
        db: state.db, already migrated by `Access`.
        clock: Wall time.
        ids: Makes their ids.
        audit: Where changes are recorded.
        changed: Told the id of a person whose reach changed, once that is durable.
    """

    def __init__(
        self, db: Database, clock: Clock, ids: Ids, audit: Audit, changed: Callable[[str], None] = lambda _: None
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._changed = changed

    def create(self, tenant: str, name: str, *, accounts: Iterable[str] = (), by: str = "system") -> Person:
        """Makes a person without any role.

        Raises:
            NotFoundError: `access.tenant.unknown`.
        """
        person = Person(self._ids.new("per"), tenant, name, accounts=frozenset(accounts))
        with self._db.begin() as connection:
            if not connection.scalar(sa.select(tenants.c.id).where(tenants.c.id == tenant)):
                raise NotFoundError("access.tenant.unknown", "no such tenant", hint="create it first")
            values = {"id": person.id, "tenant": tenant, "name": name, "accounts": join_accounts(person.accounts)}
            connection.execute(people.insert().values(**values, created=self._clock.now()))
        self._audit.record(tenant, "people.create", actor=by, target=person.id)
        return person

    def grant(self, tenant: str, person_id: str, role: Role, *, by: str) -> Person:
        """Gives a person a role; one held already stays as it is.

        Raises:
            NotFoundError: `access.person.unknown`.
            DeniedError: `access.grant.self`: nobody gives a role to oneself.
        """
        if by == person_id:
            raise DeniedError("access.grant.self", "nobody gives a role to oneself")
        with self._db.begin() as connection:
            find_person(connection, tenant, person_id)
            now = self._clock.now()
            first = insert_new(connection, grants, person=person_id, role=role, granted_by=by, granted=now)
        if first:
            self._changed(person_id)
            self._audit.record(tenant, "people.grant", actor=by, target=person_id, detail={"role": role.value})
        return self.get(tenant, person_id)

    def withdraw(self, tenant: str, person_id: str, role: Role, *, by: str) -> Person:
        """Takes a role away and ends the person's sessions; one not held changes nothing.

        Raises:
            NotFoundError: `access.person.unknown`.
        """
        with self._db.begin() as connection:
            find_person(connection, tenant, person_id)
            held = grants.delete().where(grants.c.person == person_id, grants.c.role == role)
            first = connection.execute(held).rowcount
            if first:
                end_sessions(connection, person_id, self._clock.now())
        self._changed(person_id)
        if first:
            self._audit.record(tenant, "people.withdraw", actor=by, target=person_id, detail={"role": role.value})
        return self.get(tenant, person_id)

    def disable(self, tenant: str, person_id: str, *, by: str) -> Person:
        """Ends a person's access and sessions for good; the record of them stays. Again changes nothing.

        Raises:
            NotFoundError: `access.person.unknown`.
        """
        with self._db.begin() as connection:
            find_person(connection, tenant, person_id)
            enabled = people.update().where(people.c.id == person_id, people.c.disabled.is_(None))
            first = connection.execute(enabled.values(disabled=self._clock.now())).rowcount
            end_sessions(connection, person_id, self._clock.now())
        self._changed(person_id)
        if first:
            self._audit.record(tenant, "people.disable", actor=by, target=person_id)
        return self.get(tenant, person_id)

    def get(self, tenant: str, person_id: str) -> Person:
        """One person of the tenant, with the roles held now.

        Raises:
            NotFoundError: `access.person.unknown`.
        """
        with self._db.read() as connection:
            return find_person(connection, tenant, person_id)

    def list(self, tenant: str) -> Sequence[Person]:
        """All people of the tenant, in order of their ids."""
        with self._db.read() as connection:
            found = connection.scalars(sa.select(people.c.id).where(people.c.tenant == tenant).order_by(people.c.id))
            return [find_person(connection, tenant, person_id) for person_id in found.all()]

    def principal(self, tenant: str, person_id: str) -> Principal:
        """The person as a principal, once a session has proven who it is. Read each time: no cache.

        Raises:
            DeniedError: `access.person.invalid` for an unknown or disabled person.
        """
        with self._db.read() as connection:
            try:
                person = find_person(connection, tenant, person_id)
            except NotFoundError as error:
                raise DeniedError("access.person.invalid", "no such person") from error
        if person.disabled:
            raise DeniedError("access.person.invalid", "no such person")
        return to_principal(person)


def to_principal(person: Person) -> Principal:
    """The person as a principal. Whether it is disabled, and who it truly is, the caller has seen to."""
    return Principal(person.tenant, person.id, Kind.PERSON, roles=person.roles, accounts=person.accounts)


def find_person(connection: Connection, tenant: str, person_id: str) -> Person:
    """One person of the tenant, in a transaction of the caller.

    Raises:
        NotFoundError: `access.person.unknown`.
    """
    row = connection.execute(people.select().where(people.c.tenant == tenant, people.c.id == person_id)).one_or_none()
    if row is None:
        raise NotFoundError("access.person.unknown", "no person of that id", hint="list the people of this tenant")
    held = connection.scalars(sa.select(grants.c.role).where(grants.c.person == person_id))
    roles = frozenset(Role(role) for role in held)
    return Person(row.id, row.tenant, row.name, roles, split_accounts(row.accounts), row.disabled is not None)
