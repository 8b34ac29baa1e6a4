"""Sigma's value modifiers: pySigma's, and our own where pySigma's lose something.

Ours encode by bytes (pySigma cuts `base64offset` by characters, encodes the escapes of a text with them, writes UTF-8
marks into UTF-16 and refuses most of what is not ASCII), know `utf16le`, bound `windash`, and refuse combinations that
would drop a placeholder, a wildcard or a shift without a word.
Source: Sigma specification 2.1, "Modifiers" appendix.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from sigma.exceptions import SigmaValueError
from sigma.modifiers import SigmaModifier, SigmaValueModifier, modifier_mapping
from sigma.types import Placeholder, SigmaExpansion, SigmaFieldReference, SigmaString

DASHES: Final = ("-", "/", "\N{EN DASH}", "\N{EM DASH}", "\N{HORIZONTAL BAR}")
"""What `windash` puts in the place of a `-` or `/` that begins a word."""

MAX_DASHED = 5**5
"""Most texts that `windash` may make of one."""

_DASH = re.compile(r"\B[-/]\b")


class Encoded(SigmaString):
    """A text in another encoding, for a modifier that goes on with its bytes."""

    raw: bytes | None = None
    """None when it has wildcards."""


class CasedReference(SigmaFieldReference):
    """A reference to a field whose text is compared with regard to case."""


def _plain(value: SigmaString, modifier: str) -> str:
    if value.contains_special():
        raise SigmaValueError(f"`{modifier}` of a text with wildcards", source=None)
    _without_placeholder(value, modifier)
    return "".join(str(part) for part in value.s)


def _without_placeholder(value: SigmaString, modifier: str) -> None:
    if value.contains_placeholder():
        raise SigmaValueError(f"`{modifier}` of a placeholder, whose values are not known yet", source=None)


def _bytes(value: SigmaString, modifier: str) -> bytes:
    if isinstance(value, Encoded) and value.raw is not None:
        return value.raw
    return _plain(value, modifier).encode()


class Utf16Le(SigmaValueModifier[SigmaString, SigmaString]):
    """`wide` and `utf16le`: UTF-16, little end first, without a mark."""

    codec: ClassVar[str] = "utf-16-le"
    mark: ClassVar[str] = ""

    def modify(self, val: SigmaString) -> SigmaString:
        """The text in UTF-16. NUL characters stand where it is compared as text."""
        _without_placeholder(val, "wide")
        encoded = [part.encode(self.codec) if isinstance(part, str) else part for part in val.s]
        whole = [part for part in encoded if isinstance(part, bytes)]
        made = Encoded()
        made.s = [part.decode("latin-1") if isinstance(part, bytes) else part for part in encoded]
        if self.mark:
            first = made.s[:1] if made.s and isinstance(made.s[0], str) else []
            made.s = ["".join([self.mark, *first]), *made.s[len(first) :]]
        if len(whole) == len(encoded):
            made.raw = self.mark.encode(self.codec) + b"".join(whole)
        return made


class Utf16Be(Utf16Le):
    """`utf16be`: UTF-16, big end first, without a mark."""

    codec: ClassVar[str] = "utf-16-be"


class Utf16(Utf16Le):
    """`utf16`: UTF-16, little end first, behind its byte order mark."""

    mark: ClassVar[str] = "\ufeff"


class Base64(SigmaValueModifier[SigmaString, SigmaString]):
    """`base64` of the bytes of a text: UTF-8 unless a modifier before says otherwise."""

    def modify(self, val: SigmaString) -> SigmaString:
        """The encoded text."""
        return SigmaString(b64encode(_bytes(val, "base64")).decode())


class Base64Offset(SigmaValueModifier[SigmaString, SigmaExpansion]):
    """`base64offset`: the characters that a text always gives, for each of the three places it may begin at."""

    starts: ClassVar[tuple[int, ...]] = (0, 2, 3)
    ends: ClassVar[tuple[int | None, ...]] = (None, -3, -2)

    def modify(self, val: SigmaString) -> SigmaExpansion:
        """Three texts, any of which is enough."""
        raw = _bytes(val, "base64offset")
        shifts = [
            b64encode(bytes(shift) + raw)[self.starts[shift] : self.ends[(len(raw) + shift) % 3]].decode()
            for shift in range(3)
        ]
        if not all(shifts):
            raise SigmaValueError("`base64offset` of a text so short that nothing is certain", source=None)
        return SigmaExpansion([SigmaString(shift) for shift in shifts])


class WinDash(SigmaValueModifier[SigmaString, SigmaExpansion]):
    """`windash`: each `-` or `/` that begins a word may be any of the five dashes, each for itself."""

    def modify(self, val: SigmaString) -> SigmaExpansion:
        """Every combination."""
        _without_placeholder(val, "windash")
        count = sum(len(_DASH.findall(part)) for part in val.s if isinstance(part, str))
        if len(DASHES) ** count > MAX_DASHED:
            raise SigmaValueError(f"`windash` of a text with {count} dashes, more than 5", source=None)
        return SigmaExpansion(list(val.replace_with_placeholder(_DASH, "dash").replace_placeholders(_dashes)))


def _dashes(_place: Placeholder) -> Iterator[str]:
    yield from DASHES


class FieldReference(SigmaValueModifier[SigmaString, SigmaFieldReference]):
    """`fieldref`: the value names another field of the event."""

    def modify(self, val: SigmaString) -> SigmaFieldReference:
        """The reference."""
        return SigmaFieldReference(_plain(val, "fieldref"))


class Cased(SigmaValueModifier[SigmaString | SigmaFieldReference, SigmaString | SigmaFieldReference]):
    """`cased`: holds for the whole item, wherever it stands; `selections.settle` marks the values when all is done."""

    def modify(self, val: SigmaString | SigmaFieldReference) -> SigmaString | SigmaFieldReference:
        """The value as it is."""
        return val


MODIFIERS: Mapping[str, type[SigmaModifier[Any, Any]]] = {
    **modifier_mapping,
    "base64": Base64,
    "base64offset": Base64Offset,
    "cased": Cased,
    "fieldref": FieldReference,
    "utf16": Utf16,
    "utf16be": Utf16Be,
    "utf16le": Utf16Le,
    "wide": Utf16Le,
    "windash": WinDash,
}
"""Name in a rule -> what it does."""
