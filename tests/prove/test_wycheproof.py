"""Project Wycheproof's vectors against what the product seals, signs and verifies with: each ends as it says.

A vector is `valid` or `invalid`; a check here answers `valid` for what it accepts with the right result. Vectors of sizes
that the product never makes (nonces other than 96 bits, keys other than 256) must end as they say in the library, and
the product's own doors refuse them.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding, aes_key_wrap_with_padding
from hsm import empty_token

from vedette.core.errors import DefinitionError
from vedette.prove.custody.provider import KeyUse
from vedette.prove.custody.sealed import SealedFile, open_with, seal_with
from vedette.prove.secrets import Secret

Vector = dict[str, Any]
COUNTS = {"aes_gcm_test": 316, "aes_kwp_test": 254, "ed25519_test": 151, "hmac_sha256_test": 174}


@pytest.fixture
def vectors(shared_data) -> Callable[[str], list[Vector]]:
    """Every vector of a file, with what its group says, in bytes."""

    def read(name: str) -> list[Vector]:
        file = json.loads((shared_data / "money" / "wycheproof" / f"{name}.json").read_text())
        found = [_bytes(group | vector) for group in file["testGroups"] for vector in group["tests"]]
        assert len(found) == file["numberOfTests"] == COUNTS[name]
        return found

    return read


def _bytes(vector: Vector) -> Vector:
    hexed = {name: bytes.fromhex(vector[name]) for name in "key iv aad msg ct tag sig".split() if name in vector}
    public = {"pk": bytes.fromhex(vector["publicKey"]["pk"])} if "publicKey" in vector else {}
    return vector | hexed | public


def wrong(check: Callable[[Vector], bool], vectors: list[Vector]) -> Iterator[tuple[int, str]]:
    """Vectors that do not end as they say."""
    for vector in vectors:
        if check(vector) is not (vector["result"] == "valid"):
            yield vector["tcId"], vector["comment"]


def opens(vector: Vector) -> bool:
    """By the product: nonce, ciphertext and tag in a row."""
    try:
        return open_with(vector["key"], vector["iv"] + vector["ct"] + vector["tag"], vector["aad"]) == vector["msg"]
    except DefinitionError:
        return False


def test_aes_gcm_as_the_product_opens(vectors) -> None:
    ours = [vector for vector in vectors("aes_gcm_test") if vector["ivSize"] == 96]
    assert len(ours) == 197
    assert list(wrong(opens, ours)) == []


def test_other_nonces_are_never_opened(vectors) -> None:
    others = [vector for vector in vectors("aes_gcm_test") if vector["ivSize"] != 96]
    assert len(others) == 119
    assert not any(map(opens, others))


def test_aes_gcm_of_other_nonces_in_the_library(vectors) -> None:
    def decrypts(vector: Vector) -> bool:
        try:
            found = AESGCM(vector["key"]).decrypt(vector["iv"], vector["ct"] + vector["tag"], vector["aad"])
        except (InvalidTag, ValueError):
            return False
        return found == vector["msg"]

    short, others = [], []
    for vector in vectors("aes_gcm_test"):
        (others if vector["ivSize"] == 0 or 64 <= vector["ivSize"] <= 1_024 else short).append(vector)
    assert list(wrong(decrypts, others)) == []
    # Nonces of less than 64 or more than 1,024 bits are refused whole: legal by the standard, and weak.
    assert {vector["ivSize"] for vector in short} == {8, 16, 32, 48, 2_056}
    assert not any(map(decrypts, short))


def test_what_is_sealed_is_what_the_vectors_say(vectors, monkeypatch) -> None:
    for vector in vectors("aes_gcm_test"):
        if vector["ivSize"] == 96 and vector["result"] == "valid":
            monkeypatch.setattr("secrets.token_bytes", lambda _size, nonce=vector["iv"]: nonce)
            sealed = seal_with(vector["key"], vector["msg"], vector["aad"])
            assert sealed == vector["iv"] + vector["ct"] + vector["tag"], vector["tcId"]


@pytest.fixture(params=["file", "token"])
def provider(request, tmp_path, clock):
    if request.param == "file":
        yield SealedFile(tmp_path / "keys.json", Secret("a phrase for the vectors"), clock)
        return
    token = empty_token(clock)
    yield token
    token.close()


def test_the_providers_of_keys_open_and_mac(vectors, provider) -> None:
    """256-bit keys and 96-bit nonces, as every key here has them, through the file and through PKCS#11."""
    labels: dict[tuple[bytes, KeyUse], str] = {}

    def placed(vector: Vector, use: KeyUse) -> str:
        label = labels.setdefault((vector["key"], use), f"wycheproof:{len(labels)}")
        if label == f"wycheproof:{len(labels) - 1}" and label not in {key.label for key in provider.list_keys()}:
            provider.place(label, use, vector["key"])
        return label

    def unseals(vector: Vector) -> bool:
        label = placed(vector, KeyUse.WRAP)
        try:
            found = provider.open(label, vector["iv"] + vector["ct"] + vector["tag"], vector["aad"])
        except DefinitionError:
            return False
        return bool(found == vector["msg"])

    def macs(vector: Vector) -> bool:
        made = provider.mac(placed(vector, KeyUse.MAC), vector["msg"])
        return bool(made[: vector["tagSize"] // 8] == vector["tag"])

    sealed = [each for each in vectors("aes_gcm_test") if (each["ivSize"], each["keySize"]) == (96, 256)]
    signed = [each for each in vectors("hmac_sha256_test") if each["keySize"] == 256]
    # A sample over a token: each key is an object in it.
    step = 1 if isinstance(provider, SealedFile) else 3
    assert (len(sealed), len(signed)) == (66, 162)
    assert list(wrong(unseals, sealed[::step])) == []
    assert list(wrong(macs, signed[::step])) == []


def test_hmac_sha256(vectors) -> None:
    def matches(vector: Vector) -> bool:
        made = hmac.digest(vector["key"], vector["msg"], "sha256")
        return hmac.compare_digest(made[: vector["tagSize"] // 8], vector["tag"])

    assert list(wrong(matches, vectors("hmac_sha256_test"))) == []


def verifies(vector: Vector) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(vector["pk"]).verify(vector["sig"], vector["msg"])
    except InvalidSignature:
        return False
    return True


def test_ed25519(vectors) -> None:
    assert list(wrong(verifies, vectors("ed25519_test"))) == []


def test_aes_kwp(vectors) -> None:
    """Key wrapping of RFC 5649, in which tokens of other makers hand out keys; the product itself hands out none."""

    def unwraps(vector: Vector) -> bool:
        try:
            found = aes_key_unwrap_with_padding(vector["key"], vector["ct"])
        except (InvalidUnwrap, ValueError):
            return False
        return found == vector["msg"]

    file = vectors("aes_kwp_test")
    assert list(wrong(unwraps, file)) == []
    for vector in file:
        if vector["result"] == "valid" and vector["msg"]:
            assert aes_key_wrap_with_padding(vector["key"], vector["msg"]) == vector["ct"], vector["tcId"]


def test_a_weak_check_is_seen(vectors) -> None:
    """Planted: half a tag is compared, a tag is ignored, a signature is cut to its size before it is verified."""

    def half(vector: Vector) -> bool:
        return hmac.digest(vector["key"], vector["msg"], "sha256")[:4] == vector["tag"][:4]

    def without_tag(vector: Vector) -> bool:
        made = AESGCM(vector["key"]).encrypt(vector["iv"], vector["msg"], vector["aad"])
        return made[:-16] == vector["ct"]

    def cut(vector: Vector) -> bool:
        return verifies(vector | {"sig": vector["sig"][:64]})

    assert list(wrong(half, vectors("hmac_sha256_test")))
    assert list(wrong(without_tag, [each for each in vectors("aes_gcm_test") if each["ivSize"] == 96]))
    assert list(wrong(cut, vectors("ed25519_test")))
