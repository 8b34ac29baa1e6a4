"""Card numbers and secrets in bytes: a file, a line, a column, a dump."""

from __future__ import annotations

import bisect
import math
import re
from collections import Counter
from functools import cache
from typing import Final, NamedTuple

from vedette.expr.literals import Literals
from vedette.prove.dlp.pans import CardNumber
from vedette.prove.dlp.runs import find_in
from vedette.prove.dlp.secret_rules import RULES

BEFORE, AFTER = 64, 24
"""Bytes around a number in which its context is looked for, within its line."""
MAX_HEADER: Final = 4_096

_CARD: Final = re.compile(
    rb"card|\bpans?\b|[_\-.\s]pans?\b|\bccn?\b|\bcc[_-]?num|credit|debit|visa|master ?card|maestro|amex|diners|discover"
    rb"|american express|\bjcb\b|union ?pay|primary.account|acct|account.?n|cvv|cvc|expir|\bexp\b|holder"
    rb"|payment.method",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(
    rb"([A-Za-z][A-Za-z0-9_.\-]*)[\"\'\])]{0,2}\s{0,3}(?:[:=#]|=>|\bis\b)?\s{0,3}[\"\'(\[<]{0,2}$"
)
_WORDS: Final = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OTHER: Final = frozenset(
    b"""id ids uid guid uuid oid order orders ref reference trace span request req ts time timestamp date datetime epoch
    ms us ns created updated modified seq sequence tracking shipment invoice session txn tx transaction event evt offset
    batch hash nonce version build serial size bytes count total sum amount balance phone tel mobile fax zip isbn ean
    upc sku imei imsi iccid meter parcel ticket case job run key partition duration elapsed latency counter checksum
    crc no nr
    """.split()
)
"""Words that name something else; the number belongs to them unless a card is spoken of."""
_DELIMITERS: Final = b",;\t|"


class Finding(NamedTuple):
    """Where something stands that must not. Holds nothing of it."""

    kind: str
    """`pan`, `pan.test` (a number that brands and processors publish for tests), or `secret.<rule>`."""
    start: int
    """First byte."""
    end: int
    """Behind the last one."""


TEST_NUMBERS: Final = frozenset(
    """
    4242424242424242 4000056655665556 4012888888881881 4111111111111111 4222222222222 4012000033330026
    4000000000000002 4000000000009995 4000002500003155 4000000000003220 4263982640269299 4917484589897107
    4001919257537193 4007702835532454 5555555555554444 5200828282828210 5105105105105100 2223003122003222
    2223000048400011 2221000000000009 5454545454545454 5425233430109903 2222420000001113 5555341244441115
    2222405343248877 378282246310005 371449635398431 378734493671000 374245455400126 6011111111111117 6011000990139424
    6011981111111113 6011000400000000 6250941006528599 3056930009020004 36227206271667 30569309025904 38520000023237
    36006666333344 3566002020360505 3530111333300000 3528000700000000 6200000000000005 6200000000000047
    6205500000000000004 6555900000604105 6304000000000000 6759649826438453 6799990100000000019 5019717010103742
    """.split()
)


def scan(data: bytes, *, context: bool = True) -> list[Finding]:
    """Everything in the bytes that must not be there, in order; findings do not overlap.

    A number with a brand's prefix and length and the right check digit may still be an id: of random 16-digit numbers
    2.7 % are such. With `context` it is left out when its line calls it something else (`order_id=`, `"ts":`, a column
    `trace`) and nothing near speaks of a card. A number without a name is a finding: recall goes before precision.

    Args:
        data: Any bytes. Text in UTF-8, also as UTF-16; what is packed or encoded is not unpacked.
        context: False takes every number that can be a card's.
    """
    secrets = _secrets(data)
    header: list[bytes] = []
    numbers: list[Finding] = []
    for card in find_in(data):
        if context and _is_other(data, card, header):
            continue
        digits = re.sub(rb"[^0-9]", b"", data[card.start : card.end]).decode()
        numbers.append(Finding("pan.test" if digits in TEST_NUMBERS else "pan", card.start, card.end))
    return _apart(sorted([*secrets, *numbers], key=lambda found: (found.start, -found.end)))


def _apart(found: list[Finding]) -> list[Finding]:
    kept: list[Finding] = []
    for each in found:
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
    return kept


# Context


def _is_other(data: bytes, card: CardNumber, header: list[bytes]) -> bool:
    """Whether the line calls this number something that is no card."""
    line = data.rfind(b"\n", max(card.start - 4_096, 0), card.start) + 1 or max(card.start - 4_096, 0)
    before = data[max(line, card.start - BEFORE) : card.start]
    after = data[card.end : card.end + AFTER].partition(b"\n")[0]
    label = _LABEL.search(before)
    if label:
        words = {word.lower() for word in _WORDS.findall(label[1])}
        if _CARD.search(b" " + label[1]):
            return False
        if words & _OTHER:
            # The name next to it goes before what else the line speaks of: `card=tok_1 order_id=4242...`.
            return True
    if _CARD.search(before) or _CARD.search(after):
        return False
    return _column_is_other(data, line, card, header)


def _column_is_other(data: bytes, line: int, card: CardNumber, header: list[bytes]) -> bool:
    """The same by the name of its column, when the first line names columns."""
    around = data[max(card.start - 2, line) : card.start] + data[card.end : card.end + 2]
    delimiter = next((bytes([each]) for each in _DELIMITERS if bytes([each]) in around), b"")
    if not delimiter or line == 0:
        return False
    if not header:
        header.append(data[:MAX_HEADER].partition(b"\n")[0])
    names = header[0].split(delimiter)
    place = data.count(delimiter, line, card.start)
    if place >= len(names):
        return False
    name = names[place].strip(b" \r\"'")
    return not _CARD.search(b" " + name) and bool({word.lower() for word in _WORDS.findall(name)} & _OTHER)


# Secrets


@cache
def _literals() -> tuple[Literals, list[str], list[tuple[int, ...]]]:
    """All literals, what they are, and the rules that each calls."""
    words = sorted({word for rule in RULES for word in rule.words})
    calls = [tuple(n for n, rule in enumerate(RULES) if word in rule.words) for word in words]
    return Literals(words), words, calls


def _secrets(data: bytes) -> list[Finding]:
    literals, words, calls = _literals()
    done = [0] * len(RULES)
    found: list[tuple[int, Finding]] = []
    for word, end in literals.find(data):
        for number in calls[word]:
            if end <= done[number]:
                continue
            rule = RULES[number]
            begin = end - len(words[word]) - rule.back
            match = rule.pattern.match(data, begin, end + rule.reach) if begin >= 0 else None
            if match is None:
                continue
            group = "secret" if "secret" in rule.pattern.groupindex else 0
            start, stop = match.span(group)
            done[number] = stop
            if _entropy(data[start:stop]) >= rule.entropy:
                found.append((number, Finding(f"secret.{rule.id}", start, stop)))
    # Of two that overlap the rule that stands earlier in the list goes first: it says more.
    kept: list[tuple[int, int, str]] = []
    for _, (kind, start, end) in sorted(found):
        place = bisect.bisect(kept, (start, end, kind))
        before, after = kept[place - 1 : place], kept[place : place + 1]
        if not any(one[1] > start for one in before) and not any(one[0] < end for one in after):
            kept.insert(place, (start, end, kind))
    return [Finding(kind, start, end) for start, end, kind in kept]


def _entropy(text: bytes) -> float:
    counts = Counter(text)
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values()) if text else 0.0
