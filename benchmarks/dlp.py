"""Speed of the card number scan beside the usual one-line expression.

    python benchmarks/dlp.py [FILE]

Without a file it scans seeded log lines of five kinds. Quotes megabytes a CPU second, best of three.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

from vedette.prove.dlp import find_pans, refuse_pans

NAIVE = re.compile(r"\b(?:\d[ -]*?){13,19}\b")
"""What most tools start from; it must be followed by a check of prefix and check digit."""


def to_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 * (number > 9)
    return total % 10 == 0


def naive(text: str) -> list[tuple[int, int]]:
    spans = ((m.span(), re.sub(r"\D", "", m.group())) for m in NAIVE.finditer(text))
    return [span for span, digits in spans if to_luhn(digits)]


def log_lines(rng: random.Random, megabytes: int) -> str:
    """Log lines with times, addresses, ids and sizes; one in 5,000 holds a card number."""

    def line(kind: int) -> str:
        minute, small, wide = rng.randint(10, 59), rng.randint(1, 99_999), rng.getrandbits(128)
        return (
            f'{{"eventTime":"2026-03-02T12:{minute}:00Z","sourceIPAddress":"10.1.{minute}.7","id":"{wide:032x}"}}',
            f"192.0.2.{minute} - - [03/Mar/2026:10:00:00 +0000] GET /v1/charges/{wide:x} 200 {small}",
            f"{1772000000000 + small} INFO worker-{minute} settled batch of {small} in {wide / 2**128:.6f} s",
            "the quick response team closed the case after the customer called back about the late delivery",
            f'{{"amount_minor":{small},"ts":{1772000000000000 + wide % 2**40},"customer":"c-{small}"}}',
        )[kind]

    lines: list[str] = []
    size = 0
    while size < megabytes * 1_000_000:
        lines.append(line(rng.randrange(5)) + " card 4242 4242 4242 4242" * (len(lines) % 5_000 == 0))
        size += len(lines[-1]) + 1
    return "\n".join(lines)


def measure(scan: Callable[[str], object], text: str) -> float:
    """Megabytes a CPU second, best of three."""
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        scan(text)
        best = max(best, len(text) / 1e6 / (time.process_time() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    args = parser.parse_args()
    text = args.file.read_text(errors="replace") if args.file else log_lines(random.Random(7), 10)
    print(f"{len(text) / 1e6:.1f} MB of text; findings: ours {len(find_pans(text))}, naive {len(naive(text))}")
    print(f"{'scan':<28}{'MB a CPU second':>18}")
    print(f"{'vedette find_pans':<28}{measure(find_pans, text):>18.1f}")
    print(f"{'one expression + check digit':<28}{measure(naive, text):>18.1f}")
    request = {"amount_minor": 1999, "currency": "EUR", "source": "tok_8f2k", "merchant": "m-1", "metadata": {"a": "b"}}
    start = time.process_time()
    for _ in range(20_000):
        refuse_pans(request)
    print(f"refuse_pans on a charge request: {(time.process_time() - start) / 20_000 * 1e6:.1f} us")


if __name__ == "__main__":
    main()
