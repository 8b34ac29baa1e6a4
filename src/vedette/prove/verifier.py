"""Verifies an evidence bundle on any machine: `python verifier.py BUNDLE --key VKEY`.

This file stands alone. It needs Python and the package `cryptography`, and no other part of the product, so that who
receives a bundle can read the whole of what they rely on. The product itself uses the same functions, so the rules of
the tree are written once.

What it checks: the signature of the checkpoint by a key you trust; that each record of the bundle stands in the signed
tree at its index (RFC 6962 inclusion), in the tree's order; that a record's content has the digest that the tree holds;
that the tree of an earlier checkpoint is the beginning of this one (consistency); and of a case's evidence its chain of
custody: every link, each with the hash of the one before, up to the export, and every item that they name. What it
cannot check: records that the bundle does not hold and no chain names, and that the key is the right one; take the key
from somewhere other than the bundle.

Sources: RFC 6962 section 2.1; C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0; for subtrees
draft-ietf-plants-merkle-tree-certs section 4.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without records."""

MAX_SIZE = 2**63 - 1
MAX_NOTE = 64 * 1024
MAX_LINE = 64 * 1024 * 1024
BUNDLE_FORMAT = "vedette.evidence.bundle/1"
ED25519 = 1
KEY_BYTES = 32
CUSTODY = "custody"
"""Kind of the records that are links of a chain of custody."""
FIELDS = ("digest", "id", "kind", "tenant", "time", "v")
"""What a leaf is made of, in the order of its canonical form."""

_SIGNATURE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/=]+)")
_TREE_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class Invalid(ValueError):
    """Something does not verify; the message says what."""


# The tree


def hash_leaf(data: bytes) -> bytes:
    """Hash of a record in the tree: SHA-256 of 0x00 and the data."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256 of 0x01 and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def to_canonical(record: Mapping[str, Any]) -> bytes:
    """The bytes of a record that are hashed: JSON with sorted keys, without spaces, in UTF-8, as in RFC 8785."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Range:
    """A compact range: what is needed to append to a tree and to know its root, one hash for each set bit of the size.

    Args:
        size: Records so far.
        peaks: Roots of the perfect subtrees, largest first; as many as `size` has bits set.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if size < 0 or len(self.peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in self.peaks):
            raise Invalid("a compact range has one hash of 32 bytes for each bit of its size")

    def append(self, leaf: bytes) -> list[bytes]:
        """Appends a leaf hash. Gives the hashes of the subtrees it completed, level 1 first."""
        done: list[bytes] = []
        node, size = leaf, self.size
        while size & 1:
            node = hash_node(self.peaks.pop(), node)
            done.append(node)
            size >>= 1
        self.peaks.append(node)
        self.size += 1
        return done

    def root(self) -> bytes:
        """Root of the tree of all records so far."""
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = hash_node(peak, node)
        return node


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """True when the leaf hash stands at `index` of the tree of `size` records with this root."""
    if not 0 <= index < size <= MAX_SIZE or not _are_hashes([leaf, root, *proof]):
        return False
    place, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = hash_node(sibling, node)
            while not place & 1:
                place, last = place >> 1, last >> 1
        else:
            node = hash_node(node, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """True when the tree of `old` records is the beginning of the tree of `size`. `old` is at least 1."""
    return old >= 1 and verify_subtree(0, old, size, old_root, root, proof)


def is_subtree(start: int, end: int) -> bool:
    """True when [start, end) is a subtree: `start` is a multiple of its length rounded up to a power of two."""
    return 0 <= start < end <= MAX_SIZE and start % (1 << (end - start - 1).bit_length()) == 0


def verify_inclusion_in_subtree(
    index: int, span: tuple[int, int], leaf: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """True when the leaf hash stands at `index` of the subtree `span` with this root."""
    start, end = span
    return is_subtree(start, end) and verify_inclusion(index - start, end - start, leaf, proof, root)


def verify_subtree(  # noqa: PLR0917, C901 -- the order and the steps of the draft
    start: int, end: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> bool:
    """True when the records [start, end) with root `old_root` are part of the tree of `size` with root `root`."""
    if start == end and 0 <= start <= size:
        return old_root == EMPTY_ROOT and not proof
    if (start, end) == (0, size) and 0 < size <= MAX_SIZE:
        # A tree and itself: nothing is hashed, so the length of what is compared says nothing.
        return old_root == root and not proof
    if not is_subtree(start, end) or not end <= size <= MAX_SIZE or not _are_hashes([old_root, root, *proof]):
        return False
    first, last, tree = start, end - 1, size - 1
    while first != last and (last == tree or last & 1):
        first, last, tree = first >> 1, last >> 1, tree >> 1
    rest = list(proof)
    if first != last and not rest:
        return False
    inner = outer = old_root if first == last else rest.pop(0)
    for sibling in rest:
        if tree == 0:
            return False
        if last & 1 or last == tree:
            if first < last:
                inner = hash_node(sibling, inner)
            outer = hash_node(sibling, outer)
            while not last & 1:
                first, last, tree = first >> 1, last >> 1, tree >> 1
        else:
            outer = hash_node(outer, sibling)
        first, last, tree = first >> 1, last >> 1, tree >> 1
    return tree == 0 and inner == old_root and outer == root


def _are_hashes(values: Sequence[object]) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_BYTES for value in values)


# Signed checkpoints


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name, as C2SP signed-note writes it."""

    name: str
    id: bytes
    """Four bytes that point at the key; no proof of anything."""
    public: bytes

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([ED25519]) + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the tree at one size."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def to_key_id(name: str, public: bytes) -> bytes:
    """Id of an Ed25519 key under a name."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([ED25519]) + public).digest()[:4]


def parse_key(text: str) -> VerifierKey:
    """Reads `name+id+key`.

    Raises:
        Invalid: When it is not the verifier key of an Ed25519 key.
    """
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = _decode(encoded)
    if not name or re.search(r"\s", name) or len(raw) != 1 + KEY_BYTES or raw[0] != ED25519:
        raise Invalid("not the verifier key of an Ed25519 key")
    if to_key_id(name, raw[1:]).hex() != key_id:
        raise Invalid("the id of this verifier key does not fit its name and key")
    return VerifierKey(name, bytes.fromhex(key_id), raw[1:])


def parse_checkpoint(text: str) -> Checkpoint:
    """Reads the text of a checkpoint; extension lines are refused, because nothing would check them.

    Raises:
        Invalid: When it has another form.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or not _TREE_SIZE.fullmatch(lines[1]):  # noqa: PLR2004 -- three lines
        raise Invalid("not a checkpoint")
    root = _decode(lines[2])
    if len(root) != HASH_BYTES or int(lines[1]) > MAX_SIZE:
        raise Invalid("not a checkpoint")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_note(note: str, keys: Iterable[VerifierKey]) -> str:
    """The text of a signed note, once a key that is trusted has signed it.

    Raises:
        Invalid: When no trusted key signed it, or a signature of a trusted key is wrong.
    """
    text, blank, signatures = note.rpartition("\n\n")
    if len(note) > MAX_NOTE or not blank or not signatures.endswith("\n") or re.search(r"[\x00-\x09\x0b-\x1f]", note):
        raise Invalid("not a signed note")
    trusted = {(key.name, key.id): key for key in keys}
    body = text + "\n"
    signed = False
    for line in signatures[:-1].split("\n"):
        match = _SIGNATURE.fullmatch(line)
        if not match:
            raise Invalid("not a signed note")
        raw = _decode(match[2])
        key = trusted.get((match[1], raw[:4]))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], body.encode())
        except InvalidSignature:
            raise Invalid(f"the signature by {key.name} is wrong") from None
        signed = True
    if not signed:
        raise Invalid("no trusted key signed this checkpoint")
    return body


