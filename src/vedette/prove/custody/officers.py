"""Officers of a ceremony: they authorise it and sign its transcript, each with a key under their own passphrase."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from vedette.core.errors import DefinitionError
from vedette.prove.keys import Signer, write_private
from vedette.prove.secrets import Secret
from vedette.prove.verifier import VerifierKey

MIN_PASSPHRASE = 12
"""Fewest characters of an officer's passphrase."""


def make_officer(path: Path, name: str, passphrase: Secret) -> VerifierKey:
    """Makes an officer's key in a file of its own.

    Args:
        path: The file; it must not exist.
        name: Name of the officer as signatures show it: no space, no `+`.
        passphrase: Opens it, `MIN_PASSPHRASE` characters or more.

    Raises:
        DefinitionError: `ceremony.officer.exists`, `ceremony.officer.name`, `ceremony.officer.passphrase`.
    """
    if path.exists():
        raise DefinitionError("ceremony.officer.exists", "this file exists", hint="name a new one", at=str(path))
    if not name or any(character.isspace() or character == "+" for character in name):
        raise DefinitionError("ceremony.officer.name", "an officer's name has no space and no `+`", hint="ann.example")
    if len(passphrase.reveal()) < MIN_PASSPHRASE:
        raise DefinitionError("ceremony.officer.passphrase", f"give at least {MIN_PASSPHRASE} characters")
    private = Ed25519PrivateKey.generate()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sealing = BestAvailableEncryption(passphrase.reveal().encode())
    write_private(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing))
    # The name stands beside the key: a signature is by a name and a key.
    write_private(path.with_suffix(".name"), f"{name}\n".encode())
    return Signer(name, private).verifier


def open_officer(path: Path, passphrase: Secret) -> Signer:
    """An officer's key.

    Raises:
        DefinitionError: `ceremony.officer.invalid` for a file that is no officer's key, or a wrong passphrase.
    """
    try:
        name = path.with_suffix(".name").read_text(encoding="utf-8").strip()
        key = load_pem_private_key(path.read_bytes(), password=passphrase.reveal().encode())
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # No cause is chained: a parser's message may repeat what it read.
        raise DefinitionError(
            "ceremony.officer.invalid", "this passphrase opens no officer's key here", hint="try again", at=str(path)
        )
    return Signer(name, key)
