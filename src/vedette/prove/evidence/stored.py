"""The tree as it is stored: reads a few hundred leaves and a few stored nodes for a proof, whatever the size."""

from __future__ import annotations

from functools import lru_cache

from vedette.core.db import Connection, sa
from vedette.prove.evidence.tables import nodes, records
from vedette.prove.tree import Proofs, hash_node

TILE = 8
"""Levels between stored nodes: one for each 256 records, one for each 65,536, and so on."""

CACHED_BLOCKS = 256
"""Blocks of 256 hashes held while proofs are made, about 20 kB each."""


class StoredTree(Proofs):
    """The tree as one transaction sees it.

    Args:
        connection: Of a read or write transaction; the tree is used within it only.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._block = lru_cache(CACHED_BLOCKS)(self._read_block)

    def leaves(self, first: int, count: int) -> list[bytes]:
        """Leaf hashes from an index on."""
        query = sa.select(records.c.leaf).where(records.c.seq >= first, records.c.seq < first + count)
        return list(self._connection.scalars(query.order_by(records.c.seq)))

    def full(self, level: int, place: int) -> bytes:
        """See `Proofs.full`; folded from one block of 256 stored hashes."""
        base = level - level % TILE
        width = 1 << (level - base)
        block, offset = divmod(place * width, 1 << TILE)
        return _fold(self._block(base, block)[offset : offset + width])

    def _read_block(self, base: int, block: int) -> list[bytes]:
        """256 neighbouring hashes of a stored level, fewer at the end of the tree; level 0 is the leaves."""
        first = block << TILE
        if base == 0:
            return self.leaves(first, 1 << TILE)
        where = (nodes.c.level == base, nodes.c.place >= first, nodes.c.place < first + (1 << TILE))
        return list(self._connection.scalars(sa.select(nodes.c.hash).where(*where).order_by(nodes.c.place)))


def _fold(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [hash_node(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]
