"""Signing secrets of webhook endpoints: one file each, a second one while a secret is rotated."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Final

from vedette.core.clock import MICROS, Clock
from vedette.core.errors import DefinitionError, NotFoundError
from vedette.move.webhooks.signature import PREFIX
from vedette.prove.keys import write_private
from vedette.prove.secrets import Secrets

KEY_BYTES: Final = 32
OVERLAP_S: Final = 86_400
"""How long deliveries carry both signatures after a rotation, unless told otherwise."""
MAX_OVERLAP_S: Final = 7 * 86_400


class SigningSecrets:
    """Makes, rotates and finds the secrets.

    Args:
        folder: Where secrets are files; made when missing.
        found: Reads them.
        clock: Ends overlaps.
    """

    def __init__(self, folder: Path, found: Secrets, clock: Clock) -> None:
        self._folder = folder
        self._found = found
        self._clock = clock

    def make(self, endpoint_id: str) -> str:
        """A fresh secret for an endpoint, good for either scheme. Show it once, to its owner only."""
        secret = PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._folder / _name(endpoint_id), secret.encode())
        return secret

    def rotate(self, endpoint_id: str, *, overlap_s: int = OVERLAP_S) -> str:
        """A new secret; until the overlap ends, deliveries are signed with the old one as well.

        Raises:
            DefinitionError: `webhooks.overlap.invalid` unless it is 0 to 7 days.
            NotFoundError: `secrets.name.unknown`.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise DefinitionError("webhooks.overlap.invalid", f"the overlap is 0 to {MAX_OVERLAP_S} seconds")
        old = self._found.resolve(_name(endpoint_id)).reveal()
        until = self._clock.now() + overlap_s * MICROS
        # The old one first: whoever reads in between signs twice with the same secret, which does no harm.
        write_private(self._folder / f"{_name(endpoint_id)}.old", f"{until} {old}".encode())
        return self.make(endpoint_id)

    def of(self, _tenant: str, endpoint_id: str) -> list[str]:
        """All that are to sign now, newest first."""
        both = [self._found.resolve(_name(endpoint_id)).reveal()]
        try:
            until, _, old = self._found.resolve(f"{_name(endpoint_id)}.old").reveal().partition(" ")
        except NotFoundError:
            return both
        return both + ([old] if self._clock.now() < int(until) else [])


def _name(endpoint_id: str) -> str:
    # The id is of no other endpoint, whoever the tenant; a tenant's name could make this longer than a name may be.
    return f"webhook.{endpoint_id}"
