"""Keys in an encrypted file: for one machine without a hardware module.

Each key is sealed with AES-256-GCM under a key that scrypt derives from a passphrase, and bound to its label, use and
time, so entries cannot be swapped. The file is replaced in one step under a lock. While the process runs, the keys are
in its memory: whoever can read that, or has the file and the passphrase, has the keys. A destroyed key is gone from the
file; a file system that keeps old blocks, or a backup of the file, may still have it. A hardware module has neither
weakness.
"""

from __future__ import annotations

import base64
import fcntl
import hmac
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from vedette.core.clock import Clock
from vedette.core.errors import DefinitionError
from vedette.prove.custody.provider import (
    CHECK_INPUT,
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    KeyInfo,
    KeyUse,
    check_label,
    exists,
    invalid,
    to_check,
    unknown,
)
from vedette.prove.keys import OWNER_ONLY, write_private
from vedette.prove.secrets import Secret

COST = 2**15
"""scrypt's N with r = 8 and p = 1: 32 MB and about a tenth of a second for each guess (RFC 7914)."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    label: str
    use: KeyUse
    created: int
    sealed: str

    def aad(self) -> bytes:
        return f"vedette.custody.v1|{self.label}|{self.use}|{self.created}".encode()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    salt: str
    cost: int
    probe: str
    """Nothing, sealed: tells a wrong passphrase from a damaged entry."""
    keys: tuple[_Entry, ...] = ()


def seal_with(key: bytes, data: bytes, aad: bytes) -> bytes:
    """AES-GCM with a fresh nonce: nonce, ciphertext, tag."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, aad)


def open_with(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """What `seal_with` sealed.

    Raises:
        DefinitionError: `custody.sealed.invalid`.
    """
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise invalid()
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    except InvalidTag:
        raise invalid() from None


def check_value(secret: bytes, use: KeyUse) -> str:
    """Key check value of a key whose bytes are known, as in a ceremony."""
    if use is KeyUse.MAC:
        return to_check(hmac.digest(secret, CHECK_INPUT, "sha256"))
    cmac = CMAC(AES(secret))
    cmac.update(CHECK_INPUT)
    return to_check(cmac.finalize())


class SealedFile:
    """Keys in a file that a passphrase opens. Safe for several threads and processes.

    Args:
        path: The file, made on first use with mode 0600.
        passphrase: What opens it.
        clock: Time of new keys.

    Raises:
        DefinitionError: `custody.file.invalid` for a damaged file, `custody.passphrase.wrong`.
    """

    def __init__(self, path: Path, passphrase: Secret, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._guard = threading.Lock()
        self._held: dict[str, tuple[_Entry, bytes]] = {}
        self._seen: tuple[int, int] = (0, 0)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            file = self._read() or self._begin(passphrase)
        self._root = _derive(passphrase, base64.b64decode(file.salt), file.cost)
        try:
            open_with(self._root, base64.b64decode(file.probe), b"probe")
        except DefinitionError:
            raise DefinitionError(
                "custody.passphrase.wrong", "this passphrase does not open the file", at=str(path)
            ) from None

    def __repr__(self) -> str:
        return f"SealedFile({str(self._path)!r})"

    def create(self, label: str, use: KeyUse) -> KeyInfo:
        """See `KeyProvider`."""
        return self.place(label, use, secrets.token_bytes(KEY_BYTES))

    def place(self, label: str, use: KeyUse, secret: bytes) -> KeyInfo:
        """See `KeyProvider`."""
        check_label(label)
        if len(secret) != KEY_BYTES:
            raise DefinitionError("custody.key.size", f"a key has {KEY_BYTES} bytes")
        with self._lock():
            file = self._read()
            assert file is not None  # noqa: S101 - made by the constructor
            if any(entry.label == label for entry in file.keys):
                raise exists(label)
            entry = _Entry(label, use, self._clock.now(), "")
            sealed = base64.b64encode(seal_with(self._root, secret, entry.aad())).decode()
            entry = msgspec.structs.replace(entry, sealed=sealed)
            self._write(msgspec.structs.replace(file, keys=(*file.keys, entry)))
        return KeyInfo(label=label, use=use, created=entry.created, check=check_value(secret, use))

    def seal(self, label: str, data: bytes, aad: bytes) -> bytes:
        """See `KeyProvider`."""
        return seal_with(self._key(label, KeyUse.WRAP), data, aad)

    def open(self, label: str, sealed: bytes, aad: bytes) -> bytes:
        """See `KeyProvider`."""
        return open_with(self._key(label, KeyUse.WRAP), sealed, aad)

    def mac(self, label: str, data: bytes) -> bytes:
        """See `KeyProvider`."""
        return hmac.digest(self._key(label, KeyUse.MAC), data, "sha256")

    def list_keys(self) -> list[KeyInfo]:
        """See `KeyProvider`."""
        held = self._refresh()
        return [
            KeyInfo(label=label, use=entry.use, created=entry.created, check=check_value(secret, entry.use))
            for label, (entry, secret) in sorted(held.items())
        ]

    def destroy(self, label: str) -> None:
        """See `KeyProvider`."""
        with self._lock():
            file = self._read()
            assert file is not None  # noqa: S101 - made by the constructor
            left = tuple(entry for entry in file.keys if entry.label != label)
            if len(left) < len(file.keys):
                self._write(msgspec.structs.replace(file, keys=left))
        self._refresh()

    def _key(self, label: str, use: KeyUse) -> bytes:
        held = self._refresh().get(label)
        if held is None:
            raise unknown(label)
        entry, secret = held
        if entry.use is not use:
            raise DefinitionError("custody.key.use", f"`{label}` is a key to {entry.use}, not to {use}")
        return secret

    def _refresh(self) -> dict[str, tuple[_Entry, bytes]]:
        """The keys as the file has them now: another process may have made or destroyed one."""
        with self._guard:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns)
            if seen != self._seen:
                file = self._read()
                assert file is not None  # noqa: S101 - it has a status
                self._held = {
                    entry.label: (entry, open_with(self._root, base64.b64decode(entry.sealed), entry.aad()))
                    for entry in file.keys
                }
                self._seen = seen
            return self._held

    def _begin(self, passphrase: Secret) -> _File:
        salt = secrets.token_bytes(16)
        probe = seal_with(_derive(passphrase, salt, COST), b"", b"probe")
        file = _File(1, base64.b64encode(salt).decode(), COST, base64.b64encode(probe).decode())
        self._write(file)
        return file

    def _read(self) -> _File | None:
        if not self._path.exists():
            return None
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File)
        except msgspec.DecodeError:
            raise DefinitionError(
                "custody.file.invalid", "not a file of sealed keys", hint="restore it from a backup", at=str(self._path)
            ) from None

    def _write(self, file: _File) -> None:
        write_private(self._path, msgspec.json.format(msgspec.json.encode(file)) + b"\n")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        descriptor = os.open(self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, OWNER_ONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _derive(passphrase: Secret, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=8, p=1).derive(passphrase.reveal().encode())
