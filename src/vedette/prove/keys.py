"""Signing keys: Ed25519, one file each, readable by their owner only; old public keys stay so that old proofs verify.

A ring holds the keys of one purpose. `<purpose>.key` is the private key in use (PKCS #8), `<purpose>.keys` lists every
verifier key there ever was, oldest first, one line each in the form of C2SP signed-note. A rotation adds a key and
forgets the old private one: what it signed can still be verified, and nothing more can be signed with it.
"""

from __future__ import annotations

import base64
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from vedette.core.errors import DefinitionError
from vedette.prove.verifier import VerifierKey, parse_key, to_key_id

OWNER_ONLY = 0o600


class Signer:
    """One private key. Shows only its public side.

    Args:
        name: Name of the key in signatures, such as `vedette.local/evidence`: no space, no `+`.
        private: The key.
    """

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._private = private
        self.verifier = VerifierKey(name, to_key_id(name, public), public)

    @property
    def name(self) -> str:
        """Name of the key in signatures."""
        return self.verifier.name

    @property
    def key_id(self) -> str:
        """Eight hexadecimal digits that name the key."""
        return self.verifier.id.hex()

    def sign(self, data: bytes) -> bytes:
        """64 bytes of Ed25519 signature."""
        return self._private.sign(data)

    def sign_note(self, text: str) -> str:
        """The text as a C2SP signed note. `text` ends in a newline."""
        signature = base64.b64encode(self.verifier.id + self.sign(text.encode())).decode()
        return f"{text}\n\u2014 {self.name} {signature}\n"

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"


class KeyRing:
    """Keys of one purpose in a folder. Safe for several processes: a lock file guards first use and rotation.

    Args:
        folder: Usually `keys` under home. Made with mode 0700 when missing.
        purpose: File name stem, such as `evidence`.
        name: Name of the keys in signatures.
    """

    def __init__(self, folder: Path, purpose: str, name: str) -> None:
        self._folder = folder
        self._name = name
        self._private = folder / f"{purpose}.key"
        self._public = folder / f"{purpose}.keys"

    def signer(self) -> Signer:
        """The key in use, made on first use.

        Raises:
            DefinitionError: `keys.file.readable` when others may read the private key, `keys.file.invalid`.
        """
        with self._lock():
            if self._private.exists():
                signer = Signer(self._name, _load(self._private))
                # A crash between the two writes of a rotation leaves a key that is not listed yet.
                self._list(signer.verifier)
                return signer
            return self._make()

    def rotate(self) -> Signer:
        """Makes a new key and uses it from now on; the old private key is gone, its public side stays listed."""
        with self._lock():
            return self._make()

    def verifiers(self) -> list[VerifierKey]:
        """Every public key there ever was, oldest first."""
        return [parse_key(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        return self._public.read_text(encoding="utf-8").split() if self._public.exists() else []

    def _make(self) -> Signer:
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(self._private, pem)
        signer = Signer(self._name, private)
        self._list(signer.verifier)
        return signer

    def _list(self, key: VerifierKey) -> None:
        lines = self._lines()
        if str(key) not in lines:
            write_private(self._public, "".join(f"{line}\n" for line in [*lines, str(key)]).encode())

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, OWNER_ONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file in one step, synced, with mode 0600 from its first moment."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes names made or replaced in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> Ed25519PrivateKey:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DefinitionError(
            "keys.file.readable", "others may read this signing key", hint="chmod 600 it, then rotate it", at=str(path)
        )
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # No cause is chained: a parser's message may repeat what it read.
        raise DefinitionError("keys.file.invalid", "not an Ed25519 private key", hint="restore it", at=str(path))
    return key
