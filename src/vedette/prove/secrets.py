"""Secrets: values that never show, resolved by name at the point of use.

A playbook, a step or a log holds the *name* of a secret. `Secrets` turns the name into a `Secret` where it is used,
from a file under the secrets folder or from the environment, and the `Secret` shows its value only to `reveal`.
"""

from __future__ import annotations

import hmac
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from vedette.core.errors import DefinitionError, NotFoundError

MASK = "[secret]"
PREFIX = "VEDETTE_SECRET_"
"""A secret named `smtp.password` is read from the variable `VEDETTE_SECRET_SMTP_PASSWORD`."""

MAX_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}(\.[a-z0-9_-]{1,40}){0,4}")


class Secret:
    """A text that repr, str, format, logs, JSON and pickle do not show. Compared in constant time."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself. Call it where it is used, and keep it no longer."""
        return self.__value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__value.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret is not serialised")


class Secrets:
    """Where named secrets are found: a file of that name first, then the environment.

    Args:
        folder: Files named like the secret, one value each; a final newline is not part of it. None: no files.
        environ: The environment as it was passed in.
    """

    def __init__(self, folder: Path | None, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ

    def resolve(self, name: str) -> Secret:
        """The secret of that name, read afresh each time so that a rotation is seen.

        Raises:
            DefinitionError: `secrets.name.invalid`, `secrets.file.readable` (others may read the file),
                `secrets.file.size`.
            NotFoundError: `secrets.name.unknown`.
        """
        if not _NAME.fullmatch(name):
            raise DefinitionError(
                "secrets.name.invalid", "not the name of a secret", hint="lower case, such as `smtp.password`"
            )
        if self._folder is not None and (self._folder / name).is_file():
            return _read(self._folder / name)
        variable = PREFIX + re.sub(r"[.-]", "_", name).upper()
        if variable in self._environ:
            return Secret(self._environ[variable])
        raise NotFoundError(
            "secrets.name.unknown", f"no secret named `{name}`", hint=f"set {variable}, or write a file of that name"
        )


def _read(path: Path) -> Secret:
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise DefinitionError(
            "secrets.file.readable", "others may read this secret", hint=f"chmod 600 {path.name}", at=str(path)
        )
    if status.st_size > MAX_BYTES:
        raise DefinitionError("secrets.file.size", f"a secret has at most {MAX_BYTES} bytes", at=str(path))
    return Secret(path.read_text(encoding="utf-8").removesuffix("\n"))
