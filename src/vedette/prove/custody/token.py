"""Keys in a PKCS#11 token: a hardware module, or SoftHSM.

Keys are made inside with `EXTRACTABLE` false and `SENSITIVE` true: no call gives their bytes. A key from a ceremony is
placed with the same attributes; its `LOCAL` attribute stays false, which tells that it was once outside.

One session for a process, used by one thread at a time: sessions that threads share lose their state, and a session
does not survive a fork, so a child must open its own.

Source: PKCS #11 v3.0, OASIS.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import NoSuchKey, NoSuchToken, PinIncorrect, PKCS11Error

from vedette.core.clock import Clock
from vedette.core.errors import DefinitionError, VedetteError
from vedette.prove.custody.provider import (
    CHECK_INPUT,
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    KeyInfo,
    KeyUse,
    check_label,
    exists,
    failed,
    invalid,
    to_check,
    unknown,
)
from vedette.prove.secrets import Secret

_TYPES = {KeyUse.WRAP: KeyType.AES, KeyUse.MAC: KeyType.GENERIC_SECRET}
_GUARDED: dict[Attribute, Any] = {
    Attribute.CLASS: ObjectClass.SECRET_KEY,
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.WRAP: False,
    Attribute.UNWRAP: False,
}
_RIGHTS: dict[KeyUse, dict[Attribute, Any]] = {
    # SIGN is for the check value.
    KeyUse.WRAP: {Attribute.ENCRYPT: True, Attribute.DECRYPT: True, Attribute.SIGN: True},
    KeyUse.MAC: {Attribute.ENCRYPT: False, Attribute.DECRYPT: False, Attribute.SIGN: True},
}


class Token:
    """Keys in one PKCS#11 token. Safe for several threads; not across a fork.

    Args:
        module: Path of the PKCS#11 library, such as `/usr/lib/softhsm/libsofthsm2.so`.
        label: Label of the token.
        pin: The user's PIN.
        clock: Time of new keys.

    Raises:
        DefinitionError: `custody.token.module`, `custody.token.unknown`, `custody.token.pin`.
    """

    def __init__(self, module: str, label: str, pin: Secret, clock: Clock) -> None:
        self._clock = clock
        self._label = label
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._keys: dict[tuple[str, KeyUse], Any] = {}
        try:
            library = pkcs11.lib(module)
        except PKCS11Error:
            raise DefinitionError(
                "custody.token.module", "this PKCS#11 library cannot be loaded", hint="name its .so file", at=module
            ) from None
        try:
            self._session = library.get_token(token_label=label).open(user_pin=pin.reveal(), rw=True)
        except NoSuchToken:
            raise DefinitionError("custody.token.unknown", f"no token is labelled `{label}`", at=module) from None
        except PinIncorrect:
            raise DefinitionError("custody.token.pin", "the token refused the PIN", at=label) from None
        except PKCS11Error as error:
            raise failed(type(error).__name__) from None

    def __repr__(self) -> str:
        return f"Token({self._label!r})"

    def create(self, label: str, use: KeyUse) -> KeyInfo:
        """See `KeyProvider`."""
        created = self._clock.now()
        with self._alone():
            self._refuse_taken(label)
            mechanism = {KeyUse.WRAP: Mechanism.AES_KEY_GEN, KeyUse.MAC: Mechanism.GENERIC_SECRET_KEY_GEN}[use]
            key = self._session.generate_key(
                _TYPES[use],
                8 * KEY_BYTES,
                id=_to_id(use, created),
                label=label,
                store=True,
                mechanism=mechanism,
                template=_GUARDED | _RIGHTS[use],
            )
            return KeyInfo(label=label, use=use, created=created, check=_check(key, use))

    def place(self, label: str, use: KeyUse, secret: bytes) -> KeyInfo:
        """See `KeyProvider`."""
        if len(secret) != KEY_BYTES:
            raise DefinitionError("custody.key.size", f"a key has {KEY_BYTES} bytes")
        created = self._clock.now()
        with self._alone():
            self._refuse_taken(label)
            key = self._session.create_object(
                _GUARDED
                | _RIGHTS[use]
                | {
                    Attribute.KEY_TYPE: _TYPES[use],
                    Attribute.VALUE: secret,
                    Attribute.LABEL: label,
                    Attribute.ID: _to_id(use, created),
                }
            )
            return KeyInfo(label=label, use=use, created=created, check=_check(key, use))

    def seal(self, label: str, data: bytes, aad: bytes) -> bytes:
        """See `KeyProvider`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        parameters = GCMParams(nonce, aad, 8 * TAG_BYTES)
        with self._alone():
            key = self._find(label, KeyUse.WRAP)
            return nonce + bytes(key.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))

    def open(self, label: str, sealed: bytes, aad: bytes) -> bytes:
        """See `KeyProvider`."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise invalid()
        parameters = GCMParams(sealed[:NONCE_BYTES], aad, 8 * TAG_BYTES)
        with self._alone():
            key = self._find(label, KeyUse.WRAP)
            try:
                opened = key.decrypt(sealed[NONCE_BYTES:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
            except PKCS11Error:
                # Modules differ in how they name a wrong tag.
                raise invalid() from None
            return bytes(opened)

    def mac(self, label: str, data: bytes) -> bytes:
        """See `KeyProvider`."""
        with self._alone():
            return bytes(self._find(label, KeyUse.MAC).sign(data, mechanism=Mechanism.SHA256_HMAC))

    def list_keys(self) -> list[KeyInfo]:
        """See `KeyProvider`. Keys that something else keeps in the token are not listed."""
        found = []
        with self._alone():
            for key in self._search({}):
                known = _from_id(bytes(key[Attribute.ID]))
                if known:
                    use, created = known
                    found.append(
                        KeyInfo(label=str(key[Attribute.LABEL]), use=use, created=created, check=_check(key, use))
                    )
        return sorted(found, key=lambda info: info.label)

    def destroy(self, label: str) -> None:
        """See `KeyProvider`."""
        with self._alone():
            self._keys = {key: held for key, held in self._keys.items() if key[0] != label}
            for key in self._search({Attribute.LABEL: label}):
                key.destroy()

    def close(self) -> None:
        """Ends the session and logs out."""
        with self._alone():
            self._session.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if os.getpid() != self._process:
            raise DefinitionError(
                "custody.token.forked", "a session of a token does not survive a fork", hint="open it in the child"
            )
        with self._lock:
            try:
                yield
            except VedetteError:
                raise
            except PKCS11Error as error:
                # A key that another process destroyed, or a module that was restarted: look it up again next time.
                self._keys.clear()
                raise failed(type(error).__name__) from None

    def _find(self, label: str, use: KeyUse) -> Any:
        key = self._keys.get((label, use))
        if key is None:
            try:
                key = self._session.get_key(object_class=ObjectClass.SECRET_KEY, label=label)
            except NoSuchKey:
                raise unknown(label) from None
            known = _from_id(bytes(key[Attribute.ID]))
            if known is None or known[0] is not use:
                raise DefinitionError("custody.key.use", f"`{label}` is not a key to {use}")
            self._keys[label, use] = key
        return key

    def _refuse_taken(self, label: str) -> None:
        check_label(label)
        if self._search({Attribute.LABEL: label}):
            raise exists(label)

    def _search(self, template: dict[Attribute, Any]) -> list[Any]:
        # As a whole: a session with an unfinished search can do nothing else.
        return list(self._session.get_objects(template | {Attribute.CLASS: ObjectClass.SECRET_KEY}))


def _check(key: Any, use: KeyUse) -> str:
    mechanism = Mechanism.SHA256_HMAC if use is KeyUse.MAC else Mechanism.AES_CMAC
    return to_check(bytes(key.sign(CHECK_INPUT, mechanism=mechanism)))


def _to_id(use: KeyUse, created: int) -> bytes:
    return f"vedette:{use}:{created}".encode()


def _from_id(raw: bytes) -> tuple[KeyUse, int] | None:
    parts = raw.split(b":")
    if len(parts) != 3 or parts[0] != b"vedette" or not parts[2].isdigit():  # noqa: PLR2004
        return None
    return KeyUse(parts[1].decode()), int(parts[2])
