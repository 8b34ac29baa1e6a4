"""A key provider from one line of settings.

`file:PATH` is an encrypted file, opened by the secret `custody.passphrase`. `pkcs11:token=LABEL?module-path=FILE` is a
token (RFC 7512), opened by the secret `custody.pin`.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from vedette.core.clock import Clock
from vedette.core.errors import DefinitionError
from vedette.prove.custody.provider import KeyProvider
from vedette.prove.custody.sealed import SealedFile
from vedette.prove.custody.token import Token
from vedette.prove.secrets import Secrets

PASSPHRASE = "custody.passphrase"  # noqa: S105 - the name of a secret
PIN = "custody.pin"


def open_provider(uri: str, secrets: Secrets, clock: Clock) -> KeyProvider:
    """Opens what a URI names.

    Raises:
        DefinitionError: `custody.uri.invalid`, and what the provider raises.
        NotFoundError: `secrets.name.unknown` without its secret.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return SealedFile(Path(parts.path), secrets.resolve(PASSPHRASE), clock)
    if parts.scheme == "pkcs11":
        label = dict(part.partition("=")[::2] for part in parts.path.split(";")).get("token", "")
        module = parse_qs(parts.query).get("module-path", [""])[0]
        if label and module:
            return Token(module, unquote(label), secrets.resolve(PIN), clock)
    raise DefinitionError(
        "custody.uri.invalid",
        "not the address of a key provider",
        hint="write file:PATH, or pkcs11:token=LABEL?module-path=FILE",
        at=uri,
    )
