"""A Merkle tree (RFC 6962) usable alone: append, root, proofs, and the functions that check them.

Leaves are hashed with a 0x00 in front, inner nodes with a 0x01, so that no record can pass for a node. `Tree` lives in
memory, about 110 bytes a record; the evidence tree of the product (`prove.evidence`) is the same one over SQL. Checking
needs neither: `verify_inclusion` and `verify_consistency` are those of `prove.verifier`, the small program that others
run. They give False for whatever is not a proof, wrong lengths of hashes included, and raise nothing.

Example:
    >>> tree = Tree()
    >>> [tree.append(record) for record in (b"one", b"two", b"three")]
    [0, 1, 2]
    >>> proof = tree.inclusion(1)
    >>> verify_inclusion(1, 3, hash_leaf(b"two"), proof, tree.root())
    True
    >>> verify_consistency(2, 3, tree.root(2), tree.root(3), tree.consistency(2))
    True

Source: RFC 6962 section 2.1; RFC 9162 section 2.1 for the algorithms of verification.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from vedette.core.errors import DataError
from vedette.prove.verifier import (
    EMPTY_ROOT,
    HASH_BYTES,
    hash_leaf,
    hash_node,
    verify_consistency,
    verify_inclusion,
    verify_inclusion_in_subtree,
    verify_subtree,
)

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "Proofs",
    "Tree",
    "hash_leaf",
    "hash_node",
    "verify_consistency",
    "verify_inclusion",
    "verify_inclusion_in_subtree",
    "verify_subtree",
]


class Proofs(ABC):
    """Roots and proofs over perfect subtrees, wherever these are kept."""

    @abstractmethod
    def full(self, level: int, place: int) -> bytes:
        """Root of the perfect subtree of 2^level leaves at `place`, counted in subtrees of that size."""

    def root_of(self, size: int) -> bytes:
        """Root of the first `size` leaves."""
        return self._span(0, size) if size else EMPTY_ROOT

    def inclusion_of(self, index: int, size: int) -> list[bytes]:
        """Proof that the leaf at `index` stands in the tree of `size`, sibling of the leaf first; index < size."""
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

    def consistency_of(self, old: int, size: int) -> list[bytes]:
        """Proof that the tree of `old` leaves is the beginning of the tree of `size`; 0 < old <= size."""
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
            return self.full(length.bit_length() - 1, start // length)
        middle = start + _split(length)
        return hash_node(self._span(start, middle), self._span(middle, end))


class Tree(Proofs):
    """An append-only tree in memory. Not safe to append from several threads at once."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, data: bytes) -> int:
        """Appends a record and gives its index."""
        return self.append_hash(hash_leaf(data))

    def append_hash(self, leaf: bytes) -> int:
        """Appends a record by its leaf hash and gives its index.

        Raises:
            DataError: `tree.hash.invalid` when it is not 32 bytes.
        """
        if len(leaf) != HASH_BYTES:
            raise DataError("tree.hash.invalid", f"a leaf hash has {HASH_BYTES} bytes, not {len(leaf)}")
        index, level = len(self), 0
        self._levels[0].append(leaf)
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(hash_node(*self._levels[level][-2:]))
            level += 1
        return index

    def full(self, level: int, place: int) -> bytes:
        """See `Proofs.full`; the subtree is whole."""
        return self._levels[level][place]

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` records, of all by default; of none it is the hash of nothing.

        Raises:
            DataError: `tree.size.invalid` when there are not so many.
        """
        return self.root_of(self._size(size))

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Proof that the record at `index` stands in the tree of the first `size` records, of all by default.

        Raises:
            DataError: `tree.index.invalid`, `tree.size.invalid`.
        """
        size = self._size(size)
        if not 0 <= index < size:
            raise DataError("tree.index.invalid", f"no record {index} in a tree of {size}")
        return self.inclusion_of(index, size)

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """Proof that the first `old` records are the beginning of the first `size`, of all by default.

        Raises:
            DataError: `tree.size.invalid` also when `old` is 0: every tree continues the empty one, without a proof.
        """
        size = self._size(size)
        if not 1 <= old <= size:
            raise DataError("tree.size.invalid", f"a tree of {size} cannot be shown to continue one of {old}")
        return self.consistency_of(old, size)

    def _size(self, size: int | None) -> int:
        if size is None:
            return len(self)
        if not 0 <= size <= len(self):
            raise DataError("tree.size.invalid", f"the tree has {len(self)} records, not {size}")
        return size


def _split(length: int) -> int:
    """Largest power of two below the length."""
    return 1 << ((length - 1).bit_length() - 1)
