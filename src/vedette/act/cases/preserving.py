"""Containment destroys volatile evidence, so evidence comes first, or a person says by name that it does not.

`Preservation.require` is the law that whatever contains asks before it acts: a case that holds an artefact may be
contained; one that holds none only under a waiver, which stands in the timeline with its name and its reason.
"""

from __future__ import annotations

from vedette.act.cases.review import MIN_REASON
from vedette.act.cases.store import Store, here, load, read_all
from vedette.act.cases.tables import EVIDENCE
from vedette.act.timeline import PreservationWaived
from vedette.core.db import Connection, sa
from vedette.core.errors import ConflictError, DataError


class Preservation(Store):
    """Whether the evidence of a case is safe."""

    def require(self, tenant: str, case_id: str, action: str) -> None:
        """Lets an action that contains go on.

        Args:
            tenant: Whose case.
            case_id: Which.
            action: Name of the action, such as `revoke_key`.

        Raises:
            ConflictError: `containment.evidence.missing`: nothing was kept, and nobody waived that.
        """
        with self._database.read() as connection:
            load(connection, tenant, case_id)
            if _kept(connection, tenant, case_id) or _waived(connection, tenant, case_id, action):
                return
        hint = "collect evidence first (a snapshot), or waive it by name"
        raise ConflictError("containment.evidence.missing", f"`{action}` would destroy evidence", hint=hint, at=case_id)

    def waive(self, tenant: str, case_id: str, *, operator: str, reason: str, action: str = "") -> None:
        """Lets containment go before evidence, in the name of who says so.

        Raises:
            DataError: `containment.waiver.reason`.
        """
        if len(reason.strip()) < MIN_REASON:
            said = f"say in at least {MIN_REASON} characters why evidence is given up"
            raise DataError("containment.waiver.reason", said, at="$.reason")
        with self._database.begin() as connection:
            load(connection, tenant, case_id, lock=True)
            self._add(connection, tenant, case_id, operator, PreservationWaived(action, reason))


def _kept(connection: Connection, tenant: str, case_id: str) -> bool:
    query = sa.select(EVIDENCE.c.digest).where(here(EVIDENCE, tenant, case_id)).limit(1)
    return connection.execute(query).first() is not None


def _waived(connection: Connection, tenant: str, case_id: str, action: str) -> bool:
    bodies = (entry.body for entry in read_all(connection, tenant, case_id))
    return any(isinstance(body, PreservationWaived) and body.action in ("", action) for body in bodies)
