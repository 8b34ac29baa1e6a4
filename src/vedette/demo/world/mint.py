"""Makes ids and addresses. Everybody's come from the same mint, so none of them tells whose it is."""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from vedette.demo.world.places import FIRST_OCTET

_ALPHABET: Final = np.frombuffer(b"0123456789abcdefghjkmnpqrstvwxyz", np.uint8)
LENGTH: Final = 12
"""Random characters of an id: 60 bits, and fewer digits than any card number has."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers for one part of the world: what one part draws changes nothing in another."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def make_ids(rng: np.random.Generator, prefix: str, count: int) -> list[str]:
    """Ids such as `cus_4k1m0x9q2z7d`."""
    letters = _ALPHABET[rng.integers(0, len(_ALPHABET), (count, LENGTH), np.uint8)].tobytes().decode()
    return [f"{prefix}_{letters[at : at + LENGTH]}" for at in range(0, count * LENGTH, LENGTH)]


def make_uuids(rng: np.random.Generator, count: int) -> list[str]:
    """Ids such as `0b9f8a52-...`, as clouds and identity providers write them."""
    text = rng.bytes(16 * count).hex()
    parts = (text[at : at + 32] for at in range(0, 32 * count, 32))
    return [f"{p[:8]}-{p[8:12]}-{p[12:16]}-{p[16:20]}-{p[20:]}" for p in parts]


def make_addresses(rng: np.random.Generator, places: npt.NDArray[np.int64]) -> list[str]:
    """An address in each of the given countries."""
    tail = rng.integers(0, 256, (len(places), 2)).tolist()
    second = rng.integers(0, 256, len(places)).tolist()
    return [
        f"{FIRST_OCTET + place}.{b}.{c}.{d}" for place, b, (c, d) in zip(places.tolist(), second, tail, strict=True)
    ]


class Mint:
    """Single ids and addresses, in the order asked for."""

    def __init__(self, seed: int, name: str) -> None:
        self._rng = generator(seed, "mint", name)

    def id(self, prefix: str) -> str:
        """One id."""
        return make_ids(self._rng, prefix, 1)[0]

    def uuid(self) -> str:
        """One id of a cloud's record."""
        return make_uuids(self._rng, 1)[0]

    def address(self, place: int) -> str:
        """One address in a country."""
        return make_addresses(self._rng, np.array([place]))[0]
