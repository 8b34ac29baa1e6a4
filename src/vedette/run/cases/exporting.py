"""A case's evidence as a bundle: items and chain of custody with their proofs, for who has no access here."""

from __future__ import annotations

from collections.abc import Iterator

from vedette.act.cases.custody import link_id
from vedette.core.errors import PermanentError
from vedette.prove.evidence.bundle import Choice, to_bundle
from vedette.prove.evidence.collect import from_log
from vedette.run.parts import Parts


def export_case(parts: Parts, tenant: str, case_id: str, *, to: str, operator: str) -> Iterator[bytes]:
    """Lines of the bundle. The export is itself the last link of the chain, under a checkpoint that is made for it.

    Args:
        parts: The installation.
        tenant: Whose case.
        case_id: Which.
        to: Who gets it, or for what.
        operator: Who exports it.

    Raises:
        NotFoundError: `cases.case.unknown`.
        PermanentError: `evidence.anchor.missing`: the installation keeps no anchor.
    """
    parts.custody.export(tenant, case_id, to=to, operator=operator)
    links = parts.custody.links(tenant, case_id)
    anchor = parts.evidence.anchor
    if anchor is None:
        raise PermanentError("evidence.anchor.missing", "without an anchor nothing can be proven elsewhere")
    size = parts.evidence.size()
    while parts.evidence.checkpoint().size < size:
        pass  # a checkpoint carries so many records at most
    wanted = [link_id(case_id, link.number) for link in links] + [link.reference for link in links if link.reference]
    choice = Choice(tenant=tenant, ids=tuple(dict.fromkeys(wanted)))
    return to_bundle(parts.evidence.db, anchor, choice, content=from_log(parts.log))
