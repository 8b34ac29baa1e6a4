"""The tree in memory against RFC 6962 word for word; its proofs, and that wrong ones are refused."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import DataError
from vedette.prove.tree import Tree, hash_leaf, verify_consistency, verify_inclusion

SIZES = st.integers(1, 70)


def plain(leaves):
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + plain(leaves[:split]) + plain(leaves[split:])).digest()


def grown(size):
    tree = Tree()
    for n in range(size):
        assert tree.append(b"%d" % n) == n
    return tree, [hash_leaf(b"%d" % n) for n in range(size)]


def test_the_published_tree(shared_data):
    published = json.loads((shared_data / "money" / "rfc6962" / "tree8.json").read_text())
    tree = Tree()
    for text in published["leaf_inputs_hex"]:
        tree.append(bytes.fromhex(text))
    assert [tree.root(size).hex() for size in range(9)] == published["root_hashes_hex"]


@given(SIZES, st.data())
def test_every_proof_verifies_and_no_changed_one(size, data):
    tree, leaves = grown(size)
    of = data.draw(st.integers(1, size))
    index, old = data.draw(st.integers(0, of - 1)), data.draw(st.integers(1, of))
    root = plain(leaves[:of])
    assert tree.root(of) == root
    proof = tree.inclusion(index, of)
    assert verify_inclusion(index, of, leaves[index], proof, root)
    since = tree.consistency(old, of)
    assert verify_consistency(old, of, tree.root(old), root, since)
    wrong = bytes([root[0] ^ 1]) + root[1:]
    assert not verify_inclusion(index, of, leaves[index], proof, wrong)
    assert not verify_consistency(old, of, tree.root(old), wrong, since)
    for path, check in (
        (proof, lambda changed: verify_inclusion(index, of, leaves[index], changed, root)),
        (since, lambda changed: verify_consistency(old, of, tree.root(old), root, changed)),
    ):
        assert not check([*path, root])
        assert not check(path[:-1] if path else [b"short"])
        for place in range(len(path)):
            short = [*path]
            short[place] = path[place][:31]
            flipped = [*path]
            flipped[place] = bytes([path[place][0] ^ 128]) + path[place][1:]
            assert not check(short)
            assert not check(flipped)


@pytest.mark.parametrize("junk", ["a" * 32, None, 7, b"", b"\0" * 33])
def test_what_is_no_hash_is_no_proof(junk):
    tree, leaves = grown(5)
    assert not verify_inclusion(0, 5, junk, tree.inclusion(0), tree.root())
    assert not verify_inclusion(0, 5, leaves[0], [junk, *tree.inclusion(0)[1:]], tree.root())
    assert not verify_consistency(3, 5, junk, tree.root(), tree.consistency(3))


def test_what_is_not_there_has_no_proof():
    tree, _ = grown(3)
    for act, code in (
        (lambda: tree.root(4), "tree.size.invalid"),
        (lambda: tree.root(-1), "tree.size.invalid"),
        (lambda: tree.inclusion(3), "tree.index.invalid"),
        (lambda: tree.inclusion(-1), "tree.index.invalid"),
        (lambda: tree.consistency(0), "tree.size.invalid"),
        (lambda: tree.append_hash(b"short"), "tree.hash.invalid"),
    ):
        with pytest.raises(DataError) as refused:
            act()
        assert refused.value.code == code
    assert len(tree) == 3
