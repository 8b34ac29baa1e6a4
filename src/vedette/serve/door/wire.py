"""What door and worker say to each other over sockets of the machine: one byte of purpose, then frames or one client.

A frame is its length in four bytes, big-endian, and a list in MessagePack: of `Ask` towards the worker, of `Told`
towards the door. A handed-over client is its socket, beside what was read from it until then; the end of the stream
ends it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from vedette.serve.door.plain import Call

FRAMES, CLIENT = b"f", b"c"
"""The byte of purpose."""
LEAVING = -1
"""Number in a `Told` without an answer: the worker takes no further request here."""
_LENGTH = struct.Struct(">I")

T = TypeVar("T")


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One request for the worker."""

    number: int
    """Of this request among those of the door; the answer bears it."""
    path: str
    close: bool
    """Whether the connection is closed after it."""
    came: float
    """When the door read it, in seconds of the machine's monotonic clock."""
    call: Call


class Told(msgspec.Struct, frozen=True, array_like=True):
    """One answer."""

    number: int
    answer: bytes
    """The whole answer; empty: the door is to hand the client over."""


_encode = msgspec.msgpack.Encoder().encode


def frame(parts: Sequence[Ask] | Sequence[Told]) -> bytes:
    """One frame."""
    text = _encode(parts)
    return _LENGTH.pack(len(text)) + text


class Reader(Generic[T]):
    """Frames out of a stream.

    Args:
        kind: What they are lists of.
    """

    def __init__(self, kind: type[T]) -> None:
        self._decode = msgspec.msgpack.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._held = b""

    def take(self, data: bytes) -> list[T]:
        """What the frames hold that are whole with these bytes."""
        held = self._held + data if self._held else data
        place, found = 0, []
        while len(held) - place >= _LENGTH.size:
            start = place + _LENGTH.size
            (length,) = _LENGTH.unpack_from(held, place)
            if len(held) - start < length:
                break
            place = start + length
            found += self._decode(held[start:place])
        self._held = held[place:]
        return found
