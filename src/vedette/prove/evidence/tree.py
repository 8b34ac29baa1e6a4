"""Proofs from the stored tree: reads a few hundred leaves and a few stored nodes, whatever the size."""

from __future__ import annotations

from functools import lru_cache

from vedette.core.db import Connection, sa
from vedette.prove.evidence.tables import nodes, records
from vedette.prove.verifier import EMPTY_ROOT, hash_node

TILE = 8
"""Levels between stored nodes: one for each 256 records, one for each 65,536, and so on."""

CACHED_TILES = 256
"""Tiles of 256 leaf hashes held while proofs are made, about 20 kB each."""


class Tree:
    """The tree as one transaction sees it.

    Args:
        connection: Of a read or write transaction; the tree is used within it only.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tile = lru_cache(CACHED_TILES)(self._read_tile)
        self._node = lru_cache(CACHED_TILES)(self._read_node)

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
        """Root of a full subtree of 2^level records."""
        if level < TILE:
            first = place << level
            tile = self._tile(first >> TILE)
            return _fold(tile[first % 2**TILE : first % 2**TILE + 2**level])
        if level % TILE == 0:
            return self._node(level, place)
        return hash_node(self._full(level - 1, 2 * place), self._full(level - 1, 2 * place + 1))

    def _read_tile(self, number: int) -> list[bytes]:
        return self.leaves(number << TILE, 1 << TILE)

    def _read_node(self, level: int, place: int) -> bytes:
        query = sa.select(nodes.c.hash).where(nodes.c.level == level, nodes.c.place == place)
        found: bytes = self._connection.execute(query).scalar_one()
        return found


def _split(length: int) -> int:
    """Largest power of two below the length."""
    return 1 << ((length - 1).bit_length() - 1)


def _fold(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [hash_node(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]
