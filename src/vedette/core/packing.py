"""Bytes that are kept, made smaller: what repeats itself, as records of one kind do, takes a quarter of the room.

The form: 0xC1, which begins no MessagePack, and a block of Snappy, which begins with the size of what it holds.
Anything else is what was given, as it was.

Source: Snappy compressed format description, https://github.com/google/snappy/blob/main/format_description.txt.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

LEAST_BYTES: Final = 2_048
"""Less is left as it is."""
MOST_TIMES: Final = 32
"""A block stands for less than so many times its own bytes: two bytes of it for 64 at most."""
_SIZE_BYTES: Final = 5
"""Most bytes that tell a size, seven bits each, lowest first."""
_PACKED: Final = b"\xc1"


@cache
def _codec() -> pa.Codec:
    # A tenth of a second, which who keeps small records only need not spend.
    import pyarrow as pa

    return pa.Codec("snappy")


def pack(data: bytes) -> bytes:
    """The bytes in less room, where that is worth it.

    Args:
        data: Not beginning with 0xC1, less than 4 GiB.
    """
    if len(data) < LEAST_BYTES:
        return data
    packed = _PACKED + _codec().compress(data, asbytes=True)
    return packed if len(packed) < len(data) else data


def unpack(data: bytes) -> bytes:
    """What `pack` was given.

    Raises:
        ValueError: Something else was packed, or what was packed is damaged.
    """
    if data[:1] != _PACKED:
        return data
    block = data[1:]
    size = _size(block)
    if size > MOST_TIMES * len(block):
        raise ValueError("it cannot be so large")
    try:
        found: bytes = _codec().decompress(block, size, asbytes=True)
    except OSError as error:
        raise ValueError(str(error)) from error
    return found


def _size(block: bytes) -> int:
    """The size of what a block holds."""
    size = 0
    for place, part in enumerate(block[:_SIZE_BYTES]):
        size |= (part & 0x7F) << (7 * place)
        if part >> 7 == 0:
            return size
    raise ValueError("it does not tell its size")
