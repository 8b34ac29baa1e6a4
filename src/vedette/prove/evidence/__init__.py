"""Evidence: an append-only Merkle tree (RFC 6962) over decisions, actions and access, anchored outside the database.

`Collector` takes log records into the tree exactly once. `Evidence.checkpoint` signs the head and gives it to the
anchor. `verify` finds and places what was edited, deleted, reordered, inserted or cut off since. `bundle` exports
records with their proofs for `vedette.prove.verifier`, which needs nothing else of the product.

Example:
    >>> from vedette.prove.evidence import Entry
    >>> Entry("decision/0/0", "acme", "decision", 1_700_000_000_000_000, b"{}").kind
    'decision'
"""

from vedette.prove.evidence.anchor import Anchor, FileAnchor
from vedette.prove.evidence.collect import Collector
from vedette.prove.evidence.store import ORIGIN, Entry, Evidence
from vedette.prove.evidence.verify import Damage, Finding, Report, verify

__all__ = ["ORIGIN", "Anchor", "Collector", "Damage", "Entry", "Evidence", "FileAnchor", "Finding", "Report", "verify"]
