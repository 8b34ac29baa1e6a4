"""Passwords: what may be one, and how one is kept. Argon2id, slow on purpose and bounded in memory.

Example:
    >>> keeper = Passwords()
    >>> kept = keeper.hash("a long walk on 5 beaches")
    >>> keeper.fits(kept, "a long walk on 5 beaches"), keeper.fits(kept, "a long walk on 6 beaches")
    (True, False)
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from vedette.core.errors import DataError, TransientError
from vedette.prove.secrets import Secret

MEMORY_KIB, PASSES, LANES = 19_456, 2, 1
"""Argon2id as OWASP's cheat sheet has it: 19 MiB, two passes, one lane. A change rehashes each at its next login."""

MIN_LENGTH, MAX_LENGTH = 12, 256
"""Characters of a password (PCI DSS 8.3.6 asks for 12, with digits and letters)."""
MIN_DISTINCT = 5
"""Different characters in one: `aaaaaaaaaaa1` is none."""
NAMED = 4
"""Characters of a name that is looked for in a password; shorter ones are in many words."""
EARLIER = 4
"""Passwords that may not come back (PCI DSS 8.3.7)."""

AT_ONCE = 4
"""Hashes that are computed at the same time: 76 MiB, whoever knocks."""
PATIENCE_S = 2.0
"""How long a login waits for its turn."""

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_GROUPS, _GROUP = 5, 4


class Passwords:
    """Hashes and compares passwords.

    Args:
        choose: Picks one character of a text at random; the operating system's generator, except in tests.
    """

    def __init__(self, choose: Callable[[str], str] = secrets.choice) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._choose = choose
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def hash(self, password: str) -> str:
        """The password as it is kept, with its salt and parameters in the text.

        Raises:
            TransientError: `access.login.busy`.
        """
        with self._turn():
            return self._hasher.hash(_normal(password))

    def fits(self, kept: str | None, password: str) -> bool:
        """Whether this is the password. Without one to compare to it takes as long, and says no.

        Raises:
            TransientError: `access.login.busy`.
        """
        decoy, sent = self._decoy, _normal(password[: MAX_LENGTH + 1])
        with self._turn():
            try:
                self._hasher.verify(kept or decoy, sent)
            except (VerificationError, InvalidHashError):
                return False
        return kept is not None and len(password) <= MAX_LENGTH

    def ages(self, kept: str) -> bool:
        """Whether it was kept with other parameters than today's."""
        return self._hasher.check_needs_rehash(kept)

    def one_time(self) -> Secret:
        """A password of 99 random bits in five groups, easy to read out."""
        groups = ("".join(self._choose(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
        return Secret("-".join(groups))

    @cached_property
    def _decoy(self) -> str:
        return self._hasher.hash(secrets.token_urlsafe())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=PATIENCE_S):
            raise TransientError("access.login.busy", "too many people log in at this moment", retry_after=1.0)
        try:
            yield
        finally:
            self._turns.release()


def check_password(password: str, *names: str) -> None:
    """Lets a new password pass.

    Args:
        password: What somebody wants.
        names: Words it may not hold, such as the login name.

    Raises:
        DataError: `access.password.weak` with what is missing.
    """
    low = _normal(password).casefold()
    reasons = {
        f"at least {MIN_LENGTH} characters": len(password) >= MIN_LENGTH,
        f"at most {MAX_LENGTH} characters": len(password) <= MAX_LENGTH,
        "letters and digits": any(c.isalpha() for c in low) and any(c.isdigit() for c in low),
        f"at least {MIN_DISTINCT} different characters": len(set(low)) >= MIN_DISTINCT,
        "neither your name nor the product's": not any(
            name.casefold() in low for name in (*names, "vedette") if len(name) >= NAMED
        ),
        "no control characters": password.isprintable(),
    }
    missing = [reason for reason, kept in reasons.items() if not kept]
    if missing:
        raise DataError("access.password.weak", "this password is too easy to guess", hint=f"use {', '.join(missing)}")


def _normal(password: str) -> str:
    # The same keys give other code points on another system (NIST SP 800-63B 5.1.1.2).
    return unicodedata.normalize("NFKC", password)
