"""How bad a reported weakness is, by a rubric that is data: what was shown to be possible, then the CVSS score.

What a reporter calls it decides nothing. Whoever triages says what was verified: whether it works at all, whether it
reaches another tenant's data, whether only the attacker's own session is touched, whether the product does this by
design. The first line of the rubric that fits gives the level, or its bounds for the level of the CVSS score; without a
line that fits the score alone decides. Every answer says which line, which CWE and which score made it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec
from cvss import CVSS3, CVSS4
from cvss.exceptions import CVSSError

from vedette.core.clock import MICROS, seconds_of
from vedette.core.documents import load_yaml
from vedette.core.errors import DataError, DefinitionError
from vedette.core.signal import Level

MAX_VECTOR = 400
_CWE = re.compile(r"CWE-[1-9][0-9]{0,4}")
_BOUNDS = ((9.0, Level.CRITICAL), (7.0, Level.HIGH), (4.0, Level.MEDIUM), (0.1, Level.LOW))


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What triage found."""

    cwe: str
    """Such as `CWE-79`."""
    verified: bool
    """Somebody of ours made it happen."""
    vector: str = ""
    """CVSS 3.1 or 4.0; empty: none was made."""
    other_tenant: bool = False
    """It reaches data or actions of another tenant."""
    self_only: bool = False
    """It works only against who does it, in their own session."""
    by_design: bool = False
    """The product allows it, and no boundary is crossed: a feature that is misused."""


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions of a line; each that is given must hold."""

    verified: bool | None = None
    other_tenant: bool | None = None
    self_only: bool | None = None
    by_design: bool | None = None
    cwe: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the rubric."""

    name: str
    when: When
    because: str
    level: Level | None = None
    """The level, whatever the score."""
    at_least: Level | None = None
    at_most: Level | None = None


class Times(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The clocks, as times such as `5d`."""

    triage: str
    fix: dict[Level, str]
    disclose: str
    """From the report on."""
    extend: str
    """How much later than that the disclosure may be agreed to be, all extensions together."""

    def of(self, text: str) -> int:
        """Microseconds of a time."""
        return (seconds_of(text) or 0) * MICROS


class Rubric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    times: Times
    lines: tuple[Line, ...]
    weaknesses: dict[str, str]
    """Number of a CWE -> its name; a number that is not here is refused."""


class Weighed(msgspec.Struct, frozen=True):
    """How bad it is, and why."""

    level: Level
    score: float | None
    """CVSS base score, 0 to 10; None without a vector."""
    line: str
    """Line of the rubric that fitted; empty: none."""
    reasons: tuple[str, ...]


def load_rubric(path: Path) -> Rubric:
    """Reads the file.

    Raises:
        DefinitionError: `bounty.rubric.invalid`, with its place.
    """
    document = load_yaml(path.read_text(encoding="utf-8"), path=str(path))
    try:
        rubric = msgspec.convert(document.data, Rubric)
    except msgspec.ValidationError as error:
        raise DefinitionError("bounty.rubric.invalid", str(error), span=document.span()) from error
    times = rubric.times
    every = [times.triage, times.disclose, times.extend, *times.fix.values()]
    if set(times.fix) != set(Level) or not all(times.of(each) for each in every):
        hint = "a time such as `5d` for each, and for each level under `fix`"
        raise DefinitionError("bounty.rubric.invalid", "a time is missing", span=document.span("$.times"), hint=hint)
    if any(not _CWE.fullmatch(name) for name in rubric.weaknesses):
        said = "a weakness is written `CWE-79`"
        raise DefinitionError("bounty.rubric.invalid", said, span=document.span("$.weaknesses"))
    return rubric


def check_cwe(cwe: str, weaknesses: Mapping[str, str]) -> str:
    """The name of a weakness.

    Raises:
        DataError: `bounty.cwe.unknown`.
    """
    if cwe not in weaknesses:
        near = ", ".join(get_close_matches(cwe, weaknesses, n=3)) or "CWE-79"
        hint = f"such as {near}; more can be listed in bounty.yaml under the home folder"
        raise DataError("bounty.cwe.unknown", f"`{cwe[:20]}` is no known weakness", hint=hint, at="$.cwe")
    return weaknesses[cwe]


def score_of(vector: str) -> float:
    """Base score of a CVSS 3.1 or 4.0 vector, 0 to 10.

    Raises:
        DataError: `bounty.vector.invalid`.

    Example:
        >>> score_of("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N")
        6.1
    """
    kind = {"CVSS:4.0/": CVSS4, "CVSS:3.1/": CVSS3}.get(vector[:9])
    if kind is None or len(vector) > MAX_VECTOR:
        raise DataError("bounty.vector.invalid", "a vector begins with CVSS:3.1/ or CVSS:4.0/", at="$.vector")
    try:
        return float(kind(vector).base_score)
    except CVSSError as error:
        hint = "every base metric once, such as CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"
        raise DataError("bounty.vector.invalid", "this is no CVSS vector", hint=hint, at="$.vector") from error


def weigh(facts: Facts, rubric: Rubric) -> Weighed:
    """How bad a weakness is.

    Raises:
        DataError: `bounty.cwe.unknown`, `bounty.vector.invalid`.
    """
    reasons = [f"{facts.cwe}: {check_cwe(facts.cwe, rubric.weaknesses)}"]
    score = score_of(facts.vector) if facts.vector else None
    level = next((found for bound, found in _BOUNDS if (score or 0.0) >= bound), Level.INFORMATIONAL)
    line = next((each for each in rubric.lines if _fits(facts, each.when)), None)
    if line is not None:
        reasons.append(f"{line.name}: {line.because}")
        order = list(Level)
        level = line.level or level
        level = max(level, line.at_least or level, key=order.index)
        level = min(level, line.at_most or level, key=order.index)
    if score is not None:
        reasons.append(f"CVSS {score}")
    return Weighed(level, score, line.name if line else "", tuple(reasons))


def _fits(facts: Facts, when: When) -> bool:
    asked = {name: getattr(when, name) for name in ("verified", "other_tenant", "self_only", "by_design")}
    same = all(wanted is None or getattr(facts, name) is wanted for name, wanted in asked.items())
    return same and (not when.cwe or facts.cwe in when.cwe)