def verify_note(note: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Reads a signed checkpoint, once a key that is trusted has signed it.

    Raises:
        Invalid: As `open_note`, or when it is no checkpoint.
    """
    return parse_checkpoint(open_note(note, keys))


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("not base64") from None


# Bundles


@dataclass(slots=True)
class Chain:
    """The chain of custody of one case, as the lines of a bundle tell it."""

    case: str
    links: int = 0
    last: str = "0" * 2 * HASH_BYTES
    """SHA-256 of the link before, hex."""
    end: Mapping[str, Any] | None = None
    items: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Record of an item -> line of the link that names it, the item's digest, its name."""

    def take(self, content: bytes, line: int) -> None:
        """Takes the next link.

        Raises:
            Invalid: When it is not the next one.
        """
        link = _object(content.decode(), line)
        number = link.get("number")
        if number != self.links:
            raise Invalid(f"line {line}: link {number} of case {self.case} stands where link {self.links} belongs")
        if link.get("previous") != self.last:
            raise Invalid(f"line {line}: link {number} of case {self.case} does not follow the link before it")
        if link.get("item"):
            self.items[str(link["reference"])] = (line, str(link["item"]), str(link.get("name", "")))
        self.last, self.end = hashlib.sha256(content).hexdigest(), link
        self.links += 1

    def check(self, held: Mapping[str, str]) -> None:
        """Checks that nothing that it names is missing.

        Args:
            held: Record -> digest, of the whole bundle.

        Raises:
            Invalid: With the item that is missing, or when the chain has lost its end.
        """
        for record, (line, digest, name) in self.items.items():
            if held.get(record) != digest:
                told = f"item {digest[:16]} ({name})"
                raise Invalid(
                    f"line {line}: {told} of case {self.case} is not in the bundle: record {record} is missing"
                )
        if self.end is None or self.end.get("act") != "exported":
            raise Invalid(f"case {self.case}: the chain breaks off after link {self.links - 1}, before its export")

    def __str__(self) -> str:
        end = self.end or {}
        told = f"{self.links} links, {len(self.items)} items, exported by {end.get('who')} to {end.get('to')}"
        return f"chain of custody of case {self.case}: {told}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a bundle proves."""

    checkpoint: Checkpoint
    records: int
    """Records whose place in the tree is proven."""
    contents: int
    """Of these, records whose content is in the bundle and has the proven digest."""
    chains: tuple[Chain, ...]
    """Chains of custody, whole."""
    earlier: Checkpoint | None
    """The earlier checkpoint that this one continues, when the bundle holds one."""
    own_key: bool
    """True when the key was taken from the bundle itself: compare it with the published one."""


def verify_bundle(lines: Iterator[str], trusted: Sequence[VerifierKey] = ()) -> Report:
    """Verifies a bundle line by line, in bounded memory.

    Args:
        lines: The bundle: one JSON object a line, the header first.
        trusted: Keys you trust. Empty: the bundle's own key, which proves only that the bundle fits together.

    Raises:
        Invalid: With the line of the first thing that does not verify.
    """
    header = _object(next(lines, ""), 1)
    if header.get("format") != BUNDLE_FORMAT:
        raise Invalid("line 1: not an evidence bundle")
    keys = list(trusted) or [parse_key(key) for key in header["keys"]]
    checkpoint = verify_note(header["checkpoint"], keys)
    earlier = _verify_earlier(header, checkpoint, keys)
    records = contents = 0
    chains: dict[str, Chain] = {}
    held: dict[str, str] = {}
    place = -1
    for number, line in enumerate(lines, 2):
        entry = _object(line, number)
        contents += _verify_entry(entry, checkpoint, number)
        place = _verify_order(entry, place, number)
        held[entry["record"]["id"]] = entry["record"]["digest"]
        _follow(chains, entry, number)
        records += 1
    for chain in chains.values():
        chain.check(held)
    if records != header["records"]:
        raise Invalid(f"the header promises {header['records']} records, the bundle holds {records}")
    return Report(checkpoint, records, contents, tuple(chains.values()), earlier, not trusted)


def _verify_order(entry: Mapping[str, Any], before: int, line: int) -> int:
    index: int = entry["index"]
    if index <= before:
        raise Invalid(f"line {line}: record {index} ({entry['record']['id']}) stands behind record {before}")
    return index


def _follow(chains: dict[str, Chain], entry: Mapping[str, Any], line: int) -> None:
    """Takes a link of custody into the chain of its case."""
    record = entry["record"]
    if record["kind"] != CUSTODY:
        return
    if entry.get("content") is None:
        raise Invalid(f"line {line}: a link of custody without its content")
    case = str(record["id"]).split("/")[1]
    chains.setdefault(case, Chain(case)).take(_decode(entry["content"]), line)


def _verify_earlier(header: Mapping[str, Any], now: Checkpoint, keys: list[VerifierKey]) -> Checkpoint | None:
    if not header.get("earlier"):
        return None
    earlier = verify_note(header["earlier"]["checkpoint"], keys)
    proof = [_decode(part) for part in header["earlier"]["proof"]]
    if earlier.origin != now.origin:
        raise Invalid("line 1: the earlier checkpoint is of another log")
    if not verify_consistency(earlier.size, now.size, earlier.root, now.root, proof):
        raise Invalid(f"line 1: the tree of {earlier.size} records is not the beginning of the tree of {now.size}")
    return earlier


def _verify_entry(entry: Mapping[str, Any], checkpoint: Checkpoint, line: int) -> bool:
    record, index = entry.get("record"), entry.get("index")
    if not isinstance(record, dict) or tuple(sorted(record)) != FIELDS or type(index) is not int:
        raise Invalid(f"line {line}: not a record")
    proof = [_decode(part) for part in entry.get("proof", ())]
    leaf = hash_leaf(to_canonical(record))
    if not verify_inclusion(index, checkpoint.size, leaf, proof, checkpoint.root):
        raise Invalid(f"line {line}: record {index} ({record['id']}) is not in the signed tree as it stands here")
    if entry.get("content") is None:
        return False
    if hashlib.sha256(_decode(entry["content"])).hexdigest() != record["digest"]:
        raise Invalid(f"line {line}: the content of record {index} ({record['id']}) was changed")
    return True


def _object(line: str, number: int) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise Invalid(f"line {number}: too long")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise Invalid(f"line {number}: not JSON") from None
    if not isinstance(value, dict):
        raise Invalid(f"line {number}: not an object")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 the bundle verifies, 1 it does not."""
    parser = argparse.ArgumentParser(description="Verify an evidence bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", action="append", default=[], metavar="VKEY", help="a verifier key you trust")
    args = parser.parse_args(arguments)
    try:
        with args.bundle.open(encoding="utf-8") as file:
            report = verify_bundle(iter(file), [parse_key(key) for key in args.key])
    except (Invalid, KeyError, TypeError, UnicodeDecodeError) as error:
        sys.stdout.write(f"NOT VERIFIED: {error}\n")
        return 1
    head = report.checkpoint
    sys.stdout.write(
        f"verified: {report.records} records ({report.contents} with content) in the tree of {head.origin}\n"
    )
    sys.stdout.write(f"checkpoint: {head.size} records, root {head.root.hex()}\n")
    for chain in report.chains:
        sys.stdout.write(f"{chain}\n")
    if report.earlier:
        sys.stdout.write(f"continues the checkpoint of {report.earlier.size} records\n")
    if report.own_key:
        sys.stdout.write("the key was taken from the bundle: compare it with the published one, or pass --key\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
