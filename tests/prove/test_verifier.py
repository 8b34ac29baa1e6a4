"""The rules of the tree and of signed notes, against published vectors and a plain recursive model."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.prove import verifier
from vedette.prove.verifier import (
    Checkpoint,
    Invalid,
    Range,
    hash_leaf,
    parse_checkpoint,
    parse_key,
    to_canonical,
    verify_note,
)

FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYj"
    "OBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def plain_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + plain_root(leaves[:split]) + plain_root(leaves[split:])).digest()


def accepts(vector: dict) -> bool:
    proof = [raw(part) for part in vector["proof"] or ()]
    if "leafIdx" in vector:
        leaf, root, index = raw(vector["leafHash"]), raw(vector["root"]), vector["leafIdx"]
        if "treeSize" in vector:
            return verifier.verify_inclusion(index, vector["treeSize"], leaf, proof, root)
        return verifier.verify_inclusion_in_subtree(index, (vector["start"], vector["end"]), leaf, proof, root)
    root1, root2 = raw(vector["root1"]), raw(vector["root2"])
    if "size1" in vector:
        return verifier.verify_consistency(vector["size1"], vector["size2"], root1, root2, proof)
    return verifier.verify_subtree(vector["start"], vector["end"], vector["size"], root1, root2, proof)


def test_published_vectors(shared_data: Path) -> None:
    vectors = json.loads((shared_data / "money" / "rfc6962" / "proof_vectors.json").read_text())
    assert [vector["_path"] for vector in vectors if accepts(vector) is vector["wantErr"]] == []
    assert (len(vectors), sum(vector["wantErr"] for vector in vectors)) == (518, 482)


def test_published_roots(shared_data: Path) -> None:
    tree = json.loads((shared_data / "money" / "rfc6962" / "tree8.json").read_text())
    built = Range()
    roots = [built.root().hex()]
    for text in tree["leaf_inputs_hex"]:
        built.append(hash_leaf(bytes.fromhex(text)))
        roots.append(built.root().hex())
    assert roots == tree["root_hashes_hex"]


@given(st.integers(0, 200))
def test_range_is_the_plain_tree(size: int) -> None:
    leaves = [hash_leaf(bytes([i])) for i in range(size)]
    built = Range()
    for leaf in leaves:
        built.append(leaf)
    assert built.root() == plain_root(leaves)
    again = Range(built.size, built.peaks)
    again.append(b"\x01" * 32)
    assert again.root() == plain_root([*leaves, b"\x01" * 32])


def test_range_refuses_wrong_peaks() -> None:
    for size, peaks in ((1, []), (2, [b"\x00" * 32] * 2), (1, [b"\x00" * 31]), (-1, [])):
        with pytest.raises(Invalid):
            Range(size, peaks)


def test_signed_note_of_the_specification() -> None:
    key = parse_key(FOO)
    assert str(key) == FOO
    with pytest.raises(Invalid, match="not a checkpoint"):  # the signature is right, the text is no checkpoint
        verify_note(NOTE, [key])
    with pytest.raises(Invalid, match="wrong"):
        verify_note(NOTE.replace("example message", "exemple message"), [key])
    with pytest.raises(Invalid, match="no trusted key"):
        verify_note(NOTE, [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n\n",
        "a\n01\nAAAA\n",
        "a\n-1\n" + "A" * 43 + "=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "a\n1\n" + "A" * 43 + "=\nmore\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(Invalid):
        parse_checkpoint(text)


def test_checkpoint_text_is_read_back() -> None:
    head = Checkpoint("example.com/log", 20852163, hashlib.sha256(b"x").digest())
    assert parse_checkpoint(head.text()) == head


@pytest.mark.parametrize(
    "text", ["", "a", "a+b+c", FOO.replace("530d", "530e"), FOO.replace("AekyeR", "AekyeS"), FOO[:-4]]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(Invalid):
        parse_key(text)


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers())))
def test_canonical_form_reads_back(record: dict) -> None:
    try:
        data = to_canonical(record)
    except UnicodeEncodeError:
        return
    assert json.loads(data) == record
    assert to_canonical(json.loads(data)) == data
