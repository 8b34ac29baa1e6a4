"""Proofs from the stored tree: reads a few hundred leaves and a few stored nodes, whatever the size."""

from __future__ import annotations

from functools import lru_cache

from vedette.core.db import Connection, sa
from vedette.prove.evidence.tables import nodes, records
from vedette.prove.verifier import EMPTY_ROOT, hash_node

TILE = 8
"""Levels between stored nodes: one for each 256 records, one for each 65,536, and so on."""

CACHED_BLOCKS = 256
"""Blocks of 256 hashes held while proofs are made, about 20 kB each."""


class Tree:
    """The tree as one transaction sees it.

    Args:
        connection: Of a read or write transaction; the tree is used within it only.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._block = lru_cache(CACHED_BLOCKS)(self._read_block)

    def root(self, size: int) -> bytes:
        """Root of the first `size` records."""
        return self._span(0, size) if size else EMPTY_ROOT

    def leaves(self, first: int, count: int) -> list[bytes]:
        """Leaf hashes from an index on."""
        query = sa.select(records.c.leaf).where(records.c.seq >= first, records.c.seq < first + count)
        return list(self._connection.scalars(query.order_by(records.c.seq)))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Proof that the record at `index` stands in the tree of `size`, sibling of the leaf first."""
        start, end, path = 0, size, list[bytes]()
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._span(middle, end))
                end = middle
            else:
                path.append(self._span(start, middle))
                start = middle
        return path[::-1]

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Proof that the tree of `old` records is the beginning of the tree of `size`; 0 < old <= size."""
        start, end, whole, path = 0, size, True, list[bytes]()
        while old < end:
            middle = start + _split(end - start)
            if old <= middle:
                path.append(self._span(middle, end))
                end = middle
            else:
                path.append(self._span(start, middle))
                start, whole = middle, False
        return ([] if whole else [self._span(start, end)]) + path[::-1]

    def _span(self, start: int, end: int) -> bytes:
        length = end - start
        if length & (length - 1) == 0:
            return self._full(length.bit_length() - 1, start // length)
        middle = start + _split(length)
        return hash_node(self._span(start, middle), self._span(middle, end))

    def _full(self, level: int, place: int) -> bytes:
        """Root of a full subtree of 2^level records, folded from one block of 256 stored hashes."""
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


def _split(length: int) -> int:
    """Largest power of two below the length."""
    return 1 << ((length - 1).bit_length() - 1)


def _fold(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [hash_node(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]
