"""Who does what in a case: its commander, analysts, counsel, and who writes to customers and regulators."""

from __future__ import annotations

from vedette.act.cases.nouns import PRIVY, CaseRole, Member
from vedette.act.cases.store import Store, check_text, drop_item, items, keep_item, load
from vedette.act.timeline import RoleGiven, RoleTaken
from vedette.core.errors import DeniedError


class Circle(Store):
    """The people of cases.

    Once there is a commander or counsel, only one of them lets somebody else in on what is privileged.
    """

    def members(self, tenant: str, case_id: str) -> list[Member]:
        """Who has which role, in the order of their coming."""
        return self._items(tenant, case_id, "member", Member)

    def holds(self, tenant: str, case_id: str, person: str, *roles: CaseRole) -> bool:
        """Whether somebody has one of some roles."""
        return any(each.person == person and each.role in roles for each in self.members(tenant, case_id))

    def give(self, tenant: str, case_id: str, person: str, role: CaseRole, *, operator: str) -> None:
        """Gives a person a role; again changes nothing.

        Raises:
            DeniedError: `cases.role.privy`: who reads what is privileged is said by who reads it already.
        """
        check_text(person)
        made = Member(person, role, self._clock.now())
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            held = items(connection, tenant, case_id, "member", Member)
            privy = {each.person for each in held if each.role in PRIVY}
            if role in PRIVY and privy and operator not in privy:
                raise DeniedError("cases.role.privy", "ask the commander or counsel of the case", at=case_id)
            if any((each.person, each.role) == (person, role) for each in held):
                return
            keep_item(connection, tenant, case_id, "member", _name(person, role), made, time=made.time)
            self._add(connection, tenant, case_id, operator, RoleGiven(person, role))

    def take(self, tenant: str, case_id: str, person: str, role: CaseRole, *, operator: str) -> None:
        """Takes a role from a person; one they do not have changes nothing.

        Raises:
            DeniedError: `cases.role.privy`, `cases.role.last`.
        """
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            held = items(connection, tenant, case_id, "member", Member)
            privy = {each.person for each in held if each.role in PRIVY}
            if role in PRIVY and operator not in privy:
                raise DeniedError("cases.role.privy", "ask the commander or counsel of the case", at=case_id)
            if role in PRIVY and privy == {person} and sum(each.role in PRIVY for each in held) == 1:
                hint = "give the role to somebody else first"
                raise DeniedError("cases.role.last", "somebody must be able to read what is privileged", hint=hint)
            if drop_item(connection, tenant, case_id, "member", _name(person, role)):
                self._add(connection, tenant, case_id, operator, RoleTaken(person, role))


def _name(person: str, role: CaseRole) -> str:
    return f"{role}:{person}"
